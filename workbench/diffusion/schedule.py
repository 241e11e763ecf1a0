"""The noise of the diffusion baseline in closed form: how much at each step, what the network says of it.

Letters: N pictures [N, 3, S, S] in [-1, 1]; t in 0 … T - 1 the step, T - 1 pure noise, -1 no noise at all;
alpha, sigma the shares of picture and noise, alpha² + sigma² = 1; x_t = alpha x_0 + sigma eps;
v = alpha eps - sigma x_0.

Why these settings at 64 px: the cosine schedule (Nichol and Dhariwal 2021, Sec. 3.2) is the reference at this
size, where no shift is called for (Hoogeboom et al. 2023, Sec. 3.1). Its end is rescaled to exactly no signal
and steps are taken from that end (Lin et al. 2024, Sec. 3): else training never sees the pure noise that
sampling begins with, and few steps lose brightness and colour. There eps tells nothing of x_0, so the network
says v (Salimans and Ho 2022, Sec. 4), which is also the target that few-step students are distilled from.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.noise import draw_z, generator_for

T = 1000
SETTINGS = {
    "num_train_timesteps": T,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
_TIMES = 21 << 40  # stream of a run's seed


@functools.cache
def alphas_sigmas() -> tuple[Tensor, Tensor]:
    """alpha and sigma in float64 as the schedulers of diffusers have them, [T + 1]: the last is t = -1."""
    from diffusers import DDIMScheduler

    kept = torch.cat([DDIMScheduler(**SETTINGS).alphas_cumprod.double(), torch.ones(1, dtype=torch.float64)])
    return kept.sqrt(), (1 - kept).sqrt()


def shares(t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at t [N] long, as [N, 1, 1, 1] of `like`'s type and device."""
    alphas, sigmas = alphas_sigmas()
    at = t.to("cpu")
    return tuple(each[at].to(like).view(-1, 1, 1, 1) for each in (alphas, sigmas))


def noised(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = alpha x_0 + sigma eps."""
    alpha, sigma = shares(t, x0)
    return alpha * x0 + sigma * eps


def velocity(x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """v = alpha eps - sigma x_0 (Salimans and Ho 2022, App. D)."""
    alpha, sigma = shares(t, x0)
    return alpha * eps - sigma * x0


def x0_of(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The picture behind x_t, where v was right: alpha x_t - sigma v."""
    alpha, sigma = shares(t, x)
    return alpha * x - sigma * v


def eps_of(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The noise in x_t, where v was right: sigma x_t + alpha v."""
    alpha, sigma = shares(t, x)
    return sigma * x + alpha * v


def ddim_step(x: Tensor, v: Tensor, t: Tensor, to: Tensor) -> Tensor:
    """From x_t to x_to without fresh noise (Song et al. 2021, Eq. 12 with sigma = 0).

    The picture is cut to [-1, 1], and the noise is what then is left of x_t.
    """
    alpha, sigma = shares(t, x)
    x0 = x0_of(x, v, t).clamp(-1, 1)
    return noised(x0, (x - alpha * x0) / sigma, to)


def ladder(steps: int) -> list[int]:
    """The t of a sampler of so many steps, from pure noise down, then -1: "trailing" in diffusers.

    Raises WorkbenchError unless steps is 1 to T.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= T:
        raise WorkbenchError(f"steps is {steps!r}: expected a whole number from 1 to {T}.")
    return [round(T - k * T / steps) - 1 for k in range(steps)] + [-1]


def snr(t: Tensor) -> Tensor:
    """alpha² / sigma² at t [N], float64: 0 at T - 1."""
    alphas, sigmas = alphas_sigmas()
    return (alphas[t.cpu()] / sigmas[t.cpu()]).square()


def loss_weight(t: Tensor, gamma: float) -> Tensor:
    """Weight [N] of each row's squared error in v: min(SNR + 1, gamma) / (SNR + 1), float64.

    Min-SNR (Hang et al. 2023, Eq. 8): steps of little noise no longer outvote the others. Differs from there:
    SNR + 1 in place of SNR. The two agree where it cuts, but theirs weighs the step of pure noise, with which
    every sampler begins, by 0. gamma = inf: 1 for all, the "SNR + 1" weighting of Salimans and Ho.
    """
    if not gamma > 0:
        raise WorkbenchError(
            f"snr_gamma is {gamma}: expected above 0, such as 5; inf weighs all steps alike."
        )
    lifted = snr(t) + 1
    return lifted.clamp_max(gamma) / lifted


def draw_times(count: int, seed: int, step: int) -> Tensor:
    """t [count] of one training step: evenly spaced from a random place, in random order; each is uniform.

    Kingma et al. 2021, App. I.1: a batch that covers the steps evenly has a less noisy loss. A function of
    (seed, step) alone.
    """
    generator = generator_for(seed, _TIMES + step)
    start = torch.rand((), dtype=torch.float64, generator=generator)
    order = torch.randperm(count, generator=generator)
    places = (start + order.double() / count) % 1.0
    return (places * T).long().clamp_max(T - 1)


def start_noise(seeds: Sequence[int], side: int, *, stream: int = 0) -> Tensor:
    """Normal noise [N, 3, side, side] float32 on the CPU; row k depends on seeds[k] (and stream) alone."""
    return draw_z(seeds, 3 * side * side, stream=stream).view(-1, 3, side, side)


def noising(
    images: Tensor, *, count: int = 8, seeds: Sequence[int] | None = None
) -> tuple[Tensor, list[int]]:
    """The forward process as a strip: pictures [N, 3, S, S] -> ([count, N, 3, S, S], the steps t).

    From the picture itself (t = 0 has all but no noise) to pure noise, evenly in t; one noise a picture, so
    that the strip shows one path. seeds: of each picture's noise, 0, 1, … when None.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or count < 2:
        raise WorkbenchError(
            f"A strip of {count} from {list(images.shape)}: expected 2 or more from [N, 3, S, S]."
        )
    eps = start_noise(range(len(images)) if seeds is None else seeds, images.shape[-1])
    steps = torch.linspace(0, T - 1, count).round().long().tolist()
    rows = [noised(images.float().cpu(), eps, torch.full((len(images),), t)) for t in steps]
    return torch.stack(rows), steps
