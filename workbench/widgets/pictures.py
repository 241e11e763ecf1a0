"""Pictures as notebooks store them: a few kB each, with a sentence for those who cannot see them.

Letters: N pictures of H x W pixels, tensors [N, 3, H, W] in [-1, 1].
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import to_uint8

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

JPEG_QUALITY = 54
TEXT_PX = 12
_LINE = TEXT_PX + 4


class Picture:
    """One picture in a cell's output.

    alt: what it shows, in words. drawing: plots and text (PNG of `colours` colours); without it, photographs
    and renders (JPEG of `quality`). zoom: shown so many times as large as it is stored; a browser enlarges
    for nothing.
    """

    def __init__(
        self,
        image: Image.Image,
        alt: str,
        *,
        drawing: bool = False,
        colours: int = 48,
        quality: int = JPEG_QUALITY,
        zoom: float = 1.0,
    ) -> None:
        if not alt.strip():
            raise WorkbenchError(
                "A picture in a notebook needs a sentence that says what it shows: give alt."
            )
        self.image, self.alt, self.drawing, self.colours = image.convert("RGB"), alt, drawing, colours
        self.quality, self.zoom = quality, zoom

    @property
    def mime(self) -> str:
        return "image/png" if self.drawing else "image/jpeg"

    def data(self) -> bytes:
        """The file's bytes."""
        buffer = io.BytesIO()
        if self.drawing:
            few = self.image.quantize(self.colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            few.save(buffer, format="PNG", optimize=True)
        else:
            self.image.save(buffer, format="JPEG", quality=self.quality, optimize=True, progressive=True)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        encoded = base64.b64encode(self.data()).decode()
        shown = {"width": round(self.image.width * self.zoom), "height": round(self.image.height * self.zoom)}
        return {self.mime: encoded, "text/plain": self.alt}, {self.mime: {**shown, "alt": self.alt}}


class Film:
    """A GIF in a live notebook. It is too large to be stored, so that a static page shows the words alone."""

    def __init__(self, file: str | Path, alt: str) -> None:
        self.file, self.alt = Path(file), alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"image/gif": base64.b64encode(self.file.read_bytes()).decode(), "text/plain": self.alt}


def show_file(widget: ipywidgets.Image, path: Path) -> None:
    """A picture's file as it lies, in an image of a live notebook; its ending names its format."""
    with widget.hold_sync():
        widget.format, widget.value = path.suffix[1:], path.read_bytes()


def plot(figure: Figure, alt: str, *, dpi: int = 72, colours: int = 48) -> Picture:
    """A matplotlib figure as a small picture; the figure is closed, so that it is not shown twice."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
    return Picture(Image.open(buffer), alt, drawing=True, colours=colours)


def sheet(
    images: Tensor | Sequence[Image.Image],
    columns: int,
    alt: str,
    *,
    scale: int = 1,
    zoom: float = 1.0,
    quality: int = JPEG_QUALITY,
    pad: int = 2,
    titles: Sequence[str] | None = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
) -> Picture:
    """A contact sheet with words: a title over each picture, names of rows and of columns.

    scale: whole-number enlargement of the stored pictures, smooth; zoom, quality: see Picture.
    Raises WorkbenchError when there are no pictures, or more or fewer words than places.
    """
    pictures = _as_pictures(images, scale)
    rows = math.ceil(len(pictures) / columns) if columns >= 1 else 0
    for name, words, places in (
        ("titles", titles, len(pictures)),
        ("row_names", row_names, rows),
        ("column_names", column_names, columns),
    ):
        if words is not None and len(words) != places:
            raise WorkbenchError(f"{name} holds {len(words)} texts for {places} places: give one for each.")
    if not pictures or columns < 1:
        raise WorkbenchError(
            f"A sheet of {len(pictures)} pictures in {columns} columns: give at least one of each."
        )
    width, height = pictures[0].size
    head = _LINE * max((text.count("\n") + 1 for text in titles), default=0) if titles else 0
    left = max(_width(text) for text in row_names) + 8 if row_names else 0
    top = _LINE * max(text.count("\n") + 1 for text in column_names) if column_names else 0
    across, down = width + pad, height + head + pad
    out = Image.new("RGB", (left + columns * across - pad, top + rows * down - pad), "white")
    draw = ImageDraw.Draw(out)
    for k, picture in enumerate(pictures):
        x, y = left + (k % columns) * across, top + (k // columns) * down
        if titles:
            draw.multiline_text((x + 1, y + head - 2), titles[k], "black", _font(), anchor="ld", spacing=3)
        out.paste(picture, (x, y + head))
    for r, text in enumerate(row_names or ()):
        draw.text((left - 6, top + r * down + head + height // 2), text, "black", _font(), anchor="rm")
    for c, text in enumerate(column_names or ()):
        middle = left + c * across + width // 2
        draw.multiline_text((middle, top - 3), text, "black", _font(), anchor="md", align="center", spacing=3)
    return Picture(out, alt, quality=quality, zoom=zoom)


def wrap(text: str, width_px: int) -> str:
    """The text in lines of at most `width_px` pixels, for titles."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _width(longer) > width_px and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _as_pictures(images: Tensor | Sequence[Image.Image], scale: int) -> list[Image.Image]:
    if isinstance(images, Tensor):
        images = [Image.fromarray(array) for array in to_uint8(images)]
    pictures = [image.convert("RGB") for image in images]
    if len({picture.size for picture in pictures}) > 1:
        raise WorkbenchError("The pictures of a sheet differ in size: bring them to one size first.")
    return [p.resize((p.width * scale, p.height * scale), Image.Resampling.BICUBIC) for p in pictures]


def _width(text: str) -> int:
    return math.ceil(max(_font().getlength(line) for line in text.split("\n")))


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same on every machine."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", TEXT_PX)
