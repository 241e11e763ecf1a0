"""What notebook 05 shows of measuring a model: verdicts, clouds of features, distances and what moves them.

Letters: N, M pictures of S x S pixels, F features. Pictures are uint8 [N, 3, S, S].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from workbench.datasets.world import draw_factors, render
from workbench.datasets.world.captions import FACTOR_NAMES
from workbench.evaluation.distances import frechet, mean_and_covariance
from workbench.evaluation.features import FACTOR_CLASSES, Judge
from workbench.evaluation.metrics.record import Measurement
from workbench.evaluation.metrics.sources import Facts, Pictures, digest
from workbench.evaluation.metrics.subjects import drawn_for, prompts_for
from workbench.evaluation.report.pictures import Neighbours, confusions
from workbench.evaluation.report.plots import Draw
from workbench.images import COLOURS, from_uint8, to_uint8
from workbench.pipeline import Pipeline
from workbench.widgets.pictures import Picture, plot, sheet
from workbench.widgets.theory import Page, rows_table

HELD_OUT_SEED, OTHER_SEED, TRAINING_SEED = 5_002_978, 5_102_978, 0  # the shipped model saw the last one


# --- pictures to measure ------------------------------------------------------------------------------------


def rendered(
    count: int, side: int = 64, *, seed: int = HELD_OUT_SEED, name: str = "held-out renders", **shows: str
) -> Pictures:
    """Renders of the world as a source, drawn now; with TRAINING_SEED those that the shipped model saw.

    shows: factors that all of them have, such as coat="black"."""
    factors = [draw_factors(seed, k, **shows) for k in range(count)]
    parts = [to_uint8(render(factors[at : at + 25], side)) for at in range(0, count, 25)]
    pixels = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
    key = digest("renders", seed, count, side, shows)
    return Pictures(
        facts=Facts(name=name, key=key, cache_key=key, resolution=side), count=count,
        read=lambda first, stop: pixels[first:stop],
        known=[{factor: getattr(one, factor) for factor in FACTOR_NAMES} for one in factors],
    )  # fmt: skip


def drawn(pipeline: Pipeline, count: int, *, seed: int = 0, truncation: float = 1.0) -> Pictures:
    """What a model draws of `count` prompts of the world, drawn once and kept."""
    prompts, known = prompts_for(None, count, seed)
    source = drawn_for(pipeline, prompts, known, seed=seed, truncation=truncation)
    pixels = torch.cat([source.batch(at, at + 48).pictures for at in range(0, count, 48)])
    return Pictures(
        facts=source.facts,
        count=count,
        read=lambda first, stop: pixels[first:stop],
        texts=prompts,
        known=known,
    )


def all_of(source: Pictures) -> Tensor:
    """Every picture of a small source."""
    return source.batch(0, len(source)).pictures


def as_floats(pictures: Tensor) -> Tensor:
    """uint8 [N, 3, S, S] -> float [N, 3, S, S] in [-1, 1]."""
    return from_uint8(pictures.permute(0, 2, 3, 1).numpy())


def as_bytes(images: Tensor) -> Tensor:
    """[N, 3, S, S] in [-1, 1] -> uint8 [N, 3, S, S]."""
    return torch.from_numpy(to_uint8(images)).permute(0, 3, 1, 2).contiguous()


def picture_sheet(pictures: Tensor, columns: int, alt: str, **words: object) -> Picture:
    """uint8 pictures on one sheet."""
    return sheet(as_floats(pictures), columns, alt, **{"quality": 44, "zoom": 1.3, **words})


# --- faithfulness -------------------------------------------------------------------------------------------


def named_by(judge: Judge, pictures: Tensor) -> Tensor:
    """Class ids [N, 4] that the judge names."""
    seen = judge.measure(as_floats(pictures))
    return torch.stack([seen.classes[factor] for factor in FACTOR_CLASSES], dim=1)


def faithfulness_table(rows: Mapping[str, tuple[Tensor, Tensor]]) -> Page:
    """name -> (truth, named), [N, 4] each: the share right of each factor, and of all four."""
    lines = []
    for name, (truth, named) in rows.items():
        right = (truth == named).double()
        shares = [*right.mean(0).tolist(), right.prod(1).mean().item()]
        lines.append([name, *(f"{share:.1%}" for share in shares), str(len(truth))])
    return rows_table(["", *FACTOR_CLASSES, "all four", "pictures"], lines)


def confusion_plot(truth: Tensor, named: Tensor, factor: str, alt: str) -> Picture:
    """Of one factor: what the prompts say down, what the judge names across, in shares of each row."""
    counts, names = confusions(truth, named)[factor], FACTOR_CLASSES[factor]
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    figure, ax = plt.subplots(figsize=(4.6, 3.4))
    ax.imshow(shares, cmap="Greens", vmin=0, vmax=1.3)
    for k in range(len(names)):
        for j in range(len(names)):
            if counts[k, j]:
                ax.text(j, k, f"{shares[k, j]:.0%}", ha="center", va="center", fontsize=11)
    ax.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=11)
    ax.set_yticks(range(len(names)), names, fontsize=11)
    ax.set(xlabel="the judge names", ylabel="the prompt says")
    ax.grid(False)
    return plot(figure, alt)


def wrong_sheet(source: Pictures, truth: Tensor, named: Tensor, count: int, alt: str) -> Picture | Page:
    """Pictures with something wrong, under what the judge names instead; a sentence where there are none."""
    bad = (truth != named).any(1).nonzero().flatten()[:count].tolist()
    if not bad:
        return Page("The judge finds nothing wrong in any of them.")
    titles = []
    for k in bad:
        wrong = [f"{names[named[k, f]]}, not\n{names[truth[k, f]]}" for f, names in
                 enumerate(FACTOR_CLASSES.values()) if named[k, f] != truth[k, f]]  # fmt: skip
        titles.append(wrong[0])
    pictures = torch.cat([source.batch(k, k + 1).pictures for k in bad])
    return picture_sheet(pictures, len(bad), alt, titles=titles, pad=14, scale=2, zoom=0.8)


# --- distances ----------------------------------------------------------------------------------------------


def gaussians_plot(shift: float, width: float, alt: str = "Two bell curves and their distance") -> Picture:
    """Two normal densities, the second moved by `shift` and `width` times as wide: their Fréchet distance is
    shift² + (width - 1)²."""
    x = np.linspace(-4, 8, 400)
    figure, ax = plt.subplots(figsize=(6.4, 2.6))
    for mean, std, colour, name in ((0, 1, COLOURS["real"], "real"), (shift, width, COLOURS["gan"], "model")):
        y = np.exp(-(((x - mean) / std) ** 2) / 2) / std
        ax.plot(x, y, color=colour, linestyle="-" if name == "real" else "--", label=name)
    ax.set_title(f"{shift:.1f}² + ({width:.1f} - 1)² = {shift**2 + (width - 1) ** 2:.2f}", fontsize=14)
    ax.set(yticks=[], xlim=(-4, 8))
    ax.legend(loc="upper right")
    return plot(figure, alt)


def cloud_plot(real: Tensor, own: Mapping[str, Tensor], alt: str) -> Picture:
    """Features real [M, F] and those of each name [N, F] along the two directions in which the real ones vary
    most, with the ellipse of each set's mean and covariance (two deviations)."""
    mean, covariance = mean_and_covariance(real)
    _, vectors = torch.linalg.eigh(covariance)
    axes_of = vectors[:, -2:].flip(1)
    figure, panels = plt.subplots(1, len(own), figsize=(4.4 * len(own), 3.6), sharex=True, sharey=True)
    for ax, (name, features) in zip(np.atleast_1d(panels), own.items(), strict=True):
        for x, colour, label in ((real, COLOURS["real"], "real"), (features, COLOURS["gan"], name)):
            flat = (x.double() - mean) @ axes_of
            ax.plot(*flat[:300].T, ".", color=colour, ms=3, alpha=0.5)
            _ellipse(ax, flat, colour, "-" if label == "real" else "--")
        ax.set_title(name, fontsize=13)
        ax.set(xticks=[], yticks=[])
    return plot(figure, alt, colours=32)


def _ellipse(ax, flat: Tensor, colour: str, dash: str) -> None:
    mean, covariance = mean_and_covariance(flat)
    values, vectors = torch.linalg.eigh(covariance)
    turn = torch.linspace(0, 2 * torch.pi, 100, dtype=torch.float64)
    circle = torch.stack([turn.cos(), turn.sin()], dim=1) * 2 * values.clamp_min(0).sqrt()
    ax.plot(*(mean + circle @ vectors.T).T, color=colour, linestyle=dash)


def measures_table(found: Sequence[Measurement]) -> Page:
    """Measurements with n, reference and features: never bare."""
    rows = []
    for one in found:
        s = one.statement
        spread = "" if one.spread is None else f" ± {one.spread:.2g}"
        against = "" if s.n_reference is None else f"{s.n_reference:,} of {s.reference}"
        rows.append([one.name, f"{one.value:.4g}{spread}", f"{s.n:,}", against, f"{s.resizer}"])
    return rows_table(["measure", "value", "n", "against", "resizer"], rows)


def distance_of(own: Tensor, reference: Tensor) -> float:
    """Fréchet distance of two sets of features."""
    return frechet(*mean_and_covariance(own), *mean_and_covariance(reference))


# --- what moves a number ------------------------------------------------------------------------------------


def bars_plot(found: Mapping[str, float], alt: str, *, floor: float | None = None, words: str) -> Picture:
    """A bar for each name, from 0; a dashed line at the floor."""
    figure, ax = plt.subplots(figsize=(6.4, 0.9 + 0.38 * len(found)))
    ax.barh(range(len(found)), list(found.values()), color=COLOURS["gan"], height=0.65)
    for k, value in enumerate(found.values()):
        ax.text(value, k, f" {value:.3g}", va="center", fontsize=11)
    if floor is not None:
        ax.axvline(floor, color=COLOURS["real"], linestyle="--", linewidth=2)
    ax.set_yticks(range(len(found)), list(found), fontsize=12)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlim(0, 1.15 * max([*found.values(), floor or 0]))
    ax.set_xlabel(words, fontsize=12)
    return plot(figure, alt)


def count_plot(
    counts: Sequence[int], frechet_found: np.ndarray, kernel: np.ndarray, end: float, alt: str
) -> Picture:
    """Left: Fréchet distances [Q, R] by n, with where they end; right: kernel distances of the same rows."""
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 3.2))
    named = ((panels[0], frechet_found, "Fréchet distance"), (panels[1], kernel, "kernel distance"))
    for ax, found, title in named:
        mean, spread = found.mean(1), found.std(1)
        ax.fill_between(counts, mean - spread, mean + spread, color=COLOURS["gan"], alpha=0.25, linewidth=0)
        ax.plot(counts, mean, "o-", color=COLOURS["gan"])
        ax.set_xscale("log")
        ax.set_xticks(counts, [str(n) for n in counts])
        ax.minorticks_off()
        ax.set_title(title, fontsize=13)
        ax.set_xlabel("n", fontsize=12)
    panels[0].axhline(end, color=COLOURS["real"], linestyle="--", linewidth=2)
    panels[1].axhline(0, color=COLOURS["real"], linestyle="--", linewidth=2)
    return plot(figure, alt)


def lines_plot(
    x: Sequence[str], lines: Mapping[str, Sequence[float]], alt: str, *, words: str, title: str = ""
) -> Picture:
    """A line for each name over named places, from 0."""
    figure, ax = plt.subplots(figsize=(6.4, 3.0))
    for name, values in lines.items():
        ax.plot(range(len(x)), values, marker="o", label=name)
    ax.set_xticks(range(len(x)), x)
    ax.set_ylim(0, None)
    ax.set_xlabel(words, fontsize=12)
    ax.set_title(title, fontsize=14)
    if len(lines) > 1:
        ax.legend()
    return plot(figure, alt)


# --- memory and speed ---------------------------------------------------------------------------------------


def pairs_sheet(own: Tensor, others: Tensor, near: Neighbours, numbers: Sequence[int], alt: str) -> Picture:
    """Above pictures of `own`, below the nearest of `others`, mirrored where that was nearer."""
    partners = []
    for k in numbers:
        partner = others[near.number[k]]
        partners.append(partner.flip(-1) if near.mirrored[k] else partner)
    both = torch.cat([own[list(numbers)], torch.stack(partners)])
    distances = [f"{near.distance[k]:.3f}" for k in numbers]
    return picture_sheet(
        both, len(numbers), alt, row_names=["drawn", "nearest"], column_names=distances, pad=4
    )


def shown(draw: Draw, alt: str, *, size: tuple[float, float] = (6.4, 3.2)) -> Picture:
    """A plot of the report in a notebook."""
    figure, ax = plt.subplots(figsize=size)
    draw(ax)
    return plot(figure, alt)


def speed_table(found: Mapping[str, object]) -> Page:
    """What `time_model` found."""
    joules = "not measurable here" if found["joules"] is None else f"{found['joules']:.3g} J"
    rows = [
        ["one picture at a time", f"{found['latency_ms']:.1f} ms"],
        [f"{found['best_batch']} at once", f"{found['images_per_s']:.1f} pictures a second"],
        ["energy of a picture", f"{joules} ({found['energy']})"],
    ]
    return rows_table(["", f"{found['device']}, threads: {found['threads']}"], rows)
