"""Directions and scores of edits as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from workbench.latents.directions import Direction


def directions_table(directions: Sequence[Direction]) -> Table:
    """Name, source, strength, and what each changed on held-out samples."""
    out = Table("direction", "from", "strength", "reached", "others changed", "azimuth", "known by")
    for own in directions:
        effect = own.effect
        row = ["", "", ""]
        if effect is not None:
            reached = "" if effect.reached is None else f"{effect.reached:.0%}"
            row = [reached, f"{effect.leaked:.0%}", f"{effect.drift['azimuth_deg']:.0f}°"]
        out.add_row(own.name, own.source, f"{own.suggested:g}", *row, known_by(own))
    return out


def known_by(direction: Direction) -> str:
    """How well the direction's own model fits, or how it was found, in a few words."""
    facts = direction.facts
    if "accuracy_w" in facts:
        return f"{facts['accuracy_w']:.0%} by w, {facts['accuracy_words']:.0%} by words, held out"
    if "r2" in facts:
        return f"explains {max(0.0, facts['r2']):.0%}, held out"
    if "share" in facts:
        return f"{facts['share']:.0%} of the variance"
    return f"{facts['with']!r}" if "with" in facts else ""


def edits_table(scores: dict) -> Table:
    """Reached and leaked of directions and prompt edits, and the evenness of paths under them."""
    out = Table("edit", "factor", "reached", "others changed", "azimuth moved", "sideways")
    for kind in ("direction", "prompt"):
        for factor, row in scores[kind].items():
            drift = row["drift"]
            moved = (f"{drift['azimuth_deg']:.0f}°", f"{drift['x']:.3f}")
            out.add_row(kind, factor, f"{row['target']:.1%}", f"{row['leak']:.1%}", *moved)
    path = scores["path"]
    out.add_section()
    out.add_row("paths", "largest step ÷ mean", f"{path['max_step_ratio']:.2f}", "", "", path["distance"])
    return out
