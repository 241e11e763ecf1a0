"""Weights as files hold them: float16, where that loses nothing or where they were rounded to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError


def compact_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state on the CPU, in fp16 where that loses nothing for any tensor; else as it is."""
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    floats = [value for value in state.values() if value.dtype == torch.float32]
    if all(torch.equal(value.half().float(), value) for value in floats):
        state = {key: value.half() if value.dtype == torch.float32 else value for key, value in state.items()}
    return state


def rounded_to_fp16(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with every float at the nearest value that fp16 holds, in its own dtype; integers stay.

    Raises WorkbenchError for values beyond fp16, and for NaN.
    """
    rounded = {k: v.half().to(v.dtype) if v.is_floating_point() else v for k, v in state.items()}
    for key, value in rounded.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise WorkbenchError(
                f"{key} holds values beyond fp16 (65504) or NaN: the training went wrong. Take an earlier "
                "checkpoint."
            )
    return rounded


@torch.no_grad()
def round_to_fp16(module: nn.Module) -> None:
    """Round every float weight and buffer in place, so that saving in fp16 is exact (`rounded_to_fp16`)."""
    own = module.state_dict()
    for key, value in rounded_to_fp16(own).items():
        own[key].copy_(value)
