"""What a picture costs a machine: numbers stored, operations, memory; counted on the CPU, not guessed.

Counted on the very calls that draw, so that nothing is left out: text tower, mapping, every pass.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from workbench.errors import WorkbenchError

FP16_BYTES = 2  # of a number as model folders store it


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one picture. parameters: numbers in all networks that draw it, text tower included; operations:
    multiplications and additions of convolutions and matrix products; working_bytes: the most that is held
    at one time beside the parameters.
    """

    parameters: int
    operations: int
    working_bytes: int

    @property
    def stored_bytes(self) -> int:
        """Of the parameters in a model folder, float16."""
        return FP16_BYTES * self.parameters


def cost(draw: Callable[[], object], networks: list[nn.Module]) -> Cost:
    """Count one call of `draw`, which uses `networks`. It has to be on the CPU and to draw afresh: what a
    model remembers of a prompt would not be counted.
    """
    held = {id(p): p for network in networks for p in (*network.parameters(), *network.buffers())}
    if any(p.device.type != "cpu" for p in held.values()):
        raise WorkbenchError(
            "Operations and memory are counted on the CPU: load the model with device='cpu'."
        )
    # Fused attention would count as nothing; in its written-out form it is matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        draw()
    with PeakMemory(list(held.values())) as memory:
        draw()
    numbers = {id(p): p.numel() for network in networks for p in network.parameters()}
    return Cost(
        parameters=sum(numbers.values()),
        operations=counter.get_total_flops(),
        working_bytes=memory.peak,
    )


class PeakMemory(TorchDispatchMode):
    """Bytes that operations inside have made and that are still held; `peak` is the most there ever were.

    known: tensors from before, which do not count, nor do views of them. What a kernel takes for itself
    while it runs is not seen.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
