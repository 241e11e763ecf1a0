"""Which weights draw: the hash that recipes state, kept until a weight changes."""

from __future__ import annotations

from torch import nn

from workbench import recipe as recipes
from workbench.models.ops import state_of
from workbench.pipeline import model_folder

State = tuple[object, ...]
_LOOKED_AT = 8  # tensors whose values are looked at: at all of them, it is a hundredth of a draw


class Fingerprint:
    """Watches the weights of one network."""

    def __init__(self, network: nn.Module):
        self.network = network
        self._hash: tuple[State, str] | None = None

    @property
    def state(self) -> State:
        """Changes whenever a weight was replaced or written to: torch counts writes to each tensor.

        It does not count those through `.data`, as some EMA loops make. On the CPU these are seen by a few
        values of some tensors (`ops.state_of`), which tell a write to all weights; on CUDA they are not:
        write in place under no_grad instead.
        """
        tensors = [*self.network.parameters(), *self.network.buffers()]
        writes = sum(0 if t.is_inference() else t._version for t in tensors)
        looked_at = tensors[:: max(1, -(-len(tensors) // _LOOKED_AT))]
        return (writes, hash(tuple(t.data_ptr() for t in tensors)), *map(state_of, looked_at))

    @property
    def hash(self) -> str:
        """SHA-256 of the safetensors file as a model folder holds it.

        Of the exact weights where float16 would round them: models that draw differently never share a hash.
        """
        state = self.state
        if self._hash is None or self._hash[0] != state:
            tensors = self.network.state_dict()
            packed, exact = model_folder.pack(tensors)
            self._hash = (state, recipes.sha256(packed if exact else model_folder.pack_exactly(tensors)))
        return self._hash[1]

    def known(self, weight_hash: str) -> None:
        """The hash of the weights as they are now, which the file they came from told."""
        self._hash = (self.state, weight_hash)
