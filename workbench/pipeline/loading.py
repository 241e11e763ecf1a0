"""Models by name: whatever enlarges, and whatever draws in front of it."""

from __future__ import annotations

from pathlib import Path

from workbench.pipeline import aurasr
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.chain import Source
from workbench.pipeline.core import Pipeline
from workbench.pipeline.upscaler import Upscaler

DIFFUSERS = "diffusers:"


def load_upscaler(name: str | Path, device: str | None = None) -> Upscaler | AuraSR:
    """An upscaler's folder or Hub name; "aura-sr", or a folder with AuraSR's weights."""
    if name == aurasr.NAME or aurasr.is_folder_of(Path(name).expanduser()):
        return AuraSR.from_pretrained(name, device=device)
    return Upscaler.from_pretrained(name, device=device)


def load_source(name: str | Path, device: str | None = None) -> Source:
    """What draws small pictures: a GAN's folder or Hub name; "diffusers:" and a pipeline's folder or name."""
    if str(name).startswith(DIFFUSERS):
        from workbench.pipeline.diffusing import DiffusersSource

        return DiffusersSource.from_pretrained(str(name).removeprefix(DIFFUSERS), device=device)
    return Pipeline.from_pretrained(name, device=device)
