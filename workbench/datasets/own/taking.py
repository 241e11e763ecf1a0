"""One file of a person's own becomes pictures of a data set, or a reason why not; and the journal of both."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from workbench.datasets import decode, writing
from workbench.datasets.own import fitting
from workbench.datasets.tree import Entry, is_picture_name
from workbench.errors import WorkbenchError

JOURNAL = "import.jsonl"
_SEEN_AT = 384  # px: what a captioner gets to see of a picture, at most


@dataclass(frozen=True, kw_only=True)
class TakeConfig:
    """How a file becomes pictures. resolution: side in px, or of the square whose area a bucket has; frames:
    at most so many of an animated file, evenly spread; upscale: enlarge what is smaller."""

    resolution: int
    fit: fitting.Fit = "crop"
    upscale: bool = False
    frames: int = 1

    def __post_init__(self) -> None:
        writing.check_whole_number("resolution", self.resolution, 16, 2048)
        writing.check_whole_number("frames", self.frames, 1, 10_000)
        if self.fit not in ("crop", "pad", "bucket"):
            raise WorkbenchError(f"fit is {self.fit!r}: expected crop, pad or bucket.")


@dataclass
class Taken:
    """What became of one source.

    size, changed: of the source, to know it again; pictures: facts of each picture written (file_name,
    written: its size, then columns of the metadata), or a reason and advice; text: a captioner's caption.
    """

    source: str
    size: int
    changed: int
    pictures: list[dict] = field(default_factory=list)
    reason: str = ""
    advice: str = ""
    text: str = ""

    def still_true(self, entry: Entry, folder: Path) -> bool:
        """Whether the source is as it was, and each of its pictures lies whole in `folder`."""
        same = (self.size, self.changed) == (entry.size, entry.changed)
        return same and all(
            writing.is_whole(folder / facts["file_name"], tuple(facts["written"])) for facts in self.pictures
        )


def take(
    source: Path, entry: Entry, out: Path | None, config: TakeConfig, *, view: bool = False
) -> tuple[Taken, Image.Image | None]:
    """Decodes, fits and writes the pictures of one file; returns what became of it and, where `view` asks for
    it, its first picture for a captioner. out: None writes nothing. Raises OSError only for the writing.
    """
    taken = Taken(entry.name, entry.size, entry.changed)
    try:
        count, pictures = _decode(source / entry.name, config.frames)
        fitted = [(number, *_fitted(picture, config)) for number, picture in pictures]
    except decode.NoPicture as error:
        known = is_picture_name(entry.name)
        taken.reason = error.why if known else f"not a picture: {error.why}"
        taken.advice = error.advice.partition(", or delete")[0] if known else "nothing, if it is none"
    except fitting.DoesNotFit as error:
        taken.reason, taken.advice = error.why, error.advice
    except OSError as error:
        taken.reason, taken.advice = f"it cannot be opened ({error.strerror})", "mend its permissions"
    if taken.reason or out is None:
        return taken, None
    for number, picture, facts in fitted:
        shape = f"{picture.width}x{picture.height}/" if config.fit == "bucket" else ""
        name = f"images/{shape}{_stem(entry.name)}{f'-f{number:04d}' if number else ''}.png"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        writing.write_picture(out / name, picture)
        animation = {"frame": number, "frames_in_file": count} if count > 1 else {}
        taken.pictures.append({"file_name": name, "written": picture.size, **facts, **animation})
    if not view:
        return taken, None
    first = pictures[0][1]
    first.thumbnail((_SEEN_AT, _SEEN_AT))
    return taken, first


def read_journal(folder: Path) -> dict[str, Taken]:
    """What earlier runs did, by source; a line cut short by a kill is as if it had not been written."""
    file, found = folder / JOURNAL, {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                taken = Taken(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[taken.source] = taken
    return found


def journal_line(taken: Taken) -> str:
    """One line of the journal, ASCII: a name with broken characters comes back as it was."""
    return json.dumps(asdict(taken)) + "\n"


def _decode(path: Path, frames: int) -> tuple[int, list[tuple[int, Image.Image]]]:
    """(frames in the file, [(frame number, picture)])."""
    with decode.opened(path) as picture:
        # A phone's MPO is one photograph; its other frames are depth, a preview or the other eye.
        count = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        found = []
        for number in decode.frame_numbers(count, frames):
            picture.seek(number)
            found.append((number, decode.to_srgb(picture)))
        return count, found


def _fitted(picture: Image.Image, config: TakeConfig) -> tuple[Image.Image, dict]:
    """The picture at its size and facts about it; DoesNotFit when it is too small."""
    size = picture.size
    target = fitting.target_size(size, config.resolution, config.fit)
    scale = fitting.enlargement(size, target, config.fit)
    if scale > 1 and not config.upscale:
        raise fitting.DoesNotFit(
            f"it has {size[0]} × {size[1]} px: {target[0]} × {target[1]} would enlarge it {scale:.2g} times",
            "take a smaller --resolution, a larger original, or --upscale",
        )
    facts: dict = {"width": size[0], "height": size[1]}
    if scale > 1:
        facts["upscaled"] = round(scale, 3)
    if config.fit == "bucket":
        facts["bucket"] = f"{target[0]}x{target[1]}"
    return fitting.fit(picture, target, config.fit), facts


def _stem(name: str) -> str:
    """A file name of the picture's own words and a hash of its place, so that two of one name stay apart."""
    words = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(name).stem.lower())[:40].strip("-") or "picture"
    return f"{words}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
