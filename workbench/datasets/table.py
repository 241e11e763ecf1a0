"""All pictures and captions of a data set as one table, whose pictures need not fit into memory.

Legend: N pictures of a table, R pixels a side.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from workbench.datasets import decode, pairing, picture_cache, world
from workbench.datasets.rows import METADATA_NAMES, Row, read_folder, read_picture
from workbench.datasets.world import captions
from workbench.datasets.writing import check_whole_number
from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.noise import check_seed

_CACHE_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class PictureTable:
    """All pictures of a data set, decoded; those of a folder lie in a file that is mapped into memory.

    images: uint8 [N, 3, R, R], channels last in memory; texts: N captions; groups: [N] long (see `pairing`);
    partners: [N] long, whom a picture alone in its group is paired with, else -1; known: the four factors
    or {}; of_world: whether every picture is a render of Shepherd World, by its metadata.
    """

    images: Tensor
    texts: list[str]
    groups: Tensor
    partners: Tensor
    known: list[dict[str, str]]
    of_world: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def side(self) -> int:
        """R."""
        return self.images.shape[-1]

    @property
    def raw(self) -> Tensor:
        """All pixels as they lie in memory."""
        return self.images.permute(0, 2, 3, 1).contiguous()

    @classmethod
    def from_folder(
        cls, path: str | Path, resolution: int, *, cache: bool | Path = True, progress: bool = False
    ) -> PictureTable:
        """The pictures of a data set folder, shorter side brought to `resolution` (antialiased), centre cut
        out.

        cache: keep the decoded pictures as `cache-<resolution>.safetensors` in the folder (or in the folder
        that is given) and read them from there the next time, as long as metadata, file sizes and file times
        are the same. Raises WorkbenchError as `read_folder` does, and when the pictures fit neither on the
        disk nor into memory.
        """
        return read_table(path, resolution, Squares(), cache=cache, progress=progress)

    @classmethod
    def from_world(
        cls, seed: int, count: int, resolution: int, *, batch: int = 16, progress: bool = False
    ) -> PictureTable:
        """Pictures 0 … count-1 of Shepherd World `seed`, drawn now: equal to `write_world` and
        `from_folder`."""
        check_seed(seed)
        check_size(count, resolution)
        picture_cache.check_memory(count, resolution)
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
        return cls(torch.from_numpy(pixels).permute(0, 3, 1, 2), texts, groups, partners, known, True)


class Form(Protocol):
    """In which form the pictures of a set are decoded and kept: as `Squares`, or `aspects.OwnAspects`.

    suffix: of the cache's name; key: what its key holds beside the usual.
    """

    suffix: str
    key: tuple

    def begin(self) -> None:
        """Decoding begins, perhaps anew."""

    def shape(self, picture: Image.Image, resolution: int) -> np.ndarray:
        """uint8 [H, W, 3] of an RGB picture."""

    def join(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Several of these as one array."""

    def rest(self) -> dict[str, Tensor]:
        """What is kept beside the pixels."""

    def table(
        self, held: dict[str, Tensor], resolution: int, *, texts: list[str], groups: Tensor,
        known: list[dict[str, str]], files: list[str], of_world: bool,
    ) -> Any:  # fmt: skip
        """The table of what was kept."""


class Squares:
    """Squares of R pixels, for a PictureTable."""

    suffix, key = "", ()
    shape, join = staticmethod(picture_cache.fit), staticmethod(np.stack)

    def begin(self) -> None:
        pass

    def rest(self) -> dict[str, Tensor]:
        return {}

    def table(self, held, resolution, *, texts, groups, known, files, of_world) -> PictureTable:
        images = held["images"].permute(0, 3, 1, 2)
        return PictureTable(images, texts, groups, held["partners"], known, of_world)


def read_table(
    path: str | Path, resolution: int, form: Form, *, cache: bool | Path = True, progress: bool = False
) -> Any:
    """`PictureTable.from_folder` for any form, giving the form's table."""
    folder = Path(path)
    rows = read_folder(folder, check_pictures=False)
    check_size(len(rows), resolution)
    texts, known = [row.text for row in rows], [pairing.known_factors(row.factors) for row in rows]
    groups = pairing.group_ids(texts, known)
    files = [row.file_name for row in rows]

    def chunks() -> Iterator[np.ndarray]:
        form.begin()
        shown = tqdm(files, desc="reading", unit=" pictures", disable=not progress)
        read = (lambda name: read_picture(folder / name), resolution, form.shape, form.join)
        return (pixels for _, pixels in picture_cache.decode(shown, *read))

    def rest() -> dict[str, Tensor]:
        return {"partners": pairing.lonely_partners(texts, known, groups, files), **form.rest()}

    place = cache_place(resolution, folder if cache is True else cache, form.suffix)
    key = _cache_key(folder, rows, resolution, form.key) if place else ""
    held = picture_cache.load_or_make(place, key, resolution, chunks, rest, count=len(rows))
    about = {"texts": texts, "groups": groups, "known": known, "files": files}
    return form.table(held, resolution, **about, of_world=all(world.is_render(row.factors) for row in rows))


def check_size(count: int, resolution: int) -> None:
    """WorkbenchError for a number of pictures or a resolution that makes no sense."""
    check_whole_number("count", count, 1, 100_000_000)
    check_whole_number("resolution", resolution, 1, 4096)


def cache_place(resolution: int, folder: Path | str | Literal[False], suffix: str = "") -> Path | None:
    """The file of decoded pictures in `folder`, which is made; None for False.

    Raises WorkbenchError when the folder cannot be made.
    """
    if folder is False:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Choose another one."
        ) from error
    return picture_cache.cache_file(Path(folder), resolution, suffix)


def _cache_key(folder: Path, rows: Sequence[Row], resolution: int, form: Sequence = ()) -> str:
    """A hash over all that the decoded pictures depend on. Times too: an edited picture can keep its size."""
    metadata = next(folder / name for name in METADATA_NAMES if (folder / name).is_file())
    stats = {row.file_name: os.stat(f"{folder}/{row.file_name}") for row in rows}
    facts = [
        _CACHE_SCHEMA,
        decode.VERSION,
        resolution,
        hashlib.sha256(metadata.read_bytes()).hexdigest(),
        [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()],
        *form,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
