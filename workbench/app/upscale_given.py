"""The picture that is enlarged: read from whatever a browser sent, or drawn again where it was drawn here.

A PNG holds 8 bits a channel; what the model draws is finer. So a picture of the loaded model is drawn again
from its recipe, and what is made of it can be made again to the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.app.jobs import Studio
from workbench.errors import WorkbenchError

# Torch comes with the model: imported inside the functions, the page is up before that.

MOST_SIDE = 4096
MOST_PIXELS = MOST_SIDE**2  # of an enlarged picture on this page; minutes on two cores
_STRANGE = {"P": "a palette", "1": "black and white", "L": "grey", "LA": "grey", "CMYK": "CMYK", "LAB": "Lab"}


@dataclass
class Given:
    """images [1, 3, H, W] in [-1, 1]; alpha: how opaque each pixel is, mode L, or None; recipe: of this
    picture, for the recipe of what is made of it; notes: sentences on what was made of the file.
    """

    name: str
    images: Any
    alpha: Any
    recipe: dict[str, Any]
    prompt: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        return int(self.images.shape[3])

    @property
    def height(self) -> int:
        return int(self.images.shape[2])

    @property
    def drawn(self) -> bool:
        """Whether its recipe says how to draw it."""
        return self.recipe.get("kind", "gan") != "picture"


def read(path: str | Path | None, studio: Studio, factor: int) -> Given:
    """The picture at `path`, to be enlarged `factor` times.

    Raises WorkbenchError for none, for what is no whole picture, and for one that would become too large.
    """
    from workbench.images import from_uint8
    from workbench.pipeline import picture_files
    from workbench.pipeline.stage_recipes import picture_recipe

    path = _there(path)
    try:
        loaded = picture_files.load(path, factor)
    except WorkbenchError as error:  # its sentence, without the folder of uploads
        raise WorkbenchError(str(error).replace(str(path), path.name)) from error
    frame = loaded.frames[0]
    check_page(*frame.pixels.shape[:2], factor)
    given = Given(
        path.name, None, frame.alpha, {}, str(loaded.recipe.get("prompt", "")), _notes(path, loaded)
    )
    samples = _drawn_again(loaded.recipe, frame.pixels, studio)
    if samples is None:
        given.images = from_uint8(frame.pixels[None])
        given.recipe = picture_recipe(given.images[0])
    else:
        given.images, given.recipe = samples.images, samples.recipes[0]
    return given


def check_page(height: int, width: int, factor: int) -> None:
    """WorkbenchError for a picture that would become larger than this page makes."""
    if height * width * factor**2 > MOST_PIXELS:
        raise WorkbenchError(
            f"{width} × {height} px become {width * factor} × {height * factor} px at factor {factor}: at "
            f"most {MOST_PIXELS / 1e6:.1f} million pixels ({MOST_SIDE} × {MOST_SIDE}) are made on this page. "
            "Choose a smaller factor, shrink or cut the picture, or use `workbench upscale`."
        )


def middle(given: Given, side: int) -> Given:
    """At most side × side pixels of the middle. A picture that is cut is nobody's drawing any more."""
    from workbench.pipeline.stage_recipes import picture_recipe

    if max(given.width, given.height) <= side:
        return given
    height, width = min(side, given.height), min(side, given.width)
    top, left = (given.height - height) // 2, (given.width - width) // 2
    images = given.images[..., top : top + height, left : left + width].contiguous()
    said = f"The middle {width} × {height} px of the picture are taken."
    return Given(given.name, images, None, picture_recipe(images[0]), given.prompt, [*given.notes, said])


def _there(path: str | Path | None) -> Path:
    if not path:
        raise WorkbenchError("There is no picture yet: drop one, or draw one from the prompt.")
    path = Path(path)
    if not path.exists():
        raise WorkbenchError(f"{path.name} is no longer kept here: give the picture again.")
    return path


def _notes(path: Path, loaded: Any) -> list[str]:
    """What a person should know of how the file was read."""
    from workbench.datasets import decode

    notes = list(loaded.warnings)
    if loaded.moves:
        notes.append(
            f"{path.name} moves: the first of its {len(loaded.frames)} frames is enlarged here, all of them "
            "by `workbench upscale`."
        )
    with decode.opened(path) as file:
        mode = file.mode
    kind = "16-bit grey" if mode.startswith("I") else _STRANGE.get(mode)
    if kind is not None:
        notes.append(f"The file holds {kind}: it is taken as 8-bit sRGB.")
    if loaded.frames[0].alpha is not None:
        notes.append("Its transparency is kept, enlarged by bicubic interpolation.")
    return notes


def _drawn_again(recipe: dict[str, Any], pixels: Any, studio: Studio) -> Any:
    """The picture of a recipe as the loaded model draws it, where that is the same picture; else None."""
    import numpy as np

    from workbench.images import to_uint8

    plain = recipe.get("kind", "gan") == "gan" and "edit" not in recipe
    if not plain or not {"prompt", "seed", "weight_hash"} <= recipe.keys() or studio.trouble() is not None:
        return None
    pipeline = studio.pipeline()
    if recipe["weight_hash"] != pipeline.weight_hash:
        return None
    try:
        with studio.alone():
            samples = pipeline(
                recipe["prompt"], seed=recipe["seed"], truncation=recipe.get("truncation", 1.0)
            )
    except WorkbenchError:
        return None  # a recipe that was written by hand: the pixels are there all the same
    same = to_uint8(samples.images)[0]
    return samples if same.shape == pixels.shape and np.array_equal(same, pixels) else None
