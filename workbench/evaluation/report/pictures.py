"""Meters that keep a little of every picture: what the judge says of it, and what it looks like from afar.

Letters: n pictures of the whole pass, F features, D numbers of a thumbnail, C classes of a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, Judge
from workbench.evaluation.metrics.sources import Batch
from workbench.evaluation.variety import THUMBNAIL, geometry, thumbnails

_CHUNK = 500


class ThumbnailMeter:
    """state: thumbnails [n, D] float32 of all pictures, in order."""

    reads_captions = False

    def __init__(self, n: int, resolution: int) -> None:
        side = min(THUMBNAIL, resolution)
        self.key = f"thumbnails {side} of {n}"
        self.state = {"thumbnails": torch.zeros(n, 3 * side * side)}

    def add(self, batch: Batch) -> None:
        rows = slice(batch.first, batch.first + len(batch))
        self.state["thumbnails"][rows] = thumbnails(batch.pictures.float() / 127.5 - 1)


class JudgeMeter:
    """state: mid [n, F], last [n, F'], geometry [n, 5] float32, named [n, 4]: the class that the judge gives
    each factor."""

    reads_captions = False

    def __init__(self, judge: Judge, n: int) -> None:
        self.judge = judge
        self.key = f"judge {judge.version} of {n}"
        self.state = {
            "mid": torch.zeros(n, judge.feature_dim),
            "last": torch.zeros(n, judge.config.channels[-1]),
            "geometry": torch.zeros(n, 5),
            "named": torch.zeros(n, len(FACTOR_CLASSES), dtype=torch.int64),
        }

    def add(self, batch: Batch) -> None:
        seen = self.judge.measure(batch.pictures.float() / 127.5 - 1)
        rows = slice(batch.first, batch.first + len(batch))
        self.state["mid"][rows], self.state["last"][rows] = seen.mid.float(), seen.last.float()
        self.state["geometry"][rows] = geometry(seen.regression).float()
        self.state["named"][rows] = torch.stack([seen.classes[name] for name in FACTOR_CLASSES], dim=1)

    def view(self, truth: Tensor, seen_from_afar: Tensor) -> dict[str, Tensor]:
        """As `reference.view`: truth [n, 4] class ids, thumbnails [n, D]."""
        kept = {name: self.state[name] for name in ("mid", "last", "geometry")}
        return {**kept, "right": self.state["named"] == truth, "thumbnails": seen_from_afar}


def truth_of(known: Sequence[dict[str, str]]) -> Tensor:
    """Class ids [n, 4] of what each picture ought to show. Raises WorkbenchError where one does not say."""
    rows = []
    for k, factors in enumerate(known):
        if set(factors) < set(FACTOR_CLASSES):
            raise WorkbenchError(
                f"Picture {k} does not say its {', '.join(set(FACTOR_CLASSES) - set(factors))}: expected all "
                "four factors. Measure it by questions."
            )
        rows.append([names.index(factors[name]) for name, names in FACTOR_CLASSES.items()])
    return torch.tensor(rows)


def confusions(truth: Tensor, named: Tensor) -> dict[str, Tensor]:
    """Counts [C, C] of each factor: what the prompt says down, what the judge names across."""
    found = {}
    for k, (factor, names) in enumerate(FACTOR_CLASSES.items()):
        table = torch.zeros(len(names), len(names), dtype=torch.int64)
        table.index_put_(
            (truth[:, k], named[:, k]), torch.ones(len(truth), dtype=torch.int64), accumulate=True
        )
        found[factor] = table
    return found


def worst(truth: Tensor, named: Tensor, mid: Tensor, real: Tensor, count: int) -> list[int]:
    """Numbers of the pictures with most factors wrong; among equals the farthest from any render goes first.

    mid [n, F] and real [m, F]: mid-level features. Pictures with nothing wrong are none of them.
    """
    wrong = (named != truth).sum(dim=1)
    far = torch.cat([torch.cdist(part, real).amin(dim=1) for part in mid.split(_CHUNK)])
    order = sorted(range(len(wrong)), key=lambda k: (-wrong[k].item(), -far[k].item()))
    return [k for k in order[:count] if wrong[k] > 0]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """For each of n pictures: the number of its nearest in the other set [n], and the root mean square
    difference to it [n] in [-1, 1]; mirrored [n]: whether its mirror image is meant."""

    number: Tensor
    distance: Tensor
    mirrored: Tensor


def neighbours(own: Tensor, others: Tensor) -> Neighbours:
    """Nearest thumbnail of [m, D], or its mirror image, to each of [n, D]: `variety.nearest` with names."""
    side = round((others.shape[1] / 3) ** 0.5)
    turned = others.unflatten(1, (3, side, side)).flip(-1).flatten(1)
    numbers, far, mirrored = [], [], []
    for part in own.split(_CHUNK):
        plain, flipped = torch.cdist(part, others).min(1), torch.cdist(part, turned).min(1)
        flip = flipped.values < plain.values
        numbers.append(torch.where(flip, flipped.indices, plain.indices))
        far.append(torch.minimum(plain.values, flipped.values))
        mirrored.append(flip)
    return Neighbours(
        number=torch.cat(numbers), distance=torch.cat(far) / others.shape[1] ** 0.5,
        mirrored=torch.cat(mirrored),
    )  # fmt: skip
