"""Low-rank adapters on a frozen U-Net (LoRA, Hu et al. 2022): what a few-step student learns and ships.

W x becomes W x + (alpha / rank) B A x with B = 0 at first: a fresh student is its teacher, bit for bit. peft
puts them in and takes them out of the way; what is kept is the plain tensors by name.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.checks import check_counts

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "time_emb_proj")


@dataclass(kw_only=True, frozen=True)
class LoraConfig:
    """rank: of each adapter; alpha: its strength times the rank; targets: ends of the layers' names."""

    rank: int = 8
    alpha: int = 8
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        check_counts(self, ("rank", "alpha"))
        object.__setattr__(self, "targets", tuple(self.targets))
        if not self.targets or not set(self.targets) <= set(TARGETS):
            raise WorkbenchError(f"targets are {list(self.targets)}: expected some of {', '.join(TARGETS)}.")

    def to_json(self) -> dict:
        """Plain values; LoraConfig(**d) reads them back."""
        return {**asdict(self), "targets": list(self.targets)}


def attach(unet: nn.Module, config: LoraConfig) -> dict[str, nn.Parameter]:
    """Put adapters into the U-Net and freeze all else; gives their parameters by name."""
    import peft

    unet.requires_grad_(False)
    unet.add_adapter(
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            target_modules=list(config.targets),
            init_lora_weights=True,
        )
    )
    return parameters(unet)


def parameters(unet: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' parameters, by names that peft's own spelling does not change."""
    return {name.replace(".default", ""): p for name, p in unet.named_parameters() if ".lora_" in name}


def blank(unet: nn.Module, config: LoraConfig) -> dict[str, nn.Parameter]:
    """What `attach` would give, without memory; the U-Net stays as it is."""
    return attach(copy.deepcopy(unet).to("meta"), config)


def check(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises WorkbenchError unless the two have the same names and shapes."""
    for name in sorted(own.keys() | tensors.keys()):
        sides = [list(side[name].shape) if name in side else "nothing" for side in (own, tensors)]
        if sides[0] != sides[1]:
            raise WorkbenchError(
                f"{where} does not fit this teacher at {name}: expected {sides[0]}, found {sides[1]}. The "
                "files come from different models: copy the folder again."
            )


def load(unet: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy saved tensors into the adapters, strictly."""
    own = parameters(unet)
    check(own, tensors, where)
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(tensors[name])


@contextlib.contextmanager
def teacher(unet: nn.Module) -> Iterator[None]:
    """Within it, the U-Net is as it was before `attach`."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def merged(unet: nn.Module) -> dict[str, Tensor]:
    """Add the adapters to the weights they sit on and take them off, which saves their time (a third of a
    pass on a CPU); gives what they were. The U-Net draws as before but for rounding.
    """
    kept = {name: p.detach().clone() for name, p in parameters(unet).items()}
    unet.fuse_lora()
    unet.unload_lora()
    unet.requires_grad_(False)
    return kept


class Adapter(nn.Module):
    """The adapters of a U-Net as a module of their own: to average, and to keep in a checkpoint."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        for name, p in parameters(unet).items():
            self.register_parameter(name.replace(".", "/"), p)

    def tensors(self) -> dict[str, Tensor]:
        """By the names of `parameters`."""
        return {name.replace("/", "."): p.detach() for name, p in self.named_parameters()}

    def take(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Copy saved tensors, strictly."""
        own = self.tensors()
        check(own, tensors, where)
        for name, p in own.items():
            p.copy_(tensors[name])


@contextlib.contextmanager
def worn(unet: nn.Module, average: Adapter) -> Iterator[None]:
    """Within it, the U-Net wears the averaged adapters."""
    own = {name: p.detach().clone() for name, p in parameters(unet).items()}
    load(unet, average.tensors(), "The average")
    try:
        yield
    finally:
        load(unet, own, "The student")
