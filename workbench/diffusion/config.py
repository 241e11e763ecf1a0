"""Settings of a diffusion run, of either kind; saved as JSON before step 0.

Progress, intervals and schedules count images, as in `workbench.training`. A run ends by images or by
minutes, whichever comes first, so that the baseline can be given exactly the wall-clock that a GAN had: its
rates know no end, and therefore need not know when that will be.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from workbench.diffusion.sampling import GUIDANCE
from workbench.errors import WorkbenchError
from workbench.noise import check_seed
from workbench.training.lengths import Length, in_images, parse_grid, parse_length

BUDGET = ("images", "minutes")  # the one thing that may change when a run goes on
_INTERVALS = ("log_every_nimg", "sample_every_nimg", "checkpoint_every_nimg")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(kw_only=True, frozen=True)
class RunConfig:
    """What both kinds share.

    images, minutes: budget, one of them at least; minutes of steps alone, as a GAN's history counts them,
    over all calls. lr: of Adam, reached after warmup_nimg images; from decay_nimg on it falls as one over the
    square root of the images (Karras et al. 2024, Eq. 67). earlier_nimg: images that the weights had seen
    when the run began: they count for the fall and for the average, not for the warm-up. ema_halflife_kimg,
    ema_rampup, clip_norm: as of `TrainConfig`. *_every_nimg: images between log lines, grids, checkpoints.
    grid: columns and rows.
    """

    images: Length | None = None
    minutes: float | None = None
    batch_size: int = 32
    seed: int = 0
    lr: float = 1e-3
    warmup_nimg: int = 2_000
    decay_nimg: int = 60_000
    earlier_nimg: int = 0
    ema_halflife_kimg: float = 5.0
    ema_rampup: float = 0.05
    clip_norm: float = 2.0
    flip: bool = True
    precision: str = "auto"
    log_every_nimg: Length = 1_000
    sample_every_nimg: Length = 10_000
    checkpoint_every_nimg: Length = 10_000
    keep_checkpoints: int = 2
    grid: tuple[int, int] = (6, 4)

    def __post_init__(self) -> None:
        if self.images is None and self.minutes is None:
            raise WorkbenchError("The run has no end: give images or minutes.")
        if self.minutes is not None:
            check_number("minutes", self.minutes, above=0)
        object.__setattr__(self, "grid", parse_grid(self.grid))
        object.__setattr__(self, "seed", check_seed(self.seed))
        for name in ("images", *_INTERVALS):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, parse_length(name, getattr(self, name)))
        least = {"batch_size": 2, "keep_checkpoints": 1, "warmup_nimg": 0, "decay_nimg": 1, "earlier_nimg": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise WorkbenchError(f"{name} is {value!r}: expected a whole number of at least {low}.")
        for name in ("lr", "ema_halflife_kimg", "clip_norm"):
            check_number(name, getattr(self, name), above=0)
        check_number("ema_rampup", self.ema_rampup, low=0, high=1)
        if self.precision not in PRECISIONS:
            raise WorkbenchError(f"precision is {self.precision!r}: expected {', '.join(PRECISIONS)}.")

    def for_epoch(self, epoch: int) -> RunConfig:
        """With every length in images; epoch: pictures of the data set."""
        lengths = {n: getattr(self, n) for n in ("images", *_INTERVALS) if getattr(self, n) is not None}
        return replace(self, **{name: in_images(value, epoch) for name, value in lengths.items()})

    def lr_scale(self, cur_nimg: int) -> float:
        """The rate at `cur_nimg` as a share of `lr`."""
        warm = min(1.0, (cur_nimg + self.batch_size) / self.warmup_nimg) if self.warmup_nimg else 1.0
        return warm / math.sqrt(max(1.0, (self.earlier_nimg + cur_nimg) / self.decay_nimg))

    def to_json(self) -> dict[str, Any]:
        """Plain values, earlier_nimg only where there are any; `from_json` reads them back."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return plain if self.earlier_nimg else {n: v for n, v in plain.items() if n != "earlier_nimg"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunConfig:
        """Raises WorkbenchError on a setting that this version does not know."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise WorkbenchError(
                f"The settings hold {unknown[0]!r}, which is not known here: expected some of "
                f"{', '.join(sorted(known))}."
            )
        return cls(**data)


@dataclass(kw_only=True, frozen=True)
class DiffusionConfig(RunConfig):
    """Of a baseline.

    preset: the GAN whose G it matches. caption_dropout: share of captions left out, so that guidance has
    something to compare with (Ho and Salimans 2022). snr_gamma: of `schedule.loss_weight`. sample_steps,
    guidance: of the grids, drawn by DPM-Solver++.
    """

    preset: str = "shepherd-64"
    ema_halflife_kimg: float = 10.0
    caption_dropout: float = 0.1
    snr_gamma: float = 5.0
    sample_steps: int = 8
    guidance: float = GUIDANCE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("caption_dropout", self.caption_dropout, low=0, high=0.9)
        check_number("snr_gamma", self.snr_gamma, above=0)
        check_number("guidance", self.guidance, low=0)
        if not isinstance(self.sample_steps, int) or self.sample_steps < 1:
            raise WorkbenchError(f"sample_steps is {self.sample_steps!r}: expected 1 or more.")


@dataclass(kw_only=True, frozen=True)
class DistillConfig(RunConfig):
    """Of a few-step student.

    rank: of its adapters. guidance: of the teacher, folded in. teacher_steps: of the ladder that the
    consistency loss climbs. student_steps: rungs on which the adversarial loss has it draw, and steps of the
    grids. consistency_weight, adversarial_weight: of the two losses, 0 = off; score_weight: of the teacher's
    word on what the student drew, beside the adversarial loss; both come every adversarial_every steps, so
    many times as heavy, since they cost twice what the consistency loss does (at every step where that is
    off). lr_D: of this project's Discriminator; r1_gamma, r1_every: its penalty at real pictures, of the
    steps that it takes part in.
    """

    batch_size: int = 16
    lr: float = 1e-4  # at 1e-3 the demo's student falls apart into noise between 2,000 and 3,000 pictures
    warmup_nimg: int = 500
    rank: int = 8
    guidance: float = GUIDANCE
    teacher_steps: int = 50
    student_steps: int = 4
    consistency_weight: float = 1.0
    adversarial_weight: float = 0.1
    score_weight: float = 1.0
    adversarial_every: int = 4
    lr_D: float = 2e-3
    r1_gamma: float = 1.0
    r1_every: int = 16
    sample_every_nimg: Length = 4_000
    checkpoint_every_nimg: Length = 4_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % 2:
            raise WorkbenchError(
                f"batch_size is {self.batch_size}: expected an even number, because pictures come in pairs."
            )
        for name in ("rank", "teacher_steps", "student_steps", "adversarial_every", "r1_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise WorkbenchError(f"{name} is {value!r}: expected a whole number of at least 1.")
        for name in ("guidance", "consistency_weight", "adversarial_weight", "score_weight", "r1_gamma"):
            check_number(name, getattr(self, name), low=0)
        check_number("lr_D", self.lr_D, above=0)
        if self.consistency_weight == 0 and self.adversarial_weight == 0:
            raise WorkbenchError(
                "consistency_weight and adversarial_weight are both 0, and nothing teaches the student: give "
                "one of them a weight."
            )


def check_number(
    name: str, value: object, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> None:
    """WorkbenchError unless value is a finite number in [low, high] and above `above`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or value <= above:
        bounds = f"above {above:g}" if above > -math.inf else f"from {low:g}"
        most = f" to {high:g}" if high < math.inf else ""
        raise WorkbenchError(f"{name} is {value!r}: expected a number {bounds}{most}.")
