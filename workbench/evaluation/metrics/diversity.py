"""How different pictures of one caption look: a perceptual distance between them, pair by pair.

Letters: K pictures of one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.measuring import stated
from workbench.evaluation.metrics.record import Measurement
from workbench.evaluation.metrics.sources import Pictures

GROUPS, SIZE = 48, 4


class PairDistance(Protocol):
    """`Lpips` and `FeatureDistance`. name: how to quote it."""

    name: str

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of [N, 3, H, W] in [-1, 1], [N]."""


def groups_of(
    texts: Sequence[str], known: Sequence[dict[str, str]], *, groups: int = GROUPS, size: int = SIZE
) -> list[list[int]]:
    """Numbers of pictures that share all factors, or where these are not known the caption: the first
    `groups` groups of two or more, the first `size` of each.
    """
    found: dict[object, list[int]] = {}
    for k, (text, factors) in enumerate(zip(texts, known, strict=True)):
        found.setdefault(tuple(factors.items()) if factors else text, []).append(k)
    return [members[:size] for members in found.values() if len(members) > 1][:groups]


@torch.inference_mode()
def diversity(
    source: Pictures, distance: PairDistance, *, groups: int = GROUPS, size: int = SIZE
) -> Measurement:
    """Mean distance over all pairs inside groups of pictures of one caption, with its error over groups.

    Raises WorkbenchError where no two pictures share a caption.
    """
    texts, known = source.texts or [""] * len(source), source.known or [{}] * len(source)
    chosen = groups_of(texts, known, groups=groups, size=size)
    if not chosen:
        raise WorkbenchError(
            f"No two of the {len(source)} pictures of {source.facts.name} share a caption: expected two or "
            "more. Measure a set with several pictures a caption."
        )
    means = []
    for members in chosen:
        images = torch.cat([source.batch(k, k + 1).pictures for k in members]).float() / 127.5 - 1
        one, other = (list(side) for side in zip(*combinations(range(len(members)), 2), strict=True))
        means.append(distance(images[one], images[other]).double().mean())
    values = torch.stack(means)
    spread = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
    statement = stated(
        source.facts, sum(len(members) for members in chosen), features=distance.name, version="",
        resizer="its own", settings={"groups": len(chosen), "size": max(len(m) for m in chosen)},
    )  # fmt: skip
    return Measurement(
        name=f"diversity ({distance.name})", value=values.mean().item(), spread=spread, better="stated",
        statement=statement,
    )  # fmt: skip
