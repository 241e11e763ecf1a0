"""How sharp pictures are: the power of their brightness at each fineness, averaged over all directions.

Letters: N pictures of S x S pixels, R rings. Ring k holds the waves with about k periods across the picture;
k / S is the frequency in cycles a pixel, and S / 2 the finest that a row of pixels can carry (the corners
beyond it are diagonal waves). Power is in units of [-1, 1] squared; over all waves it sums to the variance.
"""

import functools

import torch
from torch import Tensor

from workbench.errors import WorkbenchError

LUMA = (0.299, 0.587, 0.114)


@functools.cache
def _rings(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ring of each wave of a real transform [S * (S / 2 + 1)], how often it counts, waves of each ring."""
    down = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    across = torch.fft.rfftfreq(side, 1 / side, dtype=torch.float64)
    ring = torch.hypot(down[:, None], across[None]).round().long().flatten()
    times = torch.full((side, len(across)), 2.0, dtype=torch.float64)  # a wave and its mirror image
    times[:, 0] = 1
    if side % 2 == 0:
        times[:, -1] = 1
    times = times.flatten()
    return ring, times, torch.bincount(ring, weights=times)


def waves(side: int) -> Tensor:
    """How many waves each ring of pictures with this side holds: [R] float64."""
    return _rings(side)[2]


def ring_power(images: Tensor) -> Tensor:
    """Mean power of a wave in each ring: [N, 3, S, S] in [-1, 1] -> [N, R] float64, R = about S / sqrt(2).

    Through a Hann window, because a picture's left edge does not continue its right one, and without the
    mean. `ring_power(x) @ waves(S)` is the variance of the windowed picture. Raises WorkbenchError for
    pictures that are not square.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.shape[2] < 4:
        raise WorkbenchError(
            f"Pictures of shape {list(images.shape)} have no rings: expected [N, 3, S, S], S of 4 or more."
        )
    n, side = len(images), images.shape[-1]
    grey = (images.double() * images.new_tensor(LUMA, dtype=torch.float64).view(1, 3, 1, 1)).sum(dim=1)
    window = torch.hann_window(side, dtype=torch.float64)
    window = torch.outer(window, window).to(grey)
    grey = grey - (grey * window).sum(dim=(1, 2), keepdim=True) / window.sum()
    window = window / window.square().mean().sqrt()
    power = torch.fft.rfft2(grey * window).abs().square().flatten(1) / side**4
    ring, times, count = (t.to(power.device) for t in _rings(side))
    total = power.new_zeros(n, len(count)).index_add_(1, ring, power * times)
    return total / count


def power_kept(power: Tensor, truth: Tensor, *, side: int, above: float) -> float:
    """Share of the truth's power that `power` has at frequencies above `above` cycles a pixel. [R], [R].

    1 says as much detail as the truth, not the same detail; more than 1 is noise or ringing.
    """
    fine = torch.arange(len(truth)) / side > above
    count = waves(side)[fine]
    return ((power[fine] * count).sum() / (truth[fine] * count).sum()).item()
