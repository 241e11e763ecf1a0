"""Begin a baseline with the weights of one that was trained before, and count on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from workbench.diffusion.baseline import BaselineConfig
from workbench.diffusion.model import DiffusionModel
from workbench.errors import WorkbenchError
from workbench.models.text import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Start:
    """source: a model folder or Hub name; weight_hash: of its U-Net; images, seconds: what its card says of
    its training, 0 where it does not.
    """

    source: str
    weight_hash: str
    images: int = 0
    seconds: float = 0.0

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
        return Start(**old["started_from"]) if "started_from" in old else None
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
    images, seconds = (model.card.get(name, 0) for name in ("images", "seconds"))
    return Start(source=str(source), weight_hash=model.weight_hash, images=images, seconds=seconds)


def take_over(networks: Iterable[nn.Module], start: Start, say: Callable[[str], None] = print) -> None:
    """Copy the weights of `start` into U-Nets of its shape. Raises WorkbenchError where they have changed."""
    model = DiffusionModel.from_pretrained(start.source, device="cpu")
    if model.weight_hash != start.weight_hash:
        raise WorkbenchError(
            f"{start.source} holds other weights than when this run began: begin in a new folder."
        )
    for network in networks:
        network.load_state_dict(model.unet.state_dict())
    say(f"Starts from {start.source} after {start.images} images.")


def _shape(config: BaselineConfig) -> str:
    return f"{config.resolution} px with channels {config.widths}"
