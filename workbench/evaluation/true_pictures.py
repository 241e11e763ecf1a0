"""True pictures of a data set folder, decoded a batch at a time: what upsampled pictures are held against.

Letters: N pictures of S x S pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from workbench.datasets import decode
from workbench.datasets.pairing import known_factors
from workbench.datasets.rows import Row, find_metadata, read_folder, read_picture
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES
from workbench.images import from_uint8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """images [N, 3, S, S] in [-1, 1]; first: number of the first one; texts: captions; truth: factor ->
    class ids [N], {} where a picture's factors are not known."""

    images: Tensor
    first: int
    texts: list[str]
    truth: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.texts)

    def after(self, done: int) -> Batch:
        """What is left of it once pictures 0 … done - 1 are dealt with."""
        rest = slice(max(0, done - self.first), None)
        return Batch(
            images=self.images[rest], first=max(done, self.first), texts=self.texts[rest],
            truth={name: ids[rest] for name, ids in self.truth.items()},
        )  # fmt: skip


class TruePictures:
    """The pictures of one folder, square and all of one size.

    key: twelve hex digits over the metadata and the sizes and times of all files, of what is measured on;
    recipe: what the set's dataset.json says it was made from, {} where it says nothing.
    """

    def __init__(self, folder: Path, rows: list[Row], side: int, key: str) -> None:
        self.folder, self.rows, self.side, self.key = folder, rows, side, key
        self.recipe = _recipe(folder)

    @classmethod
    def open(cls, folder: str | Path, *, count: int, factor: int, tile: int) -> TruePictures:
        """The first `count` pictures of a data set folder.

        Raises WorkbenchError as `read_folder` does, for fewer pictures, and for a first picture that is not
        square or not a multiple of `factor` and of `tile` pixels.
        """
        folder = Path(folder)
        rows = read_folder(folder, check_pictures=False)
        if len(rows) < count:
            raise WorkbenchError(
                f"{folder} holds {len(rows)} pictures, {count} are asked for: give a smaller --n, or draw "
                "more."
            )
        width, height = read_picture(folder / rows[0].file_name).size
        if width != height or width % factor or width % tile:
            raise WorkbenchError(
                f"{folder / rows[0].file_name} has {width} x {height} px: expected a square whose side is a "
                f"multiple of {factor}, the factor, and of {tile}. Draw the set at such a resolution."
            )
        return cls(folder, rows[:count], width, _key(folder, rows, width))

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, first: int, stop: int) -> Batch:
        """Pictures first … stop - 1. Raises WorkbenchError that names a file of another size."""
        rows = self.rows[first:stop]
        pictures = [np.asarray(read_picture(self.folder / row.file_name)) for row in rows]
        for row, picture in zip(rows, pictures, strict=True):
            if picture.shape[:2] != (self.side, self.side):
                height, width = picture.shape[:2]
                raise WorkbenchError(
                    f"{self.folder / row.file_name} has {width} x {height} px, the pictures before it "
                    f"{self.side} x {self.side}: expected one size. Take its line out of the metadata."
                )
        known = [known_factors(row.factors) for row in rows]
        whole = all(k and all(k[name] in names for name, names in FACTOR_CLASSES.items()) for k in known)
        truth = {
            name: torch.tensor([names.index(k[name]) for k in known])
            for name, names in FACTOR_CLASSES.items()
            if whole
        }
        images = from_uint8(np.stack(pictures))
        return Batch(images=images, first=first, texts=[row.text for row in rows], truth=truth)


def _key(folder: Path, rows: list[Row], side: int) -> str:
    stats = [os.stat(folder / row.file_name) for row in rows]
    metadata = hashlib.sha256(find_metadata(folder).read_bytes()).hexdigest()
    facts = [decode.VERSION, side, metadata, [(stat.st_size, stat.st_mtime_ns) for stat in stats]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _recipe(folder: Path) -> dict:
    try:
        said = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: said[name] for name in ("kind", "world_version", "seed") if name in said}
