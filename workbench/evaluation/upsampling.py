"""An upsampler of Shepherd World against the classical ways, and against the world's true render.

The true pictures stream by once. Their exact box means are the low inputs, which each method enlarges again;
what is kept is sums (`upsampling_tally.py`), saved on the way, so an interrupted measurement goes on where it
was and a method that was measured before is not measured again.

The judge sees 64 px, and shrinking a large picture to that hides the very detail that is at stake. So its
features are taken from tiles of its own size, cut from the large pictures as they are.

Letters: N pictures of S x S pixels, T tiles of a picture, F features.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from workbench import hardware
from workbench.errors import WorkbenchError
from workbench.evaluation import interpolation, perceptual, spectrum
from workbench.evaluation.features import FACTOR_CLASSES, Judge
from workbench.evaluation.perceptual import DetailDistance
from workbench.evaluation.reference import Progress, quantised
from workbench.evaluation.true_pictures import Batch, TruePictures
from workbench.evaluation.upsampling_tally import Tally
from workbench.pipeline import loading
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.upscaler import Upscaler

# (low [N, 3, S / f, S / f], prompts, seeds) -> [N, 3, S, S], both in [-1, 1]
Enlarge = Callable[[Tensor, list[str], list[int]], Tensor]

Precision = Literal["auto", "bf16", "fp32"]

CACHE = Path("runs") / "upsampling-cache"
SCHEMA = 1  # of the sums that are kept
LEAST = 4  # pictures: two in each half
CLOSE = 500  # pictures that SSIM, perceptual distance and spectrum are taken of
TILES = 4  # of each picture that the judge sees
TRUTH = "truth"
_BATCH = 10
_SAVE_EVERY = 200


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to enlarge. enlarge: None leaves the true pictures as they are; version: what identifies it,
    weights included, so that its sums may be kept; None: they are not. sign: a number of a picture it made,
    because the same weights under changed code are another method. note: what it goes without, in words.
    """

    name: str
    enlarge: Enlarge | None
    version: str | None = None
    sign: str = ""
    note: str = ""


def from_upscaler(name: str, upscaler: Upscaler | AuraSR, *, note: str = "") -> Method:
    """An upscaler as a method, a whole batch at once and without noise on its input."""

    def enlarge(low: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        return upscaler(low, prompts, seed=seeds, batch_size=len(prompts)).images

    kind = upscaler.U.compute_dtype if isinstance(upscaler, Upscaler) else torch.float32
    dtype = str(kind).removeprefix("torch.")
    slope = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32) * torch.linspace(1, -1, 32)[:, None]
    sign = f"{enlarge(slope, [''], [0]).std().item():.3g}"
    version = f"{upscaler.weight_hash[:12]} {dtype}"
    return Method(name=name, enlarge=enlarge, version=version, sign=sign, note=note)


def load_upscaler(
    path_or_hub_name: str | Path, *, device: str | None = None, precision: Precision = "auto"
) -> Upscaler | AuraSR:
    """`loading.load_upscaler`; ours computing in bfloat16 where that is faster on this machine ("auto")."""
    upscaler = loading.load_upscaler(path_or_hub_name, device=device)
    if not isinstance(upscaler, Upscaler):
        return upscaler
    chosen = hardware.probe(device).precision if precision == "auto" else precision
    upscaler.U.compute_dtype = torch.bfloat16 if chosen == "bf16" else torch.float32
    return upscaler


def classical(factor: int) -> list[Method]:
    """Bicubic and Lanczos."""
    return [
        Method(name=name, enlarge=lambda low, prompts, seeds, how=how: how(low, factor), version="1")
        for name, how in (("bicubic", interpolation.bicubic), ("lanczos", interpolation.lanczos))
    ]


def places(number: int, rows: int) -> list[int]:
    """Which of the rows x rows tiles of picture `number` the judge sees, as many as TILES where there are.

    Two from the middle half, where the dog is, and the others from around it. A picture's are the same
    whatever enlarged it.
    """
    draw = random.Random(f"tiles {number}")
    middle, around = [], []
    for place in range(rows * rows):
        away = max(abs(place // rows + 0.5 - rows / 2), abs(place % rows + 0.5 - rows / 2))
        (middle if away <= rows / 4 else around).append(place)
    inner = draw.sample(middle, min(len(middle), TILES // 2 if around else TILES))
    return inner + draw.sample(around, min(len(around), TILES - len(inner)))


@dataclass(frozen=True, kw_only=True)
class Ruler:
    """What pictures are measured with. close: how many of the first ones are looked at closely."""

    judge: Judge
    distance: DetailDistance
    close: int = CLOSE

    @property
    def tile(self) -> int:
        """Pixels of a tile's side."""
        return self.judge.config.resolution

    @property
    def key(self) -> str:
        """What sums that were taken with it depend on; the distance by its value on two fixed pictures."""
        slope = torch.linspace(-1, 1, 4 * self.tile).expand(1, 3, 4 * self.tile, -1)
        with torch.inference_mode():
            value = self.distance.detail(slope, slope.mT).item()
        facts = [SCHEMA, self.judge.version, self.distance.name, f"{value:.3g}", self.close, TILES]
        return json.dumps(facts)

    def take(self, tally: Tally, images: Tensor, batch: Batch) -> None:
        """Add pictures [N, 3, S, S], enlarged from a batch of true ones or these themselves, to a tally."""
        cut = perceptual.tiles(images, self.tile)
        rows = images.shape[-1] // self.tile
        chosen = torch.stack([cut[k, places(batch.first + k, rows)] for k in range(len(batch))])
        seen = self.judge.measure(chosen.flatten(0, 1))
        tally.add_features("tiles", seen.mid.unflatten(0, chosen.shape[:2]), batch.first)
        seen = self.judge.measure(images)
        tally.add_features("whole", seen.mid[:, None], batch.first)
        if batch.truth:
            right = torch.stack([seen.classes[name] == batch.truth[name] for name in FACTOR_CLASSES])
            for name, values in zip(FACTOR_CLASSES, right, strict=True):
                tally.add_score(name, values)
            tally.add_score("all", right.all(dim=0))
        if images is not batch.images:
            tally.add_score("psnr", interpolation.psnr(images, batch.images))
        if (near := max(0, min(len(batch), self.close - batch.first))) > 0:
            self._look_closely(tally, images[:near], batch.images[:near], same=images is batch.images)
        tally.done = batch.first + len(batch)

    def _look_closely(self, tally: Tally, images: Tensor, truth: Tensor, *, same: bool) -> None:
        tally.add_power(spectrum.ring_power(images))
        if same:
            return
        one, other = (
            x.add(1).div(2) for x in (images, truth)
        )  # SSIM compares means: they must not be below 0
        tally.add_score(
            "ssim", structural_similarity_index_measure(one, other, data_range=1.0, reduction="none").view(-1)
        )
        tally.add_score("distance", self.distance.detail(images, truth))


def enlarged(method: Method, batch: Batch, factor: int, seed: int) -> Tensor:
    """A method's pictures of a batch, checked and quantised as a PNG would hold them: [N, 3, S, S]."""
    seeds = list(range(seed + batch.first, seed + batch.first + len(batch)))
    images = method.enlarge(interpolation.box_mean(batch.images, factor), batch.texts, seeds)
    last = batch.first + len(batch) - 1
    if images.shape != batch.images.shape:
        raise WorkbenchError(
            f"The method {method.name!r} gave {list(images.shape)} for pictures {batch.first} to {last}: "
            f"expected {list(batch.images.shape)}. Give a model of factor {factor}."
        )
    if not torch.isfinite(images).all():
        raise WorkbenchError(
            f"The method {method.name!r} gave values that are not finite for pictures {batch.first} to "
            f"{last}: expected [-1, 1]. Go back to an earlier checkpoint; nothing was reported."
        )
    return quantised(images).cpu()


def tallies(
    methods: Sequence[Method],
    pictures: TruePictures,
    ruler: Ruler,
    *,
    factor: int,
    seed: int = 0,
    cache: Path | None = CACHE,
    fresh: bool = False,
    batch_size: int = _BATCH,
    progress: Progress | None = None,
) -> dict[str, Tally]:
    """Sums of every method and of the true pictures themselves (under TRUTH), by name.

    cache: where sums lie between runs; None keeps nothing. fresh: begin anew, whatever lies there. Raises
    WorkbenchError for a picture of another size and for a method that gives another shape or values that are
    not finite.
    """
    n, base = len(pictures), f"{ruler.key} {pictures.key} {factor}"
    everyone = [Method(name=TRUTH, enlarge=None, version=""), *methods]
    kept: dict[str, tuple[Path, str]] = {}
    found: dict[str, Tally] = {}
    for method in everyone:
        found[method.name] = Tally()
        if cache is None or method.version is None:
            continue
        own = f" {method.version} {method.sign} {seed}" if method.enlarge else ""
        key = hashlib.sha256((base + own).encode()).hexdigest()[:16]
        kept[method.name] = Path(cache) / f"{method.name}-{key}.safetensors", key
        held = None if fresh else Tally.load(*kept[method.name])
        if held is not None and held.done <= n:
            found[method.name] = held
        elif held is not None:
            del kept[method.name]  # of more pictures than are asked for: those stay
    start = min(tally.done for tally in found.values())
    for first in range(start, n, batch_size):
        batch = pictures.batch(first, min(n, first + batch_size))
        stop = first + len(batch)
        for method in everyone:
            tally = found[method.name]
            if tally.done >= stop:
                continue
            rest = batch.after(tally.done)
            images = enlarged(method, rest, factor, seed) if method.enlarge else rest.images
            ruler.take(tally, images, rest)
            if method.name in kept and (stop == n or stop // _SAVE_EVERY > first // _SAVE_EVERY):
                tally.save(*kept[method.name])
        if progress is not None:
            progress(stop, n, "enlarging and measuring")
    return found


def scores(found: Mapping[str, Tally], *, side: int, factor: int) -> dict:
    """Numbers of every method from the sums of all, and what they share.

    Returns {"floor", "floor_whole", "methods": {name: {…}}, "spectrum": {…}}. Of each method: frechet and
    frechet_whole, distance to the truth of the same pictures on tiles and on whole ones shrunk to the judge's
    size; frechet_others, of its even pictures to the truth of the odd ones, which is what the floor, true to
    true, is for; psnr, ssim, distance, each with its standard error (_se); coat, pose, scene, light, all:
    shares that the judge names right; power_kept, of the truth's above the finest frequency of the low input,
    and power_kept_quarter, above a quarter of the sampling rate.
    """
    truth = found[TRUTH]
    methods = {}
    for name, tally in found.items():
        own: dict[str, float] = {}
        for kind, key in (("tiles", "frechet"), ("whole", "frechet_whole")):
            if name != TRUTH:
                own[key] = tally.moments(kind).distance(truth.moments(kind))
        own["frechet_others"] = tally.features["tiles"][0].distance(truth.features["tiles"][1])
        for score in ("psnr", "ssim", "distance"):
            if score in tally.scores:
                own[score], own[f"{score}_se"] = tally.mean(score)
        own |= {
            factor: tally.mean(factor)[0] for factor in (*FACTOR_CLASSES, "all") if factor in tally.scores
        }
        for key, above in (("power_kept", 0.5 / factor), ("power_kept_quarter", 0.25)):
            own[key] = spectrum.power_kept(tally.spectrum, truth.spectrum, side=side, above=above)
        methods[name] = own
    halves = {kind: truth.features[kind] for kind in truth.features}
    rings = range(1, side // 2 + 1)
    return {
        "floor": halves["tiles"][0].distance(halves["tiles"][1]),
        "floor_whole": halves["whole"][0].distance(halves["whole"][1]),
        "methods": methods,
        "spectrum": {
            "cycles_a_pixel": [round(k / side, 6) for k in rings],
            **{name: [float(f"{tally.spectrum[k]:.4g}") for k in rings] for name, tally in found.items()},
        },
    }


def evaluate_upsampling(
    methods: Sequence[Method],
    data: str | Path,
    judge: Judge,
    distance: DetailDistance,
    *,
    factor: int,
    n: int = 5000,
    seed: int = 0,
    close: int = CLOSE,
    cache: Path | None = CACHE,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Measure ways to enlarge on the first n pictures of a data set folder, beside bicubic and Lanczos.

    methods: those beside the classical ones, "l1" the network trained without an adversary; ratios are of
    the first. Picture k is enlarged with seed + k and its own caption.
    Returns `scores` and what the numbers were taken of, and with; frechet_ratio_<other> and
    distance_ratio_<other>: the first method's over another's.

    Raises WorkbenchError for an n below LEAST, a folder that does not hold as many, pictures of a wrong size,
    and a method that fails (`enlarged`).
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < LEAST:
        raise WorkbenchError(f"n is {n!r}: expected a whole number of pictures, {LEAST} or more.")
    start = time.perf_counter()
    ruler = Ruler(judge=judge, distance=distance, close=close)
    pictures = TruePictures.open(data, count=n, factor=factor, tile=ruler.tile)
    everyone = [*classical(factor), *methods]
    settings = {"factor": factor, "seed": seed, "cache": cache, "fresh": fresh, "progress": progress}
    with hardware.kept_memory():
        found = tallies(everyone, pictures, ruler, **settings)
    side, tile = pictures.side, ruler.tile
    result = scores(found, side=side, factor=factor)
    return {
        "n": n,
        "n_close": min(n, close),
        "resolution": side,
        "input": f"{side // factor} px, exact means of {factor} x {factor} pixels",
        "factor": factor,
        "features": f"Fréchet distance on the judge's features, {tile} px tiles at {side} px",
        "reference": "the true renders of the same pictures, tiles at the same places",
        "tiles": int(found[TRUTH].moments("tiles").count),
        "feature_dim": judge.feature_dim,
        "judge": judge.version,
        "distance_name": f"{distance.name}, at {side} px",
        "weights": {method.name: method.version for method in methods},
        "notes": {method.name: method.note for method in methods if method.note},
        "data": {"key": pictures.key, **pictures.recipe},
        "seed": seed,
        **(_ratios(result["methods"], methods[0].name) if methods else {}),
        **result,
        "seconds": time.perf_counter() - start,
    }


def _ratios(found: Mapping[str, Mapping[str, float]], first: str) -> dict[str, float]:
    """The first method's distances over those of each other method."""
    others = [name for name in found if name not in (first, TRUTH)]
    return {
        f"{key}_ratio_{other}": found[first][key] / found[other][key]
        for other in others
        for key in ("frechet", "distance")
    }
