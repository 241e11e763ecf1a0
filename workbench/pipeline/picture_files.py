"""A picture file as an upscaler takes it: its frames in 8-bit sRGB, transparency, times, and its prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from workbench import recipe as recipes
from workbench.datasets import decode
from workbench.errors import WorkbenchError
from workbench.images import MAX_PIXELS, from_uint8
from workbench.pipeline.inputs import check_size

MOST_PIXELS = 4 * MAX_PIXELS  # of all frames of an animation together, enlarged
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_USUAL_MS, _SHORTEST_MS = 100, 20


@dataclass
class Frame:
    """pixels: uint8 [H, W, 3]; alpha: how opaque each is, mode L, None where all are; milliseconds: how long
    it stays.
    """

    pixels: np.ndarray
    alpha: Image.Image | None
    milliseconds: int = _USUAL_MS


@dataclass
class PictureFile:
    """frames: one, or those of an animation; recipe: what a PNG made here says of itself, else {}."""

    path: Path
    frames: list[Frame]
    recipe: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def moves(self) -> bool:
        return len(self.frames) > 1


def load(path: Path, factor: int) -> PictureFile:
    """The file at `path`, to be enlarged `factor` times; WorkbenchError for what is no whole picture, and,
    before a pixel is decoded, for one that would become too large.
    """
    try:
        with decode.opened(path) as picture:
            count = getattr(picture, "n_frames", 1)
            moves = picture.format in _ANIMATED and count > 1  # the pages of a TIFF do not
            check_size(picture.height, picture.width, factor)
            if moves:
                _check_length(count, picture.width * picture.height * factor**2)
            loaded = PictureFile(path, [_frame(picture, k) for k in range(count if moves else 1)])
            if picture.format == "PNG":
                loaded.recipe = decoded_recipe(picture.info.get(recipes.RECIPE_KEY))
    except decode.NoPicture as error:
        raise WorkbenchError(f"{path} cannot be enlarged ({error.why}): give a whole picture.") from error
    except FileNotFoundError as error:
        raise WorkbenchError(f"There is no picture at {path}: check the path.") from error
    except PermissionError as error:
        raise WorkbenchError(f"{path} may not be read: change its permissions.") from error
    if count > 1 and not moves:
        loaded.warnings.append(f"{path.name} holds {count} pictures: the first is enlarged.")
    return loaded


def load_tensor(path: Path) -> Tensor:
    """The first frame of a file as [1, 3, H, W] in [-1, 1], as an upscaler saw it."""
    return from_uint8(load(path, 1).frames[0].pixels[None])


def recipe_in(path: Path) -> dict[str, Any]:
    """The recipe in a PNG, read without decoding its pixels; {} without."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return decoded_recipe(picture.info.get(recipes.RECIPE_KEY))
    except (OSError, ValueError, SyntaxError):
        return {}  # whatever lies there, it is not what would be made


def decoded_recipe(text: object) -> dict[str, Any]:
    """The recipe of a PNG's key; {} where there is none that can be read."""
    if not isinstance(text, str):
        return {}
    try:
        return recipes.decode(text)
    except WorkbenchError:
        return {}


def _frame(picture: Image.Image, number: int) -> Frame:
    if number:
        picture.seek(number)
    picture.load()
    colours, alpha = decode.to_srgb_and_alpha(picture)
    time = round(picture.info.get("duration") or _USUAL_MS)
    return Frame(np.asarray(colours), alpha, max(_SHORTEST_MS, time))


def _check_length(count: int, pixels: int) -> None:
    """pixels: of one frame, enlarged."""
    total = count * pixels
    if total > MOST_PIXELS:
        raise WorkbenchError(
            f"{count} frames become {total / 1e6:,.0f} million pixels, which take {total * 4 / 2**30:.1f} "
            f"GiB: at most {MOST_PIXELS / 1e6:,.0f} million are held. Make it a film (MP4), which goes frame "
            "by frame, or choose a smaller factor."
        )
