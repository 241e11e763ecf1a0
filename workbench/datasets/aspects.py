"""Pictures of any aspect as one table: each keeps its own, the shorter side brought to one length.

Legend: N pictures, S pixels of the shorter side, P pixels of all pictures together, H x W of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from workbench.datasets import pairing
from workbench.datasets.table import PictureTable

MOST = 4.0  # longer side over the shorter; of what is longer the middle is kept


@dataclass(frozen=True, eq=False, kw_only=True)
class AspectTable:
    """All pictures of a data set as a `PictureTable` holds them, but each at its own aspect.

    pixels: uint8 [P, 3], picture after picture, row by row, those of a folder in a file that is mapped into
    memory; starts [N], sizes [N, 2]: where a picture begins, its (height, width); side: S; files: N names, by
    which two rows of one file are known. The rest is as there.
    """

    pixels: Tensor
    starts: Tensor
    sizes: Tensor
    side: int
    texts: list[str]
    groups: Tensor
    partners: Tensor
    known: list[dict[str, str]]
    files: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def raw(self) -> Tensor:
        """All pixels as they lie in memory."""
        return self.pixels

    def picture(self, row: int) -> Tensor:
        """uint8 [3, H, W], a view."""
        start, (height, width) = int(self.starts[row]), self.sizes[row].tolist()
        return self.pixels[start : start + height * width].view(height, width, 3).permute(2, 0, 1)

    def squares(self, rows: Tensor) -> Tensor:
        """uint8 [n, S, S, 3]: the middle of pictures `rows` [n], for what has to be square."""
        cut = []
        for row in rows.tolist():
            picture = self.picture(row).permute(1, 2, 0)
            top, left = ((length - self.side) // 2 for length in picture.shape[:2])
            cut.append(picture[top : top + self.side, left : left + self.side])
        return torch.stack(cut)

    def select(self, rows: Tensor) -> AspectTable:
        """The table of some rows [n], in that order, over the same pixels; who is paired with whom is
        decided anew among them.
        """
        chosen = rows.tolist()
        texts, known, files = ([of[row] for row in chosen] for of in (self.texts, self.known, self.files))
        groups = pairing.group_ids(texts, known)
        return AspectTable(
            pixels=self.pixels, starts=self.starts[rows], sizes=self.sizes[rows], side=self.side,
            texts=texts, groups=groups, known=known, files=files,
            partners=pairing.lonely_partners(texts, known, groups, files),
        )  # fmt: skip


class OwnAspects:
    """The form in which a set is decoded for an `AspectTable`; as `table.Squares`."""

    suffix, key = "-aspects", ("aspects", MOST)

    def __init__(self) -> None:
        self._sizes: list[Sequence[int]] = []

    def begin(self) -> None:
        """Decoding begins, perhaps anew."""
        self._sizes = []

    @staticmethod
    def shape(picture: Image.Image, side: int) -> np.ndarray:
        """uint8 [H, W, 3] of an RGB picture: shorter side brought to S, antialiased; the longer one by as
        much, rounded to a pixel.
        """
        aspect = picture.width / picture.height
        width, height = (round(side * min(MOST, max(1.0, of))) for of in (aspect, 1 / aspect))
        if picture.size != (width, height):
            picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
        return np.asarray(picture)

    def join(self, pictures: list[np.ndarray]) -> np.ndarray:
        """uint8 [p, 3] of several."""
        self._sizes += [picture.shape[:2] for picture in pictures]
        return np.concatenate([picture.reshape(-1, 3) for picture in pictures])

    def rest(self) -> dict[str, Tensor]:
        """What is kept beside the pixels."""
        return {"sizes": torch.tensor(self._sizes, dtype=torch.long)}

    def table(self, held, side, *, texts, groups, known, files, of_world) -> AspectTable | PictureTable:
        """The table of what was kept; of a set of squares alone the PictureTable that `open_table` gives."""
        pixels, sizes, partners = held["images"], held["sizes"], held["partners"]
        if bool((sizes == side).all()):
            images = pixels.view(len(sizes), side, side, 3).permute(0, 3, 1, 2)
            return PictureTable(images, texts, groups, partners, known, of_world)
        each = sizes.prod(dim=1)
        return AspectTable(
            pixels=pixels, starts=each.cumsum(0) - each, sizes=sizes, side=side, texts=texts, groups=groups,
            partners=partners, known=known, files=files,
        )  # fmt: skip
