"""Options of `workbench train` that change a preset's settings, in groups; the rest stays the preset's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

if TYPE_CHECKING:
    from workbench.training.config import TrainConfig

Amount = Annotated[str | None, arg(metavar="LENGTH")]
Grid = Annotated[str | None, arg(metavar="COLUMNSxROWS")]
Share = Annotated[float | None, arg(metavar="SHARE")]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A LENGTH is a number of images, or 2kimg, or 5epochs: passes over the data set."""

    images: Amount = None
    """Real images to show D in all."""
    log_every: Amount = None
    """Between two lines of the history."""
    sample_every: Amount = None
    """Between two grids of pictures; at first four times as often."""
    eval_every: Amount = None
    """Between two measurements by the judge; 0 never measures."""
    checkpoint_every: Amount = None
    """Between two checkpoints."""
    grid: Grid = None
    """Shape of the grids, such as 3x3; 6x6 when left out."""
    ema_halflife_kimg: Annotated[float | None, arg(metavar="KIMG")] = None
    """Half-life of G's average, in thousands of images; the preset's when left out."""
    ema_rampup: Share = None
    """The half-life of G's average is at most this share of the images so far; 0.05 when left out."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How it is computed."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """auto measures the machine for a second; fp16, for CUDA GPUs without bf16, comes with a loss scale."""
    accumulate: Annotated[int | None, arg(metavar="INT")] = None
    """Passes into which each process cuts its share of a step: less memory, the same weights."""
    gradient_checkpointing: bool = False
    """Compute features again in backward instead of keeping them: less memory, more time."""
    compile: bool = False
    """torch.compile for the passes that allow it; needs a C++ compiler (CPU) or Triton (GPU)."""


@dataclass(frozen=True, kw_only=True)
class Watching:
    """What looks on, beside history.jsonl and the judge."""

    held_out: Annotated[str | None, arg(metavar="DATA")] = None
    """Data set that D is asked about with each grid and never learns from: does D learn by heart?"""
    tracker: Literal["tensorboard", "trackio"] | None = None
    """Draws curves and grids, on this machine only; needs the package of its name."""


AS_PRESET, USUAL, UNWATCHED = Schedule(), Arithmetic(), Watching()


def settings(schedule: Schedule, arithmetic: Arithmetic) -> dict[str, object]:
    """What was given, by the names of `TrainConfig`."""
    lengths = {
        name: getattr(schedule, name) for name in ("images", "grid", "ema_halflife_kimg", "ema_rampup")
    }
    for name in ("log", "sample", "eval", "checkpoint"):
        lengths[f"{name}_every_nimg"] = getattr(schedule, f"{name}_every")
    given = {name: value for name, value in lengths.items() if value is not None}
    given |= {name: True for name in ("gradient_checkpointing", "compile") if getattr(arithmetic, name)}
    if arithmetic.accumulate is not None:
        given["accumulate"] = arithmetic.accumulate
    return {**given, "precision": arithmetic.precision}


def config_of(asked: dict[str, object], file: Path | None) -> TrainConfig:
    """The settings of a run: its preset's, over them those of a JSON file, over them what was asked for.

    What is None or "auto" was not asked for.
    """
    from workbench.training.config import TrainConfig, read_settings

    given = {name: value for name, value in asked.items() if value not in (None, "auto")}
    chosen = {"preset": "shepherd-64", **({} if file is None else read_settings(file)), **given}
    return TrainConfig.for_preset(chosen.pop("preset"), **chosen)


def length(name: str, value: str | None) -> int | str | None:
    """A LENGTH of the command line as the trainer takes it; WorkbenchError where it is none."""
    from workbench.training.lengths import parse_length

    return None if value is None else parse_length(name, value)
