"""Losses on logits and pictures: pure functions to a scalar, no state. Higher logit = judged real.

Letters: N pictures; a list of logits holds one [N] tensor for each prediction (i, j) of D, or each head.
Losses over such a list are means over the predictions, so that a weight means the same for one output or
fifteen. Everything is computed in float32; `softplus` is the library's, since log(1 + exp(u)) overflows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_over(terms: list[Tensor]) -> Tensor:
    """Mean of scalars."""
    return torch.stack(terms).mean()


# --- adversarial --------------------------------------------------------------------------------------------


def d_nonsaturating(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """E softplus(-D(x)) + E softplus(D(G(z))): falls as real logits rise and fake ones fall (Eq. 4;
    Goodfellow 2014).
    """
    return mean_over(
        [
            F.softplus(-r.float()).mean() + F.softplus(f.float()).mean()
            for r, f in zip(real, fake, strict=True)
        ]
    )


def g_nonsaturating(fake: list[Tensor]) -> Tensor:
    """E softplus(-D(G(z))): falls as fake logits rise (Eq. 4)."""
    return mean_over([F.softplus(-f.float()).mean() for f in fake])


def d_relativistic(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """E softplus(-(D(x) - D(G(z)))), real and fake paired by row (R3GAN, Eq. 2; rows share their caption)."""
    return mean_over([F.softplus(f.float() - r.float()).mean() for r, f in zip(real, fake, strict=True)])


def g_relativistic(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """E softplus(-(D(G(z)) - D(x))): falls as fake logits rise above their real partners' (R3GAN, Eq. 2)."""
    return mean_over([F.softplus(r.float() - f.float()).mean() for r, f in zip(real, fake, strict=True)])


def d_hinge(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))): for the vision-aided heads (Projected GAN, StyleGAN-T)."""
    return mean_over(
        [F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for r, f in zip(real, fake, strict=True)]
    )


def g_hinge(fake: list[Tensor]) -> Tensor:
    """-E D(G(z))."""
    return mean_over([-f.float().mean() for f in fake])


# --- text ---------------------------------------------------------------------------------------------------


def d_matching(mismatched: list[Tensor]) -> Tensor:
    """E softplus(D(x, c')) for a caption c' that is not x's: such pairs are fake, whether x is real or
    generated (matching-aware loss, Eq. 5).
    """
    return mean_over([F.softplus(m.float()).mean() for m in mismatched])


def d_matching_hinge(mismatched: list[Tensor]) -> Tensor:
    """E max(0, 1 + D(x, c')): the matching-aware term for hinge heads."""
    return mean_over([F.relu(1 + m.float()).mean() for m in mismatched])


# G's own side of the matching-aware loss. The paper leaves open whether there is one, and its sign: G may
# help D (its picture shall be judged wrong under a caption that is not its own), or work against it.
G_MATCHING = {"cooperative": d_matching, "adversarial": g_nonsaturating}


def clip_contrastive(image: Tensor, text: Tensor, target: Tensor, scale: float) -> Tensor:
    """-log softmax over the batch's captions at each picture's own (Eq. 6), on L2-normalised embeddings.

    image [N, e], text [M, e] (M different captions), target [N] row of `text` that belongs to each picture,
    scale: CLIP's logit scale (the paper prints none; without one the loss barely depends on the picture).
    """
    return F.cross_entropy(image.float() @ text.float().t() * scale, target)


# --- pictures -----------------------------------------------------------------------------------------------


def pair_distance(x: Tensor) -> Tensor:
    """Mean absolute difference inside each pair of rows (2k, 2k+1), of pictures or features: [N, C, S, S] ->
    [N/2].
    """
    return (x[0::2] - x[1::2]).float().abs().mean((1, 2, 3))


def mode_seeking(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean over views of max(0, 1 - E|f_a - f_b| / E|r_a - r_b|): two z of one caption shall differ as two
    pictures do.

    fake, real: the same views (pixels, feature maps) of generated and real pictures, each [N, C, S, S], rows
    2k and 2k+1 of one caption. After Mao et al. 2019; differs from there: measured in features too, since
    pixels are satisfied by a change of tint, and bounded by what real pairs show, so that it vanishes once
    G's spread is theirs.
    """
    return spread_shortfall(spreads(fake), spreads(real))


def spreads(views: list[Tensor]) -> list[Tensor]:
    """Mean distance inside the pairs of each view, 0-d each."""
    return [pair_distance(view).mean() for view in views]


def spread_shortfall(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean of max(0, 1 - fake / real) over the spreads of the same views."""
    return mean_over([F.relu(1 - f / r.clamp_min(1e-6)) for f, r in zip(fake, real, strict=True)])


def as_of_whole(own: Tensor, whole: Tensor) -> Tensor:
    """The value of `whole` with the gradient of `own`.

    `own` is a share's mean, `whole` that of all shares: a loss that bends such a mean then has, averaged over
    the shares, the gradient that it has for the whole batch.
    """
    return own + (whole - own).detach()


def reconstruction(decoded: Tensor, real: Tensor) -> Tensor:
    """Mean squared error of what D's features still know of a real picture: both [N, 3, S, S] (Liu et al.
    2021, Sec. 3.2). Keeps D's features from dropping all but what tells real from generated.
    """
    return F.mse_loss(decoded.float(), real.float())


def pixel(made: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of an enlarged picture to the true one, [N, 3, H, W] both. Alone, it is
    smallest at the median of all pictures that the small one may come from: without detail.
    """
    return (made - true).float().abs().mean()


def out_of_range(x: Tensor, limit: float = 1.02) -> Tensor:
    """Mean square of what leaves [-limit, limit]: holds G's output where pictures live, zero inside."""
    return F.relu(x.abs() - limit).square().mean()
