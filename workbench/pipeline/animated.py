"""Enlarged animations on disk: PNG and WebP with every colour and the transparency, GIF with 256 colours.

What one was made with stands in it as JSON under a key of its own, where its format keeps a text: it is no
recipe of a picture that the app could make again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from workbench.images import save_gif, write_whole

ENDINGS = (".png", ".webp", ".gif")
_KEY = "workbench animation"
_DESCRIPTION = 0x010E  # the EXIF tag of a text, the one that WebP keeps


def ending(source: Path) -> str:
    """How the enlarged animation's name ends: as before, where that is written."""
    return source.suffix.lower() if source.suffix.lower() in ENDINGS else ".webp"


def write(
    frames: Sequence[Image.Image],
    times: Sequence[int],
    target: Path,
    recipe: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Path:
    """Write RGB or RGBA frames, each with its milliseconds, in the format of the name's ending.

    recipe: plain values that `recipe_in` gives back. A GIF knows no half transparency, so the picture lies on
    white there.
    """
    told = json.dumps({_KEY: recipe})
    if target.suffix.lower() == ".gif":
        opaque = [_on_white(frame) for frame in frames]
        seconds = [time / 1000 for time in times]
        return save_gif(
            opaque, target, seconds_per_frame=seconds, hold_last=0.0, comment=told, overwrite=overwrite
        )
    if target.suffix.lower() == ".png":
        kind, settings = "PNG", {"pnginfo": PngInfo()}
        settings["pnginfo"].add_text("Comment", told)
    else:
        kind, settings = "WEBP", {"lossless": True, "exif": Image.Exif()}
        settings["exif"][_DESCRIPTION] = told
    more = {"save_all": True, "append_images": frames[1:], "duration": list(times), "loop": 0, **settings}
    buffer = io.BytesIO()
    frames[0].save(buffer, format=kind, **more)
    return write_whole(target, lambda handle: handle.write(buffer.getbuffer()), overwrite=overwrite)


def recipe_in(path: Path) -> dict[str, Any]:
    """The recipe in an animation that `write` wrote; {} without."""
    try:
        with Image.open(path, formats=("PNG", "WEBP", "GIF")) as picture:
            kept = {"GIF": "comment", "PNG": "Comment"}.get(picture.format)
            told = picture.info.get(kept) if kept else picture.getexif().get(_DESCRIPTION)
            found = json.loads(told or "{}")
    except (OSError, ValueError, SyntaxError, TypeError):
        return {}  # whatever lies there, it is not what would be made
    recipe = found.get(_KEY) if isinstance(found, dict) else None
    return recipe if isinstance(recipe, dict) else {}


def _on_white(frame: Image.Image) -> Image.Image:
    if frame.mode != "RGBA":
        return frame
    white = Image.new("RGB", frame.size, "white")
    return Image.composite(frame.convert("RGB"), white, frame.getchannel("A"))
