"""Fitting the encoder to a model: pictures of its own, sums of what the tower sees of them, and one solution.

The sums are all that is kept of a picture, so that memory does not grow with their number; the strength of
the ridge is chosen by pictures that took no part. Four minutes on one core for the 12,800 of the default, so
nothing is kept for going on. Letters as in `encoder.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.images import from_uint8, to_uint8
from workbench.latents.encoder import (
    Encoder,
    EncoderConfig,
    Eyes,
    features,
    load_encoder,
    save_encoder,
    the_eyes,
)
from workbench.latents.points import draw, from_z
from workbench.latents.ridge import Sums
from workbench.models.mapping import Text
from workbench.noise import draw_z
from workbench.pipeline import Pipeline

WORLD_SEED, HELD_OUT_SEED = 8_100_013, 8_200_019  # captions that no other fit and no measurement uses
ROUND, A_CAPTION = 256, 2  # pictures drawn at once; z of a caption
HELD_OUT = 512  # one half chooses the strength, the other states the error
STRENGTHS = (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
Report = Callable[[int, int, str], object]  # images so far, of, what


@dataclass(frozen=True)
class Pairs:
    """images [N, 3, S, S] in [-1, 1], rounded to the 8 bits of a file; w and the mean w of each one's caption
    [N, w_dim].
    """

    images: Tensor
    w: Tensor
    w_mean: Tensor

    @property
    def move(self) -> Tensor:
        """What the caption does not say of w, [N, w_dim]."""
        return self.w - self.w_mean


def train_encoder(
    pipeline: Pipeline,
    out: str | Path,
    *,
    images: int = 12_800,
    seed: int = 0,
    config: EncoderConfig | None = None,
    progress: Report | None = None,
) -> Encoder:
    """Fit an encoder to a model by `images` pictures of its own, and write it to `out`.

    progress is told after each round of 256 and at the end, then with the held-out error: the share of w's
    variance inside a caption that is not explained (1: as good as the mean). Raises WorkbenchError for a
    model without text and for fewer than 256 images.
    """
    if pipeline.text_encoder is None:
        raise WorkbenchError(
            f"{pipeline.name} reads no text: the encoder learns from captions. Invert without one."
        )
    if isinstance(images, bool) or not isinstance(images, int) or images < ROUND:
        raise WorkbenchError(f"images is {images!r}: expected a whole number of at least {ROUND}.")
    eyes, w_dim = the_eyes(), pipeline.G.config.w_dim
    encoder = Encoder(config or config_for(w_dim), w_dim, eyes).to(pipeline.device)
    rounds = images // ROUND
    sums = Sums(len(encoder.mean), w_dim)
    for number in range(rounds):
        pairs = draw_pairs(pipeline, ROUND, WORLD_SEED + seed, first=number * ROUND)
        if number == 0:
            encoder.fill(channels=principal_channels(eyes, pairs.images, encoder.config.channels))
        sums.add(features(eyes, pairs.images, encoder.channels.cpu()), pairs.move)
        if progress is not None:
            progress((number + 1) * ROUND, rounds * ROUND, "drawing pictures for the encoder")
    strength, error = _solve(encoder, sums, draw_pairs(pipeline, HELD_OUT, HELD_OUT_SEED))
    facts = {"images": rounds * ROUND, "seed": seed, "strength": strength, "held_out_error": error}
    if progress is not None:
        progress(rounds * ROUND, rounds * ROUND, f"encoder, held-out error {error:.3f}")
    save_encoder(out, encoder, pipeline, facts)
    return load_encoder(out, pipeline)


def config_for(w_dim: int) -> EncoderConfig:
    """The default size, less where w is small."""
    usual = EncoderConfig()
    return EncoderConfig(parts=min(usual.parts, w_dim), draws=min(usual.draws, w_dim))


@torch.no_grad()
def draw_pairs(pipeline: Pipeline, n: int, seed: int, *, first: int = 0) -> Pairs:
    """n pictures of the world's captions from `first` on, A_CAPTION of each: a function of its arguments."""
    numbers = range(first // A_CAPTION, (first + n) // A_CAPTION)
    captions = [full_caption(draw_factors(seed, i), seed, i) for i in numbers]
    text = Text.cat([pipeline.text(caption) for caption in captions]).repeat_interleave(A_CAPTION)
    w_mean = torch.cat([pipeline.w_mean(caption) for caption in captions]).repeat_interleave(A_CAPTION, 0)
    z = draw_z(range(first, first + n), pipeline.G.config.z_dim, stream=seed)
    at = from_z(pipeline, z, text)
    return Pairs(from_uint8(to_uint8(draw(pipeline, at))), at.ws[:, 0], w_mean)


def principal_channels(eyes: Eyes, images: Tensor, count: int) -> Tensor:
    """The directions in which the map of pictures varies most over pictures and places, [count, C]."""
    seen, _ = eyes(images)
    values = seen.transpose(1, 2).flatten(0, 1).double()
    return torch.linalg.eigh(torch.cov(values.t())).eigenvectors.flip(1)[:, :count].t()


def _solve(encoder: Encoder, sums: Sums, held_out: Pairs) -> tuple[float, float]:
    """Fill the encoder with the fit that is best on one half of the held-out pictures and with the spread
    of what it leaves; (strength, error on the other half).
    """
    seen = features(encoder.eyes, held_out.images, encoder.channels.cpu())
    true, half = held_out.move.cpu(), len(seen) // 2
    fits = [(strength, sums.solve(strength, encoder.config.parts)) for strength in STRENGTHS]
    strength, fit = min(fits, key=lambda one: unexplained(one[1](seen[:half]), true[:half]))
    encoder.fill(**vars(fit))
    said = encoder.move(seen).cpu()  # of the rounded numbers
    values, vectors = torch.linalg.eigh(torch.cov((true - said).t().double()))
    deviations = (vectors * values.clamp_min(0).sqrt()).t().flip(0)
    encoder.fill(spread=deviations[: encoder.config.draws])
    return strength, unexplained(said[half:], true[half:])


def unexplained(said: Tensor, true: Tensor) -> float:
    """Share of the variance of moves inside a caption that is left: 0 exact, 1 as good as the mean."""
    return ((said - true).double().square().mean() / true.double().square().mean()).item()
