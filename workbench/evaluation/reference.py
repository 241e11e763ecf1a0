"""Held-out renders as the judge sees them: the reference and the floor of every distance, kept on disk.

Rendering is what costs time, so the judge's features of a render set are kept in a cache folder, keyed by the
judge's version, the set's seed and the resolution; a smaller n reads the first rows of a larger one. What was
kept is used only while the world still draws the same pictures (a fingerprint of tiny renders lies beside
it). The statistics of the usual case (n = 2000, seed 0, 64 px) ship with the judge.
"""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from workbench.datasets.world import COATS, LIGHTS, POSES, SCENES, Factors, draw_factors, render
from workbench.errors import WorkbenchError
from workbench.evaluation.distances import frechet, mean_and_covariance
from workbench.evaluation.features import FACTOR_CLASSES, JUDGE_FOLDER, Judge, Measured, class_ids
from workbench.evaluation.variety import geometry, thumbnails
from workbench.images import write_whole

Progress = Callable[[int, int, str], None]  # done, total, what is being done

CACHE = Path("runs") / "reference-cache"
MAX_N = 20_000
MAX_SEED = 999_999
# Seeds of the world, each + the evaluation's seed, so that no two sets share a picture, nor with any training
# set (which use seeds below 2,000,000).
PROMPT_SEED, REFERENCE_SEED, FLOOR_SEED, SPREAD_SEED = 2_000_000, 3_000_000, 4_000_000, 5_000_000
_CHUNK = 50


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What generated pictures are held against. mean [F], cov [F, F] (mid-level) and mean_last, cov_last:
    float64 values of fp32 precision. floor, floor_last: distance of a second render set of the same n.
    accuracy: the judge's own on both sets, 2n renders.
    """

    n: int
    mean: Tensor
    cov: Tensor
    mean_last: Tensor
    cov_last: Tensor
    floor: float
    floor_last: float
    accuracy: dict[str, float]


def check_request(n: int, seed: int) -> None:
    """Refuse an n or a seed that the evaluation's seed ranges don't hold."""
    if not isinstance(n, int) or isinstance(n, bool) or not 2 <= n <= MAX_N:
        raise WorkbenchError(
            f"n is {n!r}: expected a whole number of pictures from 2 to {MAX_N}. 2000 is the usual one."
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise WorkbenchError(
            f"The evaluation's seed is {seed!r}: expected a whole number from 0 to {MAX_SEED}."
        )


def quantised(images: Tensor) -> Tensor:
    """Pictures in [-1, 1] as a PNG would hold them (256 levels), so that both sides of a comparison went that
    way.
    """
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def render_set(factors: Sequence[Factors], resolution: int) -> Tensor:
    """Renders [N, 3, R, R], quantised, in chunks that bound memory."""
    return torch.cat([quantised(render(factors[i : i + 25], resolution)) for i in range(0, len(factors), 25)])


def fingerprint() -> Tensor:
    """Tiny renders of every coat in every scene, uint8 [25, 3, 16, 16]: changes when the world's pictures
    change.
    """
    rows = [
        draw_factors(0, 5 * i + j, coat=c, scene=s, pose=POSES[(i + j) % 3], light=LIGHTS[(i + 2 * j) % 3])
        for i, c in enumerate(COATS)
        for j, s in enumerate(SCENES)
    ]
    return ((render(rows, 16, supersample=1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def same_world(kept: Tensor, now: Tensor) -> bool:
    """Whether two fingerprints show the same pictures; another machine's rounding may move single pixels."""
    return kept.shape == now.shape and (kept.float() - now.float()).abs().mean().item() < 0.25


def _read(path: Path, now: Tensor) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and facts of a kept file; None when there is none, it was cut short, or the world has changed
    since.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
    except (SafetensorError, ValueError):
        return None  # what is kept can always be made again
    if "fingerprint" not in tensors or not same_world(tensors["fingerprint"], now):
        return None
    return tensors, facts


def _write(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    data = save(tensors, metadata={"facts": json.dumps(facts)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda handle: handle.write(data))


def _keep(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write into the cache. A full or read-only disk costs the next evaluation some minutes, not this one."""
    try:
        _write(path, tensors, facts)
    except OSError as error:
        why = error.strerror or str(error)
        warnings.warn(f"{path} could not be kept ({why}); it is made again next time.", stacklevel=2)


def view(seen: Measured, images: Tensor, truth: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is kept of pictures [N, 3, S, S] and the judge's pass over them, for every measure that follows.

    mid [N, F] and last [N, C]: features; right [N, 4] bool: factors named as in truth; geometry [N, 5];
    thumbnails [N, D]. All but `right` in fp32.
    """
    return {
        "mid": seen.mid.float(),
        "last": seen.last.float(),
        "right": torch.stack([seen.classes[k] == truth[k] for k in FACTOR_CLASSES], dim=1),
        "geometry": geometry(seen.regression).float(),
        "thumbnails": thumbnails(images),
    }


def joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Views one after the other, as one."""
    return {k: torch.cat([part[k] for part in parts]) for k in parts[0]}


def render_view(
    judge: Judge,
    *,
    n: int,
    world_seed: int,
    resolution: int,
    cache: Path | None = CACHE,
    progress: Progress | None = None,
    now: Tensor | None = None,
) -> dict[str, Tensor]:
    """`view` of renders 0..n-1 of world_seed, kept on disk. now: `fingerprint()`, where known."""
    now = fingerprint() if now is None else now
    name = f"{judge.version}-renders-{world_seed}-{resolution}px.safetensors"
    path = None if cache is None else Path(cache) / name
    kept = None if path is None else _read(path, now)
    parts = []
    if kept is not None and "geometry" in kept[0]:  # files of an earlier version hold less
        parts = [{k: v for k, v in kept[0].items() if k != "fingerprint"}]
    have = len(parts[0]["mid"]) if parts else 0
    while have < n:
        factors = [draw_factors(world_seed, i) for i in range(have, min(n, have + _CHUNK))]
        images = render_set(factors, resolution)
        parts.append(view(judge.measure(images), images, class_ids(factors)))
        have += len(factors)
        if path is not None and (have >= n or have % 500 == 0):  # an interruption loses seconds, not minutes
            parts = [joined(parts)]
            _keep(path, {**parts[0], "fingerprint": now}, {"judge": judge.version, "seed": world_seed})
        if progress is not None:
            progress(have, n, "rendering held-out pictures")
    return {k: v[:n] for k, v in joined(parts).items()}


def _compute(
    judge: Judge,
    now: Tensor,
    n: int,
    seed: int,
    resolution: int,
    cache: Path | None,
    progress: Progress | None,
) -> Reference:
    settings = {"n": n, "resolution": resolution, "cache": cache, "progress": progress, "now": now}
    real = render_view(judge, world_seed=REFERENCE_SEED + seed, **settings)
    other = render_view(judge, world_seed=FLOOR_SEED + seed, **settings)
    # Through fp32 whether or not it was read from a file, so that both ways give the same figure.
    mean, cov, mean_last, cov_last = (
        t.float().double() for key in ("mid", "last") for t in mean_and_covariance(real[key])
    )
    right = torch.cat([real["right"], other["right"]]).double()
    accuracy = {k: right[:, i].mean().item() for i, k in enumerate(FACTOR_CLASSES)}
    return Reference(
        n=n,
        mean=mean,
        cov=cov,
        mean_last=mean_last,
        cov_last=cov_last,
        accuracy=accuracy,
        floor=frechet(mean, cov, *mean_and_covariance(other["mid"])),
        floor_last=frechet(mean_last, cov_last, *mean_and_covariance(other["last"])),
    )


def _shipped_path(folder: Path, n: int, seed: int, resolution: int) -> Path:
    return folder / f"reference_n{n}_seed{seed}_{resolution}px.safetensors"


def load_reference(
    judge: Judge,
    *,
    n: int,
    seed: int,
    resolution: int = 64,
    cache: Path | None = CACHE,
    shipped: Path | None = JUDGE_FOLDER,
    progress: Progress | None = None,
) -> Reference:
    """Reference and floor of n renders each: what ships with the judge, else kept features, else rendered
    now.

    resolution: that of the pictures to be judged (at most the judge's own is rendered). About 0.05 s of one
    core a picture where nothing is kept. cache=None keeps nothing.
    """
    check_request(n, seed)
    resolution = min(resolution, judge.config.resolution)
    now = fingerprint()
    kept = None if shipped is None else _read(_shipped_path(Path(shipped), n, seed, resolution), now)
    if kept is not None and kept[1].get("judge") == judge.version:
        tensors, facts = kept
        values = {k: tensors[k].double() for k in ("mean", "mean_last")}
        values |= {k: _square(tensors[k].double()) for k in ("cov", "cov_last")}
        return Reference(
            n=n, **values, floor=facts["floor"], floor_last=facts["floor_last"], accuracy=facts["accuracy"]
        )
    return _compute(judge, now, n, seed, resolution, cache, progress)


def save_reference(
    judge: Judge,
    folder: Path,
    *,
    n: int = 2000,
    seed: int = 0,
    resolution: int = 64,
    cache: Path | None = CACHE,
    progress: Progress | None = None,
) -> Path:
    """Write the statistics that ship beside the judge (mean and covariance in fp32, of the covariance one
    triangle; floors and accuracy as JSON).
    """
    ref = load_reference(
        judge, n=n, seed=seed, resolution=resolution, cache=cache, shipped=None, progress=progress
    )
    tensors = {k: getattr(ref, k).float() for k in ("mean", "mean_last")}
    tensors |= {k: _upper(getattr(ref, k)).float() for k in ("cov", "cov_last")}
    facts = {"judge": judge.version, "n": n, "seed": seed, "floor": ref.floor, "floor_last": ref.floor_last}
    path = _shipped_path(Path(folder), n, seed, resolution)
    _write(path, {**tensors, "fingerprint": fingerprint()}, {**facts, "accuracy": ref.accuracy})
    return path


def _upper(matrix: Tensor) -> Tensor:
    """Symmetric [F, F] -> [F (F + 1) / 2], its upper triangle row by row."""
    return matrix[tuple(torch.triu_indices(*matrix.shape))]


def _square(upper: Tensor) -> Tensor:
    """Back from `_upper`."""
    side = (math.isqrt(8 * len(upper) + 1) - 1) // 2
    matrix = upper.new_zeros(side, side)
    matrix[tuple(torch.triu_indices(side, side))] = upper
    return matrix + matrix.triu(1).t()


def spread(images: Tensor) -> float:
    """Pixel spread inside groups: images [P, K, 3, H, W] -> standard deviation over the K (unbiased),
    averaged.
    """
    return images.double().std(dim=1).mean().item()


def spread_factors(prompts: int, samples: int, seed: int) -> tuple[list[Factors], list[list[Factors]]]:
    """One drawn row per prompt, and for each prompt `samples` rows that share its four factors and nothing
    else.
    """
    world_seed = SPREAD_SEED + seed
    heads = [draw_factors(world_seed, p) for p in range(prompts)]
    rows = []
    for p, head in enumerate(heads):
        four = {k: v for k, v in asdict(head).items() if k in FACTOR_CLASSES}
        rows.append([draw_factors(world_seed, MAX_N + p * samples + k, **four) for k in range(samples)])
    return heads, rows


def render_spread(
    *,
    prompts: int,
    samples: int,
    seed: int,
    resolution: int,
    cache: Path | None = CACHE,
    progress: Progress | None = None,
) -> float:
    """spread() of renders: the diversity that the world itself has inside a prompt. Kept on disk."""
    now = fingerprint()
    path = (
        None
        if cache is None
        else Path(cache) / f"spread-{prompts}x{samples}-{seed}-{resolution}px.safetensors"
    )
    kept = None if path is None else _read(path, now)
    if kept is not None and "spread" in kept[1]:
        return kept[1]["spread"]
    _, rows = spread_factors(prompts, samples, seed)
    total = 0.0
    for p, row in enumerate(rows):
        total += spread(render_set(row, resolution)[None])
        if progress is not None:
            progress(p + 1, prompts, "rendering pictures of the same factors")
    if path is not None:
        _keep(path, {"fingerprint": now}, {"spread": total / prompts})
    return total / prompts
