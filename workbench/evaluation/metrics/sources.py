"""Where measured pictures come from: a folder, a data set or shards, or a model that draws them.

Letters: N pictures of R x R pixels. Any source gives its pictures by number, a batch at a time, so that
memory does not grow with the set and any process can take any batch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from workbench.datasets import decode, picture_cache
from workbench.datasets.pairing import known_factors
from workbench.datasets.rows import METADATA_NAMES, read_folder, read_picture
from workbench.datasets.sources import means_shards, open_table
from workbench.datasets.tree import is_picture_name, walk
from workbench.datasets.writing import check_whole_number
from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.pipeline import Pipeline

_LOOKED_INTO = 256  # files whose bytes are part of a folder's fingerprint
_NAMED = 3  # files named in an error about mixed sizes
_DRAWN_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Batch:
    """pictures: uint8 [N, 3, R, R]; first: number of the first; texts: their captions, "" where there is
    none; known: what their metadata says of the four factors, {} where it says nothing."""

    pictures: Tensor
    first: int
    texts: Sequence[str]
    known: Sequence[dict[str, str]]

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a statement says of a source. name, key: how to quote it, and its fingerprint; cache_key: the
    same with file times, for what is kept on a disk; captions: fingerprint of what is said of the pictures,
    for what is kept of passes that read it; resolution: R; how: what was done to bring them there, or "";
    seed, truncation: of drawn pictures."""

    name: str
    key: str
    cache_key: str
    resolution: int
    captions: str = ""
    how: str = ""
    seed: int | None = None
    truncation: float | None = None


class Source(Protocol):
    """Pictures by number."""

    facts: Facts

    def __len__(self) -> int: ...

    def batch(self, first: int, stop: int) -> Batch:
        """Pictures first … stop - 1."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A source that reads: read(first, stop) -> uint8 [N, 3, R, R]."""

    facts: Facts
    count: int
    read: Callable[[int, int], Tensor] = field(repr=False)
    texts: Sequence[str] = field(default=(), repr=False)
    known: Sequence[dict[str, str]] = field(default=(), repr=False)

    def __len__(self) -> int:
        return self.count

    def batch(self, first: int, stop: int) -> Batch:
        stop = min(stop, self.count)
        return Batch(
            pictures=self.read(first, stop),
            first=first,
            texts=self.texts[first:stop] or [""] * (stop - first),
            known=self.known[first:stop] or [{}] * (stop - first),
        )


def digest(*facts: object) -> str:
    """Twelve hex digits over plain values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def open_pictures(
    place: str | Path, *, resolution: int | None = None, count: int | None = None, progress: bool = False
) -> Pictures:
    """The first `count` pictures of a data set folder, a folder of pictures or shards, all where it is None.

    resolution: bring them to that size (shorter side bicubic and antialiased, centre cut out); without it
    they are taken as they are. Shards need it. Raises WorkbenchError for a place without pictures, fewer than
    `count`, and, without a resolution, pictures of mixed sizes or not square.
    """
    if resolution is not None:
        check_whole_number("resolution", resolution, 1, 4096)
    place = Path(place) if not means_shards(place) else place
    if means_shards(place):
        return _from_shards(place, resolution, count, progress)
    names, texts, known = _named(place)
    if not names:
        raise WorkbenchError(
            f"{place} holds no picture: expected PNG, JPEG or WebP files, a data set folder or shards. Check "
            "the path."
        )
    _enough(place, len(names), count)
    names, texts, known = names[:count], texts[:count], known[:count]
    if resolution is not None and all(_size(place / name) == (resolution, resolution) for name in names):
        resolution = None  # nothing is done to them: the same pictures, whether or not it was asked for
    side = _common_side(place, names) if resolution is None else resolution
    facts = Facts(
        name=place.resolve().name,
        key=_fingerprint(place, names, resolution),
        cache_key=digest([_stat(place / name) for name in names], names, resolution, decode.VERSION),
        resolution=side,
        captions=digest(texts, known),
        how="" if resolution is None else f"centre cut, bicubic to {resolution} px",
    )

    def read(first: int, stop: int) -> Tensor:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda name: _read(place / name, side, resolution), names[first:stop]))
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()

    return Pictures(facts=facts, count=len(names), read=read, texts=texts, known=known)


def _named(folder: Path) -> tuple[list[str], list[str], list[dict[str, str]]]:
    """Names, captions and factors of a folder's pictures; without metadata every picture below it."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise WorkbenchError(f"{folder} {what}: expected a folder of pictures, a data set or shards.")
    if any((folder / name).is_file() for name in METADATA_NAMES):
        rows = read_folder(folder, check_pictures=False)
        texts, known = [row.text for row in rows], [known_factors(row.factors) for row in rows]
        return [row.file_name for row in rows], texts, known
    names = [one.name for one in walk(folder) if is_picture_name(one.name) and not one.trouble]
    return sorted(names), [], []


def _enough(place: object, have: int, count: int | None) -> None:
    if count is not None and count < 1:
        raise WorkbenchError(f"{count} pictures of {place} are asked for: expected 1 or more.")
    if count is not None and have < count:
        raise WorkbenchError(
            f"{place} holds {have} pictures, {count} are asked for: give a smaller --n, or more pictures."
        )


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (UnidentifiedImageError, OSError) as error:
        raise WorkbenchError(f"{path} is no picture that can be read ({error}): take it out.") from error


def _common_side(folder: Path, names: Sequence[str]) -> int:
    """The side of all pictures, from their headers alone."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for name in names:
        sizes.setdefault(_size(folder / name), []).append(name)
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        shown = "; ".join(
            f"{len(found):,} of {width} x {height} px ({found[0]})"
            for (width, height), found in sorted(sizes.items(), key=lambda one: -len(one[1]))[:_NAMED]
        )
        raise WorkbenchError(
            f"{folder} holds pictures of {'mixed sizes' if len(sizes) > 1 else 'a size that is not square'}: "
            f"{shown}. Expected squares of one size. Give --resolution to bring all to one, the same for "
            "both sides of a comparison."
        )
    return next(iter(sizes))[0]


def _read(path: Path, side: int, resolution: int | None) -> np.ndarray:
    picture = read_picture(path)
    if resolution is not None:
        return picture_cache.fit(picture, resolution)
    if picture.size != (side, side):
        raise WorkbenchError(
            f"{path} has {picture.width} x {picture.height} px, the others {side} x {side}: expected one "
            "size. Give --resolution, or take it out."
        )
    return np.asarray(picture)


def _stat(path: Path) -> tuple[int, int]:
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


def _fingerprint(folder: Path, names: Sequence[str], resolution: int | None) -> str:
    """Of what the pictures are, wherever they lie: names, sizes, and the bytes of some files in full."""
    every = max(1, len(names) // _LOOKED_INTO)
    looked = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names[::every]]
    return digest([(name, _stat(folder / name)[0]) for name in names], looked, resolution, decode.STATED)


def _from_shards(place: str | Path, resolution: int | None, count: int | None, progress: bool) -> Pictures:
    if resolution is None:
        raise WorkbenchError(f"{place} is shards, whose pictures may be of any size: give --resolution.")
    table = open_table(place, resolution, progress=progress)
    _enough(place, len(table), count)
    n = len(table) if count is None else count
    every = max(1, n // _LOOKED_INTO)
    sample = hashlib.sha256(table.images[:n:every].contiguous().numpy().tobytes()).hexdigest()
    key = digest(table.texts[:n], sample, resolution, decode.VERSION)
    facts = Facts(
        name=Path(str(place)).name, key=key, cache_key=key, resolution=resolution,
        captions=digest(table.texts[:n], table.known[:n]), how=f"centre cut, bicubic to {resolution} px",
    )  # fmt: skip
    return Pictures(
        facts=facts, count=n, texts=table.texts[:n], known=table.known[:n],
        read=lambda first, stop: table.images[first:stop].contiguous(),
    )  # fmt: skip


def drawn_pictures(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    seed: int,
    first_seed: int,
    truncation: float = 1.0,
    known: Sequence[dict[str, str]] = (),
) -> Pictures:
    """What a model draws: picture k of prompts[k] with the noise of first_seed + k; seed is what is stated.

    Reading raises WorkbenchError where the model gives values that are not finite.
    """
    side, prompts = pipeline.G.config.resolution, list(prompts)
    if not prompts:
        raise WorkbenchError("There are no prompts to draw: give at least one.")

    def read(first: int, stop: int) -> Tensor:
        seeds = list(range(first_seed + first, first_seed + stop))
        settings = {"truncation": truncation, "batch_size": _DRAWN_AT_ONCE}
        images = pipeline(prompts[first:stop], seed=seeds, **settings).images
        if not torch.isfinite(images).all():
            raise WorkbenchError(
                f"{pipeline.name} drew values that are not finite in pictures {first} to {stop - 1}: "
                "expected [-1, 1]. Go back to an earlier checkpoint; nothing was reported."
            )
        return torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2).contiguous()

    dtype = str(pipeline.G.compute_dtype).removeprefix("torch.")
    key = digest(pipeline.weight_hash, pipeline.config_hash, prompts, first_seed, truncation, dtype)
    facts = Facts(
        name=pipeline.name, key=pipeline.weight_hash[:12], cache_key=key, resolution=side, seed=seed,
        captions=digest(prompts, list(known)), truncation=truncation,
    )  # fmt: skip
    return Pictures(facts=facts, count=len(prompts), read=read, texts=prompts, known=known)
