"""Pictures in memory and the batches of pairs that training takes from them.

Legend: N pictures of a table, B of a batch (even), K = B / 2 pairs, R pixels a side.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from workbench.datasets import captions, pairing, world
from workbench.datasets.rows import METADATA_NAMES, Row, read_folder, read_picture
from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.noise import check_seed, generator_for

_CACHE_SCHEMA = 1
# Streams of a seed's noise: an epoch's order, a step's flips and a step's mismatches never share one.
_EPOCHS, _FLIPS, _MISMATCHES = 1 << 40, 2 << 40, 3 << 40


@dataclass(frozen=True, eq=False)
class PictureTable:
    """All pictures of a data set, small enough for memory.

    images: uint8 [N, 3, R, R], channels last in memory; texts: N captions; groups: [N] long (see `pairing`);
    partners: [N] long, whom a picture alone in its group is paired with, else -1; known: the four factors
    or {}.
    """

    images: Tensor
    texts: list[str]
    groups: Tensor
    partners: Tensor
    known: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def from_folder(
        cls, path: str | Path, resolution: int, *, cache: bool = True, progress: bool = False
    ) -> PictureTable:
        """The pictures of a data set folder, shorter side brought to `resolution` (antialiased), centre cut
        out.

        cache: keep the decoded pictures as `cache-<resolution>.safetensors` in the folder and read them
        from there the next time, as long as metadata, file sizes and file times are the same. Raises
        WorkbenchError as `read_folder` does, and when the pictures do not fit into memory.
        """
        folder = Path(path)
        rows = read_folder(folder, check_pictures=False)
        _check_size(len(rows), resolution)
        texts, known = [row.text for row in rows], [pairing.known_factors(row.factors) for row in rows]
        groups = pairing.group_ids(texts, known)
        file = folder / f"cache-{resolution}.safetensors"
        key = _cache_key(folder, rows, resolution) if cache else ""
        held = _read_cache(file, key, (len(rows), resolution)) if cache else None
        if held is None:
            pixels = _decode(folder, rows, resolution, progress)
            held = {
                "images": torch.from_numpy(pixels),
                "partners": pairing.lonely_partners(texts, known, groups, [row.file_name for row in rows]),
            }
            if cache:
                _write_cache(file, key, held)
        return cls(held["images"].permute(0, 3, 1, 2), texts, groups, held["partners"], known)

    @classmethod
    def from_world(
        cls, seed: int, count: int, resolution: int, *, batch: int = 16, progress: bool = False
    ) -> PictureTable:
        """Pictures 0 … count-1 of Shepherd World `seed`, drawn now: equal to `write_world` and
        `from_folder`."""
        check_seed(seed)
        _check_size(count, resolution)
        factors = [world.draw_factors(seed, index) for index in range(count)]
        starts = tqdm(range(0, count, batch), desc="drawing", disable=not progress)
        with torch.inference_mode():
            pixels = np.concatenate(
                [to_uint8(world.render(factors[at : at + batch], resolution)) for at in starts]
            )
        texts = [captions.caption(f, seed, index) for index, f in enumerate(factors)]
        known = [{name: getattr(f, name) for name in captions.FACTOR_NAMES} for f in factors]
        groups = pairing.group_ids(texts, known)
        files = [str(index) for index in range(count)]
        partners = pairing.lonely_partners(texts, known, groups, files)
        return cls(torch.from_numpy(pixels).permute(0, 3, 1, 2), texts, groups, partners, known)


@dataclass(frozen=True, eq=False)
class Batch:
    """K pairs: rows 2k and 2k+1 are one.

    images: [B, 3, R, R] float32 in [-1, 1], channels last; captions: B texts, the same within a pair;
    rows: [B] long, rows of the table; caption_rows: [B] long, the row whose text the caption is; step: its
    number.
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
        self.table, self.batch_size, self.seed, self.flip = table, batch_size, check_seed(seed), flip
        sizes = torch.bincount(table.groups)
        self._pairs_of_group = (sizes + 1) // 2
        self._sizes, self._starts = sizes, sizes.cumsum(0) - sizes
        self._epochs: dict[int, Tensor] = {}

    @property
    def pairs_per_epoch(self) -> int:
        return int(self._pairs_of_group.sum())

    def batch_at(self, step: int) -> Batch:
        """The batch of `step` (from 0 on)."""
        if step < 0:
            raise WorkbenchError(f"step is {step}: expected 0 or more.")
        rows = self._pairs_at(step * (self.batch_size // 2), self.batch_size // 2).flatten()
        pixels = self.table.images.permute(0, 2, 3, 1)[rows]
        if self.flip:
            generator = generator_for(self.seed, _FLIPS + step)
            turned = torch.rand(len(rows), generator=generator) < 0.5
            pixels = torch.where(turned[:, None, None, None], pixels.flip(2), pixels)
        images = pixels.to(torch.float32).div_(127.5).sub_(1.0).permute(0, 3, 1, 2)
        caption_rows = rows[0::2].repeat_interleave(2)
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


# ---------------------------------------------------------------- decoding and its cache


def _check_size(count: int, resolution: int) -> None:
    for name, value, high in (("count", count, 10_000_000), ("resolution", resolution, 4096)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise WorkbenchError(f"{name} is {value!r}: expected a whole number from 1 to {high}.")
    needed, free = count * resolution**2 * 3, psutil.virtual_memory().available
    if needed > 0.8 * free:
        raise WorkbenchError(
            f"{count} pictures of {resolution} px need {needed / 2**30:.1f} GiB of memory and "
            f"{free / 2**30:.1f} GiB are free. Choose a smaller resolution or fewer pictures."
        )


def _decode(folder: Path, rows: Sequence[Row], resolution: int, progress: bool) -> np.ndarray:
    """uint8 [N, R, R, 3]; decoding leaves Python's lock, so threads help."""
    pixels = np.empty((len(rows), resolution, resolution, 3), dtype=np.uint8)

    def one(at: int) -> None:
        picture = read_picture(folder / rows[at].file_name)
        if picture.size != (resolution, resolution):
            picture = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BICUBIC)
        pixels[at] = np.asarray(picture)

    with ThreadPoolExecutor() as pool:
        done = pool.map(one, range(len(rows)))
        for _ in tqdm(done, total=len(rows), desc="reading", unit=" pictures", disable=not progress):
            pass
    return pixels


def _cache_key(folder: Path, rows: Sequence[Row], resolution: int) -> str:
    """A hash over all that the decoded pictures depend on. Times too: an edited picture can keep its size."""
    metadata = next(folder / name for name in METADATA_NAMES if (folder / name).is_file())
    stats = {row.file_name: os.stat(f"{folder}/{row.file_name}") for row in rows}
    facts = [
        _CACHE_SCHEMA,
        resolution,
        hashlib.sha256(metadata.read_bytes()).hexdigest(),
        [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read_cache(file: Path, key: str, shape: tuple[int, int]) -> dict[str, Tensor] | None:
    """The cached tensors, or None when there is no cache or it is of other pictures."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as held:
            if (held.metadata() or {}).get("key") != key:
                return None
            tensors = {name: held.get_tensor(name) for name in ("images", "partners")}
    except (SafetensorError, OSError) as error:
        # Damaged, and made again from the pictures: worth a word, not a stop.
        warnings.warn(f"{file} cannot be read ({error}); it is made again.", stacklevel=3)
        return None
    count, side = shape
    fits = tensors["images"].shape == (count, side, side, 3) and tensors["partners"].shape == (count,)
    return tensors if fits else None


def _write_cache(file: Path, key: str, tensors: dict[str, Tensor]) -> None:
    beside = file.with_name(f"{file.name}.tmp-{os.getpid()}")
    try:
        save_file(tensors, beside, metadata={"key": key})
        os.replace(beside, file)
    except (OSError, SafetensorError) as error:
        # A read-only or full disk costs the next start some seconds and nothing else.
        warnings.warn(
            f"{file} could not be written ({error}); pictures are decoded again next time.", stacklevel=3
        )
    finally:
        beside.unlink(missing_ok=True)
