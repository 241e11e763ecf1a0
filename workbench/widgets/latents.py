"""What notebook 04 shows of the latent space: who acts, mixing tables, words covered, strips, plots.

Letters: N points or pictures, R rows and C columns of a table. Nothing here knows more than `latents` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from workbench.datasets.world import LIGHTS, SCENES
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, Judge
from workbench.images import COLOURS
from workbench.latents import captions
from workbench.latents.captions import NEGATIVE, read, scaled
from workbench.latents.directions import Direction
from workbench.latents.layers import Layer, layers
from workbench.latents.mixing import Which, style_table
from workbench.latents.points import Points, draw, from_z, points
from workbench.models.generator import Generator
from workbench.models.inspect import enlarged
from workbench.models.mapping import Text
from workbench.noise import draw_z
from workbench.pipeline import Pipeline
from workbench.widgets.pictures import Picture, plot, sheet
from workbench.widgets.theory import Page, rows_table

COVERS = ("word", "all after")
SIDE = 38  # of a stored picture; with the gap a multiple of 8, where JPEG is cheapest
QUALITY = 36
_SCENE = dict(
    zip(SCENES, ("in the park", "in the city", "in the snow", "on the beach", "in the studio"), strict=True)
)
_LIGHT = dict(zip(LIGHTS, ("by day", "at sunset", "at night"), strict=True))


# --- reading pictures ---------------------------------------------------------------------------------------


def named(judge: Judge, pictures: Tensor, **wanted: str) -> float:
    """Share of pictures [N, 3, S, S] in which the judge names every wanted value."""
    found = judge.measure(pictures).classes
    hits = [found[factor] == FACTOR_CLASSES[factor].index(value) for factor, value in wanted.items()]
    return torch.stack(hits).all(0).double().mean().item()


def seen(judge: Judge, pictures: Tensor) -> str:
    """What the judge names most often, and in how many: "black sitting in the snow by day (7 of 8)"."""
    found = judge.measure(pictures).classes
    words = [
        {factor: FACTOR_CLASSES[factor][int(ids[k])] for factor, ids in found.items()}
        for k in range(len(pictures))
    ]
    told = Counter(f"{w['coat']} {w['pose']} {_SCENE[w['scene']]} {_LIGHT[w['light']]}" for w in words)
    most, times = told.most_common(1)[0]
    return f"{most} ({times} of {len(pictures)})"


def difference(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of a pixel value between two sets of pictures, on the scale from 0 to 255."""
    return (a - b).abs().mean().item() * 127.5


def stated(figures: Mapping[str, Mapping], start: str) -> str:
    """The figures whose ids begin with `start` (figures.json), a line each."""
    lines = [
        f"{name}: {entry['value']:.3g} {entry['unit']}, {_of_how_many(entry)}goal {entry['goal']}"
        for name, entry in sorted(figures.items())
        if name.startswith(start)
    ]
    return "\n".join(lines) or f"figures.json states nothing yet under {start!r}"


def _of_how_many(entry: Mapping) -> str:
    """Its number of samples, such as "n = 200, "; nothing where a figure has none."""
    return "" if entry["n"] is None else f"n = {entry['n']}, "


# --- points -------------------------------------------------------------------------------------------------


def layer_table(G: Generator) -> Page:
    """Every style input of G, a row for each size."""
    by_size: dict[int, list[Layer]] = {}
    for layer in layers(G):
        by_size.setdefault(layer.size, []).append(layer)
    rows = [
        [f"{size} px", f"{own[0].index} to {own[-1].index}", ", ".join(layer.role for layer in own)]
        for size, own in by_size.items()
    ]
    return rows_table(["size", "places in ws", "what they steer"], rows)


def under(pipeline: Pipeline, text: Text, seeds: Sequence[int]) -> Points:
    """Points of one caption (one row) with several seeds."""
    return from_z(pipeline, draw_z(seeds, pipeline.G.config.z_dim), text.repeat_interleave(len(seeds)))


def spoken(
    pipeline: Pipeline,
    prompt: str,
    seeds: Sequence[int],
    *,
    negative: str = "",
    strength: float = NEGATIVE,
) -> Points:
    """Points of a prompt with marks such as (snow:1.4), away from negative words."""
    return under(pipeline, read(pipeline, prompt, negative=negative, strength=strength), seeds)


def covered(
    pipeline: Pipeline, prompt: str, word: str, seeds: Sequence[int], *, what: str = "word"
) -> Points:
    """Points of a prompt of which cross-attention cannot hear `word` alone, or it and "all after" it.

    w stays that of the whole prompt. Raises WorkbenchError where the prompt has no such word.
    """
    text = read(pipeline, prompt)
    said = captions.spoken(pipeline, prompt)
    own = [w for w in said.words if w.text.lower() == word.lower()]
    if not own or what not in COVERS:
        raise WorkbenchError(
            f"{prompt!r:.60} has no word {word!r}, or {what!r} is not 'word' or 'all after'."
        )
    rows = own[0].rows if what == "word" else range(own[0].rows[0], text.mask.shape[1])
    return under(pipeline, scaled(text, list(rows), 0.0), seeds)


def swapped(pipeline: Pipeline, before: str, after: str, seeds: Sequence[int]) -> dict[str, Points]:
    """The pictures of one prompt on their way to another: with its w alone, its words alone, and both."""
    a, b = points(pipeline, before, seeds), points(pipeline, after, seeds)
    return {"before": a, "w alone": a.with_ws(b.ws), "words alone": Points(a.ws, b.texts), "both": b}


def spread_out(number: int, wanted: int) -> list[int]:
    """`wanted` places out of `number`, first and last among them, evenly; all where there are fewer."""
    wanted = min(wanted, number)
    return [round(k * (number - 1) / max(1, wanted - 1)) for k in range(wanted)]


# --- pictures -----------------------------------------------------------------------------------------------


def small(
    pictures: Tensor, columns: int, alt: str, *, side: int = SIDE, zoom: float = 2.0, **words: Sequence[str]
) -> Picture:
    """A sheet [N, 3, S, S] for a notebook of many: shrunk, and enlarged again by the browser."""
    return sheet(enlarged(pictures, side), columns, alt, quality=QUALITY, zoom=zoom, **words)


def mixing_table(
    pipeline: Pipeline, sources: Points, styles: Points, which: Which, alt: str, *, side: int = 30
) -> Picture:
    """Sources down the left, styles along the top, and each source with the layers `which` of each style."""
    rows, columns = draw(pipeline, sources), draw(pipeline, styles)
    mixed = draw(pipeline, style_table(pipeline.G, sources, styles, which)).split(len(styles))
    blank = torch.ones_like(rows[:1])
    lines = [blank, columns]
    for source, row in zip(rows, mixed, strict=True):
        lines += [source[None], row]
    return small(torch.cat(lines), len(styles) + 1, alt, side=side, zoom=2.4)


def speed_plot(walks: Mapping[str, Tensor], alt: str) -> Picture:
    """Step size of each frame, one panel a walk: {"in equal times": steps [N - 1], …}, the mean dashed."""
    figure, axes = plt.subplots(1, len(walks), figsize=(4.6 * len(walks), 2.2), sharey=True, squeeze=False)
    for ax, (title, steps) in zip(axes[0], walks.items(), strict=True):
        ax.bar(range(1, len(steps) + 1), steps.tolist(), color=COLOURS["gan"])
        ax.axhline(steps.mean().item(), color=COLOURS["real"], linestyle="--")
        ratio = (steps.max() / steps.mean()).item()
        ax.set_title(f"{title}: largest {ratio:.1f} × mean", fontsize=12)
        ax.set_xlabel("frame")
    axes[0, 0].set_ylabel("step")
    return plot(figure, alt, colours=8)


def share_plot(
    levels: Sequence[float], lines: Mapping[str, Sequence[float]], alt: str, *, x: str, y: str = "share"
) -> Picture:
    """Lines over the levels of one knob."""
    figure, ax = plt.subplots(figsize=(5.0, 2.7))
    colours = [COLOURS[name] for name in ("gan", "diffusion", "real", "high")]
    for (name, values), colour, mark in zip(lines.items(), colours, "osd^", strict=False):
        ax.plot(levels, values, f"{mark}-", color=colour, label=name)
    ax.set(xlabel=x, ylabel=y, ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=3)  # not over the curves
    return plot(figure, alt, colours=12)


def strength_strips(
    pipeline: Pipeline,
    rows: Mapping[str, tuple[Direction, Points]],
    strengths: Sequence[float],
    alt: str,
    *,
    side: int = SIDE,
) -> Picture:
    """A strip for each name: its one point moved by its direction to every strength.

    strengths: in units of the direction's suggested strength.
    """
    moved = [
        direction.at(at[[0] * len(strengths)], [s * direction.suggested for s in strengths])
        for direction, at in rows.values()
    ]
    names = [f"{s:+g}" if s else "0" for s in strengths]
    pictures = draw(pipeline, Points.cat(moved))
    return small(pictures, len(strengths), alt, side=side, row_names=list(rows), column_names=names)
