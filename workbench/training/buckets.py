"""Batches of crops of one shape each, out of pictures of many aspects: a bucket of pictures for each shape.

A picture lies in the bucket of the shape nearest to its own aspect among those that fit into it, and a shape
comes as often as its pictures are many, so that every picture is cut as often as any other. What a step takes
is a function of (seed, step) alone.

Legend: N pictures of a table, K shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workbench.datasets.aspects import AspectTable
from workbench.datasets.loading import Batch, PairedBatches
from workbench.noise import MAX_SEED, generator_for

_TURNS, _BUCKETS = 16 << 40, 17 << 40  # streams of the run's seed
_BLOCK = 256  # steps whose shapes are drawn at once, each shape its share of them
Shape = tuple[int, int]


class Buckets:
    """`PairedBatches` of a table of many aspects. A batch's `images` are a list of whole pictures
    [3, H, W] in [-1, 1], into each of which `shape_at(step)` fits.

    shapes: (height, width), the first a square that fits into every picture.
    """

    def __init__(
        self, table: AspectTable, shapes: Sequence[Shape], batch_size: int, seed: int, *, flip: bool
    ):
        rows, weights = share_out(table.sizes, shapes, batch_size)
        kept = [number for number in range(len(shapes)) if weights[number] > 0]
        self.seed, self.shapes = seed, [shapes[number] for number in kept]
        self._pairs = [
            _Whole(table.select(rows[number]), batch_size, _own_seed(seed, number), flip=flip)
            for number in kept
        ]
        self._ends = weights[kept].cumsum(0)
        self._before = [torch.zeros(len(kept), dtype=torch.long)]  # steps of each bucket before each block

    def shape_at(self, step: int) -> Shape:
        """(height, width) of the crops of `step`."""
        return self.shapes[self._turn(step)[0]]

    def batch_at(self, step: int, part: slice | None = None) -> Batch:
        """As `PairedBatches.batch_at`; rows are those of the bucket."""
        number, own = self._turn(step)
        return replace(self._pairs[number].batch_at(own, part), step=step)

    def mismatched(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As `PairedBatches.mismatched`, of a batch of `batch_at`."""
        return self._pairs[self._turn(batch.step)[0]].mismatched(batch)

    def _turn(self, step: int) -> tuple[int, int]:
        """(bucket of `step`, how many steps it had before)."""
        block, place = divmod(step, _BLOCK)
        while len(self._before) <= block:
            drawn = self._block(len(self._before) - 1)
            self._before.append(self._before[-1] + drawn.bincount(minlength=len(self.shapes)))
        drawn = self._block(block)
        number = int(drawn[place])
        return number, int(self._before[block][number] + (drawn[:place] == number).sum())

    def _block(self, block: int) -> Tensor:
        """[_BLOCK] buckets: one draw from each of as many equal parts of [0, 1), in any order."""
        dice = generator_for(self.seed, _TURNS + block)
        parts = torch.randperm(_BLOCK, generator=dice)
        draws = (parts + torch.rand(_BLOCK, dtype=torch.float64, generator=dice)) / _BLOCK
        return torch.searchsorted(self._ends, draws, right=True).clamp_max(len(self.shapes) - 1)


class _Whole(PairedBatches):
    """Pairs whose pictures come whole, a list of [3, H, W]."""

    def _pictures(self, rows: Tensor, turned: Tensor | None) -> list[Tensor]:
        flips = [False] * len(rows) if turned is None else turned.tolist()
        found = []
        for row, flip in zip(rows.tolist(), flips, strict=True):
            picture = self.table.picture(row)
            found.append((picture.flip(2) if flip else picture).float().div_(127.5).sub_(1.0))
        return found


def share_out(sizes: Tensor, shapes: Sequence[Shape], least: int) -> tuple[list[Tensor], Tensor]:
    """(rows of each shape, its share of the steps [K] float64) of pictures of sizes [N, 2].

    A shape with fewer than `least` pictures of its own gives them to the next nearest; the square, which
    comes first and fits into all, takes in the pictures nearest to it until it has as many.
    """
    ratio = torch.tensor([width / height for height, width in shapes], dtype=torch.float64)
    aspect = sizes[:, 1].double() / sizes[:, 0]
    far = (aspect[:, None].log() - ratio.log()).abs()
    far[(sizes[:, None] < torch.tensor(shapes)).any(dim=2)] = torch.inf
    while True:
        nearest = far.argmin(dim=1)
        count = nearest.bincount(minlength=len(shapes))
        few = [k for k in range(1, len(shapes)) if 0 < count[k] < least]
        if not few:
            break
        far[:, min(few, key=lambda k: int(count[k]))] = torch.inf
    rows = [(nearest == k).nonzero().flatten() for k in range(len(shapes))]
    if 0 < count[0] < least:
        rows[0] = far[:, 0].argsort(stable=True)[:least].sort().values
    return rows, count.double() / len(sizes)


def _own_seed(seed: int, number: int) -> int:
    """A bucket's own seed: two of them share no order and no flips."""
    return generator_for(seed, _BUCKETS + number).initial_seed() & MAX_SEED
