"""Pictures of the two generators on the ring: their way through training, and how each makes a point."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from workbench.images import COLOURS
from workbench.training.ring import Ring, Trained
from workbench.widgets.pictures import Picture, plot

LIMIT = 1.55
SHOWN = 64  # points in one square: more would hide the ring, and cost space


def _prepare(ax: Axes, ring: Ring, title: str = "") -> None:
    """A framed square around the ring, its Gaussians as circles of two deviations."""
    for centre in ring.centres().tolist():
        ax.add_patch(plt.Circle(centre, 2 * ring.deviation, color=COLOURS["real"], alpha=0.2, linewidth=0))
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color="#BBBBBB")
    ax.set_title(title, fontsize=12, fontweight="normal", loc="center")


def _dots(ax: Axes, points: Tensor, who: str) -> None:
    """What lies beyond the frame is drawn on it, so that no point is lost to the eye."""
    edge = LIMIT - 0.05
    points = points[:SHOWN].clamp(-edge, edge)
    # squares without soft edges: a tenth of the bytes of round dots
    ax.scatter(*points.T, s=9, marker="s", color=COLOURS[who], linewidths=0, antialiased=False)


def films(ring: Ring, gan: Trained, diffusion: Trained, alt: str) -> Picture:
    """The same draws of both at every filmed step: GAN above, diffusion below."""
    figure, axes = plt.subplots(2, len(gan.film), figsize=(2.0 * len(gan.film) + 0.6, 4.7), squeeze=False)
    for row, (who, trained) in zip(axes, (("gan", gan), ("diffusion", diffusion)), strict=True):
        for ax, (step, points) in zip(row, trained.film.items(), strict=True):
            _prepare(ax, ring, f"after {step:,}")
            _dots(ax, points, who)
        row[0].set_ylabel("GAN" if who == "gan" else "diffusion", fontsize=14)
    return plot(figure, alt, dpi=54, colours=12)


def one_film(ring: Ring, trained: Trained, alt: str) -> Picture:
    """One row: a GAN's draws at every filmed step."""
    figure, axes = plt.subplots(1, len(trained.film), figsize=(2.0 * len(trained.film), 2.4), squeeze=False)
    for ax, (step, points) in zip(axes[0], trained.film.items(), strict=True):
        _prepare(ax, ring, f"after {step:,}")
        _dots(ax, points, "gan")
    return plot(figure, alt, dpi=54, colours=12)


def ways(ring: Ring, z: Tensor, made: Tensor, path: Sequence[Tensor], alt: str) -> Picture:
    """How points come about: above the GAN's one jump from z to G(z), below four moments of the walk."""
    figure, axes = plt.subplots(2, 4, figsize=(8.6, 4.7))
    for ax, points, title in ((axes[0, 0], z, "noise z"), (axes[0, 3], made, "G(z)")):
        _prepare(ax, ring, title)
        _dots(ax, points, "gan")
    for ax in axes[0, 1:3]:
        ax.axis("off")
    arrow = {"arrowstyle": "-|>", "color": COLOURS["gan"], "linewidth": 2.5}
    ends = {"xycoords": "axes fraction", "textcoords": "axes fraction"}
    arrow_drawn = axes[0, 1].annotate("", (2.0, 0.5), (0.05, 0.5), arrowprops=arrow, **ends)
    words = axes[0, 1].text(
        1.02, 0.58, "one call of G", ha="center", transform=axes[0, 1].transAxes, fontsize=13
    )
    for artist in (arrow_drawn, words):
        artist.set_in_layout(False)  # they reach over two squares, which would push the lower row apart
    for ax, share in zip(axes[1], (0, 0.7, 0.9, 1), strict=True):
        step = round(share * (len(path) - 1))
        _prepare(ax, ring, "noise" if step == 0 else f"after {step} calls")
        _dots(ax, path[step], "diffusion")
    for row, name in zip(axes, ("GAN", "diffusion"), strict=True):
        row[0].set_ylabel(name, fontsize=14)
    return plot(figure, alt, dpi=54, colours=12)


def landscape(ring: Ring, gan: Trained, alt: str, *, cells: int = 90) -> Picture:
    """D's verdict at every place of the plane, with what G makes on top."""
    axis = torch.linspace(-LIMIT, LIMIT, cells)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    with torch.no_grad():
        logits = gan.judge(torch.stack([x, y], -1).flatten(0, 1)).view(cells, cells)
    figure, ax = plt.subplots(figsize=(4.6, 3.7))
    centred = logits - logits.median()
    bound = centred.abs().quantile(0.95).item()
    shades = ax.contourf(x, y, centred.clamp(-bound, bound), levels=8, cmap="PuOr_r")
    _prepare(ax, ring, "what D says of every place")
    ax.scatter(*gan.film[max(gan.film)][:SHOWN].T, s=8, color="black", linewidths=0)
    bar = figure.colorbar(shades, ax=ax, ticks=[], shrink=0.8)
    bar.ax.text(0.5, 1.03, "real", transform=bar.ax.transAxes, ha="center", fontsize=12)
    bar.ax.text(0.5, -0.03, "made", transform=bar.ax.transAxes, ha="center", va="top", fontsize=12)
    return plot(figure, alt, dpi=54, colours=12)


def quality(ring: Ring, shares: Mapping[int, float], gan: float, alt: str) -> Picture:
    """Share of points on the ring's modes against network calls a point, the GAN's one call beside it."""
    figure, ax = plt.subplots(figsize=(7.4, 3.1))
    ax.plot(list(shares), list(shares.values()), "s--", color=COLOURS["diffusion"], label="diffusion")
    ax.plot([1], [gan], "o", color=COLOURS["gan"], markersize=12, label="GAN")
    ax.set(
        xlabel="calls of the network for one point",
        ylabel="share on a mode",
        ylim=(-0.03, 1.03),
        xscale="log",
    )
    ax.set_xticks(list(shares), [str(n) for n in shares])
    ax.minorticks_off()
    figure.legend(loc="outside right center")
    return plot(figure, alt, colours=16)


def microseconds(make: Callable[[int], object], n: int = 2_000, tries: int = 3) -> float:
    """Processor time for one of n points, the best of a few tries: nothing else that runs shall count."""
    best = float("inf")
    for _ in range(tries):
        started = time.process_time()
        make(n)
        best = min(best, time.process_time() - started)
    return 1e6 * best / n
