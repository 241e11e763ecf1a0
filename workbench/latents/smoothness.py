"""Perceptual path length: how much the picture changes for a small step in z, w or the prompt.

E |f(G(t)) - f(G(t + eps))|^2 / eps^2 over random paths and positions (StyleGAN, Karras et al. 2019,
Sec. 4.1), f the features of `FeatureDistance` in place of LPIPS: named by its features wherever it is quoted,
and not to be compared with path lengths on VGG.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.perceptual import FeatureDistance
from workbench.latents.paths import KINDS, Key, curve
from workbench.latents.points import Points, draw
from workbench.models.checks import is_count
from workbench.noise import generator_for
from workbench.pipeline import Pipeline

EPS = 1e-2  # in float32 a smaller step is lost in rounding
TAIL = 0.01  # as StyleGAN does, the largest and smallest hundredth are left out
WORLD_SEED = 8_000_101
FIRST_SEED = 85_000_000_000


def path_length(
    pipeline: Pipeline,
    kind: str,
    *,
    n: int = 64,
    seed: int = 0,
    distance: FeatureDistance | None = None,
    eps: float = EPS,
) -> float:
    """Mean squared feature distance over eps^2 along n random paths of one kind ("z", "w", "prompt", "both").

    The ends of a path are two seeds and two captions of the world. "z" keeps the first caption, "prompt" the
    first seed. seed: of the captions and of the places on the paths; the seeds of the ends are the same
    whatever it is, so that two values of it share z. Raises WorkbenchError for an unknown kind, fewer than 2
    paths, and a step outside (0, 1).
    """
    if kind not in KINDS or not is_count(n, 2):
        raise WorkbenchError(f"{n!r:.40} paths of kind {kind!r}: expected 2 or more of {', '.join(KINDS)}.")
    if not 0 < eps < 1:
        raise WorkbenchError(f"The step eps is {eps!r:.40}: expected a part of the path, such as {EPS}.")
    distance = distance or FeatureDistance()
    t = torch.rand(n, generator=generator_for(seed)) * (1 - eps)
    values = []
    for start in range(0, n, 16):
        rows = range(start, min(n, start + 16))
        pairs = [_pair(pipeline, kind, seed, k, float(t[k]), eps) for k in rows]
        frames = draw(pipeline, Points.cat(pairs), batch_size=32)
        with torch.no_grad():
            values.append(distance(frames[0::2], frames[1::2]).square() / eps**2)
    return trimmed_mean(torch.cat(values), TAIL)


def trimmed_mean(x: Tensor, tail: float) -> float:
    """Mean of [N] between the `tail` and the 1 - `tail` quantile, both included; of all where none is there,
    as of two.
    """
    low, high = x.quantile(tail), x.quantile(1 - tail)
    kept = x[(x >= low) & (x <= high)]
    return (kept if len(kept) else x).mean().item()


def _pair(pipeline: Pipeline, kind: str, seed: int, k: int, t: float, eps: float) -> Points:
    """Two points eps apart on path k."""
    ends = []
    for place in (2 * k, 2 * k + 1):
        factors = draw_factors(WORLD_SEED + seed, place)
        ends.append(Key(full_caption(factors, WORLD_SEED + seed, place), FIRST_SEED + place))
    return curve(pipeline, ends, kind)(torch.tensor([t, t + eps]))
