"""The plot of the ablation: the paper's chain beside ours, one line of dots for each row."""

from __future__ import annotations

import io
from pathlib import Path

from workbench.images import COLOURS, use_style, write_whole


def draw(table: list[dict], file: str | Path) -> Path:
    """Write the plot of `workbench.training.ablation.measured` as a PNG; returns its path."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        use_style()
        mpl.rcParams.update({"axes.titlesize": 13, "axes.titleweight": "bold", "font.size": 12})
        figure = Figure(figsize=(14, 1.5 + 0.46 * len(table)))
        axes = figure.subplots(1, 3, sharey=True)
        places = range(len(table))
        theirs, ours = COLOURS["real"], COLOURS["gan"]
        _dots(axes[0], places, [row["paper"]["fid"] for row in table], theirs, "{:.1f}")
        axes[0].set_title("The paper: FID-10k\n64 px, web images")
        _dots(axes[1], places, [row["frechet_ratio"] for row in table], ours, "{:.1f}")
        axes[1].set_title("Here: Fréchet distance ÷ floor\n32 px, Shepherd World")
        _dots(axes[2], places, [100 * row["all"] for row in table], ours, "{:.0f}")
        axes[2].set_title("Here: all four factors right\n% of pictures")
        axes[2].set_xlim(0, 104)
        axes[0].set_yticks(list(places), [row["change"] for row in table])
        axes[0].invert_yaxis()
        for axis, words in zip(axes, ("lower is better", "lower is better", "higher is better"), strict=True):
            axis.set_xlabel(words)
            axis.set_xlim(left=0)
            axis.margins(x=0.12)
            axis.tick_params(axis="y", length=0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return write_whole(Path(file), lambda handle: handle.write(buffer.getvalue()))


def _dots(axis, places, values: list[float], colour: str, form: str) -> None:
    """Dots joined by a line, each with its value beside it."""
    axis.plot(values, list(places), "-o", color=colour)
    for place, value in zip(places, values, strict=True):
        axis.annotate(
            form.format(value), (value, place), (9, 0), textcoords="offset points", va="center", fontsize=11
        )
