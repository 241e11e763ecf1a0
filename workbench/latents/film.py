"""Films of a walk: frames to a GIF or an MP4, enlarged, and there and back where that is wanted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import save_gif as write_gif
from workbench.images import to_uint8
from workbench.models.inspect import enlarged
from workbench.video import write_mp4

SIDE = 256  # pixels a side of films of small pictures
RATE = 16.0  # frames a second


def save_gif(
    frames: Tensor, path: str | Path, *, rate: float = RATE, back: bool = True, side: int = SIDE
) -> Path:
    """A GIF that loops for ever. frames [N, 3, S, S] in [-1, 1], N >= 2; rate: frames a second, 1 to 50;
    back: go back the same way, so that the loop has no jump; side: pixels, never fewer than the frames have.
    """
    shown = _shown(frames, back, side)
    if not 1 <= rate <= 50:
        raise WorkbenchError(f"The film has {rate!r} frames a second: a GIF takes 1 to 50.")
    return write_gif(list(shown), path, seconds_per_frame=1 / rate, hold_last=0.0)


def save_mp4(
    frames: Tensor, path: str | Path, *, rate: float = RATE, back: bool = True, side: int = SIDE
) -> Path:
    """The same as an MP4 below 8 MB; raises WorkbenchError where imageio-ffmpeg is missing."""
    return write_mp4(list(to_uint8(_shown(frames, back, side))), path, rate=rate)


def _shown(frames: Tensor, back: bool, side: int) -> Tensor:
    if frames.dim() != 4 or len(frames) < 2:
        raise WorkbenchError(f"A film needs two frames or more, got {list(frames.shape)}.")
    if back:
        frames = torch.cat([frames, frames[1:-1].flip(0)])
    return enlarged(frames, side) if frames.shape[-1] < side else frames
