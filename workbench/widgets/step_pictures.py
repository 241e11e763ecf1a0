"""Pictures of one step: which logits moved and which way, what D asks for, what became of G's pictures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from workbench.images import COLOURS
from workbench.widgets.one_step import KINDS, Look, Match, Move
from workbench.widgets.pictures import Picture, plot, sheet
from workbench.widgets.theory import Page, rows_table

_COLOURS = dict(
    zip(KINDS, (COLOURS["real"], COLOURS["diffusion"], COLOURS["gan"], COLOURS["high"]), strict=True)
)
_SHOWN = 8  # pictures in a row


def stages(match: Match) -> Page:
    """Everything that a step passes through, as a table: name, what it is, shape."""
    return rows_table(("name", "what it is", "shape"), [list(row) for row in match.stages()])


def arrows(move: Move, alt: str) -> Picture:
    """One thin arrow a picture from its logit before the step to the one after; a thick one for the mean."""
    figure, ax = plt.subplots(figsize=(9, 3.4))
    for row, kind in enumerate(KINDS):
        before, after = move.before.logits[kind], move.after.logits[kind]
        heights = (
            row + torch.linspace(-0.3, 0.3, len(before)) if len(before) > 1 else torch.tensor([float(row)])
        )
        ax.hlines(heights, before, after, color=_COLOURS[kind], alpha=0.55, linewidth=1.4)
        ax.plot(after, heights, "o", color=_COLOURS[kind], markersize=4)
        ax.plot(before, heights, "|", color=_COLOURS[kind], markersize=6)
        ends = {"xy": (move.after.mean(kind), row), "xytext": (move.before.mean(kind), row)}
        ax.annotate("", **ends, arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 2.4})
    ax.axvline(0, color=COLOURS["real"], linewidth=1, linestyle=":")
    shifts = [f"{kind}  {move.after.mean(kind) - move.before.mean(kind):+.2f}" for kind in KINDS]
    ax.set_yticks(range(len(KINDS)), shifts)
    ax.invert_yaxis()
    ax.set(title=f"{move.who} takes a step: mean logit moves by", xlabel="← made      logit      real →")
    return plot(figure, alt, colours=32)


def faces(match: Match, look: Look, alt: str, *, names: tuple[str, str] = ("real", "made")) -> Picture:
    """Real pictures above made ones of the same captions, over each its mean logit."""
    pictures = torch.cat([match.batch.images[:_SHOWN].contiguous(), look.made[:_SHOWN]])
    logits = torch.cat([look.logits[f"{name}, true caption"][:_SHOWN] for name in ("real", "made")])
    titles = [f"{value:+.1f}" for value in logits.tolist()]
    return sheet(pictures, min(_SHOWN, len(look.made)), alt, titles=titles, row_names=names, zoom=2, pad=4)


def change(match: Match, move: Move, wishes: Tensor, alt: str) -> Picture:
    """What D asked of the made pictures, the pictures before and after G's step, and their difference.

    The difference is enlarged to a largest of 1: what became brighter is bright.
    """
    before, after = move.before.made[:_SHOWN], move.after.made[:_SHOWN]
    difference = after - before
    difference = difference / difference.abs().amax().clamp_min(1e-12)
    rows = {"before": before, "D asks for": wishes[:_SHOWN], "after": after, "difference": difference}
    return sheet(torch.cat(list(rows.values())), len(before), alt, row_names=list(rows), zoom=2, pad=3)


def losses(move: Move) -> str:
    """The terms of the loss that the step went down on, and the length of its gradient."""
    terms = {name: value for name, value in move.facts.items() if name.startswith(f"{move.who}.")}
    hidden = (f"{move.who}.real", f"{move.who}.fake", f"{move.who}.sign")  # verdicts: the arrows show them
    lines = [f"{name:>20}  {value:.4g}" for name, value in terms.items() if name not in hidden]
    return "\n".join(lines)
