"""Directions: named moves of a point, each with where it came from, how far it goes, and what it was measured
to change.

Letters: N points, W style inputs, L rows of t_local, d numbers of a row, k of a subspace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.points import Points
from workbench.models.mapping import Text

SOURCES = ("supervised", "ganspace", "sefa", "text")


@dataclass(frozen=True, kw_only=True)
class Move:
    """How one step of strength moves rows x [..., d].

    vector [d]: the step itself, or with a basis the place to go to. basis [k, d], orthonormal rows: only what
    lies in this subspace moves, and it moves towards `vector`, there at strength 1. gate [d + 1]: a linear
    model with its bias, whose sigmoid says how much of the step a row takes (None: all rows all of it).
    """

    vector: Tensor
    basis: Tensor | None = None
    gate: Tensor | None = None

    def shift(self, x: Tensor, strength: Tensor) -> Tensor:
        """What is added to x [N, R, d] at strength [N]."""
        step = self.vector.expand_as(x)
        if self.basis is not None:
            step = step - x @ self.basis.t() @ self.basis
        if self.gate is not None:
            step = step * (x @ self.gate[:-1] + self.gate[-1]).sigmoid()[..., None]
        return step * strength.view(-1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a direction did to n samples of held-out captions at its suggested strength, as the judge sees it.

    reached: share whose target factor became the target's value (None: the direction has none); leaked: share
    in which any other factor became another; drift: name -> median absolute change of what the judge
    regresses (azimuth_deg, x, y, size, …); moved: name -> mean signed change.
    """

    n: int
    strength: float
    reached: float | None
    leaked: float
    drift: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Direction:
    """A named move.

    layers: places of ws that w moves; w, t: moves of style and of the rows of t_local (None: stays); words
    [r, d]: rows put into the caption, as loud as the strength. strengths: lowest and highest that make sense;
    suggested: where the effect was measured. target, value: factor and what it becomes, where it is one of
    the world's. facts: how it was found, JSON values.
    """

    name: str
    source: str
    layers: tuple[int, ...]
    w: Move | None = None
    t: Move | None = None
    words: Tensor | None = None
    strengths: tuple[float, float] = (-3.0, 3.0)
    suggested: float = 1.0
    target: str | None = None
    value: str | None = None
    facts: dict = field(default_factory=dict)
    effect: Effect | None = None

    def __post_init__(self) -> None:
        if len(self.strengths) != 2:
            raise WorkbenchError(
                f"The direction {self.name!r:.80} has the strengths {self.strengths!r:.60}: expected the "
                "lowest and the highest."
            )
        low, high = self.strengths
        if self.source not in SOURCES or not self.name.strip():
            raise WorkbenchError(
                f"The direction {self.name!r} comes from {self.source!r}: expected a name and one of "
                f"{', '.join(SOURCES)}."
            )
        if not (math.isfinite(low) and math.isfinite(high) and low < high and low <= self.suggested <= high):
            raise WorkbenchError(
                f"The direction {self.name!r} runs from {low} to {high} and suggests {self.suggested}: "
                "expected low < high with the suggestion between them."
            )

    def with_effect(self, effect: Effect) -> Direction:
        """The same direction with what was measured of it."""
        return replace(self, effect=effect)

    def at(self, at: Points, strength: float | Sequence[float] | Tensor) -> Points:
        """Points moved by `strength` (one for all, or one each); 0 gives the same points.

        Strengths outside the range are allowed, and mean what they say. Raises WorkbenchError for one that is
        not finite, for another number of them, and for points of a model with other layers or widths.
        """
        s = torch.as_tensor(strength, dtype=torch.float32, device=at.ws.device)
        if not torch.isfinite(s).all():
            raise WorkbenchError(
                f"The strength of {self.name!r} is not a finite number: move the slider back."
            )
        if s.dim() > 1 or s.numel() not in (1, len(at)):
            raise WorkbenchError(
                f"There are {s.numel()} strengths of {self.name!r} for {len(at)} points: give one for all, "
                "or one each."
            )
        s = s.expand(len(at))
        ws, texts = at.ws, at.texts
        if self.w is not None:
            self._check_width(self.w.vector, ws, "styles")
            chosen = list(self.layers)
            if any(not 0 <= layer < ws.shape[1] for layer in chosen):
                raise WorkbenchError(
                    f"The direction {self.name!r} moves the layers {chosen!r:.60}, these points have "
                    f"{ws.shape[1]}: it was made for another model."
                )
            ws = ws.clone()
            ws[:, chosen] = ws[:, chosen] + self.w.shift(ws[:, chosen], s)
        if texts and (self.t is not None or self.words is not None):
            texts = tuple(self._said(text, s) for text in texts)
        return Points(ws, texts)

    def _said(self, text: Text, s: Tensor) -> Text:
        if self.t is not None:
            self._check_width(self.t.vector, text.t_local, "captions")
            text = replace(text, t_local=text.t_local + self.t.shift(text.t_local, s))
        if self.words is not None:
            self._check_width(self.words, text.t_local, "captions")
            n, rows = len(text.mask), len(self.words)
            loud = s.clamp_min(0)[:, None].expand(n, rows)
            text = Text(
                torch.cat([text.t_local, self.words.expand(n, rows, -1)], dim=1),
                text.t_global,
                torch.cat([text.mask, text.mask.new_ones(n, rows)], dim=1),
                torch.cat([text.loudness, loud], dim=1),
            )
        return text

    def _check_width(self, own: Tensor, given: Tensor, what: str) -> None:
        if own.shape[-1] != given.shape[-1]:
            raise WorkbenchError(
                f"The direction {self.name!r} moves {what} of {own.shape[-1]} numbers, these have "
                f"{given.shape[-1]}: it was made for another model."
            )


def apply(at: Points, moves: Sequence[tuple[Direction, float]]) -> Points:
    """Several directions one after the other: (direction, strength) each."""
    for direction, strength in moves:
        at = direction.at(at, strength)
    return at
