"""Distil a few-step student from the frozen baseline: adapters alone learn, by two losses of one trainer.

Consistency asks for the same picture from the teacher's whole path (LCM); the adversarial loss has this
project's own Discriminator judge what the student draws in one step (ADD, as SD-Turbo at scale).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from workbench import hardware
from workbench.datasets.loading import PairedBatches
from workbench.datasets.shards.files import public_name
from workbench.datasets.sources import home_of, open_table
from workbench.datasets.table import PictureTable
from workbench.diffusion import begin, lora, losses, runs, schedule
from workbench.diffusion.baseline import attend_for_training
from workbench.diffusion.conditioning import NOTHING, Condition, estimate
from workbench.diffusion.config import DistillConfig
from workbench.diffusion.loop import run_task
from workbench.diffusion.lora import Adapter, LoraConfig
from workbench.diffusion.model import DiffusionModel
from workbench.diffusion.training import descend
from workbench.errors import WorkbenchError
from workbench.models import presets
from workbench.models.critics import load_discriminator
from workbench.models.discriminator import Discriminator, DiscriminatorConfig
from workbench.models.ops import box_pyramid
from workbench.models.text import TextFeatures
from workbench.noise import generator_for
from workbench.training import checkpoint
from workbench.training import runs as gan_runs
from workbench.training.batches import grid_plan
from workbench.training.captions import CaptionTable
from workbench.training.ema import EMA, ema_beta
from workbench.training.lengths import Length
from workbench.training.loop import Result, own_randomness, signals
from workbench.training.losses import d_nonsaturating, g_nonsaturating
from workbench.training.penalties import gradient_penalty
from workbench.training.players import NormGuard

_NOISE = 24 << 40  # stream of the run's seed: all that a step draws
_AT_ONCE = 8


def distil(
    config: DistillConfig,
    teacher: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    discriminator: DiscriminatorConfig | None = None,
    critics: str | Path | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    stop_after_nimg: Length | None = None,
    progress: bool = True,
) -> Result:
    """Distil `teacher`, a baseline's folder, on a data set into a run folder, or go on with the run there.

    discriminator: D's shape, the shepherd preset's of the teacher's size when None. critics: a folder of
    `save_critics` whose D this one begins as, in shape and weights: it sees faults from the first step, where
    a fresh D of a short run stays at chance. start_from: folder of a student whose adapters a new run begins
    with. The rest is as of `train_baseline`.
    """
    out = Path(out)
    old = runs.present(out, runs.STUDENT)
    machine = hardware.probe(device)
    precision = runs.precision_of(config, machine, old)
    say: Callable[[str], None] = tqdm.write if progress else (lambda text: None)
    model = DiffusionModel.from_pretrained(teacher, device=machine.device)
    if model.is_student:
        raise WorkbenchError(f"{teacher} is a student itself: give the folder of its teacher, a baseline.")
    if config.adversarial_weight == 0:
        discriminator = critics = seasoned = None
    else:
        seasoned = None if critics is None else _fitting(load_discriminator(critics), model, critics)
        discriminator = seasoned.config if seasoned else discriminator or judge_for(model.config.resolution)
    start = begin.adapters_of(start_from, old, model, _settings(config))
    if start is not None:
        config = replace(config, earlier_nimg=start.images)
    about = {"name": model.name, "path": str(teacher), "weight_hash": model.weight_hash,
             "seconds": model.card.get("seconds"), "images": model.card.get("images")}  # fmt: skip
    with gan_runs.held(out), own_randomness(), hardware.kept_memory(), signals() as stop:
        table = open_table(data, model.config.resolution, progress=progress)
        config = config.for_epoch(len(table))
        prompts, seeds = grid_plan(table, config.grid)
        facts = runs.describe(
            runs.STUDENT, config, machine, precision, teacher=about, network=model.config.to_json(),
            discriminator=None if discriminator is None else discriminator.to_json(),
            critics=critics and str(critics),
            data={"path": public_name(data), **gan_runs.fingerprint(table)},
            grid={"prompts": prompts, "seeds": seeds},
            **({} if start is None else {"started_from": start.to_json()}),
        )  # fmt: skip
        facts = runs.claim(out, old, facts, say)
        task = Distilling(
            config, model, discriminator, table, torch.device(machine.device), precision,
            facts=facts, seasoned=seasoned, captions=home_of(data) / "captions", say=say,
        )  # fmt: skip
        if start is not None and checkpoint.newest_nimg(out) is None:
            begin.wear((task.adapter, task.ema.model), start, say)
        ways = {"stop_after_nimg": stop_after_nimg, "say": say, "progress": progress}
        return run_task(task, config, out, stop, epoch=len(table), **ways)


def judge_for(resolution: int) -> DiscriminatorConfig:
    """The D of the demo's preset at this size."""
    return presets.shepherd(resolution).discriminator


def _fitting(D: Discriminator, teacher: DiffusionModel, source: str | Path) -> Discriminator:
    """D, if it can judge what this teacher draws."""
    pairs = {"pixels": (D.config.resolution, teacher.config.resolution),
             "numbers a word": (D.config.text_dim, teacher.text_encoder.embed_dim)}  # fmt: skip
    for what, (its, wanted) in pairs.items():
        if its != wanted:
            raise WorkbenchError(f"{source} judges {its} {what}, and this teacher has {wanted}.")
    return D


class Distilling:
    """The task of a student. seasoned: the D that its D begins as, where it does not begin fresh; captions:
    folder where text features are kept between runs.
    """

    def __init__(
        self, config: DistillConfig, teacher: DiffusionModel, judge: DiscriminatorConfig | None,
        table: PictureTable, device: torch.device, precision: str, *, facts: dict,
        seasoned: Discriminator | None = None, captions: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.config, self.teacher, self.facts, self.lr_multiplier = config, teacher, facts, 1.0
        self.device, self.precision, self.unet = device, precision, teacher.unet
        self.settings = _settings(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.parameters = list(lora.attach(self.unet, self.settings).values())
            self.D = None if judge is None else Discriminator(judge)
        attend_for_training(self.unet, device)
        self.unet.to(memory_format=torch.channels_last)  # the adapters too: a layout decides the last bits
        self.adapter, self.guard = Adapter(self.unet), NormGuard().to(device)
        self.ema = EMA(self.adapter)
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.lr, betas=(0.9, 0.99), fused=True)
        self.optimizer_D = None
        if self.D is not None:
            if seasoned is not None:
                self.D.load_state_dict(seasoned.state_dict())
            self.D.compute_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            self.D.to(device, memory_format=torch.channels_last)
            betas = (0.0, 0.99)
            self.optimizer_D = torch.optim.Adam(self.D.parameters(), lr=config.lr_D, betas=betas, fused=True)
        self.batches = PairedBatches(table, config.batch_size, config.seed, flip=config.flip)
        self.captions = CaptionTable(table.texts, teacher.text_encoder, device, folder=captions, say=say)
        self.nothing = Condition.of(teacher.text_encoder([NOTHING]).to(device))

    def modules(self) -> dict[str, nn.Module]:
        named = {"adapter": self.adapter, "adapter_ema": self.ema.model, "guard": self.guard, "D": self.D}
        return {name: module for name, module in named.items() if module is not None}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        both = {"opt": self.optimizer, "opt_D": self.optimizer_D}
        return {name: optimizer for name, optimizer in both.items() if optimizer is not None}

    def step(self, step: int, cur_nimg: int) -> dict[str, Tensor]:
        batch, config = self.batches.batch_at(step), self.config
        x0, text = batch.images.to(self.device), self.captions.of(batch.captions)
        told, draw = Condition.of(text), generator_for(config.seed, _NOISE + step)
        rate = config.lr_scale(cur_nimg) * self.lr_multiplier
        loss, stats, good = torch.zeros((), device=self.device), {}, True
        if config.consistency_weight > 0:
            found = self._consistency(x0, told, draw, step)
            stats["consistency"], loss = found.detach(), loss + config.consistency_weight * found
        every = config.adversarial_every if config.consistency_weight > 0 else 1  # alone it has every step
        turn, rest = divmod(step, every)
        if self.D is not None and rest == 0:
            made = self._drawn(x0, told, draw)
            more, good = self._teach_D(x0, made.detach(), text, turn, rate)
            found, others = self._adversarial(made, text, told, draw)
            stats |= more | others
            loss = loss + every * config.adversarial_weight * found
        if good:
            norm, good = descend(
                loss, self.optimizer, self.parameters, self.guard, "G", config.clip_norm, lr=config.lr * rate
            )
            stats["norm"] = norm
        if good:
            now = config.earlier_nimg + cur_nimg + len(x0)
            beta = ema_beta(config.batch_size, now, config.ema_halflife_kimg, ramp_up=config.ema_rampup)
            self.ema.update(self.adapter, beta)
        return {"loss": loss.detach(), "finite": torch.tensor(good), **stats}

    def _consistency(self, x0: Tensor, told: Condition, draw: torch.Generator, step: int) -> Tensor:
        config = self.config
        places = schedule.draw_times(len(x0), config.seed, step).double() / schedule.T
        t, to = losses.rungs(config.teacher_steps, places)
        return losses.consistency(
            self.unet, x0, self._noise(x0, draw), t, to, told, self.nothing, guidance=config.guidance,
            precision=self.precision,
        )  # fmt: skip

    def _drawn(self, x0: Tensor, told: Condition, draw: torch.Generator) -> Tensor:
        """What the student draws in one step from the noise of one of its rungs."""
        t, _ = losses.rungs(self.config.student_steps, torch.rand(len(x0), generator=draw))
        x = schedule.noised(x0, self._noise(x0, draw), t)
        return estimate(self.unet, x, t, told, self.precision)

    def _teach_D(
        self, real: Tensor, made: Tensor, text: TextFeatures, turn: int, rate: float
    ) -> tuple[dict[str, Tensor], bool]:
        """D's step number `turn`; its statistics, and whether it was applied."""
        config, entries = self.config, self.D.config.entries
        self.D.requires_grad_(True)
        t_D = self.D.encode_text(text)
        (true,) = self.D(box_pyramid(real, entries), t_D)
        (false,) = self.D(box_pyramid(made, entries), t_D)
        loss = d_nonsaturating(true, false)
        stats = {"D.loss": loss.detach(), "D.real": _mean(true), "D.fake": _mean(false)}
        if config.r1_gamma > 0 and turn % config.r1_every == 0:
            penalty = gradient_penalty(lambda x: self.D(box_pyramid(x, entries), t_D.detach())[0], real)
            loss = loss + config.r1_gamma / 2 * config.r1_every * penalty
            stats["D.r1"] = penalty.detach()
        parameters = list(self.D.parameters())
        _, good = descend(
            loss, self.optimizer_D, parameters, self.guard, "D", config.clip_norm, lr=config.lr_D * rate
        )
        self.D.requires_grad_(False)
        return stats, good

    def _adversarial(
        self, made: Tensor, text: TextFeatures, told: Condition, draw: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """How wrong D finds what was drawn, and the teacher's word on it."""
        config = self.config
        (judged,) = self.D(box_pyramid(made, self.D.config.entries), self.D.encode_text(text))
        loss = g_nonsaturating(judged)
        stats = {"adversarial": loss.detach()}
        if config.score_weight > 0:
            t = (torch.rand(len(made), generator=draw) * schedule.T).long()
            found = losses.score(
                self.unet, made, self._noise(made, draw), t, told, self.nothing, guidance=config.guidance,
                precision=self.precision,
            )  # fmt: skip
            stats["score"], loss = found.detach(), loss + config.score_weight * found
        return loss, stats

    def _noise(self, like: Tensor, draw: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=draw).to(self.device)

    def model(self, card: dict | None = None) -> DiffusionModel:
        """The student as it is; within `lora.worn`, its average."""
        return DiffusionModel(
            self.unet, self.teacher.config, self.teacher.text_encoder, card, lora=self.settings,
            teacher=self.facts["teacher"],
        )  # fmt: skip

    def sheet(self) -> Tensor:
        grid = self.facts["grid"]
        with lora.worn(self.unet, self.ema.model):
            return self.model()(
                grid["prompts"], seed=grid["seeds"], steps=self.config.student_steps, batch_size=_AT_ONCE
            ).images

    def save(self, folder: Path, cur_nimg: int, seconds: float) -> None:
        told, config, before = self.facts["teacher"], self.config, self.facts.get("started_from", {})
        card = {
            "name": folder.parent.resolve().name, "images": before.get("images", 0) + cur_nimg,
            "seconds": round(before.get("seconds", 0.0) + seconds, 1),
            "teacher_seconds": told["seconds"], "teacher_images": told["images"], "seed": config.seed,
            "guidance_folded_in": config.guidance, "losses": {
                "consistency": config.consistency_weight, "adversarial": config.adversarial_weight,
                "score": config.score_weight if config.adversarial_weight > 0 else 0.0,
            },
            "data": self.facts["data"]["path"], "machine": self.facts["machine"]["cpu"],
            "precision": self.precision,
        }  # fmt: skip
        with lora.worn(self.unet, self.ema.model):
            self.model(card).save_pretrained(folder, overwrite=True)


def _settings(config: DistillConfig) -> LoraConfig:
    return LoraConfig(rank=config.rank, alpha=config.rank)


def _mean(logits: list[Tensor]) -> Tensor:
    return torch.stack([each.detach().float().mean() for each in logits]).mean()
