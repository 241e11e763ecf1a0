"""The loss scale of float16: gradients too small for it are lifted before backward and put back after.

float16 ends at 6e-8 below and 65,504 above; bfloat16 and float32 need none of this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

START, LOWEST, HIGHEST = 2.0**16, 1.0, 2.0**24
GROWTH_STEPS = 2000  # good updates after which the scale is doubled (as torch.amp.GradScaler)


class LossScale(nn.Module):
    """A scale for each player, "G" and "D": halved by an overflow, doubled after GROWTH_STEPS without one.

    Its state is buffers, so a checkpoint holds it and a resumed run goes on as the uninterrupted one.
    """

    def __init__(self) -> None:
        super().__init__()
        for name in ("G", "D"):
            self.register_buffer(name, torch.tensor(START))
            self.register_buffer(f"good_{name}", torch.zeros((), dtype=torch.int64))

    def scaled(self, name: str, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        return loss * getattr(self, name)

    @torch.no_grad()
    def unscale(self, name: str, parameters: list[nn.Parameter]) -> None:
        """Put the gradients back to their own size, in place; what overflowed stays infinite or NaN."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, 1.0 / getattr(self, name).item())

    @torch.no_grad()
    def settle(self, name: str, finite: bool) -> bool:
        """Take note of an update's gradients; whether training may go on.

        Gradients that are not finite are a scale too high, whose update is left out, unless it is at its
        lowest already.
        """
        scale, good = getattr(self, name), getattr(self, f"good_{name}")
        if not finite:
            mended = bool(scale > LOWEST)
            scale.copy_((scale / 2).clamp(min=LOWEST))
            good.zero_()
            return mended
        good += 1
        if good >= GROWTH_STEPS:
            scale.copy_((scale * 2).clamp(max=HIGHEST))
            good.zero_()
        return True
