"""Where the way back to a point starts: at what an encoder says and at draws around it, or at the best of
many draws.

An encoder alone is as good as the best of 48 draws (24 dB in the median of 64 pictures) and worse where it
errs (13 dB against 18): it knows the mean, not the point. So it says as well how far it may be off, and
draws of that spread, closer each round around the best so far, start at 26.7 dB, 20 at worst. A few draws of
M beside them are for what G never draws, where an encoder errs more than chance: renders lost 0.4 dB
without. 32 pictures in all, two thirds of the time of 48. Letters: S pixels a side, K candidates.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from workbench.latents.points import Points, draw, from_w, from_z
from workbench.models.mapping import Text
from workbench.noise import draw_z
from workbench.pipeline import Pipeline

CANDIDATES = 48
STREAM = 7  # of the noise that candidates are drawn with
ROUNDS, A_ROUND = 3, 8  # around the encoder; in the first as many of M's own beside them
REACH, CLOSER = 0.6, 0.7  # of the encoder's spread in the first round, and each round to the one before it


class Encode(Protocol):
    """picture [1, 3, S, S], mean w of its prompt [1, w_dim] -> w [1, w_dim]. spread [r, w_dim]: deviations of
    the true w about it, so that w + normal [1, r] @ spread is as likely as the truth.
    """

    spread: Tensor

    def __call__(self, x: Tensor, w_mean: Tensor) -> Tensor: ...


@torch.no_grad()
def best_of_many(pipeline: Pipeline, target: Tensor, text: Text | None) -> Points:
    """The nearest in pixels of CANDIDATES pictures of the prompt."""
    z = draw_z(range(CANDIDATES), pipeline.G.config.z_dim, stream=STREAM)
    at = from_z(pipeline, z, None if text is None else text.repeat_interleave(CANDIDATES))
    return at[int(_errors(pipeline, at, target).argmin())]


@torch.no_grad()
def best_around(
    pipeline: Pipeline, target: Tensor, text: Text | None, w_mean: Tensor, encoder: Encode
) -> Points:
    """The nearest in pixels of what the encoder says, draws around it, as many of M's own, and draws around
    the best so far: 4 · A_ROUND pictures.
    """
    w = encoder(target, w_mean)
    spread = encoder.spread.to(w)
    noise = draw_z(range(ROUNDS * A_ROUND), len(spread), stream=STREAM).to(w).split(A_ROUND)
    noise[0][0] = 0  # the encoder's own word
    z = draw_z(range(A_ROUND), pipeline.G.config.z_dim, stream=STREAM)
    own = from_z(pipeline, z, None if text is None else text.repeat_interleave(A_ROUND)).ws[:, 0]
    best, least = w, float("inf")
    for number, normal in enumerate(noise):
        around = best + REACH * CLOSER**number * normal @ spread
        near = torch.cat([around, own]) if number == 0 else around
        at = from_w(pipeline, near, None if text is None else text.repeat_interleave(len(near)))
        error, row = _errors(pipeline, at, target).min(0)
        if error < least:
            best, least = near[row][None], error.item()
    return from_w(pipeline, best, text)


def _errors(pipeline: Pipeline, at: Points, target: Tensor) -> Tensor:
    """Mean squared error of the pictures of K points, [K]."""
    return (draw(pipeline, at) - target.cpu()).square().mean(dim=(1, 2, 3))
