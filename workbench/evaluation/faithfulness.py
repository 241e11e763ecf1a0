"""Does the picture hold what the prompt says, does it look like the world, and does another z give another
picture?

All three are measured by the judge and by pixels on prompts and seeds that no training saw. A picture source
is any callable from prompts and seeds to pictures, so that the trainer measures its G_ema as the command line
does a folder.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.distances import frechet, mean_and_covariance
from workbench.evaluation.features import FACTOR_CLASSES, Judge, class_ids
from workbench.evaluation.reference import (
    CACHE,
    PROMPT_SEED,
    SPREAD_SEED,
    Progress,
    check_request,
    joined,
    load_reference,
    quantised,
    render_spread,
    spread,
    spread_factors,
    view,
)

Generate = Callable[[list[str], list[int]], Tensor]  # prompts, seeds -> pictures [N, 3, S, S] in [-1, 1]


def from_pipeline(pipeline: Callable, *, batch_size: int = 16, truncation: float = 1.0) -> Generate:
    """A Pipeline (or anything called like one) as a picture source."""

    def generate(prompts: list[str], seeds: list[int]) -> Tensor:
        return pipeline(prompts, seed=seeds, truncation=truncation, batch_size=batch_size).images

    return generate


def draw_prompts(n: int, seed: int) -> tuple[list[str], dict[str, Tensor]]:
    """n prompts that name all four factors, and the class ids [n] of each factor; unseen by any training."""
    world_seed = PROMPT_SEED + seed
    factors = [draw_factors(world_seed, i) for i in range(n)]
    return [full_caption(f, world_seed, i) for i, f in enumerate(factors)], class_ids(factors)


def _pictures(generate: Generate, prompts: list[str], seeds: list[int]) -> Tensor:
    """One call of the source, checked, quantised and on the CPU."""
    images = generate(prompts, seeds)
    if images.ndim != 4 or images.shape[0] != len(prompts) or images.shape[1] != 3:
        raise WorkbenchError(
            f"The picture source gave {tuple(images.shape)} for {len(prompts)} prompts: expected "
            f"[{len(prompts)}, 3, S, S]."
        )
    if not torch.isfinite(images).all():
        raise WorkbenchError(
            "The picture source gave values that are not finite: expected [-1, 1]. Go back to an earlier "
            "checkpoint."
        )
    return quantised(images).cpu()


def _generated_spread(
    generate: Generate, *, prompts: int, samples: int, seed: int, progress: Progress | None
) -> float:
    """Pixel spread over z inside a prompt, averaged over prompts."""
    heads, _ = spread_factors(prompts, 0, seed)
    total = 0.0
    for p, head in enumerate(heads):
        text = full_caption(head, SPREAD_SEED + seed, p)
        first = (SPREAD_SEED + seed) * 100_000 + p * samples
        total += spread(_pictures(generate, [text] * samples, list(range(first, first + samples)))[None])
        if progress is not None:
            progress(p + 1, prompts, "generating several z a prompt")
    return total / prompts


def _diversity(
    generate: Generate,
    resolution: int,
    seed: int,
    cache: Path | None,
    progress: Progress | None,
    *,
    prompts: int,
    samples: int,
) -> float:
    """Spread over z inside a prompt / that of renders with the same four factors."""
    own = _generated_spread(generate, prompts=prompts, samples=samples, seed=seed, progress=progress)
    settings = {"prompts": prompts, "samples": samples, "seed": seed, "cache": cache, "progress": progress}
    return own / render_spread(resolution=resolution, **settings)


def generated_view(
    generate: Generate,
    judge: Judge,
    *,
    n: int,
    seed: int,
    batch_size: int = 50,
    progress: Progress | None = None,
) -> tuple[dict[str, Tensor], int]:
    """`view` of n pictures of prompts that name all four factors, and their side in pixels."""
    prompts, truth = draw_prompts(n, seed)
    first = (PROMPT_SEED + seed) * 100_000
    parts, resolution = [], 0
    for i in range(0, n, batch_size):
        chunk = slice(i, min(n, i + batch_size))
        images = _pictures(generate, prompts[chunk], list(range(first + chunk.start, first + chunk.stop)))
        resolution = images.shape[-1]
        parts.append(view(judge.measure(images), images, {k: ids[chunk] for k, ids in truth.items()}))
        if progress is not None:
            progress(chunk.stop, n, "generating and judging")
    return joined(parts), resolution


def evaluate(
    generate: Generate,
    judge: Judge,
    *,
    n: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
    cache: Path | None = CACHE,
    batch_size: int = 50,
    diversity_prompts: int = 48,
    diversity_samples: int = 8,
    seen: tuple[dict[str, Tensor], int] | None = None,
) -> dict:
    """Measure a picture source on n prompts that name all four factors, with unseen factors and seeds.

    seen: what `generated_view` gave for the same n and seed, where a caller measures more on it.

    Returns
    -------
    n; coat, pose, scene, light: share of pictures for which the judge names what the prompt says; all: all
    four; frechet: distance of the n pictures to n held-out renders on mid-level features; floor: the same for
    a second set of n renders; ratio: frechet / floor; diversity: pixel spread over z inside a prompt / that
    of renders with the same four factors (1 = the world's own, 0 = z is ignored); frechet_last, floor_last:
    on the last layer, which says "done" too early; feature_dim F (n > F makes covariances full; both
    distances share the n either way); judge: its version; seconds.

    Raises WorkbenchError for an n below 2, too few samples a prompt, or pictures of another shape or not
    finite.
    """
    check_request(n, seed)
    if diversity_prompts < 1 or diversity_samples < 2:
        raise WorkbenchError(
            f"Diversity over {diversity_prompts} prompts of {diversity_samples} z: expected at least 1 and 2."
        )
    start = time.perf_counter()
    own_view, resolution = seen or generated_view(
        generate, judge, n=n, seed=seed, batch_size=batch_size, progress=progress
    )
    hits = own_view["right"]
    diversity = _diversity(
        generate, resolution, seed, cache, progress, prompts=diversity_prompts, samples=diversity_samples
    )
    ref = load_reference(judge, n=n, seed=seed, resolution=resolution, cache=cache, progress=progress)
    distance = frechet(ref.mean, ref.cov, *mean_and_covariance(own_view["mid"]))
    return {
        "n": n,
        **{k: hits[:, i].double().mean().item() for i, k in enumerate(FACTOR_CLASSES)},
        "all": hits.all(dim=1).double().mean().item(),
        "frechet": distance,
        "floor": ref.floor,
        "diversity": diversity,
        "ratio": distance / ref.floor,
        "frechet_last": frechet(ref.mean_last, ref.cov_last, *mean_and_covariance(own_view["last"])),
        "floor_last": ref.floor_last,
        "feature_dim": judge.feature_dim,
        "judge": judge.version,
        "seconds": time.perf_counter() - start,
    }


def evaluate_judge(
    judge: Judge,
    *,
    n: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
    cache: Path | None = CACHE,
    shipped: bool = False,
) -> dict:
    """The judge's own accuracy on 2n held-out renders: {"n": 2n, "coat": share, "pose": …, "scene": …,
    "light": …}.

    shipped=True reads what ships with the judge where it fits, instead of rendering again.
    """
    folder = {} if shipped else {"shipped": None}
    ref = load_reference(judge, n=n, seed=seed, cache=cache, progress=progress, **folder)
    return {"n": 2 * n, **ref.accuracy, "judge": judge.version}
