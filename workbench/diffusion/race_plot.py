"""The plot of a race: quality against time, a line of dots for each kind of lane."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.diffusion.lanes import DIFFUSION, GAN, OTHER, STUDENT
from workbench.images import COLOURS, use_style, write_whole

# kind -> (words, how matplotlib draws it): told apart by shape and dash, too
LOOKS = {
    GAN: ("GAN", {"color": COLOURS["gan"], "marker": "*", "linestyle": "none"}),
    DIFFUSION: ("diffusion, by steps", {"color": COLOURS["diffusion"], "marker": "o", "linestyle": "-"}),
    STUDENT: ("its few-step student", {"color": COLOURS["low"], "marker": "s", "linestyle": "--"}),
    OTHER: ("others", {"color": COLOURS["high"], "marker": "D", "linestyle": "none"}),
}
_UNGUIDED = {"linestyle": ":", "markerfacecolor": "white"}


@dataclass(frozen=True)
class Series:
    """Lanes that one line joins, quickest first; look: keywords for matplotlib."""

    kind: str
    words: str
    rows: list[dict[str, Any]]
    look: dict[str, Any]


def series(result: Mapping[str, Any]) -> list[Series]:
    """The lines of a race: one for each kind of lane, and of diffusion one for each guidance."""
    found = []
    for kind, (words, look) in LOOKS.items():
        rows = sorted((row for row in result["lanes"] if row["kind"] == kind), key=lambda row: row["ms"])
        guidances = {(row.get("settings") or {}).get("guidance") for row in rows}
        if kind != DIFFUSION or len(guidances) < 2:
            found += [Series(kind, words, rows, look)] if rows else []
            continue
        for guidance in sorted(guidances, reverse=True):
            own = [row for row in rows if row["settings"]["guidance"] == guidance]
            plain = guidance == 1
            told = "without guidance" if plain else f"guidance {guidance:g}"
            found.append(Series(kind, f"diffusion, {told}", own, look | (_UNGUIDED if plain else {})))
    return found


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
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return write_whole(Path(file), lambda handle: handle.write(buffer.getvalue()))


def distances(axis: Any, result: dict[str, Any]) -> None:
    """Distance from renders over milliseconds a picture, both axes logarithmic."""
    _lanes(axis, result, "ratio", 1)
    axis.axhline(1, color=COLOURS["real"], linestyle=":", linewidth=1.5)
    axis.annotate("renders against renders", (0.01, 1), (0, -4), xycoords=("axes fraction", "data"),
                  textcoords="offset points", ha="left", va="top", fontsize=11,
                  color=COLOURS["real"])  # fmt: skip
    axis.set_yscale("log")
    axis.margins(y=0.1)
    axis.set_ylim(bottom=0.6)  # room for the words below the line
    plain(axis.yaxis)
    axis.set_title("Distance from renders")
    axis.set_ylabel("Fréchet distance ÷ floor (lower is better)")


def faithfulness(axis: Any, result: dict[str, Any]) -> None:
    """Share of pictures with all four factors right, in percent, over milliseconds a picture."""
    _lanes(axis, result, "all", 100)
    axis.set_title("Faithful to the prompt")
    axis.set_ylabel("all four factors right, % (higher is better)")
    axis.set_ylim(-3, 112)  # room for the numbers above the best


def _lanes(axis: Any, result: dict[str, Any], measure: str, times: float) -> None:
    """A line of dots for each of `series`, the numbers of steps, or the names of others, at the dots."""
    for line in series(result):
        axis.plot(
            [row["ms"] for row in line.rows], [times * row[measure] for row in line.rows], label=line.words,
            markersize=18 if line.kind == GAN else 9, **line.look,
        )  # fmt: skip
        for row in line.rows if line.kind != GAN else ():
            name = str(row["name" if line.kind == OTHER else "steps"])
            below = "markerfacecolor" in line.look  # or its numbers would lie on those of its neighbour
            axis.annotate(
                name, (row["ms"], times * row[measure]), (0, -18 if below else 9),
                textcoords="offset points", ha="center", fontsize=11,
            )  # fmt: skip
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
