"""What a few-step student learns from: its teacher's path (consistency), and this project's D (adversarial).

Letters: B pictures [B, 3, S, S] in [-1, 1]; t, to [B] steps of the schedule. Higher logit = judged real.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workbench.diffusion import lora, schedule
from workbench.diffusion.conditioning import Condition, estimate, guided


def pseudo_huber(x: Tensor, y: Tensor) -> Tensor:
    """sqrt(|x - y|² + c²) - c of each row, c = 0.00054 sqrt(D), D numbers a row: [B] float32.

    Song and Dhariwal 2024, Sec. 3.3. Divided by sqrt(D), so that it means the same at every size.
    """
    dims = x[0].numel()
    c = 0.00054 * math.sqrt(dims)
    squared = (x - y).float().square().flatten(1).sum(dim=1)
    return ((squared + c * c).sqrt() - c) / math.sqrt(dims)


def rungs(steps: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """(t, to) of the rungs `places` [B] in [0, 1) falls on, of a ladder of so many steps."""
    ladder = torch.tensor(schedule.ladder(steps))
    k = (places * steps).long().clamp_max(steps - 1)
    return ladder[k], ladder[k + 1]


def consistency(
    unet: nn.Module, x0: Tensor, eps: Tensor, t: Tensor, to: Tensor, told: Condition, nothing: Condition, *,
    guidance: float, precision: str = "fp32",
) -> Tensor:  # fmt: skip
    """Mean distance of what the student sees from x_t and, one step of the guided teacher further down, from
    x_to: small where it sees the same picture from the whole path. [].

    Latent consistency distillation (Luo et al. 2023, Alg. 1) in pixels, with one guidance folded in; the
    target is the student's own, held still (Song and Dhariwal 2024, Sec. 3.2, without an averaged copy).
    At to = -1 the target is x_to itself.
    """
    x = schedule.noised(x0, eps, t)
    with torch.no_grad():
        with lora.teacher(unet):
            v = guided(unet, x, t, told, nothing, guidance, precision)
        lower = schedule.ddim_step(x, v, t, to)
        target = estimate(unet, lower, to, told, precision)
    return pseudo_huber(estimate(unet, x, t, told, precision), target).mean()


def score(
    unet: nn.Module, made: Tensor, eps: Tensor, t: Tensor, told: Condition, nothing: Condition, *,
    guidance: float, precision: str = "fp32",
) -> Tensor:  # fmt: skip
    """Distance of what the student drew to what the guided teacher makes of it once noised again, weighted by
    alpha: it rises where the teacher would have drawn something else. [].

    Adversarial diffusion distillation's second loss (Sauer et al. 2023, Eq. 4 and Sec. 3.3, "exponential").
    """
    with torch.no_grad(), lora.teacher(unet):
        x = schedule.noised(made, eps, t)
        v = guided(unet, x, t, told, nothing, guidance, precision)
        wanted = schedule.x0_of(x, v, t).clamp(-1, 1)
    alpha, _ = schedule.shares(t, made)
    return (alpha * (made - wanted).square()).mean()
