"""Batches of a data set: pairs for the GAN, or each picture by itself for everything else.

Every batch is a function of (seed, step) alone: no state, no workers, nothing to save for an exact resume.

Legend: N pictures of a table, B of a batch, K = B / 2 pairs, R pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets import pairing
from workbench.datasets.aspects import AspectTable
from workbench.datasets.mirroring import sided
from workbench.datasets.sources import open_table
from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError
from workbench.noise import check_seed, generator_for

# Streams of a seed's noise: an epoch's order, a step's flips and a step's mismatches never share one.
_EPOCHS, _FLIPS, _MISMATCHES = 1 << 40, 2 << 40, 3 << 40


def batches(
    source: str | Path | PictureTable,
    resolution: int,
    batch_size: int,
    *,
    seed: int = 0,
    start: int = 0,
    flip: bool = False,
    cache: bool | Path = True,
    progress: bool = False,
) -> Iterator[tuple[Tensor, list[str], Tensor]]:
    """Endless batches (images, captions, indices) of any data set, from step `start` on.

    images: [B, 3, R, R] float32 in [-1, 1], channels last; captions: B texts; indices: [B] long, rows of the
    table. Each picture comes once an epoch, in an order of the seed and the epoch. source: what `open_table`
    takes. flip: mirror each picture by chance, except where its caption says left or right. Raises
    WorkbenchError as `open_table` does.
    """
    table = (
        source
        if isinstance(source, PictureTable)
        else open_table(source, resolution, cache=cache, progress=progress)
    )
    shuffled = Batches(table, batch_size, seed, flip=flip)
    while True:
        yield shuffled.batch_at(start)
        start += 1


class Batches:
    """Batches in which each picture comes once an epoch; a batch at the end of one reaches into the next."""

    def __init__(self, table: PictureTable, batch_size: int, seed: int, *, flip: bool = False) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise WorkbenchError(f"batch_size is {batch_size!r}: expected a whole number of at least 1.")
        self.table, self.batch_size, self.seed = table, batch_size, check_seed(seed)
        self._mirror = _Mirror(table, seed) if flip else None
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.long))

    def batch_at(self, step: int) -> tuple[Tensor, list[str], Tensor]:
        """(images, captions, indices) of `step` (from 0 on), as `batches` gives them."""
        check_step(step)
        found, at, left = [], step * self.batch_size, self.batch_size
        while left > 0:
            epoch, place = divmod(at, len(self.table))
            found.append(self._epoch(epoch)[place : place + left])
            at, left = at + len(found[-1]), left - len(found[-1])
        rows = torch.cat(found)
        turned = self._mirror.drawn(step, rows, rows) if self._mirror else None
        return pictures_of(self.table, rows, turned), [self.table.texts[row] for row in rows.tolist()], rows

    def _epoch(self, epoch: int) -> Tensor:
        """[N] rows in the order of one epoch; the one used last is kept."""
        if self._order[0] != epoch:
            generator = generator_for(self.seed, _EPOCHS + epoch)
            self._order = epoch, torch.randperm(len(self.table), generator=generator)
        return self._order[1]


@dataclass(frozen=True, eq=False)
class Batch:
    """K pairs: rows 2k and 2k+1 are one.

    images: [B, 3, R, R] float32 in [-1, 1], channels last, or those of a part of the rows alone; captions: B
    texts, the same within a pair; rows: [B] long, rows of the table; caption_rows: [B] long, the row whose
    text the caption is; step: its number.
    """

    images: Tensor
    captions: list[str]
    rows: Tensor
    caption_rows: Tensor
    step: int


class PairedBatches:
    """Endless batches of pairs: two different pictures of one group under one caption, that of the first.

    An epoch shuffles every group, pairs its pictures off and spreads its pairs evenly over the epoch; so
    each picture comes once an epoch (one of an odd group twice), and a batch rarely holds a group twice. A
    picture alone in its group comes with the partner that the table names. Every batch is a function of
    (seed, step) alone.
    """

    def __init__(self, table: PictureTable, batch_size: int, seed: int, *, flip: bool = True) -> None:
        if (
            isinstance(batch_size, bool)
            or not isinstance(batch_size, int)
            or batch_size < 2
            or batch_size % 2
        ):
            raise WorkbenchError(
                f"batch_size is {batch_size!r}: expected an even number of at least 2, because a batch "
                "is made of pairs."
            )
        if len(table) < 2:
            raise WorkbenchError(
                f"The data set holds {len(table)} picture: expected 2 at least, to make a pair."
            )
        self.table, self.batch_size, self.seed = table, batch_size, check_seed(seed)
        self._mirror = _Mirror(table, seed) if flip else None
        sizes = torch.bincount(table.groups)
        self._pairs_of_group = (sizes + 1) // 2
        self._sizes, self._starts = sizes, sizes.cumsum(0) - sizes
        self._epochs: dict[int, Tensor] = {}

    @property
    def pairs_per_epoch(self) -> int:
        return int(self._pairs_of_group.sum())

    def batch_at(self, step: int, part: slice | None = None) -> Batch:
        """The batch of `step` (from 0 on). part: rows whose pictures are wanted, all where it is left out;
        everything else is of the whole batch either way.
        """
        check_step(step)
        rows = self._pairs_at(step * (self.batch_size // 2), self.batch_size // 2).flatten()
        caption_rows = rows[0::2].repeat_interleave(2)
        turned = self._mirror.drawn(step, rows, caption_rows) if self._mirror else None
        shown = part or slice(None)
        images = self._pictures(rows[shown], None if turned is None else turned[shown])
        texts = [self.table.texts[row] for row in caption_rows.tolist()]
        return Batch(images, texts, rows, caption_rows, step)

    def mismatched(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Wrong captions from within the batch, for the matching-aware loss: (index [B] long, valid [B]
        bool).

        Caption `batch.captions[index[i]]` is false of picture i: where factors are known it names one of them
        wrongly, else it is another text (`pairing.false_captions`). Both members of a pair get the two
        places of one other pair, and each pair's caption is used once where that can be. Where no caption
        of the batch is false of both members, valid is False and index points at the picture itself: leave
        it out of the loss. A function of the batch and the seed.
        """
        first, second, own = batch.rows[0::2], batch.rows[1::2], batch.caption_rows[0::2]
        texts = batch.captions[0::2]
        known, groups = self.table.known, self.table.groups
        allowed = pairing.false_captions(texts, own, first, known, groups)
        allowed &= pairing.false_captions(texts, own, second, known, groups)
        pairs = torch.tensor(pairing.derangement(allowed, generator_for(self.seed, _MISMATCHES + batch.step)))
        valid = pairs >= 0
        pairs = torch.where(valid, pairs, torch.arange(len(pairs)))
        index = torch.stack([2 * pairs, 2 * pairs + 1], dim=1).flatten()
        return index, valid.repeat_interleave(2)

    def _pictures(self, rows: Tensor, turned: Tensor | None) -> Tensor:
        """What a batch holds of its rows [b]; turned [b]: which are mirrored."""
        return pictures_of(self.table, rows, turned)

    def _pairs_at(self, start: int, count: int) -> Tensor:
        """[count, 2] rows of the pairs start … start+count-1 of the endless row of epochs."""
        found = []
        while count > 0:
            epoch, at = divmod(start, self.pairs_per_epoch)
            part = self._epoch(epoch)[at : at + count]
            found.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(found)

    def _epoch(self, epoch: int) -> Tensor:
        """[pairs, 2] rows of one epoch in order; the two used last are kept."""
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[epoch] = self._draw_epoch(generator_for(self.seed, _EPOCHS + epoch))
        return self._epochs[epoch]

    def _draw_epoch(self, generator: torch.Generator) -> Tensor:
        groups, total = self.table.groups, len(self.table)
        shuffled = torch.randperm(total, generator=generator)
        rows = shuffled[groups[shuffled].argsort(stable=True)]  # group by group, shuffled inside
        group = groups[rows]
        place = torch.arange(total) - self._starts[group]  # within the group
        first = (place % 2 == 0).nonzero().flatten()
        left_over = place[first] + 1 == self._sizes[group[first]]
        # The last of an odd group goes with the group's first, one alone with its partner.
        second = rows[torch.where(left_over, self._starts[group[first]], first + 1)]
        second = torch.where(self._sizes[group[first]] == 1, self.table.partners[rows[first]], second)
        pairs = torch.stack([rows[first], second], dim=1)
        # Pair j of a group with n lies somewhere in the j-th of n equal parts of the epoch.
        jitter = torch.rand(len(first), dtype=torch.float64, generator=generator)
        when = (place[first] // 2 + jitter) / self._pairs_of_group[group[first]]
        return pairs[when.argsort(stable=True)]


class _Mirror:
    """Which pictures of a step are mirrored: each by chance, but none whose caption says left or right."""

    def __init__(self, table: PictureTable, seed: int) -> None:
        self.seed, self.kept = seed, sided(table.texts)

    def drawn(self, step: int, rows: Tensor, caption_rows: Tensor) -> Tensor:
        """[B] bool; neither the picture's own caption nor the one that it is shown under may name a side."""
        turned = torch.rand(len(rows), generator=generator_for(self.seed, _FLIPS + step)) < 0.5
        return turned & ~self.kept[rows] & ~self.kept[caption_rows]


def pictures_of(table: PictureTable | AspectTable, rows: Tensor, turned: Tensor | None = None) -> Tensor:
    """Pictures `rows` [B] of the table as float32 [B, 3, R, R] in [-1, 1], channels last, the middle of those
    that are not square; turned: [B] bool, which are mirrored."""
    if isinstance(table, AspectTable):
        pixels = table.squares(rows)
    else:
        pixels = table.images.permute(0, 2, 3, 1).index_select(0, rows)
    if turned is not None:
        at = turned.nonzero().flatten()
        pixels.index_copy_(0, at, pixels.index_select(0, at).flip(2))  # a mask would go pixel by pixel
    return pixels.to(torch.float32).div_(127.5).sub_(1.0).permute(0, 3, 1, 2)


def check_step(step: int) -> None:
    """WorkbenchError for a step below 0."""
    if step < 0:
        raise WorkbenchError(f"step is {step}: expected 0 or more.")
