"""Pictures on disk: samples into a folder, nothing overwritten, and a picture made again from its recipe."""

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import (
    clear_os_error,
    from_uint8,
    open_picture,
    pixel_hash,
    read_recipe,
    save_png,
    to_uint8,
)
from workbench.noise import MAX_SEED, check_seed
from workbench.pipeline.choosing import Chooser
from workbench.pipeline.core import Pipeline, Samples, check_count
from workbench.pipeline.prompts import clean_prompt
from workbench.pipeline.redrawing import Maker, differences
from workbench.pipeline.upscaler import Upscaler

MAX_FILES = 10_000  # a folder with more is slow to list in every file manager
CLOSE_DB = 35.0  # from here on the eye sees no difference between two 8-bit pictures


@dataclass
class SavedSamples:
    """Paths of the PNGs in the order of their seeds, and the warnings about the prompt."""

    paths: list[Path]
    warnings: list[str]


@dataclass
class Remade:
    """A picture made again from its own recipe.

    verdict: "identical", "close" (from 35 dB) or "different"; db: PSNR in dB over 8-bit levels, infinite when
    identical, None when the sizes differ; reasons: what differs, in sentences; original, image: [1, 3, H, W].
    """

    verdict: str
    db: float | None
    reasons: list[str]
    recipe: dict[str, Any]
    original: Tensor
    image: Tensor

    def __str__(self) -> str:
        measured = f" ({self.db:.1f} dB)" if self.db is not None and math.isfinite(self.db) else ""
        return f"{self.verdict}{measured}" + "".join(f"\n- {reason}" for reason in self.reasons)


# --- samples into a folder ---


def sample_to_folder(
    pipeline: Pipeline | Chooser,
    prompt: str,
    *,
    seed: int,
    count: int,
    truncation: float,
    out: str | Path,
    with_recipe: bool = True,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SavedSamples:
    """Draw `count` pictures and write each as `words-of-the-prompt-SEED.png` as soon as it is drawn.

    A missing folder is made. A taken name gets -2, -3, …; nothing is overwritten. A folder that would hold
    more than 10,000 files is refused. When the disk fills up, whole pictures stay, no half one, and the
    OSError says how many.
    progress(done, count) is called after each picture.
    """
    count = check_count(count)
    if check_seed(seed) + count - 1 > MAX_SEED:
        raise WorkbenchError(
            f"Seed {seed} and {count} pictures go beyond the largest seed {MAX_SEED}: start lower."
        )
    folder = Path(out).expanduser()
    text = clean_prompt(prompt, pipeline.text_encoder).text
    make_room(folder, count)
    saved = SavedSamples([], [])
    for start in range(0, count, batch_size):
        samples = pipeline(
            prompt,
            seed=seed + start,
            count=min(batch_size, count - start),
            truncation=truncation,
            batch_size=batch_size,
        )
        saved.warnings = samples.warnings
        for image, own_seed, recipe in zip(samples.images, samples.seeds, samples.recipes, strict=True):
            recipe = {**recipe, "index": len(saved.paths)}
            try:
                saved.paths.append(
                    save_beside(image, folder, f"{slug(text)}-{own_seed}", recipe, with_recipe)
                )
            except OSError as error:
                stopped = type(error)(f"{error} {len(saved.paths)} of {count} pictures were written.")
                stopped.errno = error.errno
                raise stopped from error
            if progress is not None:
                progress(len(saved.paths), count)
    return saved


def slug(prompt: str, most: int = 60) -> str:
    """The prompt as a file name: ASCII letters and digits joined by hyphens; "picture" where none is left."""
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    name = ""
    for word in words:
        if len(name) + len(word) + 1 > most:
            break
        name = f"{name}-{word}" if name else word
    return name or (words[0][:most] if words else "picture")


def make_room(folder: Path, count: int) -> None:
    """Make the folder; refuse a full one and one that cannot be written to, before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sum(1 for _ in os.scandir(folder))
        with tempfile.TemporaryFile(dir=folder):  # asks the disk itself: permissions, read-only mounts
            pass
    except OSError as error:
        raise clear_os_error(error, folder) from error
    if held + count > MAX_FILES:
        raise WorkbenchError(
            f"{folder} already holds {held:,} files and {count:,} more would exceed {MAX_FILES:,}: "
            "choose another folder."
        )


def save_beside(image: Tensor, folder: Path, stem: str, recipe: dict[str, Any], with_recipe: bool) -> Path:
    """The first free name of stem.png, stem-2.png, …; two writers at once never meet in one file."""
    number = 1
    while True:
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        if not os.path.lexists(path):  # a link that leads nowhere is a name that is taken
            with contextlib.suppress(FileExistsError):  # another writer was faster
                return save_png(image, path, recipe, with_recipe=with_recipe, overwrite=False)
        number += 1


# --- a picture made again ---


def remake(
    png_path: str | Path,
    pipeline: Pipeline | None,
    *,
    replay: Callable[[dict[str, Any]], Samples] | None = None,
    upscalers: Sequence[Upscaler] = (),
    picture: Tensor | None = None,
) -> Remade:
    """Read the recipe of a PNG, draw the picture again and compare: identical, close or different.

    pipeline: None where nothing is drawn of a prompt. replay: draws the picture of a recipe with an `edit`
    (`workbench.latents.session.replay`), which the pipeline alone cannot. upscalers: what an enlarged picture
    may have been made with; picture [1, 3, H, W]: the one it was made of, where nobody drew that. A file
    without a recipe, of another kind, without prompt or seed, or whose model or picture is not given is a
    WorkbenchError. The pixel hash tells an edited file from a changed environment; it is no signature, a
    forged one can match.
    """
    recipe = read_recipe(png_path)
    name = Path(png_path).name
    if recipe is None:
        raise WorkbenchError(
            f"{name} carries no recipe (a screenshot, a re-saved copy, settings left out): give the original."
        )
    maker = Maker(name=name, pipeline=pipeline, replay=replay, upscalers=upscalers, picture=picture)
    maker.check(recipe)
    with open_picture(png_path) as file:
        original = np.asarray(file.convert("RGB"))[None]
        edited = "pixel_hash" in recipe and pixel_hash(file) != recipe["pixel_hash"]
    again = maker.make(recipe)
    made = to_uint8(again.images)
    reasons = differences(recipe, again.recipes[0])
    if edited:
        kept = pixel_hash(Image.fromarray(made[0])) == recipe["pixel_hash"]
        before = ", and as it was first saved it comes out again exactly" if kept else ""
        reasons.insert(0, f"The pixels of this file were changed after it was made{before}.")
    verdict, db = _compare(original, made)
    if verdict == "identical":
        reasons = []
    elif verdict == "different" and db is None:
        sides = [f"{a.shape[2]}×{a.shape[1]}" for a in (original, made)]
        reasons.insert(0, f"The file has {sides[0]} pixels, this model draws {sides[1]}.")
    elif not reasons:
        reasons = ["Nothing recorded differs: another processor or thread count can change the last bits."]
    return Remade(verdict, db, reasons, recipe, from_uint8(original), again.images)


def _compare(original: np.ndarray, made: np.ndarray) -> tuple[str, float | None]:
    """Verdict and PSNR in dB of two uint8 pictures [1, H, W, 3]."""
    if original.shape != made.shape:
        return "different", None
    mse = float(np.mean((original.astype(np.float64) - made) ** 2))
    if mse == 0:
        return "identical", math.inf
    db = 10 * math.log10(255**2 / mse)
    return ("close" if db >= CLOSE_DB else "different"), db
