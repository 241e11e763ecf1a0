"""The pictures of a check's report: histograms as inline SVG, and one contact sheet."""

from __future__ import annotations

import base64
import io
import math
import re
import threading
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from workbench.datasets.tree import shown
from workbench.images import COLOURS, use_style

_INK = "#010203"  # stands for the page's text colour until the SVG is written
_BINS = 32
_DRAWING = threading.Lock()  # matplotlib's settings are global


def histogram(values: Sequence[float], *, words: str, log: bool = False, whole: bool = False) -> str:
    """An SVG of how often each value occurs.

    log: values are positive and spaced by factors; whole: they are whole numbers, each in the middle of its
    bin.
    """
    x = np.asarray(values, dtype=float)
    edges = _whole_edges(x) if whole else _edges(x, log)
    low, high = float(edges[0]), float(edges[-1])
    counts, _ = np.histogram(x, bins=edges)

    def draw(axes) -> None:
        axes.stairs(counts, edges, fill=True, color=COLOURS["diffusion"])
        if log:
            axes.set_xscale("log")
            _plain_log_ticks(axes, low, high)
        _whole_ticks(axes.yaxis)
        if whole:
            _whole_ticks(axes.xaxis)
        axes.set_xlabel(words)
        axes.set_ylabel("pictures")

    return svg(draw)


def _edges(x: np.ndarray, log: bool) -> np.ndarray:
    low, high = float(x.min()), float(x.max())
    if high - low < 1e-9:
        low, high = (low / 1.25, high * 1.25) if log else (low - 0.5, high + 0.5)
    return np.geomspace(low, high, _BINS + 1) if log else np.linspace(low, high, _BINS + 1)


def _whole_edges(x: np.ndarray) -> np.ndarray:
    """Halves between whole numbers, with as many of them in a bin as _BINS bins need."""
    low, high = int(x.min()), int(x.max())
    step = math.ceil((high - low + 1) / _BINS)
    return np.arange(low, high + step + 1, step) - 0.5


def _whole_ticks(axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def bars(counts: dict[str, int], *, words: str) -> str:
    """An SVG of one bar a value, and a line where each would end were they equally frequent."""
    names, values = list(counts), list(counts.values())

    def draw(axes) -> None:
        axes.barh(range(len(names)), values, color=COLOURS["diffusion"], height=0.7)
        axes.set_yticks(range(len(names)), [shown(name)[:24].replace("$", r"\$") for name in names])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        _whole_ticks(axes.xaxis)
        axes.axvline(sum(values) / len(values), color=COLOURS["gan"], linewidth=2, linestyle="--")
        axes.set_xlabel(words)

    return svg(draw, height=1.1 + 0.3 * len(names))


def contact_sheet(pictures: Sequence[Image.Image], *, side: int = 96, columns: int = 10) -> Image.Image:
    """The pictures on one white sheet, whole, each in a square of `side` px."""
    gap = 4
    rows = math.ceil(len(pictures) / columns)
    size = columns * (side + gap) - gap, rows * (side + gap) - gap
    sheet = Image.new("RGB", size, "white")
    for at, picture in enumerate(pictures):
        small = _within(picture, side)
        left = at % columns * (side + gap) + (side - small.width) // 2
        top = at // columns * (side + gap) + (side - small.height) // 2
        sheet.paste(small, (left, top))
    return sheet


def picture_element(picture: Image.Image, words: str, *, side: int = 160, title: str = "") -> str:
    """An img element that holds the picture as WebP, at most `side` px a side; the browser enlarges a
    small one without smoothing, so that a page stays light. words, title: HTML.
    """
    small = 2 * max(picture.size) <= side
    coded = io.BytesIO()
    (picture if small else _within(picture, side)).save(coded, format="WEBP", quality=90, method=6)
    data = base64.b64encode(coded.getvalue()).decode()
    shown = " class='small'" * small + f' title="{title}"' * bool(title)
    return f'<img src="data:image/webp;base64,{data}" alt="{words}"{shown}>'


def _within(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture in a square of `side` px; a small one is enlarged by whole pixels."""
    factor = side // max(picture.size)
    if factor > 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _plain_log_ticks(axes, low: float, high: float) -> None:
    """Few ticks in plain numbers: matplotlib writes powers, or nothing where the range is short."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    ticks = [low * (high / low) ** (k / 4) for k in range(5)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 100 else f"{value:.2g}")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())


def svg(draw, *, height: float = 2.7) -> str:
    """An svg element in the page's text colour, drawn by `draw(axes)` in the project's style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with _DRAWING, mpl.rc_context(), warnings.catch_warnings():
        # The browser draws the letters; that matplotlib's own font lacks some is no matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        use_style()
        mpl.rcParams.update({"svg.fonttype": "none", "font.size": 11, "font.family": "sans-serif"})
        mpl.rcParams.update({f"{name}.color": _INK for name in ("text", "xtick", "ytick")})
        mpl.rcParams.update({"axes.labelcolor": _INK, "axes.edgecolor": _INK})
        figure = Figure(figsize=(5.2, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(f"{_INK}", "currentColor", text, flags=re.IGNORECASE)
    text = re.sub(r"stroke: #dddddd", "stroke: currentColor; stroke-opacity: 0.14", text, flags=re.IGNORECASE)
    text = re.sub(r"(font(?:-family)?: [^;\"]*?)'?DejaVu Sans'?[^;\"]*", r"\1inherit", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
