"""Where a number that is not finite began: at which step, in which loss, in which module.

Asked only after a step that was refused, so it may cost one: the same batch goes through the networks once
more, watched module by module, and nothing of it is applied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace

import torch
from torch import Tensor, nn

from workbench.training import steps
from workbench.training.checkpoint import parameter_names
from workbench.training.config import TrainConfig
from workbench.training.players import Players

_SUMS = ("D.loss", "G.loss", "D.norm", "G.norm")  # of other statistics: never where it began


@dataclass(frozen=True, kw_only=True)
class Origin:
    """step: which one was refused; loss: its first loss that is not finite, or "the gradient of D.loss";
    module: where it began ("" where no module is to blame); what: the same in words.
    """

    step: int
    loss: str
    module: str
    what: str

    @property
    def text(self) -> str:
        """One sentence."""
        return f"It began at step {self.step} in {self.loss}: {self.what}."

    def facts(self) -> dict[str, object]:
        """Fields for the history."""
        return {"at_step": self.step, "loss": self.loss, "module": self.module}


def find(
    players: Players,
    batch: steps.StepBatch,
    stats: dict[str, Tensor],
    *,
    cur_nimg: int,
    step: int,
    config: TrainConfig,
    rerun: bool = True,
) -> Origin:
    """Explain a step that `train_step` refused.

    stats: what it returned. rerun: False looks at weights, batch and losses alone: where several processes
    take a step together, one cannot take it again by itself.
    """
    bad = [name for name, value in stats.items() if name not in _SUMS and not torch.isfinite(value).all()]
    half = "D" if "G.loss" not in stats else "G"
    loss = bad[0] if bad else f"the gradient of {half}.loss"

    def origin(module: str, what: str) -> Origin:
        return Origin(step=step, loss=loss, module=module, what=what)

    if weight := bad_weight(players.modules()):
        return origin(weight.rpartition(".")[0], f"the weight {weight} is not finite")
    if field := next((name for name, t in _named_tensors(batch) if not torch.isfinite(t).all()), None):
        return origin("", f"the batch itself is not finite ({field})")
    if not rerun:
        return origin("", "weights and batch are finite, so it began in between")
    module, gradient = _watched_step(players, batch, cur_nimg=cur_nimg, step=step, config=config)
    if module:
        return origin(module, f"the output of {module} is the first that is not finite")
    if gradient:
        return origin(
            gradient.rpartition(".")[0], f"every output is finite, the gradient of {gradient} is not"
        )
    return origin("", "every weight and output is finite, so it began in the loss itself")


def bad_weight(modules: dict[str, nn.Module]) -> str | None:
    """The first parameter or buffer that is not finite, as "<part>.<name>"; None where all are."""
    for part, module in modules.items():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                return f"{part}.{name}"
    return None


def _watched_step(players: Players, batch: steps.StepBatch, **about) -> tuple[str | None, str | None]:
    """(first module whose output is not finite, first parameter in the way of the gradient that has one)."""
    guard = _Refusing(players.modules())
    watched = replace(players, opt_G=_Still(players.opt_G), opt_D=_Still(players.opt_D), guard=guard)
    devices = [players.G.w_avg.device] if players.G.w_avg.is_cuda else []
    with torch.random.fork_rng(devices=devices), _first_bad(players) as found:
        steps.train_step(watched, batch, **about)
    return (found[0] if found else None), guard.found


class _Still:
    """An optimiser's stand-in that applies nothing."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.param_groups, self.zero_grad = optimizer.param_groups, optimizer.zero_grad

    def step(self, *args: object) -> None:
        """Leave every weight as it is."""


class _Refusing(nn.Module):
    """The guard's stand-in: looks at the gradients and lets D's half pass, so that G's is looked at too."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__()
        self._names = parameter_names(modules)
        self.found: str | None = None

    def clip(self, name: str, parameters: list[nn.Parameter], multiple: float) -> tuple[Tensor, Tensor]:
        """As `NormGuard.clip`; G's half is never let through."""
        bad = [p for p in parameters if p.grad is not None and not torch.isfinite(p.grad).all()]
        if bad and self.found is None:
            # gradients run backwards: the last of the network's order met it first
            self.found = self._names[id(bad[-1])]
        return torch.zeros(()), torch.tensor(name == "D" and not bad)


@contextlib.contextmanager
def _first_bad(players: Players) -> Iterator[list[str]]:
    """Hooks that note the first module with an output that is not finite; a one-element list then."""
    found: list[str] = []

    def watch(name: str):
        def hook(module: nn.Module, args: object, kwargs: object, output: object) -> None:
            if found or all(torch.isfinite(t).all() for _, t in _named_tensors(output)):
                return
            given = [t for _, t in _named_tensors([args, kwargs])]
            # what comes in broken was broken in the module around this one, between two of its parts
            whole = all(torch.isfinite(t).all() for t in given)
            found.append(name if whole else name.rpartition(".")[0])

        return hook

    handles = [
        module.register_forward_hook(watch(f"{part}.{name}" if name else part), with_kwargs=True)
        for part, network in players.modules().items()
        for name, module in network.named_modules()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _named_tensors(value: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Floating tensors inside tensors, lists, dicts and dataclasses, with their place."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _named_tensors(item, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _named_tensors(item, str(key))
    elif is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            yield from _named_tensors(inner, f"{name}.{field.name}".lstrip("."))
