"""Train the diffusion baseline: noise a picture, ask the U-Net for v, weigh the squared error.

Letters: B pictures of a batch [B, 3, S, S] in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from workbench import hardware
from workbench.datasets.loading import Batches
from workbench.datasets.shards.files import public_name
from workbench.datasets.sources import home_of, open_table
from workbench.datasets.table import PictureTable
from workbench.diffusion import begin, runs, schedule
from workbench.diffusion.baseline import BaselineConfig, attend_for_training, baseline_for, build
from workbench.diffusion.conditioning import NOTHING, Condition, predict
from workbench.diffusion.config import DiffusionConfig
from workbench.diffusion.loop import run_task
from workbench.diffusion.model import DiffusionModel
from workbench.models import presets
from workbench.models.text import TextEncoder
from workbench.noise import generator_for
from workbench.training import checkpoint
from workbench.training import runs as gan_runs
from workbench.training.batches import grid_plan
from workbench.training.captions import CaptionTable
from workbench.training.ema import EMA, ema_beta
from workbench.training.lengths import Length
from workbench.training.loop import Result, own_randomness, signals
from workbench.training.players import NormGuard

MINI_CLIP = Path("assets/models/mini-clip")
_NOISE = 23 << 40  # stream of the run's seed: noise and dropped captions of a step
_AT_ONCE = 8  # pictures of a grid


def train_baseline(
    config: DiffusionConfig,
    data: str | Path,
    out: str | Path,
    *,
    clip: str | Path = MINI_CLIP,
    network: BaselineConfig | None = None,
    start_from: str | Path | None = None,
    device: str | None = None,
    stop_after_nimg: Length | None = None,
    progress: bool = True,
) -> Result:
    """Train on a data set, as `open_table` takes it, into a run folder, or go on with the run there.

    clip: whose text tower reads, frozen. network: instead of the one that matches config.preset's G.
    start_from: folder or Hub name of a baseline whose weights a new run begins with; what they had seen
    counts on, for the rates and in the card. stop_after_nimg: pause at that image count. SIGINT and SIGTERM
    finish the step, save and return. A budget (images, minutes) may be raised to go on. Raises WorkbenchError
    and OSError in one sentence.
    """
    out = Path(out)
    old = runs.present(out, runs.BASELINE)
    machine = hardware.probe(device)
    precision = runs.precision_of(config, machine, old)
    say: Callable[[str], None] = tqdm.write if progress else (lambda text: None)
    encoder = TextEncoder.from_pretrained(clip, device=machine.device)
    network = network or baseline_for(presets.preset(config.preset).generator, embed_dim=encoder.embed_dim)
    start = begin.start_of(start_from, old, network, encoder)
    if start is not None:
        config = replace(config, earlier_nimg=start.images)
    with gan_runs.held(out), own_randomness(), hardware.kept_memory(), signals() as stop:
        table = open_table(data, network.resolution, progress=progress)
        config = config.for_epoch(len(table))
        prompts, seeds = grid_plan(table, config.grid)
        facts = runs.describe(
            runs.BASELINE, config, machine, precision, network=network.to_json(),
            data={"path": public_name(data), **gan_runs.fingerprint(table)},
            text_encoder=encoder.fingerprint(), grid={"prompts": prompts, "seeds": seeds},
            **({} if start is None else {"started_from": start.to_json()}),
        )  # fmt: skip
        facts = runs.claim(out, old, facts, say)
        task = Denoising(
            config, network, encoder, table, torch.device(machine.device), precision,
            facts=facts, captions=home_of(data) / "captions", say=say,
        )  # fmt: skip
        if start is not None and checkpoint.newest_nimg(out) is None:
            begin.take_over((task.unet, task.ema.model), start, say)
        return run_task(
            task,
            config,
            out,
            stop,
            epoch=len(table),
            stop_after_nimg=stop_after_nimg,
            say=say,
            progress=progress,
        )


class Denoising:
    """The task of a baseline. captions: folder where text features are kept between runs."""

    def __init__(
        self, config: DiffusionConfig, network: BaselineConfig, encoder: TextEncoder, table: PictureTable,
        device: torch.device, precision: str, *, facts: dict, captions: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.config, self.network, self.encoder = config, network, encoder
        self.device, self.precision, self.facts, self.lr_multiplier = device, precision, facts, 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            unet = build(network)
        self.unet = attend_for_training(unet, device).to(device, memory_format=torch.channels_last)
        self.ema, self.guard = EMA(self.unet), NormGuard().to(device)
        self.parameters = list(self.unet.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.lr, betas=(0.9, 0.99), fused=True)
        self.batches = Batches(table, config.batch_size, config.seed, flip=config.flip)
        self.captions = CaptionTable(table.texts, encoder, device, folder=captions, say=say)
        self.nothing = Condition.of(encoder([NOTHING]).to(device))

    def modules(self) -> dict[str, nn.Module]:
        return {"unet": self.unet, "unet_ema": self.ema.model, "guard": self.guard}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"opt": self.optimizer}

    def step(self, step: int, cur_nimg: int) -> dict[str, Tensor]:
        images, texts, _ = self.batches.batch_at(step)
        count, config = len(images), self.config
        generator = generator_for(config.seed, _NOISE + step)
        eps = torch.randn(images.shape, generator=generator)
        dropped = torch.rand(count, generator=generator) < config.caption_dropout
        t = schedule.draw_times(count, config.seed, step)
        told = Condition.of(self.captions.of(texts)).replaced(dropped.to(self.device), self.nothing)
        x0, eps = images.to(self.device), eps.to(self.device)
        errors = denoising_errors(self.unet, x0, eps, t, told, self.precision)
        loss = (errors * schedule.loss_weight(t, config.snr_gamma).to(errors)).mean()
        norm, finite = descend(
            loss, self.optimizer, self.parameters, self.guard, "G", config.clip_norm,
            lr=config.lr * config.lr_scale(cur_nimg) * self.lr_multiplier,
        )  # fmt: skip
        if finite:
            beta = ema_beta(
                config.batch_size, config.earlier_nimg + cur_nimg + count, config.ema_halflife_kimg,
                ramp_up=config.ema_rampup,
            )  # fmt: skip
            self.ema.update(self.unet, beta)
        return {"loss": loss.detach(), "norm": norm, "finite": torch.tensor(finite), **by_noise(errors, t)}

    def model(self, card: dict | None = None) -> DiffusionModel:
        """What the average draws with."""
        return DiffusionModel(self.ema.model, self.network, self.encoder, card)

    def sheet(self) -> Tensor:
        grid, config = self.facts["grid"], self.config
        return self.model()(
            grid["prompts"], seed=grid["seeds"], steps=config.sample_steps, guidance=config.guidance,
            sampler="dpm++", batch_size=_AT_ONCE,
        ).images  # fmt: skip

    def save(self, folder: Path, cur_nimg: int, seconds: float) -> None:
        before = self.facts.get("started_from", {})
        card = {
            "name": folder.parent.resolve().name, "preset": self.config.preset,
            "images": before.get("images", 0) + cur_nimg, "seed": self.config.seed,
            "seconds": round(before.get("seconds", 0.0) + seconds, 1), "data": self.facts["data"]["path"],
            "machine": self.facts["machine"]["cpu"], "precision": self.precision,
        }  # fmt: skip
        self.model(card).save_pretrained(folder, overwrite=True)


def denoising_errors(
    unet: nn.Module, x0: Tensor, eps: Tensor, t: Tensor, told: Condition, precision: str = "fp32"
) -> Tensor:
    """Mean squared error in v of each row, [B] float32 (Salimans and Ho 2022, Sec. 4)."""
    said = predict(unet, schedule.noised(x0, eps, t), t, told, precision)
    return (said - schedule.velocity(x0, eps, t)).square().mean((1, 2, 3))


def by_noise(errors: Tensor, t: Tensor) -> dict[str, Tensor]:
    """Mean error of little, middling and much noise (thirds of the steps), where a batch has such rows."""
    third = (3 * t // schedule.T).to(errors.device)
    names = ("loss.little", "loss.middling", "loss.much")
    return {
        name: errors.detach()[third == k].mean() for k, name in enumerate(names) if bool((third == k).any())
    }


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], guard: NormGuard,
    name: str, clip_norm: float, *, lr: float,
) -> tuple[Tensor, bool]:  # fmt: skip
    """Backward and one step of the optimiser, unless loss or gradient is not finite; (norm, whether).

    name: "G" or "D", whose running norm of `guard` counts.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    finite = bool(torch.isfinite(loss.detach()))
    norm = torch.full((), float("nan"))
    if finite:
        loss.backward()
        norm, sound = guard.clip(name, parameters, clip_norm)
        finite = bool(sound)
    if finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, finite
