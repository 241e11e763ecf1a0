"""Training of the mini-CLIP: pictures and captions of one data set, matched by what the captions claim.

Letters: B pictures of a batch, F factors. Contrastive with several positives: a caption names only part of
the factors, so every picture that agrees with all it names counts as its match. A small reconstruction loss
beside it keeps geometry in the features, which serve frozen in vision-aided discriminators. Each batch is a
pure function of (seed, step), so an interrupted training ends with the same bits.
"""

import contextlib
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from workbench import hardware
from workbench.datasets.sources import open_table
from workbench.datasets.table import PictureTable
from workbench.datasets.world import Factors, captions
from workbench.errors import WorkbenchError
from workbench.images import check_place, write_whole
from workbench.models.clip_io import save_clip
from workbench.models.fp16 import round_to_fp16
from workbench.models.mini_clip import IMAGE_SIZE, new_mini_clip
from workbench.noise import generator_for
from workbench.training.clip_packing import pack
from workbench.training.clip_parts import (
    Decoder,
    augment,
    image_forward,
    multi_positive_contrast,
    positives,
    reword,
    short_caption,
)
from workbench.training.zero_shot import zero_shot

__all__ = ["ClipTraining", "train_clip", "zero_shot"]

# Streams of a seed's noise: an epoch's order and a step's augmentation never share one.
_EPOCHS, _AUGMENT = 1 << 40, 2 << 40
_PACKED_BY = 1_000  # pictures whose features say which directions count
_MAX_SCALE = math.log(100.0)  # CLIP's own limit of the logit scale


@dataclass(frozen=True, kw_only=True)
class ClipTraining:
    """How a mini-CLIP is trained. images: shown in all; held_out: pictures kept for the accuracy (at most a
    tenth of the data); lr: peak of a warm-up and cosine; reconstruction: weight of the L1 between the
    decoder's picture and the input.
    """

    images: int = 130_000
    batch: int = 128
    seed: int = 0
    held_out: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.05
    reconstruction: float = 1.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name, low in (("images", 2), ("batch", 2), ("seed", 0), ("held_out", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise WorkbenchError(f"{name} is {value!r}: expected a whole number of at least {low}.")
        if self.batch > self.images:
            raise WorkbenchError(
                f"batch is {self.batch}: expected at most the {self.images} images of the training."
            )
        if min(self.lr, self.clip_norm) <= 0 or min(self.weight_decay, self.reconstruction) < 0:
            raise WorkbenchError(
                "lr and clip_norm must be above 0, weight_decay and reconstruction 0 or more."
            )

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def lr_at(self, step: int) -> float:
        """Linear warm-up over 4 % of the steps, then a cosine to zero."""
        warm = max(1, self.steps // 25)
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


class ClipTrainer:
    """One training: model, optimizer and the number of the next step, on the pictures of a table."""

    def __init__(self, table: PictureTable, training: ClipTraining, machine: hardware.Machine):
        self.training, self.machine = training, machine
        order = torch.randperm(len(table), generator=generator_for(training.seed, 0))
        held = min(training.held_out, len(table) // 10)
        self.table, self.held_rows, self.rows = table, order[:held], order[held:]
        if training.batch > len(self.rows):
            raise WorkbenchError(
                f"batch is {training.batch}: expected at most the {len(self.rows)} pictures to train on."
            )
        known = [Factors(**facts) if facts else None for facts in table.known]
        self.factors = known
        words = [w for text in table.texts for w in text.split()] if None in known else []
        with torch.random.fork_rng():
            torch.manual_seed(int(generator_for(training.seed, 1).initial_seed()))
            self.clip = new_mini_clip([*captions.vocabulary(), *dict.fromkeys(words)])
            self.decoder = Decoder(self.clip.model.visual.layer3[-1].conv3.out_channels)
        self.clip.model.to(machine.device).train()
        self.clip.model.visual.to(memory_format=hardware.memory_format(machine.device))
        self.decoder.to(machine.device, memory_format=hardware.memory_format(machine.device))
        self.optimizer = self._new_optimizer()
        self.step = 0

    def _new_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; gains, biases, embeddings and the scale are not decayed."""
        named = [*self.clip.model.named_parameters(), *self.decoder.named_parameters(prefix="decoder")]
        plain = [p for name, p in named if p.ndim < 2 or "embedding" in name]
        decayed = [p for name, p in named if not (p.ndim < 2 or "embedding" in name)]
        groups = [
            {"params": decayed, "weight_decay": self.training.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.training.lr, betas=(0.9, 0.98), fused=True)

    def rows_at(self, step: int) -> Tensor:
        """[B] rows of the table: each comes once an epoch, in a new order."""
        epoch, place = divmod(step, len(self.rows) // self.training.batch)
        order = torch.randperm(len(self.rows), generator=generator_for(self.training.seed, _EPOCHS + epoch))
        return self.rows[order[place * self.training.batch :][: self.training.batch]]

    def texts_at(self, step: int, rows: Tensor) -> list[str]:
        """Captions for the rows: where factors are known a new wording each time, some naming one alone; else
        the text.
        """
        seed = self.training.seed
        rng = random.Random(f"{seed} {step}")
        texts = []
        for row in rows.tolist():
            factors, kind = self.factors[row], rng.random()
            if factors is None:
                texts.append(self.table.texts[row])
            elif kind < 0.15:
                texts.append(short_caption(self.table.known[row], rng))
            else:
                write = captions.full_caption if kind < 0.5 else captions.caption
                texts.append(write(factors, seed, step * len(self.table) + row))
        return texts

    def train_step(self) -> dict[str, float]:
        """One step of AdamW. Returns losses and the share of pictures whose best caption is true of them."""
        training, model, device = self.training, self.clip.model, self.machine.device
        rows = self.rows_at(self.step)
        texts = self.texts_at(self.step, rows)
        match = positives(texts, [self.table.known[r] for r in rows.tolist()], self.table.groups[rows]).to(
            device
        )
        x, target = augment(self.table.images[rows], generator_for(training.seed, _AUGMENT + self.step))
        rng = random.Random(f"{training.seed} {self.step} words")
        tokens = self.clip.tokenizer([reword(text, rng) for text in texts]).to(device)
        with hardware.autocast(device, self.machine.precision):
            image, middle = image_forward(model.visual, x.to(device))
            text = model.encode_text(tokens)
            drawn = self.decoder(middle)
        scale = model.logit_scale.exp()
        logits = scale * F.normalize(image.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
        contrast = (multi_positive_contrast(logits, match.T) + multi_positive_contrast(logits.T, match)) / 2
        small = F.interpolate(target.to(device), size=tuple(drawn.shape[-2:]), mode="area")
        reconstruction = F.l1_loss(drawn.float(), small)
        loss = contrast + training.reconstruction * reconstruction
        if not torch.isfinite(loss):
            raise WorkbenchError(
                f"The loss is {loss.item()} at step {self.step}: train anew into another folder, with a "
                f"ClipTraining whose lr is below {training.lr}."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = training.lr_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(
            [p for g in self.optimizer.param_groups for p in g["params"]], training.clip_norm
        )
        self.optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, _MAX_SCALE)
            right = match.T.gather(1, logits.argmax(1, keepdim=True)).float().mean()
        self.step += 1
        return {"contrast": contrast.item(), "reconstruction": reconstruction.item(), "right": right.item(),
                "scale": scale.item()}  # fmt: skip

    def pictures(self, rows: Tensor) -> Tensor:
        """[N, 3, 64, 64] in [-1, 1] of some rows of the table."""
        return self.table.images[rows].float().to(self.machine.device) / 127.5 - 1

    def accuracy(self) -> dict[str, float]:
        """Zero-shot accuracy on the held-out pictures whose factors are known; {} where none are."""
        rows = [r for r in self.held_rows.tolist() if self.table.known[r]]
        if not rows:
            return {}
        return zero_shot(self.clip, self.pictures(torch.tensor(rows)), [self.table.known[r] for r in rows])

    def save(self, folder: Path) -> None:
        """Write everything the next steps depend on to folder/state.safetensors, at once or not at all."""
        tensors = {f"model.{k}": v for k, v in self.clip.model.state_dict().items()}
        tensors |= {f"decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        facts = {
            "step": str(self.step),
            "training": json.dumps(asdict(self.training)),
            "data": str(len(self.table)),
        }
        folder.mkdir(parents=True, exist_ok=True)
        data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata=facts)
        write_whole(folder / "state.safetensors", lambda handle: handle.write(data))

    def load(self, folder: Path) -> None:
        """Put a saved state back. Raises WorkbenchError for a damaged one or one of another training."""
        path = folder / "state.safetensors"
        try:
            with safe_open(path, framework="pt", device=self.machine.device) as file:
                facts = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise WorkbenchError(
                f"{path} is damaged ({error}): delete {folder} to train from the start."
            ) from error
        held, own = json.loads(facts["training"]), asdict(self.training)
        held["pictures"], own["pictures"] = int(facts["data"]), len(self.table)
        changed = [f"{k} {held.get(k)} → {own[k]}" for k in own if held.get(k) != own[k]]
        if changed:
            raise WorkbenchError(
                f"{path} is of another training ({', '.join(changed)}): go on with its settings, or choose "
                "another folder."
            )
        parts: dict[str, dict] = {"model": {}, "decoder": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = value
        self.clip.model.load_state_dict(parts["model"])
        self.decoder.load_state_dict(parts["decoder"])
        moments: dict[int, dict] = {}
        for key, value in parts["optimizer"].items():
            index, field = key.split(".")
            moments.setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(
            {"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        # The fused AdamW walks parameter and moments in memory order, so they need the same layout.
        for parameter, state in self.optimizer.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.empty_like(parameter).copy_(state[name])
        self.step = int(facts["step"])


def _progress(training: ClipTraining, step: int, line: dict[str, float], rate: float) -> str:
    """One line for people: images, losses, rate, time left."""
    left = (training.steps - step) * training.batch / rate
    return (
        f"mini-CLIP {step * training.batch}/{training.images} images · contrast {line['contrast']:.3f} · "
        f"reconstruction {line['reconstruction']:.3f} · right {line['right']:.0%} · {rate:.0f} images/s · "
        f"{left:.0f} s left"
    )


def _loop(trainer: ClipTrainer, folder: Path, say: Callable[[str], None], stop_at: int | None) -> None:
    """Train to the end (or to step `stop_at`); whatever ends it, Ctrl-C included, the state is saved."""
    training, history = trainer.training, folder / "history.jsonl"
    end = training.steps if stop_at is None else min(stop_at, training.steps)
    first, started, saved = trainer.step, time.monotonic(), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        while trainer.step < end:
            line = trainer.train_step()
            step = trainer.step
            if step % max(1, training.steps // 100) == 0 or step == end:
                rate = (step - first) * training.batch / (time.monotonic() - started)
                with history.open("a", encoding="utf-8") as file:
                    facts = {"kind": "step", "cur_nimg": step * training.batch, **line, "images_per_s": rate}
                    file.write(
                        json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in facts.items()})
                        + "\n"
                    )
                say(_progress(training, step, line, rate))
            if time.monotonic() - saved > 60:
                trainer.save(folder)
                saved = time.monotonic()
    finally:
        trainer.save(folder)


@contextlib.contextmanager
def _explained(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say(f"Stopped; everything is saved in {folder}. Go on with resume.")
        raise


def _read(data: str | Path | PictureTable, progress: bool) -> PictureTable:
    if isinstance(data, PictureTable):
        if data.images.shape[-1] != IMAGE_SIZE:
            raise WorkbenchError(f"The pictures have {data.images.shape[-1]} px: expected {IMAGE_SIZE}.")
        return data
    return open_table(data, IMAGE_SIZE, progress=progress)


def train_clip(
    data: str | Path | PictureTable,
    out: str | Path,
    *,
    images: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = None,
    training: ClipTraining | None = None,
    stop_at: int | None = None,
) -> dict[str, float]:
    """Train a mini-CLIP and write it as a CLIP folder; returns its zero-shot accuracy by factor ({} without
    known factors).

    data: a data set folder or a table of 64 px (`PictureTable.from_world` draws one). out: the CLIP folder to
    write, new or empty; while training, state and history lie in the folder `<out>.training` beside it, and
    `resume` goes on from there. images, batch, seed: see ClipTraining, as `training` for the rest. precision:
    "bf16", "fp32" or None, which measures. stop_at: step to stop at early. Ctrl-C saves and passes on. Raises
    WorkbenchError for what can't be trained on.
    """
    changes = {k: v for k, v in (("images", images), ("batch", batch), ("seed", seed)) if v is not None}
    training = replace(training or ClipTraining(), **changes)
    out = Path(out)
    folder = out.with_name(f"{out.name}.training")
    say = print if progress else (lambda text: None)
    _check_free(out, folder, resume)
    machine = hardware.probe(device)
    machine = machine if precision is None else replace(machine, precision=precision)
    trainer = ClipTrainer(_read(data, progress), training, machine)
    if resume and (folder / "state.safetensors").is_file():
        trainer.load(folder)
        _drop_history(folder / "history.jsonl", trainer.step * training.batch)
    with _explained(folder, say):
        _loop(trainer, folder, say, stop_at)
    if trainer.step < training.steps:
        return {}
    round_to_fp16(trainer.clip.model)
    trainer.clip.model.eval()
    seen = trainer.rows[:_PACKED_BY]
    packing = pack(trainer.clip, trainer.pictures(seen), trainer.pictures(trainer.held_rows))
    results = trainer.accuracy()
    say(
        f"zero-shot on {len(trainer.held_rows)} held-out pictures: "
        + ", ".join(f"{k} {v:.2%}" for k, v in results.items())
    )
    trainer.clip.facts = {
        "training": {**asdict(training), "pictures": len(trainer.table)},
        "zero_shot": results,
        "packing": packing,
    }
    save_clip(trainer.clip, out)
    shutil.copyfile(folder / "history.jsonl", out / "history.jsonl")
    shutil.rmtree(folder)
    return results


def _check_free(out: Path, folder: Path, resume: bool) -> None:
    """Refuse to overwrite a CLIP in `out`, or a training in `folder` that nobody asked to go on with."""
    check_place(out)
    if out.is_dir() and any(out.iterdir()):
        raise WorkbenchError(f"{out} already holds files, none is overwritten: choose a new or empty folder.")
    if folder.exists() and not resume:
        raise WorkbenchError(f"{folder} holds a training that was begun: pass resume to go on, or delete it.")


def _drop_history(path: Path, cur_nimg: int) -> None:
    """Leave out the lines that came after the state that a training goes on from."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if line.strip() and json.loads(line)["cur_nimg"] <= cur_nimg]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
