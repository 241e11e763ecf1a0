"""Begin a baseline or a student with the weights of one that was trained before, and count on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from workbench.diffusion import folder, lora
from workbench.diffusion.baseline import BaselineConfig
from workbench.diffusion.lora import Adapter, LoraConfig
from workbench.diffusion.model import DiffusionModel
from workbench.errors import WorkbenchError
from workbench.models.text import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Start:
    """source: a model folder or Hub name; weight_hash: of its U-Net, of a student's adapters' file; images,
    seconds: what its card says of its training, 0 where it does not.
    """

    source: str
    weight_hash: str
    images: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, source: str | Path, weight_hash: str, card: Mapping[str, Any]) -> Start:
        """By what its card says."""
        told = {name: card.get(name, 0) for name in ("images", "seconds")}
        return cls(source=str(source), weight_hash=weight_hash, **told)

    @classmethod
    def on_record(cls, old: Mapping[str, Any]) -> Start | None:
        """What the run with the config.json `old` began with."""
        return cls(**old["started_from"]) if "started_from" in old else None

    def to_json(self) -> dict[str, Any]:
        """Of config.json, as `started_from`."""
        return asdict(self)


def start_of(
    source: str | Path | None, old: dict[str, Any] | None, network: BaselineConfig, encoder: TextEncoder
) -> Start | None:
    """What a run begins with; None for fresh weights. A run that is there (`old`) keeps to its own.

    Raises WorkbenchError for what is no baseline, one of another shape, or one that reads by another text
    tower.
    """
    if old is not None:
        return Start.on_record(old)
    if source is None:
        return None
    model = DiffusionModel.from_pretrained(source, device="cpu")
    if model.is_student:
        raise WorkbenchError(f"{source} is a few-step student: start from its teacher, which is whole.")
    if model.config != network:
        raise WorkbenchError(
            f"The U-Net of {source} is {_shape(model.config)}, this run's is {_shape(network)}: start from a "
            "baseline of the same preset."
        )
    if model.text_encoder.fingerprint() != encoder.fingerprint():
        raise WorkbenchError(f"{source} reads by another text tower: give its own with --clip.")
    return Start.of(source, model.weight_hash, model.card)


def take_over(networks: Iterable[nn.Module], start: Start, say: Callable[[str], None] = print) -> None:
    """Copy the weights of `start` into U-Nets of its shape. Raises WorkbenchError where they have changed."""
    model = DiffusionModel.from_pretrained(start.source, device="cpu")
    if model.weight_hash != start.weight_hash:
        raise _changed(start)
    for network in networks:
        network.load_state_dict(model.unet.state_dict())
    say(f"Starts from {start.source} after {start.images} images.")


def adapters_of(
    source: str | Path | None, old: dict[str, Any] | None, teacher: DiffusionModel, settings: LoraConfig
) -> Start | None:
    """What a student's run begins with; as `start_of`. The adapters may have been learnt on an earlier
    teacher of the same shape: what one lap of training moves in a U-Net, they have soon made up for.

    Raises WorkbenchError for what is no student, and adapters of another rank or of another U-Net.
    """
    if old is not None:
        return Start.on_record(old)
    if source is None:
        return None
    facts, tensors = folder.read_adapters(source)
    own = LoraConfig(**facts["lora"])
    if own != settings:
        raise WorkbenchError(
            f"The adapters of {source} are of rank {own.rank} on {len(own.targets)} kinds of layers, this "
            f"run's of rank {settings.rank} on {len(settings.targets)}: give --rank {own.rank}, or begin "
            "afresh."
        )
    lora.check(lora.blank(teacher.unet, settings), tensors, str(source))
    return Start.of(source, facts["weights"][folder.STUDENT_WEIGHTS], facts.get("card", {}))


def wear(adapters: Iterable[Adapter], start: Start, say: Callable[[str], None] = print) -> None:
    """Copy the adapters of `start` into others of their shape. Raises WorkbenchError where they changed."""
    facts, tensors = folder.read_adapters(start.source)
    if facts["weights"][folder.STUDENT_WEIGHTS] != start.weight_hash:
        raise _changed(start)
    for adapter in adapters:
        adapter.take(tensors, start.source)
    say(f"Starts from {start.source} after {start.images} images.")


def _changed(start: Start) -> WorkbenchError:
    return WorkbenchError(
        f"{start.source} holds other weights than when this run began: begin in a new folder."
    )


def _shape(config: BaselineConfig) -> str:
    return f"{config.resolution} px with channels {config.widths}"
