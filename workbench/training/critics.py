"""The judges of a run, D and its heads on CLIP features, as a folder of their own."""

from __future__ import annotations

from pathlib import Path

import torch

from workbench.errors import WorkbenchError
from workbench.models.clip_io import load_clip, read_json
from workbench.models.critics import save_critics
from workbench.models.discriminator import Discriminator, DiscriminatorConfig
from workbench.models.vision_aided import ImageTower, VisionAided, VisionAidedConfig
from workbench.training import checkpoint, runs


def export_critics(run: str | Path, folder: str | Path, *, clip: str | Path, overwrite: bool = False) -> Path:
    """Write D and the heads of a run's newest checkpoint into `folder`, rounded to fp16; returns it.

    clip: folder of the CLIP by which the run sees. Raises WorkbenchError for a run without heads or without a
    checkpoint, and for a folder that is there unless overwrite.
    """
    facts = runs.read_run(run)
    newest, _ = checkpoint.newest(run)
    if newest is None:
        raise WorkbenchError(f"{run} has no whole checkpoint yet: let the run reach its first one.")
    parts = newest.tensors()
    if facts.get("vision_aided") is None or "heads" not in parts:
        raise WorkbenchError(
            f"{run} trains no heads on CLIP features: take a run whose vision_weight is above 0."
        )
    config = VisionAidedConfig(**facts["vision_aided"])
    D = Discriminator(DiscriminatorConfig(**facts["discriminator"]))
    seer = load_clip(clip)
    heads = VisionAided(config, ImageTower(seer, config.taps, torch.float32).widths()[0])
    checkpoint.load_module(D, parts["D"], "D")
    checkpoint.load_module(heads, parts["heads"], "heads")
    learned = facts["config"]["lr_G"] > 0
    beside = Path(run) / "model" if learned else facts.get("started_from", {}).get("source")
    told = {"preset": facts["config"]["preset"], "images": newest.state["cur_nimg"], "G_learned": learned}
    if beside is not None:
        told |= _generator(Path(beside))
    return save_critics(folder, D, heads, told, clip=seer, overwrite=overwrite)


def _generator(source: Path) -> dict[str, str]:
    """Whose pictures they learned to judge, by the hash of its weights; {} where there is no model folder."""
    if not (source / "config.json").is_file():
        return {}
    weights = read_json(source / "config.json").get("weights", {}).get("generator.safetensors")
    return {} if weights is None else {"generator": weights}
