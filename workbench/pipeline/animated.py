"""Enlarged animations on disk: PNG and WebP with every colour and the transparency, GIF with 256 colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from workbench.images import save_gif, write_whole

ENDINGS = (".png", ".webp", ".gif")


def ending(source: Path) -> str:
    """How the enlarged animation's name ends: as before, where that is written."""
    return source.suffix.lower() if source.suffix.lower() in ENDINGS else ".webp"


def write(frames: Sequence[Image.Image], times: Sequence[int], target: Path, *, overwrite: bool) -> Path:
    """Write RGB or RGBA frames, each with its milliseconds, in the format of the name's ending.

    A GIF knows no half transparency, so the picture lies on white there.
    """
    if target.suffix.lower() == ".gif":
        opaque = [_on_white(frame) for frame in frames]
        seconds = [time / 1000 for time in times]
        return save_gif(opaque, target, seconds_per_frame=seconds, hold_last=0.0, overwrite=overwrite)
    kind, settings = ("PNG", {}) if target.suffix.lower() == ".png" else ("WEBP", {"lossless": True})
    more = {"save_all": True, "append_images": frames[1:], "duration": list(times), "loop": 0, **settings}
    buffer = io.BytesIO()
    frames[0].save(buffer, format=kind, **more)
    return write_whole(target, lambda handle: handle.write(buffer.getbuffer()), overwrite=overwrite)


def _on_white(frame: Image.Image) -> Image.Image:
    if frame.mode != "RGBA":
        return frame
    white = Image.new("RGB", frame.size, "white")
    return Image.composite(frame.convert("RGB"), white, frame.getchannel("A"))
