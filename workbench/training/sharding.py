"""Networks too large for one GPU: what is cut into shards, how, and how much memory each GPU then needs.

ZeRO's stages (Rajbhandari et al. 2020) on what a step holds for each parameter: its value, its gradient and
Adam's two means, float32 each, and G's average. Features are not counted: they do not depend on the number of
GPUs, and gradient checkpointing is what makes them small.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator, LastStage, MeanStage, TextHead, TrunkStage
from workbench.models.generator import SynthesisBlock
from workbench.models.mapping import MappingNetwork, TextTransformer
from workbench.models.presets import Preset
from workbench.models.vision_aided import VisionHead

# What is gathered at once: parts that come one after the other in a pass. All else is gathered with the root.
UNITS = (
    SynthesisBlock, TrunkStage, LastStage, MeanStage, TextHead, TextTransformer, MappingNetwork, VisionHead,
)  # fmt: skip
BYTES = {"parameters": 4, "gradients": 4, "Adam": 8}
STAGES = {  # what lies in shards; the rest is whole on each GPU
    "none": (),
    "ZeRO-1": ("Adam",),
    "ZeRO-2": ("Adam", "gradients"),
    "ZeRO-3": ("Adam", "gradients", "parameters"),
}
_HELD = 2  # units whole at a time under ZeRO-3: the one at work, and the next, fetched meanwhile


def wrap_policy():
    """The policy by which Accelerate's FSDP plugin (`auto_wrap_policy`) finds the units."""
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    return ModuleWrapPolicy(set(UNITS))


def units(network: nn.Module) -> dict[str, nn.Module]:
    """The outermost modules of a network that are gathered on their own, by name, in its order."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, UNITS) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def shard(network: nn.Module, mesh=None) -> nn.Module:
    """Cut a network's parameters into shards over the processes of `mesh` (all by default), unit by unit.

    ZeRO-3 by torch's fully_shard: each unit is gathered for its pass and let go after it. The network's own
    methods (`mapping`, `synthesis`, `encode_text`) gather what lies outside the units. No double backward
    runs through it: take the finite-difference penalty. Call it before an optimiser is made.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for module in units(network).values():
        fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for name in ("encode_text", "mapping", "synthesis"):
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)
    return network


def check_launch(accelerator) -> None:
    """WorkbenchError where Accelerate was launched in a way that the trainer does not drive."""
    kind = accelerator.distributed_type.value
    if kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise WorkbenchError(
            f"This was launched with {kind}, but optimiser, average and checkpoints of a run expect whole "
            "networks on each GPU: launch without it. `workbench bench shards` shows what then has to fit."
        )


@dataclass(frozen=True, kw_only=True)
class ShardRow:
    """GiB on each of `gpus` under one stage of STAGES, without features."""

    gpus: int
    stage: str
    gib: float


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Parameters of a preset's networks, of their units and "(root)", the rest; what each GPU holds."""

    preset: str
    parameters: dict[str, int]
    units: dict[str, dict[str, int]]
    rows: list[ShardRow]

    def to_json(self) -> dict:
        """Plain values for `--json`."""
        return asdict(self)

    def __rich__(self) -> Table:
        """A line for each number of GPUs, a column for each stage."""
        total = sum(self.parameters.values())
        table = Table(
            title=f"GiB on each GPU for {self.preset}, {total:,} trained parameters, without features",
            caption="counted on shapes, not run",
        )
        table.add_column("GPUs", justify="right")
        for stage in STAGES:
            table.add_column(stage, justify="right")
        for gpus in dict.fromkeys(row.gpus for row in self.rows):
            cells = {row.stage: f"{row.gib:.2f}" for row in self.rows if row.gpus == gpus}
            table.add_row(str(gpus), *(cells[stage] for stage in STAGES))
        return table


def plan(preset: Preset, gpus: tuple[int, ...] = (1, 2, 4, 8, 16, 64)) -> ShardPlan:
    """Count a preset's networks on the meta device, where nothing is allocated.

    G's average is whole but under "ZeRO-3", where it is a copy of sharded weights.
    """
    with torch.device("meta"):
        networks = {"G": preset.network(), "D": Discriminator(preset.discriminator)}
        if preset.vision_aided is not None:
            networks["heads"] = nn.ModuleList(
                VisionHead(preset.vision_aided) for _ in preset.vision_aided.taps
            )
    counts = {name: _count(network) for name, network in networks.items()}
    parts = {
        name: {unit: _count(module) for unit, module in units(network).items()}
        for name, network in networks.items()
    }
    for name, own in parts.items():
        own["(root)"] = counts[name] - sum(own.values())
    rows = [
        ShardRow(gpus=n, stage=stage, gib=_bytes(counts, parts, stage, n) / 2**30)
        for n in gpus
        for stage in STAGES
    ]
    return ShardPlan(preset=preset.name, parameters=counts, units=parts, rows=rows)


def _bytes(counts: dict[str, int], parts: dict[str, dict[str, int]], stage: str, gpus: int) -> float:
    total, sharded = sum(counts.values()), STAGES[stage]
    held = sum(size * total / (gpus if kind in sharded else 1) for kind, size in BYTES.items())
    average = BYTES["parameters"] * counts["G"]
    if "parameters" not in sharded or gpus == 1:
        return held + average
    largest = max(count for own in parts.values() for count in own.values())
    roots = sum(own["(root)"] for own in parts.values())  # whole from its first use to the step's end
    gathered = BYTES["parameters"] * (_HELD * largest + roots) + BYTES["gradients"] * largest
    return held + average / gpus + gathered


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
