"""The report's plots. Each function draws into axes; `as_svg` and `as_png` make a picture of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from workbench.datasets.check.plots import svg
from workbench.images import COLOURS, use_style

Draw = Callable[[object], None]


def distances(found: Mapping[str, float]) -> Draw:
    """Bars of distances over their floors: name -> ratio; a dashed line where a second true set lies."""

    def draw(axes) -> None:
        names, values = list(found), list(found.values())
        axes.barh(range(len(names)), values, color=COLOURS["gan"], height=0.6)
        for k, value in enumerate(values):
            axes.text(value, k, f" {value:.2f}", va="center", fontsize=10)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.axvline(1, color=COLOURS["real"], linewidth=2, linestyle="--")
        axes.set_xlim(0, 1.2 * max(*values, 1.0))
        axes.set_xlabel("distance ÷ floor")

    return draw


def faithfulness(
    model: Mapping[str, float], judge: Mapping[str, float], asked: Mapping[str, float] | None = None
) -> Draw:
    """Shares of each factor: dots of what the judge says of the model, lines of how often the judge itself is
    right on true renders, rings of a CLIP's answers. No bars, which would have to begin at 0."""

    def draw(axes) -> None:
        names = list(model)
        axes.plot(range(len(names)), list(model.values()), "o", color=COLOURS["gan"], ms=10, label="model")
        for k, name in enumerate(names):
            if name in judge:
                label = "judge on renders" if k == 0 else None
                axes.hlines(judge[name], k - 0.4, k + 0.4, color=COLOURS["real"], linewidth=2.5, label=label)
            if asked and name in asked:
                label = "by questions" if k == 0 else None
                axes.plot(
                    k, asked[name], "o", ms=15, mfc="none", mew=2, color=COLOURS["diffusion"], label=label
                )
        lowest = min([*model.values(), *judge.values(), *(asked or {}).values()])
        axes.set_ylim(lowest - 0.6 * (1.02 - lowest) if lowest > 0.6 else 0, 1 + 0.1 * (1.02 - lowest))
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_xticks(range(len(names)), names)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("prompts come true")
        axes.legend(loc="lower left", ncols=3, fontsize=10, handlelength=1.5)

    return draw


def nearest(own: Sequence[float], fresh: Sequence[float] | None, threshold: float | None) -> Draw:
    """Histograms of the distance to the nearest picture of the data, of the model and of fresh renders."""

    def draw(axes) -> None:
        sets = [("model", np.asarray(own), COLOURS["gan"], "-")]
        if fresh is not None:
            sets.append(("fresh renders", np.asarray(fresh), COLOURS["real"], "--"))
        high = max(values.max() for _, values, _, _ in sets)
        edges = np.linspace(0, high, 41)
        for name, values, colour, dash in sets:
            counts, _ = np.histogram(values, bins=edges)
            axes.stairs(counts / len(values), edges, color=colour, linestyle=dash, linewidth=2.5, label=name)
        if threshold is not None:
            axes.axvline(threshold, color=COLOURS["high"], linewidth=2, linestyle=":", label="too near")
        axes.set_xlabel("difference to the nearest picture of the data")
        axes.set_ylabel("share")
        axes.set_ylim(0, None)
        axes.legend(fontsize=10)

    return draw


def speed(by_batch: Sequence[Mapping[str, float]]) -> Draw:
    """Pictures a second at each batch size, with the spread between the 10th and the 90th percentile."""

    def draw(axes) -> None:
        sizes = [one["batch"] for one in by_batch]
        low, high = ([one[name] for one in by_batch] for name in ("low", "high"))
        axes.fill_between(sizes, low, high, color=COLOURS["gan"], alpha=0.2, linewidth=0)
        axes.plot(sizes, [one["images_per_s"] for one in by_batch], "o-", color=COLOURS["gan"])
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(0, None)
        axes.set_xlabel("pictures at once")
        axes.set_ylabel("pictures a second")

    return draw


def as_svg(draw: Draw, *, height: float = 2.7) -> str:
    """An svg element for a page, in the page's text colour."""
    return svg(draw, height=height)


def as_png(draw: Draw, *, size: tuple[float, float] = (8.0, 4.5), title: str = "") -> bytes:
    """The same as a file, in the style of this project."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        use_style()
        figure = Figure(figsize=size)
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(title)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
