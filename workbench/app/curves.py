"""Curves of a run as inline SVG, drawn by matplotlib in the project's one style.

Text and axes use `currentColor`, so one picture fits the light and the dark page. The shares of the width
where the x axis begins and ends go along as data, so that the scrubber's line can stand at the right place.
"""

import html
import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.app.runs import Series, series, thin

_INK = "#010203"  # stands for the page's text colour until the SVG is written
_DRAWING = threading.Lock()  # matplotlib's settings are global
_SIZE = (5.0, 2.8)
_PALETTE, _DASHES = ("gan", "real", "#56B4E9", "#CC79A7"), ("-", "--", ":", "-.")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve. colour: a key of `workbench.images.COLOURS` or a hex colour."""

    label: str
    points: Series
    colour: str
    dash: str | tuple = "-"
    width: float = 2.2


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One plot: title, what the y axis counts, its lines, levels drawn across ((value, words) each), and
    marks: images seen at which the monitor said something.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    levels: Sequence[tuple[float, str]] = field(default_factory=tuple)
    log: bool = False
    bounds: tuple[float, float] | None = None
    marks: Sequence[int] = field(default_factory=tuple)


def evidence_charts(records: Sequence[dict[str, Any]]) -> list[Chart]:
    """A chart for each kind of event that names the statistics it was seen in, marked where it was said.

    records: the lines of a history (`records_of`). Statistics that the history lacks are left out.
    """
    told: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record.get("kind") == "event" and record.get("shows"):
            told.setdefault(str(record["event"]), []).append(record)
    charts = []
    for event, found in told.items():
        names = dict.fromkeys(str(name) for record in found for name in record["shows"])
        lines = [
            Line(label=name, points=points, colour=colour, dash=dash, width=1.8)
            for (name, points), colour, dash in zip(
                ((name, series(records, name)) for name in names), _PALETTE, _DASHES, strict=False
            )
            if points
        ]
        title = f"Seen by the monitor: {event.replace('-', ' ')}"
        marks = [record["cur_nimg"] for record in found]
        charts.append(Chart(title=title, unit="value", lines=lines, marks=marks))
    return charts


def chart_html(chart: Chart) -> str:
    """The chart as a figure with its SVG inside; without a point, a sentence instead."""
    lines = [line for line in chart.lines if line.points]
    if not lines:
        return (f'<figure class="wb-chart"><figcaption>{html.escape(chart.title)}</figcaption>'
                '<p class="wb-hint">Not in this history yet.</p></figure>')  # fmt: skip
    svg, left, right, low, high = _draw(chart, lines)
    data = f'data-left="{left:.4f}" data-right="{right:.4f}" data-low="{low:.1f}" data-high="{high:.1f}"'
    said = "; ".join(f"{line.label} ends at {line.points[-1][1]:.3g}" for line in lines)
    said += "".join(f"; marked at {short_count(mark)} images" for mark in chart.marks)
    label = html.escape(f"{chart.title}: {said}")
    return (
        f'<figure class="wb-chart"><figcaption>{html.escape(chart.title)}</figcaption>'
        f'<div class="wb-plot" role="img" aria-label="{label}" {data}>'
        f'{svg}<i class="wb-cursor" hidden></i></div></figure>'
    )


def _draw(chart: Chart, lines: Sequence[Line]) -> tuple[str, float, float, float, float]:
    """SVG text, where the axes begin and end (shares of the width), and the images seen there."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    from workbench.images import COLOURS, use_style

    with _DRAWING, mpl.rc_context():
        use_style()
        mpl.rcParams.update({"svg.fonttype": "none", "font.size": 11, "font.family": "sans-serif"})
        mpl.rcParams.update({f"{name}.color": _INK for name in ("text", "xtick", "ytick")})
        mpl.rcParams.update({"axes.labelcolor": _INK, "axes.edgecolor": _INK})
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        for value, words in chart.levels:
            axes.axhline(value, color=_INK, linewidth=1, linestyle=(0, (2, 3)), alpha=0.7)
            axes.annotate(
                words,
                (1, value),
                (-2, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                fontsize=9.8,
                alpha=0.8,
            )
        for mark in chart.marks:
            axes.axvline(mark, color=COLOURS["gan"], linewidth=1.2, linestyle=(0, (4, 2)), gid="wb-mark")
        for line in lines:
            points = thin(line.points)
            marker = "o" if len(points) == 1 else None
            axes.plot(
                *zip(*points, strict=True),
                color=COLOURS.get(line.colour, line.colour),
                label=line.label,
                linestyle=line.dash,
                linewidth=line.width,
                marker=marker,
            )
        if chart.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if chart.bounds:
            axes.set_ylim(*chart.bounds)
        axes.set_ylabel(chart.unit)
        axes.set_xlabel("images seen")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: short_count(n)))
        if len(lines) > 1:
            axes.legend(fontsize=9.8, ncols=min(len(lines), 5), loc="lower left", bbox_to_anchor=(0, 1.0),
                        borderaxespad=0.1, handlelength=1.8, columnspacing=1.1)  # fmt: skip
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        box = axes.get_position()
        low, high = axes.get_xlim()
    return _page_svg(buffer.getvalue()), box.x0, box.x1, low, high


def _page_svg(text: str) -> str:
    """Only the svg element, in the page's fonts and text colour."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"#(?:010203|333333)\b", "currentColor", text)
    text = re.sub(r"stroke: #dddddd", "stroke: currentColor; stroke-opacity: 0.14", text, flags=re.IGNORECASE)
    text = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def short_count(number: float) -> str:
    """12000 as "12k", 1500000 as "1.5M"; small numbers as they are."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
