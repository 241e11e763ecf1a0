"""A trained D and its heads on CLIP features as a folder: what shows a lesson how pictures are judged.

config.json, discriminator.safetensors, vision_aided.safetensors (fp16; the frozen CLIP is not among them).
"""

from __future__ import annotations

from collections.abc import Callable
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
from workbench.models.fp16 import rounded_to_fp16
from workbench.models.vision_aided import ImageTower, VisionAided, VisionAidedConfig, eyes_hash

KIND = "critics"
_FILES = ("config.json", "discriminator.safetensors", "vision_aided.safetensors")


def save_critics(
    folder: str | Path,
    D: Discriminator,
    heads: VisionAided,
    facts: dict | None = None,
    *,
    clip: Clip | None = None,
    overwrite: bool = False,
) -> Path:
    """Write D and the heads, rounded to fp16; facts: what else config.json should say (data, images, …).

    clip: the one whose features the heads judge; where it is given, no other is taken for it later. Raises
    WorkbenchError for weights that fp16 can't hold.
    """

    def write(path: Path) -> None:
        write_tensors(path / "discriminator.safetensors", rounded_to_fp16(D.state_dict()))
        write_tensors(path / "vision_aided.safetensors", rounded_to_fp16(heads.state_dict()))
        config = {"schema": SCHEMA, "kind": KIND, **(facts or {})}
        if clip is not None:
            config["clip"] = {"name": clip.name, "eyes": eyes_hash(clip)}
        config |= {"discriminator": D.config.to_json(), "vision_aided": heads.config.to_json()}
        write_json(path / "config.json", config)

    return write_folder(folder, write, overwrite=overwrite)


def load_critics(folder: str | Path, clip: Clip) -> tuple[Discriminator, VisionAided, ImageTower]:
    """(D, heads, the frozen tower whose features the heads judge), in fp32 on the CPU, in eval mode.

    Raises WorkbenchError for a folder that is missing, half copied, damaged or of another kind, and for a
    CLIP that is not the one the heads were trained on: by the hash of its image tower where the folder tells
    it, by the width of its embeddings and its maps where it doesn't.
    """
    folder = Path(folder)
    config, D = _discriminator(folder)
    heads_config = _described(VisionAidedConfig, config, "vision_aided", folder)
    _check_clip(config.get("clip"), clip, folder)
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
    D = Discriminator(_described(DiscriminatorConfig, config, "discriminator", folder))
    _load(D, folder / "discriminator.safetensors")
    return config, D


def _described(kind: Callable[..., Any], config: dict[str, Any], name: str, folder: Path) -> Any:
    """The config of D or of the heads. Raises WorkbenchError where config.json has none that can be read."""
    try:
        return kind(**config[name])
    except KeyError as error:
        raise WorkbenchError(f"{folder}/config.json lacks {name}: copy the folder again.") from error
    except TypeError as error:
        raise WorkbenchError(
            f"{folder}/config.json describes a {name} this version does not know ({error}): update the "
            "workbench, or copy the folder again."
        ) from error
    except WorkbenchError as error:
        raise WorkbenchError(f"{folder}/config.json describes no {name}: {error}") from error


def _check_clip(told: Any, clip: Clip, folder: Path) -> None:
    """Raises WorkbenchError where the folder tells another CLIP's hash; older folders tell none."""
    if told is None:
        return
    if not isinstance(told, dict) or "eyes" not in told:
        raise WorkbenchError(
            f"{folder}/config.json holds {str(told)[:40]!r} as clip: expected its name and the hash of its "
            "eyes. Copy the folder again."
        )
    if (found := eyes_hash(clip)) != told["eyes"]:
        raise WorkbenchError(
            f"{folder} judges the features of {told.get('name')} (image tower {str(told['eyes'])[:10]}…), "
            f"but this CLIP is {clip.name} ({found[:10]}…): load the CLIP it was trained with."
        )


def _load(module: nn.Module, file: Path) -> None:
    load_strict(module, {name: tensor.float() for name, tensor in read_tensors(file).items()}, str(file))
