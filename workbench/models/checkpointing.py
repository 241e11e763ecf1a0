"""Gradient checkpointing: a block's features are computed again in backward instead of kept for it."""

from __future__ import annotations

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint


def run(block: nn.Module, *inputs: object, again: bool) -> Tensor:
    """block(*inputs); with `again` its features are computed a second time in backward.

    Same gradients, also of a gradient (penalties): torch's non-reentrant form keeps the graph. Nothing here
    draws random numbers, so no generator's state has to be put back.
    """
    if again and is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    return block(*inputs)
