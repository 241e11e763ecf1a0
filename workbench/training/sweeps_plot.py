"""The plot of a sweep: parallel coordinates, a line for each trial from what was drawn to what came of it."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.images import use_style, write_whole
from workbench.training.sweeps import Sweep, shown

_TITLES = {"frechet_ratio": "Fréchet ÷ floor", "all": "all four factors"}
_GREY, _INK = "#C4C4C4", "#222222"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One upright axis. values: of the trials; ticks: (height from 0 to 1, words)."""

    title: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def draw(sweep: Sweep, rows: Sequence[dict], file: str | Path) -> Path:
    """Write the plot of `sweeps_report.table` as a PNG; returns its path.

    Colour tells the objective of the trials that came to the budget; those that were given up are grey.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in rows if "rung" in row]
    scales = [_setting(sweep, name, [row["settings"][name] for row in rows]) for name in sweep.space]
    scales.append(_objective(sweep, [row[sweep.objective] for row in rows]))
    with mpl.rc_context():
        use_style()
        figure = Figure(figsize=(max(8.0, 2.6 * len(scales) + 1.4), 6.0))
        axis = figure.subplots()
        for place in range(len(rows) - 1, -1, -1):  # the best one on top
            _line(axis, scales, place, rows[place], mpl.colormaps["viridis_r"], best=place == 0)
        for x, scale in enumerate(scales):
            _upright(axis, x, scale)
        axis.set(xlim=(-0.35, len(scales) - 0.45), ylim=(-0.04, 1.04))
        axis.set_xticks(range(len(scales)), [scale.title for scale in scales], fontweight="bold")
        axis.tick_params(axis="x", length=0, pad=14, top=True, labeltop=True, bottom=False, labelbottom=False)
        axis.set_yticks([])
        axis.grid(False)
        axis.spines[:].set_visible(False)
        done = sum(row["end"] == "done" for row in rows)
        better = "lower" if sweep.best_is_low else "higher"
        axis.set_xlabel(
            f"{sweep.preset}, {sweep.images:,} images: {done} trials to the end (coloured, the best one "
            f"thick), {len(rows) - done} others (grey). {_TITLES[sweep.objective]}: {better} is better and "
            "stands above.",
            fontsize=12,
            labelpad=10,
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return write_whole(Path(file), lambda handle: handle.write(buffer.getvalue()))


def _line(axis: Any, scales: list[Scale], place: int, row: dict, colours: Any, *, best: bool) -> None:
    """One trial: a smooth line, level where it crosses an axis, so that the eye keeps to it."""
    heights = [scale.heights[place] for scale in scales]
    share = np.linspace(0.0, 1.0, 40)
    ease = share**2 * (3 - 2 * share)
    xs = np.concatenate([x + share for x in range(len(scales) - 1)])
    ys = np.concatenate([a + (b - a) * ease for a, b in itertools.pairwise(heights)])
    done = row["end"] == "done"
    colour = colours(0.05 + 0.9 * heights[-1]) if done else _GREY
    width, dot = (5.0 if best else 2.5, 7) if done else (1.4, 4)
    axis.plot(xs, ys, "-", color=colour, linewidth=width, zorder=2 + done)
    axis.plot(range(len(scales)), heights, "o", color=colour, markersize=dot, zorder=3 + done)
    if best:
        axis.annotate(
            f"trial {row['name']}", (len(scales) - 1, heights[-1]), (12, 0), textcoords="offset points",
            va="center", fontsize=12, color=_INK, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _upright(axis: Any, x: int, scale: Scale) -> None:
    axis.axvline(x, color=_INK, linewidth=1.2, zorder=1)
    for height, words in scale.ticks:
        axis.plot([x - 0.015, x], [height, height], "-", color=_INK, linewidth=1.2, zorder=1)
        axis.annotate(
            words, (x, height), (-7, 0), textcoords="offset points", ha="right", va="center", fontsize=11,
            color=_INK, zorder=6, bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
        )  # fmt: skip


# --- where a value stands ---


def _setting(sweep: Sweep, name: str, values: list) -> Scale:
    """The axis of a setting: its range, or its choices at equal distances."""
    draw = sweep.space[name]
    if draw.kind in ("choice", "grid"):
        last = max(1, len(draw.values) - 1)
        places = {repr(value): at / last for at, value in enumerate(draw.values)}
        ticks = [(places[repr(value)], shown(value)) for value in draw.values]
        return Scale(title=name, heights=[places[repr(value)] for value in values], ticks=ticks)
    return _measured(name, values, *draw.values, log=draw.kind == "loguniform")


def _objective(sweep: Sweep, values: list[float]) -> Scale:
    """The last axis: the best value on top; a distance, which spans powers of ten, by its logarithm."""
    low, high = min(values), max(values)
    if low == high:
        return Scale(title=_TITLES[sweep.objective], heights=[1.0] * len(values), ticks=[(1.0, f"{low:.3g}")])
    log = sweep.best_is_low and low > 0 and high / low > 5
    scale = _measured(_TITLES[sweep.objective], values, low, high, log=log)
    if not sweep.best_is_low:
        return scale
    return Scale(
        title=scale.title,
        heights=[1 - height for height in scale.heights],
        ticks=[(1 - height, words) for height, words in scale.ticks],
    )


def _measured(title: str, values: list[float], low: float, high: float, *, log: bool) -> Scale:
    """An axis of numbers from low to high, with both ends and three values between as ticks."""

    def height(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    marks = [low * (high / low) ** (k / 4) if log else low + (high - low) * k / 4 for k in range(5)]
    ticks = [(k / 4, f"{mark:.3g}") for k, mark in enumerate(marks)]
    return Scale(title=title, heights=[height(value) for value in values], ticks=ticks)
