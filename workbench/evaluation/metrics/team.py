"""Processes that measure one set of pictures together: each takes its batches, sums are added at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.errors import ProcessLost


class Team:
    """rank of world processes; alone by default, and then nothing is sent anywhere."""

    def __init__(self, rank: int = 0, world: int = 1, device: str | torch.device = "cpu") -> None:
        self.rank, self.world, self.device = rank, world, torch.device(device)

    @classmethod
    def from_environment(cls) -> Team:
        """The processes that `accelerate launch` or torchrun started, else this one alone."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true")
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def takes(self, batch: int) -> bool:
        """Whether batch number `batch` is this process's."""
        return batch % self.world == self.rank

    def main_says(self, yes: bool) -> bool:
        """The main process's answer, for all."""
        answer = {"yes": torch.tensor([float(yes and self.is_main)])}
        self.add_up(answer)
        return bool(answer["yes"] > 0)

    def add_up(self, sums: Mapping[str, Tensor]) -> None:
        """Replace each tensor by the sum over all processes, in place. All meet here, with the same names.

        Raises ProcessLost when another one is gone.
        """
        if self.world == 1:
            return
        import torch.distributed as dist

        for name in sorted(sums):
            there = sums[name].to(self.device)
            try:
                dist.all_reduce(there)
            except RuntimeError as error:  # what gloo and NCCL raise alike
                raise ProcessLost(
                    f"Process {self.rank} of {self.world} lost another one of this evaluation "
                    f"({str(error).splitlines()[0][:160]}). The same command goes on where each was."
                ) from error
            sums[name].copy_(there)


ALONE = Team()
