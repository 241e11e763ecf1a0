"""Constant perceptual speed: positions on a curve at which every frame looks equally far from the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.perceptual import FeatureDistance
from workbench.latents.paths import Curve
from workbench.latents.points import Points, draw
from workbench.pipeline import Pipeline

MAX_FRAMES = 600
ROUNDS = 8  # each draws the frames and corrects the positions
EVEN_ENOUGH = 1.25  # largest step over mean step, from where on no more rounds are needed


@dataclass(frozen=True)
class Paced:
    """A walk along a curve. t [N]: positions; at: their points; frames [N, 3, S, S]; steps [N - 1]: distance
    of each frame to the last; distance: its name.
    """

    t: Tensor
    at: Points
    frames: Tensor
    steps: Tensor
    distance: str

    @property
    def max_step_ratio(self) -> float:
        """The largest step over the mean one: 1 is perfectly even."""
        return (self.steps.max() / self.steps.mean().clamp_min(1e-12)).item()


def walk(
    pipeline: Pipeline,
    curve: Curve,
    frames: int = 60,
    *,
    distance: FeatureDistance | None = None,
    rounds: int = ROUNDS,
    drawn: Callable[[Points], Tensor] | None = None,
) -> Paced:
    """`frames` points along a curve at constant perceptual speed; without `distance` in equal times.

    Each round draws the frames, adds up the distances from one to the next and moves the positions to where
    that length is even. Only the frames themselves count, not what lies between: a curve that trembles is
    longer the closer one looks. The most even round is returned. drawn: how points become pictures, `draw`
    when None (the app tells how far it is, and may stop there). Raises WorkbenchError for fewer than 2 frames
    or more than 600.
    """
    if isinstance(frames, bool) or not isinstance(frames, int) or not 2 <= frames <= MAX_FRAMES:
        raise WorkbenchError(f"frames is {frames!r}: expected a whole number from 2 to {MAX_FRAMES}.")
    t = torch.linspace(0, 1, frames, dtype=torch.float64)
    drawn = drawn or (lambda at: draw(pipeline, at))
    best = _paced(drawn, curve, t, distance)
    if distance is None:
        return best
    tried = best
    for _ in range(rounds):
        if best.max_step_ratio <= EVEN_ENOUGH:
            break
        t = spaced_evenly(t, tried.steps)
        tried = _paced(drawn, curve, t, distance)
        best = min(best, tried, key=lambda paced: paced.max_step_ratio)
    return best


def spaced_evenly(t: Tensor, steps: Tensor) -> Tensor:
    """Positions [N] at even lengths, if the steps [N - 1] between the old positions t were straight; the ends
    stay. A curve that stands still keeps its positions.
    """
    length = torch.cat([torch.zeros(1, dtype=torch.float64), steps.double().cumsum(0)])
    if length[-1] < 1e-9:
        return t
    wanted = np.linspace(0, length[-1].item(), len(t))
    return torch.from_numpy(np.interp(wanted, length.numpy(), t.double().numpy()))


def _paced(
    drawn: Callable[[Points], Tensor], curve: Curve, t: Tensor, distance: FeatureDistance | None
) -> Paced:
    at = curve(t.float())
    frames = drawn(at)
    if distance is None:
        steps = (frames[1:] - frames[:-1]).square().mean((1, 2, 3)).sqrt()
        return Paced(t.float(), at, frames, steps, "root mean square of pixels")
    return Paced(t.float(), at, frames, distance.steps(frames), distance.name)
