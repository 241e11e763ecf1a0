"""Plots and tables of notebook 07: time against steps, quality against time, losses, costs.

All are drawn from results of a race (`diffusion/race.py`), histories and counts; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from workbench.diffusion import race_plot, verdict
from workbench.diffusion.cost import Cost
from workbench.evaluation.metrics.record import share_error
from workbench.images import COLOURS
from workbench.models.glossary import PUBLISHED
from workbench.widgets.pictures import Picture, plot
from workbench.widgets.racing import WORDS, Racers
from workbench.widgets.theory import Page, rows_table

Row = dict[str, Any]
LOSSES = {
    "gan": {"D.loss": "D's loss", "G.loss": "G's loss", "G.adversarial": "the game's part of G's"},
    "diffusion": {"loss": "loss", "loss.little": "under little noise", "loss.much": "under much noise"},
    "student": {"loss": "loss"},
}
_DASHES = ("-", "--", ":")
_LINES = {True: ("low", "gan", "high"), False: ("diffusion", "diffusion", "diffusion")}
_POINTS = 40  # of a loss curve as it is drawn
_MIB = 1024**2


# --- speed and quality --------------------------------------------------------------------------------------


def times_plot(result: Mapping[str, Any], alt: str) -> Picture:
    """Milliseconds of a picture by the number of steps, quartiles as bars; the GAN's one pass as a line."""
    figure, ax = plt.subplots(figsize=(6.4, 3.2))
    for line in race_plot.series(result):
        if line.kind in ("diffusion", "student"):
            rows = sorted(line.rows, key=lambda row: row["steps"])
            spread = [[r["ms"] - r["ms_low"] for r in rows], [r["ms_high"] - r["ms"] for r in rows]]
            steps, ms = [r["steps"] for r in rows], [r["ms"] for r in rows]
            ax.errorbar(steps, ms, spread, capsize=4, label=line.words, **line.look)
    for row in _of(result, "gan"):
        ax.axhline(row["ms"], color=COLOURS["gan"], label="GAN, one pass")
    ax.set(xlabel="steps", ylabel="milliseconds a picture", xscale="log", yscale="log")
    race_plot.plain(ax.yaxis)
    counts = sorted({row["steps"] for row in result["lanes"]})
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.legend(fontsize=11)
    return plot(figure, alt, colours=24)


def times_table(result: Mapping[str, Any]) -> Page:
    """Each lane's median time, and how many times the GAN's that is."""
    gan = verdict.lane(result, "gan")
    rows = [
        [row["name"], str(row["calls"]), f"{row['ms']:.0f}", f"{row['ms_low']:.0f} – {row['ms_high']:.0f}",
         f"{row['ms'] / gan['ms']:.1f}"]
        for row in result["lanes"]
    ]  # fmt: skip
    return rows_table(["lane", "passes", "ms a picture", "half of them within", "GAN = 1"], rows)


def quality_plot(result: dict[str, Any], alt: str) -> Picture:
    """Distance from renders and faithfulness over time, as `workbench compare` draws them."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6))
    race_plot.distances(left, result)
    race_plot.faithfulness(right, result)
    for axis in (left, right):
        axis.title.set_fontsize(13)
        axis.xaxis.label.set_fontsize(12)
        axis.yaxis.label.set_fontsize(11)
        axis.tick_params(axis="x", labelsize=9)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=11)
    return plot(figure, alt, colours=64)


def race_table(result: dict[str, Any]) -> Page:
    """All that was measured of each lane, and of how many pictures."""
    text = verdict.table(result)
    return Page(
        f"{text}\n\nn = {result['n']:,} pictures of each lane", f"{len(result['lanes'])} lanes of a race"
    )


def shares_table(result: Mapping[str, Any], part: str, names: Mapping[str, str], n: str) -> Page:
    """What one part of a race says of each lane that has it: names key -> heading; n: the key of its count.

    part: "edit", whose shares are told in percent with two standard errors, or "walk".
    """
    count, rows = result[n], []
    for row in result["lanes"]:
        found = row.get(part)
        if found:
            rows.append(
                [row["name"], *(_told(found[key], count, part == "edit") for key in names), str(count)]
            )
    return rows_table(["lane", *names.values(), n], rows)


def _told(value: float, n: int, share: bool) -> str:
    return f"{value:.0%} ± {2 * share_error(value, n):.0%}" if share else f"{value:.2f}"


def variety_table(result: Mapping[str, Any]) -> Page:
    """Spread between pictures of one prompt over that between renders of it."""
    rows = [[row["name"], f"{row['diversity']:.2f}", f"{row['all']:.1%}"] for row in result["lanes"]]
    return rows_table(["lane", "variety (renders = 1)", "all four factors right"], rows)


def steps_plot(walks: Mapping[str, Tensor], alt: str) -> Picture:
    """How far each frame of a walk is from the last, over its own walk's mean: name -> [F - 1]."""
    figure, ax = plt.subplots(figsize=(6.4, 2.8))
    colours = (COLOURS["gan"], COLOURS["diffusion"], COLOURS["low"])
    for (name, steps), colour, mark in zip(walks.items(), colours, ("*-", "o-", "s--"), strict=False):
        places = range(1, len(steps) + 1)
        ax.plot(places, (steps / steps.mean()).tolist(), mark, color=colour, label=name)
    ax.axhline(1, color=COLOURS["real"], linestyle=":", linewidth=1.5)
    ax.set(xlabel="frame", ylabel="step ÷ mean step", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=11)
    return plot(figure, alt, colours=24)


# --- training -----------------------------------------------------------------------------------------------


def losses_plot(histories: Mapping[str, Sequence[dict]], alt: str) -> Picture:
    """Losses of each training side by side, and the GAN's distance from renders where that was measured."""
    measured = _evals(histories.get("gan", ()))
    count = len(histories) + bool(measured)
    figure, axes = plt.subplots(1, count, figsize=(2.9 * count, 3.0), squeeze=False)
    for ax, (kind, lines) in zip(axes[0], histories.items(), strict=False):
        for (key, words), dash, colour in zip(
            LOSSES[kind].items(), _DASHES, _LINES[kind == "gan"], strict=False
        ):
            x, y = thinned(*curve(lines, key))
            ax.plot([n / 1000 for n in x], y, dash, linewidth=1.8, label=words, color=COLOURS[colour])
        ax.set_title(WORDS[kind], fontsize=13)
        ax.set_yscale("log")
        race_plot.plain(ax.yaxis)
        ax.set_ylim(top=3 * ax.get_ylim()[1])  # room for the legend
        ax.legend(fontsize=9)
    if measured:
        ax = axes[0, -1]
        ax.plot([line["cur_nimg"] / 1000 for line in measured], [line["ratio"] for line in measured], "*-",
                color=COLOURS["gan"])  # fmt: skip
        ax.axhline(1, color=COLOURS["real"], linestyle=":")
        ax.set_yscale("log")
        race_plot.plain(ax.yaxis)
        ax.set_title("GAN: distance ÷ floor", fontsize=13)
    for ax in axes[0]:
        ax.set_xlabel("thousands of pictures", fontsize=11)
    return plot(figure, alt, colours=24)


def losses_table(histories: Mapping[str, Sequence[dict]]) -> Page:
    """Of each loss: its mean over the second and the last tenth of the training, and how its order follows
    the pictures seen, and the distance from renders where that was measured (rank correlation: 1 is the same
    order, -1 the reverse, near 0 none).
    """
    rows = []
    for kind, lines in histories.items():
        measured = _evals(lines)
        for key, words in LOSSES[kind].items():
            x, y = curve(lines, key)
            if len(y) < 3:
                continue
            tenth = max(1, len(y) // 10)
            early, late = (sum(part) / len(part) for part in (y[tenth : 2 * tenth] or y, y[-tenth:]))
            near = [
                min(range(len(x)), key=lambda i, at=line["cur_nimg"]: abs(x[i] - at)) for line in measured
            ]
            with_distance = rank_correlation([y[i] for i in near], [line["ratio"] for line in measured])
            rows.append(
                [f"{WORDS[kind]}: {words}", f"{early:.3g}", f"{late:.3g}", _rank(rank_correlation(x, y)),
                 _rank(with_distance)]
            )  # fmt: skip
    return rows_table(["", "early", "late", "order with pictures seen", "order with distance"], rows)


def curve(lines: Sequence[dict], key: str) -> tuple[list[int], list[float]]:
    """Pictures seen and values of one number of a history, where it was logged."""
    rows = [line for line in lines if line["kind"] == "step" and line.get(key) is not None]
    return [row["cur_nimg"] for row in rows], [row[key] for row in rows]


def thinned(x: Sequence[int], y: Sequence[float], points: int = _POINTS) -> tuple[list[float], list[float]]:
    """A curve of at most so many points, each the mean of neighbours: without the noise of single steps."""
    size = -(-len(x) // points) if x else 1
    return tuple(
        [sum(row[at : at + size]) / len(row[at : at + size]) for at in range(0, len(row), size)]
        for row in (x, y)
    )


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's: the correlation of the orders of two rows of different numbers; None below three."""
    if len(a) < 3:
        return None
    ranks = [torch.tensor(row, dtype=torch.float64).argsort().argsort().double() for row in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def _rank(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.2f}"


def _evals(lines: Sequence[dict]) -> list[dict]:
    return [line for line in lines if line["kind"] == "eval" and "ratio" in line]


def training_table(racers: Racers, histories: Mapping[str, Sequence[dict]]) -> Page:
    """Parameters that draw, pictures seen, minutes of steps; of the student its teacher's beside them."""
    networks = {"gan": racers.gan.G}
    networks |= {
        kind: getattr(racers, kind).unet for kind in ("diffusion", "student") if kind in racers.places
    }
    rows = []
    for kind, network in networks.items():
        card = getattr(racers, kind).card
        # A card counts its own run alone; the history goes through all laps.
        logged = [line for line in histories.get(kind, ()) if line["kind"] == "step"]
        own = max([line["seconds"] for line in logged] + [card.get("seconds", 0)])
        seen = max([line["cur_nimg"] for line in logged] + [card.get("images", 0)])
        minutes = "not recorded" if not own else f"{own / 60:.0f}"
        if card.get("teacher_seconds"):
            minutes += f", after its teacher's {card['teacher_seconds'] / 60:.0f}"
        count = sum(p.numel() for p in network.parameters())
        rows.append([WORDS[kind], f"{count / 1e6:.2f} M", f"{seen:,}", minutes])
    return rows_table(["", "parameters that draw", "pictures seen", "minutes of training"], rows)


def rates_table(rates: Mapping[str, Any] | None) -> Page:
    """What `racing.training_rates` read: how fast either training is by itself, taken in turns."""
    if rates is None:
        return Page("Not measured yet: `python benchmarks/training_rates.py` takes both trainings in turns.")
    rows = []
    for kind in ("gan", "diffusion"):
        for stage in rates[kind]["stages"]:
            several = f", {stage['name']}" if len(rates[kind]["stages"]) > 1 else ""
            speed, minutes = f"{stage['images_per_s']:.1f}", f"{stage['minutes']:.0f}"
            rows.append([WORDS[kind] + several, f"{stage['images']:,}", speed, minutes])
        if len(rates[kind]["stages"]) > 1:
            whole, minutes = rates[kind]["images"], rates[kind]["minutes"]
            row = [WORDS[kind], f"{whole:,}", f"{whole / minutes / 60:.1f}", f"{minutes:.0f}"]
            rows.append([f"**{cell}**" for cell in row])
    return rows_table(["", "pictures", "pictures a second while it trains", "minutes"], rows)


# --- what it costs ------------------------------------------------------------------------------------------


def cost_table(costs: Mapping[str, Cost]) -> Page:
    """What `racing.costs` counted."""
    least = min(cost.operations for cost in costs.values())
    rows = [
        [name, f"{cost.parameters / 1e6:.2f} M", f"{cost.stored_bytes / _MIB:.1f}",
         f"{cost.operations / 1e9:.2f}", f"{cost.operations / least:.1f}", f"{cost.working_bytes / _MIB:.1f}"]
        for name, cost in costs.items()
    ]  # fmt: skip
    head = ["lane", "parameters", "MiB stored", "billion operations", "least = 1", "MiB while it draws"]
    return rows_table(head, rows)


def published_table() -> Page:
    """What the paper reports of itself and of diffusion at scale."""
    rows = [
        [one.name, one.kind, one.steps, f"{one.fid:g}", f"{one.seconds:g}",
         f"{one.seconds / PUBLISHED[0].seconds:.0f}"]
        for one in PUBLISHED
    ]  # fmt: skip
    return rows_table(["model", "kind", "passes", "FID", "seconds a picture", "GigaGAN = 1"], rows)


def _of(result: Mapping[str, Any], kind: str) -> list[Row]:
    return [row for row in result["lanes"] if row["kind"] == kind]
