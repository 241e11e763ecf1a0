"""Picture files through upscalers: one file, or every picture below a folder, each whole or not there.

What is there already is never written over unless asked for; a folder that was interrupted goes on where it
stopped, because what a file was made with stands in its recipe.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from workbench.datasets.own.captions import CaptionFinder, is_caption_file
from workbench.datasets.tree import is_picture_name, shown, walk
from workbench.errors import WorkbenchError
from workbench.images import check_place, clear_os_error, from_uint8, pixel_hash, save_png, to_uint8
from workbench.pipeline import animated, picture_files
from workbench.pipeline.chain import Chained, Stage, total_factor, upscale
from workbench.pipeline.inputs import Stop, Stopped
from workbench.pipeline.picture_files import PictureFile
from workbench.pipeline.stage_recipes import picture_recipe

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """How files are enlarged. prompt: for all of them; None takes what lies beside a picture or in its
    recipe, and the model's neutral prompt where nothing does. The rest is as in an Upscaler's call.
    """

    upscalers: Sequence[Stage]
    prompt: str | None = None
    seed: int = 0
    noise: float = 0.0
    tile: int | None = None
    overwrite: bool = False
    stop: Stop = None

    @property
    def factor(self) -> int:
        """What all passes make of a side."""
        return total_factor(self.upscalers)

    def enlarge(self, pixels: np.ndarray, prompt: str, progress=None) -> Chained:
        """uint8 [H, W, 3] through all passes."""
        return upscale(
            self.upscalers,
            from_uint8(pixels[None]),
            prompt,
            seed=self.seed,
            noise=self.noise,
            tile=self.tile,
            progress=progress,
            stop=self.stop,
        )


@dataclass
class Report:
    """Of a folder. done: files written now; kept: files that were there, made the same way; other: files that
    were there and are not what this job makes; failed: names that could not be enlarged, with the reason.
    """

    done: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    other: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


# --- one file ---


def upscale_file(
    source: str | Path, out: str | Path, job: Job, progress: Callable[[int, int], None] | None = None
) -> tuple[Path, list[str]]:
    """Enlarge one picture file; returns the file written and warnings.

    out: a file name (.png; of an animation .png, .webp or .gif), or a folder. Transparency is kept, enlarged
    by bicubic interpolation; other colour models become 8-bit sRGB. Raises WorkbenchError for what is no
    picture or too large, FileExistsError for a file that is there.
    """
    source, out = Path(source), Path(out)
    loaded = picture_files.load(source, job.factor)
    target = _target(loaded, out)
    if target.exists() and target.samefile(source):
        raise WorkbenchError(
            f"{target} is the picture itself: give another name or folder for the larger one."
        )
    if target.exists() and not job.overwrite:
        raise FileExistsError(
            f"{target} is already there: add --overwrite to replace it, or choose another name."
        )
    make_folder(target.parent)
    return _write(loaded, target, job, _prompt(job, loaded, caption_beside(source)), progress)


def _target(loaded: PictureFile, out: Path) -> Path:
    """The file that one picture becomes."""
    if out.is_dir() or not out.suffix:
        return out / f"{loaded.path.stem}{_ending(loaded)}"
    allowed = animated.ENDINGS if loaded.moves else (".png",)
    if out.suffix.lower() not in allowed:
        what = "an animation" if loaded.moves else "a picture"
        raise WorkbenchError(
            f"{out} has the ending {out.suffix}: {what} is written as {' or '.join(allowed)}. Give such a "
            "name, or a folder."
        )
    return out


def _ending(loaded: PictureFile) -> str:
    return animated.ending(loaded.path) if loaded.moves else ".png"


def _prompt(job: Job, loaded: PictureFile, caption: str) -> str:
    """What a picture is enlarged with; "" for the model's neutral prompt."""
    return job.prompt if job.prompt is not None else caption or str(loaded.recipe.get("prompt", ""))


def _write(
    loaded: PictureFile,
    target: Path,
    job: Job,
    prompt: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, list[str]]:
    """Enlarge every frame and write the file."""
    warnings, frames, recipes = list(loaded.warnings), [], []
    for number, frame in enumerate(loaded.frames):
        made = job.enlarge(frame.pixels, prompt, None if loaded.moves else progress)
        warnings += made.warnings
        recipes += made.recipes
        size = made.images.shape[:1:-1]
        alpha = None if frame.alpha is None else frame.alpha.resize(size, Image.Resampling.BICUBIC)
        if not loaded.moves:
            path = save_png(made.images, target, recipes[0], alpha=alpha, overwrite=job.overwrite)
            return path, warnings
        large = Image.fromarray(to_uint8(made.images)[0])
        if alpha is not None:
            large.putalpha(alpha)
        frames.append(large)
        if progress is not None:
            progress(number + 1, len(loaded.frames))
    times = [frame.milliseconds for frame in loaded.frames]
    recipe = {"first": recipes[0], "frames": _hash_of(loaded)}
    path = animated.write(frames, times, target, recipe, overwrite=job.overwrite)
    return path, list(dict.fromkeys(warnings))


# --- a folder ---


def upscale_folder(folder: str | Path, out: str | Path, job: Job, progress: Progress | None = None) -> Report:
    """Enlarge every picture below `folder` into the same places below `out`.

    Prompts of single pictures come from metadata, from a text beside them, or from a picture's own recipe.
    What cannot be enlarged is reported and the rest goes on. progress(done, total, name) is called before
    each picture. Raises WorkbenchError for a folder without pictures, and an `out` inside it or that cannot
    be written to.
    """
    folder, out = Path(folder), Path(out)
    if out.exists() and not out.is_dir():
        raise WorkbenchError(f"{out} is a file, and {folder} holds many pictures: give a folder as --out.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise WorkbenchError(
            f"{out} lies inside {folder}, where its pictures would be enlarged again the next time: choose a "
            "folder beside it."
        )
    entries = list(walk(folder))
    names = [entry.name for entry in entries if not entry.trouble and is_picture_name(entry.name)]
    if not names:
        raise WorkbenchError(f"{folder} holds no pictures: give a folder with PNG, JPEG, WebP … files in it.")
    make_folder(out)
    report = Report()
    report.failed = {e.name: e.trouble for e in entries if e.trouble and is_picture_name(e.name)}
    finder = _captions(folder, [entry.name for entry in entries])
    stems = Counter(str(PurePosixPath(name).with_suffix("")) for name in names)
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names), shown(name))
        found = finder.find(name)
        stem = str(PurePosixPath(name).with_suffix(""))
        place = out / (name if stems[stem] > 1 else stem)
        try:
            _one_of_many(folder / name, place, found[0].text if found else "", job, report)
        except Stopped:
            raise
        except WorkbenchError as error:
            report.failed[name] = " ".join(str(error).split())
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            report.failed[name] = str(error)
    if progress is not None:
        progress(len(names), len(names), "")
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def _one_of_many(source: Path, place: Path, caption: str, job: Job, report: Report) -> None:
    """place: the file to be written, without its ending."""
    loaded = picture_files.load(source, job.factor)
    target, prompt = place.with_name(place.name + _ending(loaded)), _prompt(job, loaded, caption)
    if target.exists() and not job.overwrite:
        same = _made_so(target, loaded, job, prompt)
        (report.kept if same else report.other).append(target)
        return
    make_folder(target.parent)
    path, warnings = _write(loaded, target, job, prompt)
    report.done.append(path)
    report.warnings += warnings


def _made_so(target: Path, loaded: PictureFile, job: Job, prompt: str) -> bool:
    """Whether the file that is there is what this job would make of the picture or animation."""
    if loaded.moves:
        whole = animated.recipe_in(target)
        if whole.get("frames") != _hash_of(loaded):
            return False
        recipe = whole["first"]
    else:
        recipe = picture_files.recipe_in(target)
    for number, upscaler in reversed(list(enumerate(job.upscalers))):
        wanted = {
            "weight_hash": upscaler.weight_hash,
            "factor": upscaler.factor,
            "seed": job.seed,
            "noise": 0.0 if number else job.noise,
            "prompt": upscaler.read(prompt),
        }
        if any(recipe.get(key) != value for key, value in wanted.items()):
            return False
        recipe = recipe.get("input", {})
    here = picture_recipe(from_uint8(loaded.frames[0].pixels[None])[0])
    return recipe.get("pixel_hash") == here["pixel_hash"]


def _hash_of(loaded: PictureFile) -> str:
    """Of the pixels of all frames, as they came."""
    return pixel_hash(Image.fromarray(np.concatenate([frame.pixels for frame in loaded.frames])))


# --- what both share ---


def _captions(folder: Path, names: Sequence[str]) -> CaptionFinder:
    """Captions from metadata and from texts; a file's name is no prompt."""
    finder = CaptionFinder(folder, [name for name in names if is_caption_file(name)], "auto")
    finder.ways = ("metadata", "txt")
    return finder


def caption_beside(source: Path) -> str:
    """The caption of one file: a line of the metadata beside it, or a text of its name; "" without."""
    folder = source.absolute().parent
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return ""  # a folder that may be entered and not listed
    found = _captions(folder, names).find(source.name)
    return found[0].text if found else ""


def make_folder(folder: Path) -> None:
    """The folder, made where it is missing; a sentence where it cannot be written to."""
    check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise clear_os_error(error, folder) from error
