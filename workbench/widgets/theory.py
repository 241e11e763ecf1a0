"""Pictures of what the networks do: words as spotlights, kernel mixtures, verdicts; cards of the glossary.

Letters: N pictures of S x S pixels in [-1, 1], W words, K kernels. All pictures go through widgets.pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import COLOURS
from workbench.models.glossary import ABLATION, PAPER, PUBLISHED, term
from workbench.models.inspect import against_average, asked_by, enlarged, spotlights
from workbench.training import ablation
from workbench.widgets.pictures import Picture, plot, sheet, wrap

KERNEL_COLOURS = (
    COLOURS["diffusion"], "#E69F00", COLOURS["low"], COLOURS["high"], "#56B4E9", "#999999",
    "#F0E442", "#332288",
)  # fmt: skip


class Page:
    """Markdown in a cell's output: what a glossary or a file says, which a text cell must not type.

    plain: for a reader that shows no markdown.
    """

    def __init__(self, markdown: str, plain: str | None = None) -> None:
        self.markdown, self.plain = markdown, markdown if plain is None else plain

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/markdown": self.markdown, "text/plain": self.plain}


def card(key: str) -> Page:
    """A term of the glossary: two sentences, the formula, and the error that is often made about it."""
    entry = term(key)
    said = f"> {entry.plain}\n\n$$ {entry.formula} $$"
    wrong = f"\n\n**Not so:** {entry.not_so}" if entry.not_so else ""
    return Page(said + wrong, f"{entry.name}: {entry.unicode}")


def rows_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Page:
    """A table; every row has a text for each column."""
    if wrong := [row for row in rows if len(row) != len(head)]:
        raise WorkbenchError(f"A row has {len(wrong[0])} cells for {len(head)} columns: give one for each.")
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return Page(text, f"A table of {len(rows)} rows: {', '.join(head)}")


# --- attention ----------------------------------------------------------------------------------------------


def word_sheet(
    picture: Tensor, maps: Tensor, words: Sequence[str], alt: str, *, columns: int = 5, side: int = 48
) -> Picture:
    """The picture, then the same under the spotlight of each word; above it the word and its share of all
    attention. maps: [W, s, s] as of `inspect.word_maps`.
    """
    large = enlarged(picture[None], side)
    lit = spotlights(large[0], against_average(maps))
    titles = [f"{word}\n{share:.0%}" for word, share in zip(words, maps.mean((1, 2)).tolist(), strict=True)]
    return sheet(torch.cat([large, lit]), columns, alt, pad=18, zoom=2.0, titles=["all of it\n", *titles])


def pixel_sheet(
    picture: Tensor, own: Tensor, places: Sequence[tuple[int, int]], alt: str, *, size: int
) -> Picture:
    """Where pixels look: own [S*S, S*S + 1] of one picture; a square marks the pixel (row, column) of `size`
    that asks, its spotlight shows whom it listens to.
    """
    large = enlarged(picture[None], 96)[0]
    shown = [asked_by(large, own, place, size) for place in places]
    return sheet(torch.stack(shown), len(places), alt, pad=6, zoom=1.4)


# --- kernels ------------------------------------------------------------------------------------------------


def kernel_bars(selection: Mapping[str, Tensor], prompts: Sequence[str], alt: str) -> Picture | Page:
    """How much of each kernel every prompt takes in every layer: stacked bars that sum to one.

    A sentence where no layer has a bank.
    """
    if not selection:
        return Page("This model has one kernel in every layer: there is nothing to choose.")
    figure, axes = plt.subplots(
        1, len(selection), figsize=(2.1 * len(selection) + 2.6, 0.46 * len(prompts) + 1.2), sharey=True,
        squeeze=False,
    )  # fmt: skip
    places = range(len(prompts))
    widest = max(range(len(selection)), key=lambda k: list(selection.values())[k].shape[1])
    for ax, (name, shares) in zip(axes[0], selection.items(), strict=True):
        left = torch.zeros(len(prompts))
        for k in range(shares.shape[1]):
            colour = KERNEL_COLOURS[k % len(KERNEL_COLOURS)]
            ax.barh(places, shares[:, k], left=left, color=colour, label=f"kernel {k + 1}")
            left = left + shares[:, k]
        ax.set_title(name.replace(", ", "\n", 1), fontsize=11, fontweight="normal")
        ax.set(xlim=(0, 1), xticks=[0, 0.5, 1])
        ax.set_xticklabels(["0", "½", "1"], fontsize=11)
        ax.grid(False)
    axes[0, 0].set_yticks(places, [wrap(text, 190) for text in prompts], fontsize=11)
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, widest].get_legend_handles_labels()
    columns = min(len(labels), 4 * len(selection))  # as many as the width holds
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=11)
    return plot(figure, alt, dpi=66, colours=14 if len(labels) <= 6 else 18)


# --- verdicts -----------------------------------------------------------------------------------------------


def verdict_tables(
    tables: Mapping[str, Tensor], entries: Sequence[int], exits: Sequence[int], alt: str
) -> Picture:
    """D's logits entry by exit, one table for each title; the brighter, the more real. Blank: no prediction.

    Only differences count where D was trained relativistically, so that the scale has no zero of its own.
    """
    known = torch.cat([values[torch.isfinite(values)] for values in tables.values()])
    low, high = known.min().item(), known.max().item()
    figure, axes = plt.subplots(
        1,
        len(tables),
        figsize=(0.65 * len(exits) * len(tables) + 0.9, 0.55 * len(entries) + 1.1),
        sharey=True,
        squeeze=False,
    )
    for ax, (title, values) in zip(axes[0], tables.items(), strict=True):
        ax.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
        for row, column in torch.isfinite(values).nonzero().tolist():
            value = values[row, column].item()
            ink = "black" if value > (low + high) / 2 else "white"
            ax.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize=12, color=ink)
        ax.set_title(title, fontsize=12, fontweight="normal")
        ax.set_xticks(range(len(exits)), [f"to {size}" for size in exits], fontsize=11)
        ax.grid(False)
    axes[0, 0].set_yticks(range(len(entries)), [f"from {size} px" for size in entries], fontsize=11)
    return plot(figure, alt, dpi=54, colours=16)


def matrix(
    values: Tensor, rows: Sequence[str], columns: Sequence[str], alt: str, *, digits: int = 2
) -> Picture:
    """A table of numbers as colours with the numbers on them, rows [R] by columns [C]."""
    figure, ax = plt.subplots(figsize=(0.95 * len(columns) + 3.0, 0.46 * len(rows) + 0.8))
    ax.imshow(values, cmap="cividis", aspect="auto")
    middle = (values.min() + values.max()) / 2
    for row in range(len(rows)):
        for column in range(len(columns)):
            value = values[row, column]
            ink = "black" if value > middle else "white"
            ax.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=12, color=ink)
    ax.set_yticks(range(len(rows)), rows, fontsize=11)
    ax.set_xticks(range(len(columns)), columns, fontsize=11)
    ax.grid(False)
    return plot(figure, alt, dpi=66, colours=14)


def paired_bars(
    groups: Mapping[str, Mapping[str, float]], alt: str, *, label: str, size: tuple[float, float] = (8, 2.6)
) -> Picture:
    """group -> series -> value as bars side by side; up to four series: real, its twin, made, its twin."""
    series = list(next(iter(groups.values())))
    figure, ax = plt.subplots(figsize=size)
    looks = ((COLOURS["real"], ""), ("#9A9A9A", "//"), (COLOURS["gan"], ""), ("#EDAA7F", "//"))
    width = 0.8 / len(series)
    for k, name in enumerate(series):
        colour, hatch = looks[k % 4]
        places = [g + (k - (len(series) - 1) / 2) * width for g in range(len(groups))]
        values = [group[name] for group in groups.values()]
        ax.bar(places, values, width * 0.92, color=colour, hatch=hatch, edgecolor="white", label=name)
    ax.axhline(0, color="black", linewidth=1)
    ax.set_xticks(range(len(groups)), groups, fontsize=12)
    ax.set_ylabel(label)
    ax.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=len(series), fontsize=12)
    return plot(figure, alt, dpi=66, colours=14)


# --- from files ---------------------------------------------------------------------------------------------


def read_ablation(file: Path) -> list[dict]:
    """Rows of the recorded chain, first to last; [] where the file is not there."""
    if not file.is_file():
        return []
    data = json.loads(file.read_text(encoding="utf-8"))
    rows = data["rows"] if isinstance(data, dict) else data
    if not rows or any("name" not in row for row in rows):
        raise WorkbenchError(f"{file} holds no rows with a name: make it again with `workbench ablate`.")
    return rows


def ablation_sheet(
    rows: Sequence[dict], folder: Path, alt: str, *, columns: int = 6, shown: int = 3
) -> Picture:
    """The first `shown` pictures of each grid, top to bottom as the chain grows. columns: of the grids, which
    hold square pictures; folder: where the paths in the file start.
    """
    strips = []
    for row in rows:
        with Image.open(folder / row["grid"]) as grid:
            side = grid.width // columns
            strip = grid.convert("RGB").crop((0, 0, shown * side, side))
        strips.append(strip.resize((32 * shown, 32), Image.Resampling.LANCZOS))
    return sheet(strips, 1, alt, zoom=2.5, row_names=[row["name"] for row in rows])


def ablation_table(rows: Sequence[dict]) -> Page:
    """The chain measured here beside the paper's own."""
    head = ["trained with", "Fréchet ÷ floor", "all four named", "diversity", "paper: FID-10k", "paper: CLIP"]
    lines = []
    for row in rows:
        paper = row.get("paper") or {}
        lines.append(
            [
                row["name"],
                *(_number(row.get(name)) for name in ("frechet_ratio", "all", "diversity")),
                _number(paper.get("fid")),
                _number(paper.get("clip"), 3),
            ]
        )
    return rows_table(head, lines)


def trained_without(rows: Sequence[dict], first: str, last: str | None = None) -> Page:
    """What the recorded chain came to just before the row `first`, which adds a piece, and after it (or after
    `last`, where two rows add it).
    """
    names = [row["name"] for row in rows]
    if {first, last or first} - set(names) or first == names[0]:
        return Page(f"No chain with {first!r} is recorded here: `workbench ablate` makes it.")
    lines = []
    chosen = (names.index(first) - 1, names.index(last or first))
    for title, row in zip(("without it", "with it"), (rows[k] for k in chosen), strict=True):
        fid = (row.get("paper") or {}).get("fid")
        values = (row.get("frechet_ratio"), row.get("all"), fid)
        lines.append([f"{title} ({row['name']})", *map(_number, values)])
    return rows_table(["trained", "Fréchet ÷ floor", "all four named", "paper: FID-10k"], lines)


def against_the_paper(rows: Sequence[dict]) -> Page:
    """Where the chain here goes another way than the paper's, in words."""
    lines = ablation.against_the_paper(list(rows))
    if not lines:
        return Page("Every addition moves the distance here the way it moves the paper's.")
    head = "**Not as in the paper** (one seed a row: small steps may be chance):"
    told = "\n".join([head, "", *(f"- {line}" for line in lines)])
    return Page(told, f"{len(lines)} rows unlike the paper's")


def comparison(measured: Sequence[Sequence[str]]) -> Page:
    """Rows measured here (model, parameters, outputs, passes, time, quality, source), the paper's below."""
    head = ["model", "parameters", "outputs", "passes a picture", "time a picture", "quality", "source"]
    chain = [
        [f"{name}, 64 px", f"{rung.parameters} M", outputs, "one", "–", f"FID-10k {rung.fid}", PAPER]
        for name, rung, outputs in (
            ("StyleGAN2 with text", ABLATION[0], "one"), ("GigaGAN", ABLATION[-1], "five sizes"))
    ]  # fmt: skip
    large = [
        [f"{p.name}, {p.kind}", f"{p.parameters / 1000:.1f} B" if p.parameters else "–", "–", p.steps,
         f"{p.seconds} s, A100", f"COCO FID-30k {p.fid}", p.source] for p in PUBLISHED
    ]  # fmt: skip
    return rows_table(head, [*measured, *chain, *large])


def paper_chain() -> Page:
    """The paper's own chain, row by row."""
    rows = [
        [
            rung.name if k == 0 else f"+ {rung.name}",
            _number(rung.fid),
            _number(rung.clip, 3),
            f"{rung.parameters} M",
        ]
        for k, rung in enumerate(ABLATION)
    ]
    return rows_table(["trained with", "FID-10k at 64 px", "CLIP score", "parameters"], rows)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
