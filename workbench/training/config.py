"""Everything that decides how a run goes, as one frozen dataclass that is saved as JSON before step 0.

Progress, intervals and schedules count images (`cur_nimg`: real images shown to D), so that batch size and
number of processes change none of them.
"""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.noise import check_seed
from workbench.training.degrading import parse_degradations
from workbench.training.lengths import Length, in_images, parse_grid, parse_length

# What `resume="extend"` may change in a run that exists: the budget, the rates and weights, and when things
# are written.
FIXED = ("preset", "batch_size", "seed", "grid", "conditioning")
# Settings that, being 0 or not, decide whether a part of the run is there at all: its checkpoint holds it or
# lacks it, so that "extend" may not take them across 0.
SWITCHES = ("vision_weight", "ada_target")
LENGTHS = ("images", "log_every_nimg", "sample_every_nimg", "eval_every_nimg", "checkpoint_every_nimg")
# Settings that leave no trace in a run's record while they are at their default (see ARCHITECTURE.md).
OPTIONS = (
    "ema_rampup", "grid", "conditioning", "gradient_checkpointing", "compile", "accumulate",
    "ada_target", "ada_kimg", "adversarial_weight", "pixel_weight", "perceptual_weight", "perceptual",
    "picture_size", "aspects", "degradations",
)  # fmt: skip
CHOICES = {
    "adversarial": ("nonsaturating", "relativistic"),
    "penalty": ("exact", "finite-difference"),
    "matching_G": ("off", "cooperative", "adversarial"),
    "precision": ("auto", "bf16", "fp16", "fp32"),
    "conditioning": ("auto", "none", "class", "text"),
    "perceptual": ("auto", "lpips", "clip"),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run.

    preset: name in `workbench.models.presets`. images: budget, real images shown to D; this and *_every_nimg
    may be given as "2kimg" or "5epochs" (`lengths`), epochs until `for_epoch`. batch_size: even, over all
    processes (rows 2k and 2k+1 are a pair under one caption). lr_G, lr_D, betas: Adam; at lr_G 0 G
    stands still, and D learns alone, beside a G that was trained before.
    constant_share: share of the budget at the full rate, then cosine down to lr_floor times it.
    ema_halflife_kimg: thousands of images; ema_rampup: the half-life is at most this share of the images so
    far (StyleGAN2-ADA), 0 = no such limit. r1_gamma, r2_gamma: weights of the penalties at real and
    generated pictures, 0 = off; r1_every: steps between two of a kind; penalty: "exact" (double backward) or
    "finite-difference". adversarial: "nonsaturating" (the paper) or "relativistic" (R3GAN), of D's own
    outputs. matching_weight, clip_weight, mode_seeking_weight, vision_weight, range_weight,
    reconstruction_weight (where D has a decoder): weights of the losses, 0 = off. matching_generated: D
    judges generated pictures with wrong captions too, as the paper does. matching_G: G's own side of that
    term, which the paper leaves open: "off", "cooperative" (its picture shall look wrong under a wrong
    caption) or "adversarial" (right). clip_norm: gradients above this multiple of their running norm are
    scaled down to it. diffaugment: comma-separated policy in front of the vision-aided heads ("" = none).
    ada_target: above 0, the policy's changes are made only as often as keeps the heads' mean sign on training
    pictures there (0.6 in StyleGAN2-ADA); 0 = always. ada_kimg: thousands of images from never to always.
    *_every_nimg: images between samples, evaluations (0 = never), checkpoints, log lines. eval_n: pictures
    of one evaluation. keep_checkpoints: newest ones kept, beside the best. precision: "auto" (probed at
    start), "bf16", "fp16" (CUDA, with a loss scale) or "fp32". grid: columns and rows of a sample grid
    (an upsampler's has always four columns).
    conditioning: "none", "class" (captions are class names), "text", or "auto": by the captions of the set.
    gradient_checkpointing: features of G's and D's blocks are computed again in backward instead of kept.
    compile: torch.compile of the passes that no double backward runs through. accumulate: passes in
    which each process takes its share of a step, for less memory; the weights are those of one pass but for
    rounding.

    Of upsamplers alone: adversarial_weight: of all that D says; 0 = D does not take part. pixel_weight: of
    the mean absolute difference to the true picture; perceptual_weight: of a perceptual distance to it,
    perceptual: "lpips", "clip" (our mini-CLIP's features) or "auto" (LPIPS where its weights are at hand).
    picture_size: side of the pictures that crops are cut from, 0 = D's own size. aspects: crops of several
    shapes, for a D that collapses by its mean; pictures that are not square keep their aspect, the shorter
    side picture_size, and are cut to the shapes nearest to it. degradations: comma-separated, of "blur",
    "kernels", "jpeg", by which inputs of real photos are made; "" = exact means of pixels.
    """

    preset: str = "shepherd-64"
    images: Length = 500_000
    batch_size: int = 32
    seed: int = 0
    lr_G: float = 6e-4
    lr_D: float = 4e-4
    betas: tuple[float, float] = (0.0, 0.99)
    constant_share: float = 0.3
    lr_floor: float = 0.02
    ema_halflife_kimg: float = 5.0
    adversarial: str = "nonsaturating"
    clip_norm: float = 2.0
    r1_gamma: float = 1.0
    r2_gamma: float = 1.0
    r1_every: int = 16
    penalty: str = "exact"
    matching_weight: float = 0.5
    matching_generated: bool = True
    matching_G: str = "off"
    reconstruction_weight: float = 1.0
    clip_weight: float = 0.0
    mode_seeking_weight: float = 2.0
    vision_weight: float = 1.0
    range_weight: float = 1.0
    diffaugment: str = "translation,cutout"
    flip: bool = True
    precision: str = "auto"
    log_every_nimg: Length = 1_000
    sample_every_nimg: Length = 5_000
    eval_every_nimg: Length = 20_000
    eval_n: int = 500
    checkpoint_every_nimg: Length = 20_000
    keep_checkpoints: int = 3
    ema_rampup: float = 0.05
    grid: tuple[int, int] = (6, 6)
    conditioning: str = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    accumulate: int = 1
    ada_target: float = 0.0
    ada_kimg: float = 500.0
    adversarial_weight: float = 1.0
    pixel_weight: float = 0.0
    perceptual_weight: float = 0.0
    perceptual: str = "auto"
    picture_size: int = 0
    aspects: bool = False
    degradations: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        object.__setattr__(self, "grid", parse_grid(self.grid))
        for name in LENGTHS:
            low = 0 if name == "eval_every_nimg" else 1  # 0 = never
            object.__setattr__(self, name, parse_length(name, getattr(self, name), low=low))
        for name in ("batch_size", "r1_every", "keep_checkpoints", "accumulate"):
            _check_int(name, getattr(self, name), 1)
        _check_int("picture_size", self.picture_size, 0)
        parse_degradations(self.degradations)
        for name in ("gradient_checkpointing", "compile", "aspects"):
            _check_switch(name, getattr(self, name))
        _check_int("eval_n", self.eval_n, 2)
        object.__setattr__(self, "seed", check_seed(self.seed))
        if self.batch_size % 2:
            raise WorkbenchError(
                f"batch_size is {self.batch_size}: expected an even number, because pictures come in pairs."
            )
        for name in ("lr_D", "ema_halflife_kimg", "clip_norm", "ada_kimg"):
            _check_number(name, getattr(self, name), low=0.0, open_low=True)
        for name in (
            "lr_G",
            "r1_gamma",
            "r2_gamma",
            "matching_weight",
            "clip_weight",
            "mode_seeking_weight",
            "vision_weight",
            "range_weight",
            "reconstruction_weight",
            "adversarial_weight",
            "pixel_weight",
            "perceptual_weight",
        ):
            _check_number(name, getattr(self, name), low=0.0)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise WorkbenchError(
                    f"{name} is {getattr(self, name)!r}: expected {', '.join(allowed[:-1])} or {allowed[-1]}."
                )
        for name in ("constant_share", "lr_floor", "ema_rampup", "ada_target"):
            _check_number(name, getattr(self, name), low=0.0, high=1.0)
        if len(self.betas) != 2 or not all(0.0 <= b < 1.0 for b in self.betas):
            raise WorkbenchError(
                f"betas are {self.betas}: expected two numbers from 0 to below 1, for example (0.0, 0.99)."
            )
        self._check_players()

    def _check_players(self) -> None:
        """Settings that leave a player nothing to learn from."""
        if self.ada_target > 0 and not (self.diffaugment.strip(" ,") and self.vision_weight > 0):
            raise WorkbenchError(
                f"ada_target is {self.ada_target:g}, and there is nothing to adapt: it decides how often the "
                "changes of diffaugment are made before the vision-aided heads. Give --diffaugment a policy "
                "and --vision-weight a weight, or leave ada_target at 0."
            )
        if self.adversarial_weight == 0 and self.vision_weight > 0:
            raise WorkbenchError(
                "adversarial_weight is 0 while vision_weight is "
                f"{self.vision_weight:g}: the vision-aided heads learn in D's step, which is then left out. "
                "Set vision_weight to 0 too."
            )
        if self.lr_G == 0 and self.adversarial_weight == 0:
            raise WorkbenchError(
                "lr_G and adversarial_weight are both 0: neither G nor D would learn. Raise one of them."
            )

    @property
    def G_learns(self) -> bool:
        """Whether G takes steps."""
        return self.lr_G > 0

    def lr_scale(self, cur_nimg: int) -> float:
        """Learning rate at `cur_nimg` as a share of the full one: 1 for `constant_share` of the budget,
        then cosine.
        """
        start = self.constant_share * self.images
        if cur_nimg <= start:
            return 1.0
        done = min(1.0, (cur_nimg - start) / (self.images - start)) if self.images > start else 1.0
        return self.lr_floor + (1.0 - self.lr_floor) * 0.5 * (1.0 + math.cos(math.pi * done))

    def for_epoch(self, epoch: int) -> "TrainConfig":
        """With every length in images; epoch: pictures of the run's data set."""
        return replace(self, **{name: in_images(getattr(self, name), epoch) for name in LENGTHS})

    def to_json(self) -> dict:
        """Plain values, without the `OPTIONS` that are off; `from_json` reads them back."""
        off = {f.name for f in fields(self) if f.name in OPTIONS and getattr(self, f.name) == f.default}
        return {name: value for name, value in _values(self).items() if name not in off}

    @classmethod
    def from_json(cls, data: dict) -> "TrainConfig":
        """Raises WorkbenchError on a setting that this version does not know."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise WorkbenchError(
                f"The training settings hold {unknown[0]!r}, which is not known here: expected some of "
                f"{', '.join(sorted(known))}."
            )
        return cls(**data)

    @classmethod
    def for_preset(cls, name: str, **changes: object) -> "TrainConfig":
        """The settings that a preset brings, with `changes` on top."""
        from workbench.models.presets import preset

        return cls.from_json({**preset(name).train, **changes, "preset": name})


def read_json(path: str | Path, what: str) -> object:
    """What a JSON file of a person's holds; what: it ought to hold. Raises WorkbenchError in these words."""
    path = Path(path)
    if not path.is_file():
        wrong = f"{path} is a folder" if path.is_dir() else f"There is no file {path}"
        raise WorkbenchError(f"{wrong}: give a JSON file with {what}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(f"{path} does not hold {what} ({error}). Give a JSON file.") from error


def read_settings(path: str | Path) -> dict:
    """The settings in a JSON file: `best.json` of a sweep, `config.json` of a run, or some by hand.

    Raises WorkbenchError for a file that is no object of settings known here.
    """
    data = read_json(path, "training settings")
    if isinstance(data, dict) and isinstance(data.get("config"), dict):  # a run's
        # What a record leaves out is at its default, which a preset may have set otherwise.
        data = {f.name: f.default for f in fields(TrainConfig) if f.name in OPTIONS} | data["config"]
    known = {f.name for f in fields(TrainConfig)}
    if not isinstance(data, dict) or (unknown := sorted(set(data) - known)):
        what = repr(unknown[0]) if isinstance(data, dict) else type(data).__name__
        raise WorkbenchError(
            f"{path} holds {what}, which is no training setting: expected an object with some of "
            f"{', '.join(sorted(known))}."
        )
    return data


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[object, object]]:
    """Settings that differ, by name: (old value, new value)."""
    a, b = _values(old), _values(new)
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}


def crossed(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]; never for every = 0."""
    return every > 0 and now // every > before // every


def sample_due(every: int, before: int, now: int) -> bool:
    """Whether a grid is due: every `every` images, four times as often for the first four intervals, where
    most happens.
    """
    dense = max(1, every // 4)
    return crossed(dense if now <= 4 * every else every, before, now)


def _values(config: TrainConfig) -> dict[str, object]:
    """Every setting as JSON has it."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items()}


def _check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise WorkbenchError(f"{name} is {value!r}: expected true or false.")


def _check_int(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise WorkbenchError(f"{name} is {value!r}: expected a whole number of at least {low}.")


def _check_number(
    name: str, value: object, *, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < low or value > high or (open_low and value == low):
        bounds = (
            f"above {low:g}"
            if open_low
            else f"from {low:g}" + (f" to {high:g}" if math.isfinite(high) else " on")
        )
        raise WorkbenchError(f"{name} is {value!r}: expected a number {bounds}.")
