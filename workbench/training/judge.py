"""Training of the judge on renders of its own, kept apart from everything that is trained on Shepherd World.

Letters: N pictures. The judge must name what a generated picture shows, so it may not hang on details that
only a renderer gets right: colours are jittered, pictures are softened and grained. State is a pure function
of (seed, step), so an interrupted training ends with the same bits.
"""

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from workbench import hardware
from workbench.datasets.rows import read_folder, read_picture
from workbench.datasets.world.folder import WORLD_VERSION, write_world
from workbench.errors import WorkbenchError
from workbench.evaluation.features import (
    FACTOR_CLASSES,
    Judge,
    JudgeConfig,
    class_ids,
    from_targets,
    load_judge,
    to_targets,
)
from workbench.images import check_place, write_whole
from workbench.noise import generator_for

# Targets that change sign when a picture is mirrored.
MIRRORED = ("azimuth_sin", "x", "head_yaw_deg")
REGRESSION_WEIGHT = 2.0


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How a judge is trained. images, held_out: renders; world_seed: of the renders (no other set uses it);
    seed: of weights, order and augmentation; lr: peak of a warm-up and cosine schedule.
    """

    images: int = 9000
    held_out: int = 1000
    world_seed: int = 1_000_000
    seed: int = 0
    epochs: int = 12
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.02

    def __post_init__(self) -> None:
        for name, low in (
            ("images", 8),
            ("held_out", 1),
            ("world_seed", 0),
            ("seed", 0),
            ("epochs", 1),
            ("batch_size", 2),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise WorkbenchError(f"{name} is {value!r}: expected a whole number >= {low}.")
        if self.batch_size > self.images:
            raise WorkbenchError(
                f"batch_size is {self.batch_size}: expected at most the {self.images} images."
            )
        if self.lr <= 0 or self.weight_decay < 0:
            raise WorkbenchError(f"lr is {self.lr}, weight_decay {self.weight_decay}: expected > 0 and >= 0.")

    @property
    def steps(self) -> int:
        return self.epochs * (self.images // self.batch_size)


@dataclass(frozen=True, kw_only=True)
class LabelledPictures:
    """images: uint8 [N, 3, H, W]; classes: factor -> ids [N]; targets: [N, targets]."""

    images: Tensor
    classes: dict[str, Tensor]
    targets: Tensor

    def rows(self, index: Tensor | slice) -> "LabelledPictures":
        return LabelledPictures(
            images=self.images[index],
            classes={k: v[index] for k, v in self.classes.items()},
            targets=self.targets[index],
        )


def read_pictures(folder: Path, config: JudgeConfig) -> LabelledPictures:
    """A rendered data set folder with its factors as the judge's labels."""
    rows = read_folder(folder, check_pictures=False)
    images = torch.stack(
        [torch.from_numpy(np.array(read_picture(folder / row.file_name))).permute(2, 0, 1) for row in rows]
    )
    factors = [row.factors for row in rows]
    return LabelledPictures(images=images, classes=class_ids(factors), targets=to_targets(factors, config))


def mirror(images: Tensor, targets: Tensor, which: Tensor, config: JudgeConfig) -> tuple[Tensor, Tensor]:
    """Mirror pictures [N, 3, H, W] where which [N] is true, and their targets [N, targets]."""
    signs = torch.tensor([-1.0 if name in MIRRORED else 1.0 for name in config.targets])
    images = torch.where(which[:, None, None, None], images.flip(3), images)
    return images, torch.where(which[:, None], targets * signs, targets)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Per-picture changes that leave every factor alone: brightness, contrast, saturation, softness, grain.

    images [N, 3, H, W] in [-1, 1] -> the same. Mild in colour, since sunset and sable are told by it.
    """
    n = images.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=generator) * (high - low) + low

    grey = images.mean(dim=1, keepdim=True)
    x = grey + (images - grey) * uniform(0.85, 1.15)
    level = x.mean(dim=(1, 2, 3), keepdim=True)
    x = level + (x - level) * uniform(0.88, 1.12) + uniform(-0.08, 0.08)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    soft = F.conv2d(
        F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.outer(kernel, kernel).expand(3, 1, 3, 3), groups=3
    )
    x = torch.lerp(x, soft, uniform(-0.5, 1.0).clamp_min(0))  # a third of the pictures stay sharp
    x = x + torch.randn(x.shape, generator=generator) * uniform(-0.03, 0.06).clamp_min(0)
    return x.clamp(-1, 1)


def batch_at(
    data: LabelledPictures, training: JudgeTraining, config: JudgeConfig, step: int
) -> LabelledPictures:
    """The augmented batch of a step: a pure function of (training.seed, step). images come as float in [-1,
    1].
    """
    per_epoch = len(data.images) // training.batch_size
    epoch, position = divmod(step, per_epoch)
    order = torch.randperm(len(data.images), generator=generator_for(training.seed, 2 * epoch + 1))
    rows = data.rows(order[position * training.batch_size : (position + 1) * training.batch_size])
    generator = generator_for(training.seed, 2 * step + 2)
    which = torch.rand(len(rows.images), generator=generator) < 0.5
    images, targets = mirror(rows.images.float() / 127.5 - 1, rows.targets, which, config)
    return LabelledPictures(images=augment(images, generator), classes=rows.classes, targets=targets)


def learning_rate(training: JudgeTraining, step: int) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine to zero."""
    warm = max(1, training.steps // 20)
    if step < warm:
        return training.lr * (step + 1) / warm
    return training.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, training.steps - warm)))


def judge_loss(logits: dict[str, Tensor], numbers: Tensor, batch: LabelledPictures) -> Tensor:
    """Sum of the factors' cross entropies plus a smooth L1 on the regression targets, in fp32. -> []"""
    naming = sum(
        F.cross_entropy(v.float(), batch.classes[k], label_smoothing=0.02) for k, v in logits.items()
    )
    return naming + REGRESSION_WEIGHT * F.smooth_l1_loss(numbers.float(), batch.targets, beta=0.1)


def _save_state(
    path: Path, judge: Judge, optimizer: torch.optim.Optimizer, step: int, training: JudgeTraining
) -> None:
    tensors = {f"judge.{k}": v.contiguous() for k, v in judge.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{k}": torch.as_tensor(v).clone(memory_format=torch.contiguous_format)
            for k, v in state.items()
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    data = save(tensors, metadata={"step": str(step), "training": json.dumps(asdict(training))})
    write_whole(path, lambda handle: handle.write(data))


def _load_state(path: Path, judge: Judge, optimizer: torch.optim.Optimizer, training: JudgeTraining) -> int:
    """Put a saved state back and return its step; 0 where there is none. Refuses the state of another
    training.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise WorkbenchError(f"{path} is damaged ({error}). Delete it to train from the start.") from error
    before = json.loads(facts["training"])
    if before != asdict(training):
        changed = sorted(k for k in before if before[k] != getattr(training, k, None))
        raise WorkbenchError(
            f"{path} is the state of another training ({', '.join(changed)} differ). Delete it or choose "
            "another work folder."
        )
    judge.load_state_dict({k.removeprefix("judge."): v for k, v in tensors.items() if k.startswith("judge.")})
    parameters = list(judge.parameters())
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            like = parameters[int(index)]
            # In the parameter's own memory format: another one may take another loop and round otherwise.
            held = value if value.ndim == 0 else torch.empty_like(like, requires_grad=False).copy_(value)
            state.setdefault(int(index), {})[key] = held
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # moments in the memory order of their weights: sums over another order differ in the last bits
    for parameter, moments in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            moments[name] = torch.empty_like(parameter).copy_(moments[name])
    return int(facts["step"])


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Ctrl-C fills the list instead of raising: a step that is cut in the middle could not be resumed
    exactly.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _step(
    judge: Judge, optimizer: torch.optim.Optimizer, batch: LabelledPictures, lr: float, precision: str
) -> tuple[dict[str, Tensor], float]:
    """One update; returns the logits and the loss."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    with hardware.autocast("cpu", precision):
        logits, numbers, _ = judge(batch.images.contiguous(memory_format=torch.channels_last))
    loss = judge_loss(logits, numbers, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return logits, loss.item()


def _loop(
    judge: Judge,
    data: LabelledPictures,
    training: JudgeTraining,
    state: Path,
    machine: hardware.Machine,
    say: Callable[[str], None],
    stop_at: int | None,
) -> bool:
    """Train from the saved state to the end (or stop_at); Ctrl-C saves and passes on. Returns whether it is
    done.
    """
    judge.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=training.lr, weight_decay=training.weight_decay)
    first = step = _load_state(state, judge, optimizer, training)
    end = training.steps if stop_at is None else min(stop_at, training.steps)
    saved = start = time.monotonic()
    with _asked_to_stop() as asked:
        while step < end and not asked:
            batch = batch_at(data, training, judge.config, step)
            logits, loss = _step(judge, optimizer, batch, learning_rate(training, step), machine.precision)
            step += 1
            if step % 50 == 0 or step == end:
                right = {
                    k: (v.argmax(1) == batch.classes[k]).float().mean().item() for k, v in logits.items()
                }
                left = (time.monotonic() - start) / (step - first) * (end - step)
                shares = " ".join(f"{k} {v:.2f}" for k, v in right.items())
                say(f"step {step}/{training.steps} loss {loss:.3f} {shares} · {left:.0f} s left")
            if time.monotonic() - saved > 30:
                _save_state(state, judge, optimizer, step, training)
                saved = time.monotonic()
    _save_state(state, judge, optimizer, step, training)
    if asked:
        say(f"saved at step {step}; the same command goes on from there")
        raise KeyboardInterrupt
    return step >= training.steps


def held_out_results(judge: Judge, data: LabelledPictures) -> dict:
    """Accuracy per factor and mean absolute error per continuous factor (the azimuth's around the circle)."""
    seen = judge.measure(data.images.float() / 127.5 - 1)
    out = {k: (seen.classes[k] == data.classes[k]).double().mean().item() for k in FACTOR_CLASSES}
    truth = from_targets(data.targets, judge.config)
    errors = {k: (seen.regression[k] - truth[k]).abs() for k in truth}
    errors["azimuth_deg"] = torch.minimum(errors["azimuth_deg"], 360 - errors["azimuth_deg"])
    return {"n": len(data.images), **out, "errors": {k: v.mean().item() for k, v in errors.items()}}


_CARD = """\
---
license: mit
tags: [shepherd-world, evaluation]
---

# The judge of Shepherd World

A residual network of {parameters:.1f} million parameters at {resolution} px that names the coat, pose, scene
and light of a picture and regresses its continuous factors. It measures; it takes part in no training of the
models that it measures.

- **Trained on** {images:,} renders of its own (world seed {world_seed}, version {world_version}) for {epochs}
  epochs, mirrored and with jittered colours, softness and grain, by `workbench train-judge`. No photograph
  and no other model took part.
- **Held-out renders** (n = {n:,}): {accuracy}.
- **Mean absolute errors there**: {errors}.
- **Features**: `features()` gives {features} numbers, the mean and standard deviation over space of each
  channel of every layer but the last; the Fréchet distance that the project quotes is taken on them. A full
  covariance needs more pictures than that. `last_features()` ({last} numbers) stands beside it: it comes near
  its floor while pictures are still plainly wrong.
- **Limits**: it always names something, and coloured blobs without legs or head can satisfy it. Its shares
  are no measure of quality by themselves: look at the pictures, and read them with the distance.
- **Files**: `config.json`, `model.safetensors` (fp16 weights), `reference_n2000_seed0_64px.safetensors`
  (statistics of held-out renders and their floor). Licence: MIT.
"""


def write_card(folder: Path, judge: Judge, training: JudgeTraining, results: dict) -> None:
    """README.md of the judge's folder from what was measured."""
    text = _CARD.format(
        parameters=sum(p.numel() for p in judge.parameters()) / 1e6,
        resolution=judge.config.resolution,
        images=training.images,
        world_seed=training.world_seed,
        world_version=WORLD_VERSION,
        epochs=training.epochs,
        n=results["n"],
        accuracy=", ".join(f"{k} {results[k]:.4f}" for k in FACTOR_CLASSES),
        errors=", ".join(f"{k} {v:.3g}" for k, v in results["errors"].items()),
        features=judge.feature_dim,
        last=judge.config.channels[-1],
    )
    write_whole(folder / "README.md", lambda handle: handle.write(text.encode()))


def train_judge(
    out: str | Path,
    *,
    images: int = 9000,
    seed: int = 0,
    training: JudgeTraining | None = None,
    config: JudgeConfig | None = None,
    data: str | Path = Path("runs") / "judge-world",
    work: str | Path = Path("runs") / "judge-state",
    workers: int | None = None,
    machine: hardware.Machine | None = None,
    overwrite: bool = False,
    stop_at: int | None = None,
    progress: Callable[[str], None] | bool = True,
) -> dict | None:
    """Render the judge's own set into `data`, train, write the judge with its card to `out`; returns held-out
    results.

    Resumable at every stage: the same call goes on from where it was (renders, then the state in `work`),
    with the same bits in the end. training: every setting; images and seed are then not read. stop_at: leave
    after that step (and return None). Raises WorkbenchError when `out` holds a judge and overwrite is false,
    or `work` the state of another training.
    """
    training = JudgeTraining(images=images, seed=seed) if training is None else training
    config = JudgeConfig() if config is None else config
    out, data, state = Path(out), Path(data), Path(work) / "state.safetensors"
    if (out / "model.safetensors").exists() and not overwrite:
        raise WorkbenchError(f"{out} holds a judge already: choose another folder, or pass --overwrite.")
    say = print if progress is True else progress if callable(progress) else (lambda _: None)
    check_place(out)  # now, not after an hour of training
    write_world(
        data,
        count=training.images + training.held_out,
        seed=training.world_seed,
        resolution=config.resolution,
        workers=workers,
        progress=progress is True,
    )
    pictures = read_pictures(data, config)
    machine = hardware.probe("cpu") if machine is None else machine
    torch.manual_seed(generator_for(training.seed, 0).initial_seed() % 2**63)
    judge = Judge(config)
    if not _loop(judge, pictures.rows(slice(training.images)), training, state, machine, say, stop_at):
        return None
    judge.save_pretrained(out)
    results = held_out_results(
        load_judge(out), pictures.rows(slice(training.images, None))
    )  # as it is stored
    write_card(out, judge, training, results)
    say("held out: " + ", ".join(f"{k} {results[k]:.4f}" for k in FACTOR_CLASSES))
    return results
