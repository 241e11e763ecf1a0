"""A step's batch in equal shares: of several processes, of several passes in one process, or of both.

What a step adds up over shares is exactly what it computes for the whole batch at once, so that the number of
processes and of passes changes a run's weights by rounding alone. All of a batch but its pictures is a
function of (seed, step), so a share knows the other shares' captions and noise; only what depends on G's
pictures is summed between processes.

Letters: n rows of a share, B = n * count rows of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.errors import ProcessLost, WorkbenchError


@dataclass(frozen=True)
class Share:
    """Part number `index` of `count` equal parts of a batch, pairs kept whole. By default all of it."""

    index: int = 0
    count: int = 1

    def total(self, rows: int) -> int:
        """Rows of the batch of which this share has `rows`."""
        return rows * self.count

    def own(self, drawn: Tensor, dim: int = 0) -> Tensor:
        """This share's part of what was drawn for the whole batch along `dim`; a view."""
        rows = drawn.shape[dim] // self.count
        return drawn if self.count == 1 else drawn.narrow(dim, self.index * rows, rows)

    def rows(self, total: int) -> slice:
        """Where this share's rows lie among the batch's `total`."""
        each = total // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def parts(self, count: int) -> list[Share]:
        """This share in `count` smaller ones, in order."""
        return [Share(self.index * count + part, self.count * count) for part in range(count)]


WHOLE = Share()


def check_shares(batch_size: int, processes: int, accumulate: int, groups: Iterable[int]) -> None:
    """WorkbenchError unless every share of a batch holds whole pairs, and whole groups of each of `groups`
    pictures that a discriminator compares (0 = none)."""
    shares = processes * accumulate
    for group in (2, *(group for group in groups if group)):
        if batch_size % (group * shares):
            raise WorkbenchError(
                f"batch_size is {batch_size} over {processes} processes, accumulate {accumulate}: expected a "
                f"multiple of {group * shares}, whole groups of {group} pictures for each pass."
            )


class Processes:
    """The processes that train one model together; a process alone meets nobody.

    Every call is met by all processes in the same order. Raises ProcessLost when one of them is gone.
    """

    def __init__(self, accelerator=None) -> None:
        self._accelerator = accelerator
        self.rank = 0 if accelerator is None else accelerator.process_index
        self.world = 1 if accelerator is None else accelerator.num_processes

    @property
    def alone(self) -> bool:
        return self.world == 1

    def mean(self, x: Tensor) -> Tensor:
        """The mean of all processes' tensors, the same bits in each; x itself where there is one process."""
        return x if self.alone else self._meet(lambda: self._accelerator.reduce(x, reduction="mean"))

    def any(self, mine: bool, device: torch.device) -> bool:
        """Whether any process says yes."""
        return mine if self.alone else bool(self.mean(torch.tensor(float(mine), device=device)) > 0)

    def of_main(self, number: int, device: torch.device) -> int:
        """The main process's number, for all."""
        given = torch.tensor(float(number if self.rank == 0 else 0), device=device)
        return number if self.alone else round(float(self.mean(given)) * self.world)

    def wait(self) -> None:
        """Until all processes have come here."""
        if not self.alone:
            self._meet(self._accelerator.wait_for_everyone)

    def mean_statistics(self, stats: dict[str, Tensor]) -> dict[str, Tensor]:
        """0-d statistics of the shares -> those of the batch; the names are the same in every process."""
        if self.alone:
            return stats
        values = self.mean(torch.stack([value.detach().float() for value in stats.values()]))
        return dict(zip(stats, values.unbind(), strict=True))

    def mean_gradients(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Put the mean of all processes' gradients into each; returns the mean of their losses, 0-d.

        Not by DistributedDataParallel: its hooks count one backward to one forward, which a penalty's second-
        order gradient and D's two passes in one step break.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        loss = loss.detach()
        if self.alone:
            return loss
        flat = self.mean(torch.cat([*(g.reshape(-1) for g in gradients), loss.reshape(1).to(gradients[0])]))
        *means, whole = flat.split([*(g.numel() for g in gradients), 1])
        for gradient, value in zip(gradients, means, strict=True):
            gradient.copy_(value.view(gradient.shape))
        return whole[0]

    def _meet(self, call):
        try:
            return call()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # what gloo and NCCL raise alike
            raise ProcessLost(
                f"Process {self.rank} of {self.world} lost another one of this run, which ended or cannot be "
                f"reached ({str(error).splitlines()[0][:160]}). The same command goes on from the last "
                "checkpoint."
            ) from error


ALONE = Processes()
