"""Gradient penalties of D: R1 at real pictures, R2 at generated ones (Sec. 3.4; Mescheder et al. 2018).

A penalty is weighted gamma / 2; taken lazily, every k-th step, it counts k times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from workbench.models.discriminator import Discriminator
from workbench.training.shares import WHOLE, Share


@contextlib.contextmanager
def wide_enough(D: Discriminator) -> Iterator[None]:
    """D in float32 where it is float16: the loss scale does not lift a logit's slopes."""
    before = D.compute_dtype
    D.compute_dtype = torch.float32 if before == torch.float16 else before
    try:
        yield
    finally:
        D.compute_dtype = before


def gradient_penalty(judge: Callable[[Tensor], list[Tensor]], x: Tensor) -> Tensor:
    """E ||grad_x D(x)||^2 with D the mean over its predictions, exact (double backward). x [N, 3, S, S] ->
    [].

    judge: pictures -> list of logits [N].
    """
    x = x.detach().requires_grad_(True)
    logits = judge(x)
    total = torch.stack([logit.float().sum() for logit in logits]).sum() / len(logits)
    (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()


def finite_difference_penalty(
    judge: Callable[[Tensor], list[Tensor]],
    x: Tensor,
    generator: torch.Generator,
    h: float = 0.01,
    *,
    share: Share = WHOLE,
) -> Tensor:
    """E_v ((D(x + h v) - D(x - h v)) / 2h)^2 with v ~ N(0, I): E ||grad_x D(x)||^2 without double backward.

    Works with any kernel, at two forward passes. x [N, 3, S, S] in [-1, 1] -> []; h: share of that range's
    half; generator: CPU. One direction a picture, so a single value scatters (chi-square, one degree of
    freedom). Where D compares the rows of a group, it takes each row's logit along the group's common
    direction, the exact penalty the sum of the group's logits along each row's. share: the part of a batch
    that x is; directions are drawn for all of it.
    """
    v = share.own(torch.randn(share.total(len(x)), *x.shape[1:], generator=generator))
    v = v.to(device=x.device, dtype=x.dtype)
    x = x.detach()
    ahead, behind = ([logit.float() for logit in judge(x + sign * h * v)] for sign in (1, -1))
    slopes = [(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)]
    return (sum(slopes) / len(slopes)).square().mean()
