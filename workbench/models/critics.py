"""A trained D and its heads on CLIP features as a folder: what shows a lesson how pictures are judged.

config.json, discriminator.safetensors, vision_aided.safetensors (fp16; the frozen CLIP is not among them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.clip_io import (
    SCHEMA,
    Clip,
    check_folder,
    load_strict,
    read_tensors,
    write_folder,
    write_json,
    write_tensors,
)
from workbench.models.discriminator import Discriminator, DiscriminatorConfig
from workbench.models.vision_aided import ImageTower, VisionAided, VisionAidedConfig

KIND = "critics"
_FILES = ("config.json", "discriminator.safetensors", "vision_aided.safetensors")


def save_critics(
    folder: str | Path,
    D: Discriminator,
    heads: VisionAided,
    facts: dict | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write D and the heads, rounded to fp16; facts: what else config.json should say (data, images, …)."""

    def write(path: Path) -> None:
        write_tensors(path / "discriminator.safetensors", _rounded(D))
        write_tensors(path / "vision_aided.safetensors", _rounded(heads))
        config = {"schema": SCHEMA, "kind": KIND, **(facts or {})}
        config |= {"discriminator": D.config.to_json(), "vision_aided": heads.config.to_json()}
        write_json(path / "config.json", config)

    return write_folder(folder, write, overwrite=overwrite)


def load_critics(folder: str | Path, clip: Clip) -> tuple[Discriminator, VisionAided, ImageTower]:
    """(D, heads, the frozen tower whose features the heads judge), in fp32 on the CPU, in eval mode.

    Raises WorkbenchError for a folder that is missing, half copied, damaged or of another kind, and for a
    CLIP that is not the one the heads were trained on.
    """
    folder = Path(folder)
    config, D = _discriminator(folder)
    heads_config = VisionAidedConfig(**config["vision_aided"])
    tower = ImageTower(clip, heads_config.taps, torch.float32)
    channels, embed_dim = tower.widths()
    if embed_dim != heads_config.embed_dim:
        raise WorkbenchError(
            f"{folder} judges with embeddings {heads_config.embed_dim} wide, but this CLIP gives "
            f"{embed_dim}: load the CLIP it was trained with."
        )
    heads = VisionAided(heads_config, channels)
    _load(heads, folder / "vision_aided.safetensors")
    return D.eval(), heads.eval(), tower


def load_discriminator(folder: str | Path) -> Discriminator:
    """D alone, as `load_critics` reads it: another training may begin with its eye."""
    return _discriminator(Path(folder))[1].eval()


def read_critics(folder: str | Path) -> dict[str, dict[str, Tensor]]:
    """The weights alone, "D" and "heads", for networks that are there already. Raises as `load_critics`."""
    check_folder(Path(folder), KIND, _FILES)
    return {
        name: read_tensors(Path(folder) / file) for name, file in zip(("D", "heads"), _FILES[1:], strict=True)
    }


def _discriminator(folder: Path) -> tuple[dict[str, Any], Discriminator]:
    """The folder's facts, and its D."""
    config = check_folder(folder, KIND, _FILES)
    D = Discriminator(DiscriminatorConfig(**config["discriminator"]))
    _load(D, folder / "discriminator.safetensors")
    return config, D


def _rounded(module: nn.Module) -> dict[str, Tensor]:
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    return {n: t.half().to(t.dtype) if t.is_floating_point() else t for n, t in state.items()}


def _load(module: nn.Module, file: Path) -> None:
    load_strict(module, {name: tensor.float() for name, tensor in read_tensors(file).items()}, str(file))
