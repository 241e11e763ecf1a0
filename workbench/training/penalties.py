"""Gradient penalties of D: R1 at real pictures, R2 at generated ones (Sec. 3.4; Mescheder et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(judge: Callable[[Tensor], list[Tensor]], x: Tensor) -> Tensor:
    """E ||grad_x D(x)||^2 with D the mean over its predictions, exact (double backward). x [N, 3, S, S] ->
    [].

    judge: pictures -> list of logits [N]. The penalty is gamma/2 times this; taken every k steps it is times
    k too.
    """
    x = x.detach().requires_grad_(True)
    logits = judge(x)
    total = torch.stack([logit.float().sum() for logit in logits]).sum() / len(logits)
    (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()
