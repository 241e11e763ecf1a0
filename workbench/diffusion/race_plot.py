"""The plot of a race: quality against time, a line of dots for each kind of lane."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from workbench.diffusion.lanes import DIFFUSION, GAN, OTHER, STUDENT
from workbench.images import COLOURS, use_style, write_whole

# kind -> (words, colour, marker, line): told apart by shape and dash, too
LOOKS = {
    GAN: ("GAN", COLOURS["gan"], "*", ""),
    DIFFUSION: ("diffusion, by steps", COLOURS["diffusion"], "o", "-"),
    STUDENT: ("its few-step student", COLOURS["diffusion"], "s", "--"),
    OTHER: ("others", COLOURS["high"], "D", ""),
}


def draw(result: dict[str, Any], file: str | Path) -> Path:
    """Write the plot of a race's result as a PNG; returns its path."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        use_style()
        figure = Figure(figsize=(13, 5.6))
        left, right = figure.subplots(1, 2)
        distances(left, result)
        faithfulness(right, result)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(LOOKS))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return write_whole(Path(file), lambda handle: handle.write(buffer.getvalue()))


def distances(axis: Any, result: dict[str, Any]) -> None:
    """Distance from renders over milliseconds a picture, both axes logarithmic."""
    _lanes(axis, result, "ratio", 1)
    axis.axhline(1, color=COLOURS["real"], linestyle=":", linewidth=1.5)
    axis.annotate("renders against renders", (0.99, 1), (0, 4), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="right", fontsize=11, color=COLOURS["real"])  # fmt: skip
    axis.set_yscale("log")
    plain(axis.yaxis)
    axis.set_title("Distance from renders")
    axis.set_ylabel("Fréchet distance ÷ floor (lower is better)")


def faithfulness(axis: Any, result: dict[str, Any]) -> None:
    """Share of pictures with all four factors right, in percent, over milliseconds a picture."""
    _lanes(axis, result, "all", 100)
    axis.set_title("Faithful to the prompt")
    axis.set_ylabel("all four factors right, % (higher is better)")
    axis.set_ylim(-3, 103)


def _lanes(axis: Any, result: dict[str, Any], measure: str, times: float) -> None:
    """A line of dots for each kind of lane, the numbers of steps, or the names of others, at the dots."""
    for kind, (words, colour, marker, line) in LOOKS.items():
        rows = sorted((row for row in result["lanes"] if row["kind"] == kind), key=lambda row: row["ms"])
        if not rows:
            continue
        axis.plot(
            [row["ms"] for row in rows], [times * row[measure] for row in rows], label=words, color=colour,
            marker=marker, linestyle=line or "none", markersize=18 if kind == GAN else 9,
        )  # fmt: skip
        for row in rows if kind != GAN else ():
            name, place = str(row["name" if kind == OTHER else "steps"]), (row["ms"], times * row[measure])
            axis.annotate(name, place, (0, 9), textcoords="offset points", ha="center", fontsize=11)
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds a picture")
    axis.margins(x=0.12)
    plain(axis.xaxis)


def plain(axis: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 of each power of ten, written as people write numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, place: f"{value:,g}")
