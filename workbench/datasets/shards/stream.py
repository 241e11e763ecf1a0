"""A shuffled stream of samples from shards, split between readers, that goes on exactly where it was.

The order is a function of (seed, epoch): shards are shuffled and dealt out to the readers, and each reader
shuffles blocks of `shuffle` samples as they come. So where a stream stands is six numbers, no buffer of
pictures, and going on costs one shard read up to the block and the block itself.

Legend: B samples of a batch, R pixels a side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from workbench.datasets import picture_cache
from workbench.datasets.mirroring import names_a_side
from workbench.datasets.shards.files import find_shards
from workbench.datasets.shards.filters import Filters
from workbench.datasets.shards.reading import Sample, picture_of, read_samples
from workbench.datasets.shards.report import ShardReport
from workbench.datasets.writing import check_whole_number
from workbench.errors import WorkbenchError
from workbench.noise import check_seed, generator_for

# Streams of the seed's noise: the order of shards, of the samples of a block, and flips never share one.
_SHARDS, _BLOCKS, _FLIPS = 21 << 40, 22 << 40, 23 << 40


@dataclass(frozen=True)
class Position:
    """Where a stream stands. epoch; shard, ordinal: where its block begins, as a place in the reader's order
    of shards and in that shard; block: its number in the epoch; at: samples of the block that were
    delivered; number: samples that were delivered in all."""

    epoch: int = 0
    shard: int = 0
    ordinal: int = 0
    block: int = 0
    at: int = 0
    number: int = 0


class ShardStream(IterableDataset):
    """Samples of shards. One `for` loop is one epoch, or the rest of it; the next goes on with the next one.

    source: what `find_shards` takes. shuffle: samples of a block; 0 delivers everything in the order of the
    shards. rank, world: this process and how many there are. Within a torch DataLoader the workers share the
    process's part, and, as they move copies, each loop over it is the same epoch until `set_epoch` names the
    next. Each shard is read by one reader, so no sample comes twice in an epoch. report: collects what is
    left out. Raises WorkbenchError where shards are missing or fewer than readers.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        seed: int = 0,
        shuffle: int = 1000,
        filters: Filters | None = None,
        rank: int = 0,
        world: int = 1,
        report: ShardReport | None = None,
    ) -> None:
        super().__init__()
        check_whole_number("shuffle", shuffle, 0, 1_000_000)
        check_whole_number("world", world, 1, 1_000_000)
        check_whole_number("rank", rank, 0, world - 1)
        self.shards = find_shards(source)
        self.seed, self.shuffle, self.filters = check_seed(seed), shuffle, filters or Filters()
        self.rank, self.world = rank, world
        self.report = ShardReport() if report is None else report
        self.position = Position()

    def __iter__(self) -> Iterator[Sample]:
        part, parts = self._part()
        if parts > len(self.shards):
            raise WorkbenchError(
                f"{parts} readers share {len(self.shards)} shards: expected a shard for each at least. Pack "
                "the set into more shards (a smaller --per-shard) or take fewer processes or workers."
            )
        order = self._order()[part::parts]
        start = self.position
        reader = self._reader(order, start)
        delivered = start.block > 0 or start.at > 0
        while block := list(islice(reader, max(1, self.shuffle))):
            drawn = self._drawn(len(block), start, part, parts)
            for at in range(start.at, len(block)):
                self.position = replace(self.position, at=at + 1, number=self.position.number + 1)
                delivered = True
                yield block[drawn[at]][1]
            place, last = block[-1]
            start = Position(start.epoch, place, last.ordinal + 1, start.block + 1, 0, self.position.number)
            self.position = start
        self.position = Position(start.epoch + 1, number=self.position.number)
        if not delivered:
            raise WorkbenchError(
                f"The {len(order)} shards gave no sample: {self.report.sentence()}. Mend the shards or "
                "loosen the filters."
            )

    def set_epoch(self, epoch: int) -> None:
        """Goes to the beginning of an epoch."""
        self.position = Position(epoch, number=self.position.number)

    def state_dict(self) -> dict:
        """The position as plain values, and whose it is."""
        return {"settings": self._settings(), **asdict(self.position)}

    def load_state_dict(self, state: dict) -> None:
        """Goes to a position that `state_dict` gave; WorkbenchError when it is of another stream."""
        if state.get("settings") != self._settings():
            raise WorkbenchError(
                "The position is of a stream with other shards, seed, shuffle, filters or readers. Give the "
                "same settings, or start anew."
            )
        self.position = Position(**{name: state[name] for name in asdict(Position())})

    def batches(
        self, resolution: int, batch_size: int, *, flip: bool = False
    ) -> Iterator[tuple[Tensor, list[str], Tensor]]:
        """Endless batches (images, captions, indices); a broken picture is noted and left out.

        images: [B, 3, R, R] float32 in [-1, 1], channels last; indices: [B] long, the number of the sample
        among this reader's since it began. flip: mirror each picture by chance, except where its caption says
        left or right. After each batch `state_dict` is the position behind it.
        """
        check_whole_number("resolution", resolution, 1, 4096)
        check_whole_number("batch_size", batch_size, 1, 1_000_000)
        pixels, texts, numbers = [], [], []
        while True:
            whole = False
            for sample in self:
                picture = picture_of(sample, self.report)
                if picture is None:
                    continue
                whole = True
                array = picture_cache.fit(picture, resolution)
                pixels.append(array[:, ::-1] if flip and self._turned(sample) else array)
                texts.append(sample.text)
                numbers.append(self.position.number - 1)
                if len(texts) == batch_size:
                    images = torch.from_numpy(np.stack(pixels)).to(torch.float32).div_(127.5).sub_(1.0)
                    yield images.permute(0, 3, 1, 2), texts, torch.tensor(numbers)
                    pixels, texts, numbers = [], [], []
            if not whole:
                raise WorkbenchError(f"No picture of the shards can be decoded: {self.report.sentence()}.")

    def _part(self) -> tuple[int, int]:
        """This reader's number, and how many there are over all processes and workers."""
        worker = get_worker_info()
        if worker is None:
            return self.rank, self.world
        if self.position.shard or self.position.ordinal or self.position.at:
            raise WorkbenchError(
                "A position within an epoch is of one reader and does not split into workers. Read without "
                "DataLoader workers, or begin with an epoch."
            )
        return self.rank * worker.num_workers + worker.id, self.world * worker.num_workers

    def _order(self) -> list[str]:
        """All shards in the order of this epoch."""
        if not self.shuffle:
            return list(self.shards)
        generator = generator_for(self.seed, _SHARDS + self.position.epoch)
        return [self.shards[at] for at in torch.randperm(len(self.shards), generator=generator).tolist()]

    def _reader(self, order: list[str], start: Position) -> Iterator[tuple[int, Sample]]:
        """(place of the shard in the order, sample) from a position on."""
        for place in range(start.shard, len(order)):
            begin = start.ordinal if place == start.shard else 0
            for sample in read_samples(order[place], self.report, self.filters, start=begin):
                yield place, sample

    def _drawn(self, count: int, start: Position, part: int, parts: int) -> list[int]:
        if not self.shuffle:
            return list(range(count))
        stream = _BLOCKS + ((start.epoch * parts + part) << 72) + (start.block << 48)
        return torch.randperm(count, generator=generator_for(self.seed, stream)).tolist()

    def _turned(self, sample: Sample) -> bool:
        """Whether a sample is mirrored in this epoch: a function of the seed, the epoch and where it lies."""
        if names_a_side(sample.text):
            return False
        place = f"{sample.shard}\n{sample.ordinal}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.sha256(place).digest()[:8])
        stream = _FLIPS + (number << 72) + (self.position.epoch << 48)
        return bool(torch.rand((), generator=generator_for(self.seed, stream)) < 0.5)

    def _settings(self) -> str:
        """A hash over all that the order depends on."""
        facts = [self.shards, self.seed, self.shuffle, asdict(self.filters), self.rank, self.world]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
