"""The judge: a small network that names the four factors of Shepherd World and regresses the continuous ones.

Letters: N pictures, C channels, F feature dimension. Pictures are [N, 3, H, W] float in [-1, 1]; any square
size is brought to the judge's own. The judge sees its own renders only and takes part in no training loss of
the models that it measures. Its mid-level features (mean and standard deviation over space of each channel of
three intermediate layers) carry our Fréchet distance; the pooled last layer stands beside it and says "done"
too early.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.datasets.world import COATS, LIGHTS, POSES, SCENES, Factors
from workbench.errors import WorkbenchError
from workbench.images import clear_os_error, write_whole

JUDGE_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models" / "judge"
SCHEMA = 1
KIND = "shepherd-judge"
FACTOR_CLASSES = {"coat": COATS, "pose": POSES, "scene": SCENES, "light": LIGHTS}
# Ranges that the world draws from, in its units. A regression target is (value - low) / (high - low) * 2 - 1,
# so it lies in [-1, 1].
RANGES = {
    "distance": (2.35, 3.05),
    "x": (-0.16, 0.16),
    "y": (-0.06, 0.06),
    "size": (0.92, 1.08),
    "head_yaw_deg": (-40.0, 40.0),
    "head_pitch_deg": (-14.0, 14.0),
    "tail_deg": (0.0, 45.0),
}


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Shape of the judge. resolution: pixels; channels: stem, then one per stage, each stage halving the
    size.

    The feature dimension is 2 * (all channels but the last): 448 by default, so that a covariance is full
    from some 450 pictures on. Multiples of 32 because others are slow in bf16 on CPUs.
    """

    resolution: int = 64
    channels: tuple[int, ...] = (32, 64, 128, 256)
    place_channels: int = 32
    classes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {k: tuple(v) for k, v in FACTOR_CLASSES.items()}
    )
    ranges: dict[str, tuple[float, float]] = field(default_factory=lambda: dict(RANGES))

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or any(c < 1 for c in self.channels):
            raise WorkbenchError(f"channels is {self.channels}: expected at least two counts >= 1.")
        if self.resolution < 16 or self.resolution % 2 ** (len(self.channels) - 1):
            raise WorkbenchError(
                f"resolution is {self.resolution}: expected at least 16 and a multiple of "
                f"{2 ** (len(self.channels) - 1)}."
            )
        if any(high <= low for low, high in self.ranges.values()):
            raise WorkbenchError(f"ranges is {self.ranges}: expected low < high in each.")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the regression outputs: the azimuth as sine and cosine, then the ranged factors."""
        return ("azimuth_sin", "azimuth_cos", *self.ranges)

    def to_json(self) -> dict:
        return {"schema": SCHEMA, "kind": KIND, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict, where: Path) -> "JudgeConfig":
        """Back from to_json's form; refuses another kind, another schema or classes that this world doesn't
        have.
        """
        if data.get("kind") != KIND or data.get("schema") != SCHEMA:
            raise WorkbenchError(
                f"{where} says kind {data.get('kind')!r}, schema {data.get('schema')!r}: expected {KIND!r}, "
                f"{SCHEMA}. "
                "Give the folder of a judge made by this version (assets/models/judge)."
            )
        rest = {k: v for k, v in data.items() if k not in ("schema", "kind")}
        try:
            rest["channels"] = tuple(rest["channels"])
            rest["classes"] = {k: tuple(v) for k, v in rest["classes"].items()}
            rest["ranges"] = {k: (float(low), float(high)) for k, (low, high) in rest["ranges"].items()}
            config = cls(**rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise WorkbenchError(
                f"{where} is not a judge's configuration ({error}). Restore it from git."
            ) from error
        if config.classes != {k: tuple(v) for k, v in FACTOR_CLASSES.items()}:
            raise WorkbenchError(
                f"{where} names other classes than this Shepherd World: {config.classes}. Train a new judge."
            )
        return config


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one pass of the judge says. classes: factor -> ids [N]; regression: name -> [N] in the world's own
    units; mid: [N, F] and last: [N, C], float64.
    """

    classes: dict[str, Tensor]
    regression: dict[str, Tensor]
    mid: Tensor
    last: Tensor


class _Stage(nn.Module):
    """Residual block that halves the size: [N, C, H, W] -> [N, C', H/2, W/2]."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        main = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(main + self.skip(x))


class Judge(nn.Module):
    """Names coat, pose, scene and light of a picture and regresses the continuous factors."""

    def __init__(self, config: JudgeConfig | None = None) -> None:
        super().__init__()
        self.config = config = JudgeConfig() if config is None else config
        first, *rest = config.channels
        self.stem = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(first)
        self.stages = nn.ModuleList(_Stage(i, o) for i, o in zip(config.channels, rest, strict=False))
        last = config.channels[-1]
        self.heads = nn.ModuleDict(
            {name: nn.Linear(last, len(names)) for name, names in config.classes.items()}
        )
        # Where the dog stands and looks is lost by pooling over space, so the regression reads a small map.
        size = config.resolution // 2 ** len(rest)
        self.place = nn.Conv2d(last, config.place_channels, 1)
        self.regress = nn.Sequential(
            nn.Linear(config.place_channels * size * size, 128),
            nn.ReLU(),
            nn.Linear(128, len(config.targets)),
        )

    @property
    def feature_dim(self) -> int:
        """F of the mid-level features."""
        return 2 * sum(self.config.channels[:-1])

    @property
    def version(self) -> str:
        """Twelve hex digits over configuration and weights (as stored): figures of two versions don't
        compare.
        """
        digest = hashlib.sha256(json.dumps(self.config.to_json(), sort_keys=True).encode())
        for name, value in sorted(_stored(self).items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
        """x [N, 3, H, W] at the judge's resolution -> class logits, regression [N, targets], maps of all
        layers.
        """
        h = F.relu(self.stem_norm(self.stem(x)))
        maps = [h]
        for stage in self.stages:
            h = stage(h)
            maps.append(h)
        pooled = h.mean(dim=(2, 3))
        logits = {name: head(pooled) for name, head in self.heads.items()}
        return logits, self.regress(F.relu(self.place(h)).flatten(1)), maps

    def prepare(self, images: Tensor) -> Tensor:
        """images [N, 3, S, S] in [-1, 1] -> the judge's resolution, float32, on its device.

        Raises WorkbenchError for another shape or values that are not finite.
        """
        if (
            images.ndim != 4
            or images.shape[1] != 3
            or images.shape[2] != images.shape[3]
            or images.shape[0] < 1
        ):
            raise WorkbenchError(
                f"The pictures have shape {tuple(images.shape)}: expected [N, 3, S, S] with N >= 1."
            )
        x = images.detach().to(self.stem.weight.device, torch.float32)
        if not torch.isfinite(x).all():
            raise WorkbenchError(
                "The pictures hold values that are not finite: expected [-1, 1]. Their source has diverged."
            )
        size = self.config.resolution
        if x.shape[-1] != size:
            x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def measure(self, images: Tensor, *, batch_size: int = 64) -> Measured:
        """One pass over images [N, 3, S, S]: names, regression and both kinds of features, on the CPU.

        In fp32, evaluation mode and chunks of one size whatever surrounds the call, so that the same pictures
        in the same order give the same bits.
        """
        was_training = self.training
        self.eval()
        parts = []
        try:
            with torch.autocast(self.stem.weight.device.type, enabled=False):
                for chunk in images.split(batch_size):
                    logits, numbers, maps = self(self.prepare(chunk))
                    parts.append(
                        (
                            torch.stack([v.argmax(1) for v in logits.values()], dim=1),
                            numbers,
                            _spatial_statistics(maps[:-1]),
                            maps[-1].mean(dim=(2, 3)).double(),
                        )
                    )
        finally:
            self.train(was_training)
        ids, numbers, mid, last = (torch.cat(p).cpu() for p in zip(*parts, strict=True))
        classes = {name: ids[:, k] for k, name in enumerate(self.config.classes)}
        return Measured(classes=classes, regression=from_targets(numbers, self.config), mid=mid, last=last)

    def predict(self, images: Tensor, *, batch_size: int = 64) -> dict:
        """images -> {"coat": ids [N], "pose": …, "scene": …, "light": …, "regression": {name: [N] in its own
        unit}}.
        """
        found = self.measure(images, batch_size=batch_size)
        return {**found.classes, "regression": found.regression}

    def features(self, images: Tensor, *, batch_size: int = 64) -> Tensor:
        """Mid-level features [N, F], float64: mean and standard deviation over space of each channel of all
        layers but the last.
        """
        return self.measure(images, batch_size=batch_size).mid

    def last_features(self, images: Tensor, *, batch_size: int = 64) -> Tensor:
        """Last layer pooled over space [N, C], float64. Says "nearly done" early: show it only beside
        features().
        """
        return self.measure(images, batch_size=batch_size).last

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors (fp16, running statistics fp32), each atomically.

        A full disk or a missing permission is an OSError of one sentence; what was there stays.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise clear_os_error(error, folder) from error
        weights, config = save(_stored(self)), json.dumps(self.config.to_json(), indent=2) + "\n"
        write_whole(folder / "model.safetensors", lambda handle: handle.write(weights))
        write_whole(folder / "config.json", lambda handle: handle.write(config.encode()))
        return folder


def _spatial_statistics(maps: list[Tensor]) -> Tensor:
    """Maps [N, C, H, W] of several layers -> [N, 2 * sum of C] float64: all means, then all standard
    deviations.
    """
    pairs = [torch.var_mean(h, dim=(2, 3), correction=0) for h in maps]
    means = torch.cat([mean for _, mean in pairs], dim=1)
    spreads = torch.cat([var for var, _ in pairs], dim=1).double().clamp_min(0).sqrt()
    return torch.cat([means.double(), spreads], dim=1)


def _stored(judge: Judge) -> dict[str, Tensor]:
    """The judge's state as it is written: weights in fp16, running statistics in fp32 (a variance may be
    tiny).
    """
    out = {}
    for name, value in judge.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # only training reads it
        keep = torch.float32 if "running_" in name else torch.float16
        out[name] = value.detach().cpu().to(keep).contiguous()
    return out


def to_targets(factors: list[Factors] | list[dict], config: JudgeConfig) -> Tensor:
    """Factors (or their dicts) -> regression targets [N, targets]: sine and cosine of the azimuth, the rest
    in [-1, 1].
    """
    rows = [f if isinstance(f, dict) else asdict(f) for f in factors]
    out = []
    for row in rows:
        angle = math.radians(row["azimuth_deg"])
        ranged = [(row[name] - low) / (high - low) * 2 - 1 for name, (low, high) in config.ranges.items()]
        out.append([math.sin(angle), math.cos(angle), *ranged])
    return torch.tensor(out, dtype=torch.float32)


def from_targets(targets: Tensor, config: JudgeConfig) -> dict[str, Tensor]:
    """Inverse of to_targets: [N, targets] -> name -> [N], azimuth_deg in (-180, 180]."""
    columns = targets.unbind(dim=1)
    out = {"azimuth_deg": torch.rad2deg(torch.atan2(columns[0], columns[1]))}
    for (name, (low, high)), column in zip(config.ranges.items(), columns[2:], strict=True):
        out[name] = (column + 1) / 2 * (high - low) + low
    return out


def class_ids(
    factors: list[Factors] | list[dict], classes: dict[str, tuple[str, ...]] = FACTOR_CLASSES
) -> dict[str, Tensor]:
    """Factors (or dicts that name all four) -> factor -> class ids [N]."""
    rows = [f if isinstance(f, dict) else asdict(f) for f in factors]
    return {name: torch.tensor([names.index(row[name]) for row in rows]) for name, names in classes.items()}


def load_judge(folder: str | Path | None = None, device: str = "cpu") -> Judge:
    """The judge of a folder (the shipped one by default), in evaluation mode and without gradients.

    Raises WorkbenchError when the folder is missing or half-copied, or its weights don't fit the
    configuration.
    """
    folder = JUDGE_FOLDER if folder is None else Path(folder)
    config_file, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config_file, weights):
        if not file.is_file():
            raise WorkbenchError(
                f"{file} is missing: expected a judge's folder with config.json and model.safetensors. Copy "
                "it whole, or train one."
            )
    try:
        data = json.loads(config_file.read_text(encoding="utf-8"))
        state = load_file(weights)
    except (ValueError, SafetensorError) as error:
        raise WorkbenchError(
            f"{folder} is damaged ({error}): expected JSON and safetensors. Copy it again."
        ) from error
    judge = Judge(JudgeConfig.from_json(data if isinstance(data, dict) else {}, config_file))
    expected = {k: v for k, v in judge.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name in sorted(expected.keys() | state.keys()):
        want, got = expected.get(name), state.get(name)
        if want is None or got is None or want.shape != got.shape:
            shapes = ["nothing" if t is None else str(tuple(t.shape)) for t in (want, got)]
            raise WorkbenchError(
                f"{weights} does not fit: {name} should be {shapes[0]}, the file holds {shapes[1]}. Copy "
                "the folder whole."
            )
    judge.load_state_dict(
        {k: v.float() for k, v in state.items()}, strict=False
    )  # checked name by name above
    return judge.to(device).eval().requires_grad_(False)
