"""Writing a data set folder: whole or not there, resumable, one writer at a time.

The layout is Hugging Face's `imagefolder`, so `datasets.load_dataset("imagefolder", data_dir=…)` reads it
too:

    metadata.jsonl        one JSON object a picture: file_name, text, then whatever else is known
    images/000000.png …   the pictures
    dataset.json          the recipe: what the set is made from, and its count
    README.md             the data card

Pictures come first and metadata.jsonl last, so a folder without it was interrupted. A recipe is a plain dict;
a set is only ever grown under the recipe that it holds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from workbench.datasets.rows import read_picture
from workbench.errors import WorkbenchError
from workbench.images import clear_os_error, name_beside, write_whole

Progress = bool | Callable[[int, int], None]
# The tail of a file that is still being written, of write_whole and of write_bytes.
_BESIDE = r"\.tmp-[0-9a-f]+"
# What a set may hold beside images/: its own files, and caches (decoded pictures, text features).
_OWN = re.compile(
    r"(dataset\.json|metadata\.jsonl|README\.md|images|captions|cache-[\w.-]+?)" + f"({_BESIDE})?"
)
_PICTURE = re.compile(r"(\d{6,})\.png" + f"({_BESIDE})?")
_KEEP_FREE = 50 * 10**6  # bytes left on a disk for everything else that runs there


# --- files ---


def picture_name(index: int, suffix: str = ".png") -> str:
    """Where picture `index` of a written set lies in its folder."""
    return f"images/{index:06d}{suffix}"


def json_text(value: object) -> str:
    """`value` as indented JSON that ends in a new line."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Writes `path` whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def write_rows(folder: Path, rows: Iterable[dict]) -> None:
    """Writes the folder's metadata.jsonl whole or not at all, one object a row, in the order given."""

    def write(file) -> None:
        for row in rows:
            # A name that is no text keeps its odd bytes: a lone surrogate becomes the JSON escape of itself.
            line = json.dumps(row, ensure_ascii=False) + "\n"
            file.write(line.encode("utf-8", errors="backslashreplace"))

    write_whole(folder / "metadata.jsonl", write)


def png_bytes(picture: np.ndarray | Image.Image) -> bytes:
    """A PNG file of a PIL picture or a uint8 [H, W, 3] array."""
    coded = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(coded, format="PNG")
    return coded.getvalue()


def write_picture(file: Path, picture: np.ndarray | Image.Image) -> None:
    """Writes a PIL picture or a uint8 [H, W, 3] array as PNG, whole or not at all.

    Raises OSError of one clear sentence.
    """
    # Through memory: of a full disk Pillow's own writer says "encoder error -2", with no reason.
    write_bytes(file, png_bytes(picture))


def write_bytes(file: Path, content: bytes) -> None:
    """Writes one of many files, whole or not at all; raises OSError of one clear sentence.

    Without the wait for the disk that write_text makes: a picture cut short by a power loss is made again.
    """
    beside = name_beside(file)
    try:
        beside.write_bytes(content)
        os.replace(beside, file)
    except OSError as error:
        raise clear_os_error(error, file) from error  # what a write raises names no file
    finally:
        with contextlib.suppress(OSError):  # moved, or never made; the error above is the one to tell
            beside.unlink()


def missing_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[int]:
    """Which of the pictures 0 … count-1 are not there yet as whole ones of `size`, and are to be made."""
    there = {f"images/{entry.name}" for entry in (folder / "images").iterdir()}

    def is_there(name: str) -> bool:
        return name in there and is_whole(folder / name, size)

    return [index for index in range(count) if not is_there(picture_name(index))]


def is_whole(file: Path, size: tuple[int, int]) -> bool:
    """Whether `file` is a whole picture of `size` (width, height), which a resumed run keeps."""
    try:
        return file.is_file() and read_picture(file).size == size
    except WorkbenchError:
        return False  # cut short by a power loss, say: made again


# --- a folder of one recipe ---


def check_whole_number(name: str, value: object, low: int, high: int) -> None:
    """WorkbenchError unless `value` is a whole number from `low` to `high`; `name` is told to the user."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise WorkbenchError(f"{name} is {value!r}: expected a whole number from {low} to {high}.")


def refuse_other_contents(folder: Path, recipe: dict, count: int, *, name: str) -> None:
    """Lets pass no folder, an empty one, and a set of the same recipe with `count` pictures or fewer.

    Only reads. name: what such a set is called, as in "a set of Shepherd World".
    """
    if folder.exists() and not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file. Expected a folder to write the data set into.")
    if not folder.exists() or not _visible(folder):
        return
    known = folder / "dataset.json"
    if not known.is_file():
        if only_begun(folder):
            return
        raise WorkbenchError(
            f"{folder} already holds {_visible(folder)[0].name} and is not {name}. "
            "Nothing was written; choose another folder."
        )
    held = read_recipe(folder, name=name)
    for key, value in recipe.items():
        if held.get(key) != value:
            raise WorkbenchError(
                f"{folder} holds a set with {key.replace('_', ' ')} {held.get(key)!r}, not {value!r}. "
                "Nothing was written; choose another folder."
            )
    _refuse_foreign_files(folder)
    drawn = _drawn(folder)
    if max(drawn, held["count"]) > count:
        raise WorkbenchError(
            f"{folder} holds {max(drawn, held['count'])} pictures already, more than the {count} asked "
            "for. Nothing was written; ask for at least as many or choose another folder."
        )


def read_recipe(folder: Path, *, name: str) -> dict:
    """The folder's dataset.json; WorkbenchError when it cannot be read or is no recipe with a count."""
    path = folder / "dataset.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"{path} cannot be read ({error}). Nothing was written; choose another folder."
        ) from error
    if not isinstance(held, dict) or not isinstance(held.get("count"), int):
        raise WorkbenchError(
            f"{path} is not the recipe of {name}. Nothing was written; choose another folder."
        )
    return held


def only_begun(folder: Path) -> bool:
    """Whether the folder is empty but for a recipe half written: a run was killed on its very first write."""
    return all(re.fullmatch(r"dataset\.json" + _BESIDE, entry.name) for entry in _visible(folder))


def clear_leftovers(folder: Path) -> None:
    """Deletes the files that a killed writer left half written, in `folder` and its images/."""
    images = folder / "images"
    for entry in [*_visible(folder), *(_visible(images) if images.is_dir() else ())]:
        if re.search(_BESIDE + "$", entry.name):
            entry.unlink(missing_ok=True)


def open_set(folder: Path, recipe: dict, card: str) -> None:
    """Readies a folder that `refuse_other_contents` let pass and `only_writer` holds: leftovers of a killed
    writer go, recipe (count 0) and card are written where they are missing, images/ is made."""
    (folder / "images").mkdir(exist_ok=True)
    clear_leftovers(folder)
    if not (folder / "dataset.json").exists():
        write_text(folder / "dataset.json", json_text(recipe | {"count": 0}))
    if not (folder / "README.md").exists():
        write_text(folder / "README.md", card)


def close_set(folder: Path, recipe: dict, rows: Iterable[dict], count: int) -> None:
    """Writes the last two files of a set whose `count` pictures are there: metadata.jsonl and the count."""
    write_rows(folder, rows)
    write_text(folder / "dataset.json", json_text(recipe | {"count": count}))


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the folder against a second writer; the lock ends with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows; two writers of one recipe write the same bytes
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkbenchError(
                f"Another process is writing into {folder}. Wait for it or choose another folder."
            ) from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def clear_errors(kept: str = "Pictures drawn so far are kept.") -> Iterator[None]:
    """Turns an OSError of the writing inside into a WorkbenchError: what failed, why, and what is `kept`."""
    try:
        yield
    except OSError as error:
        # Without a file name it is a sentence already, by write_whole or write_bytes.
        clear = clear_os_error(error, error.filename) if error.filename else error
        raise WorkbenchError(f"{clear} {kept}") from error


def _refuse_foreign_files(folder: Path) -> None:
    images = folder / "images"
    foreign = [entry for entry in _visible(folder) if not _OWN.fullmatch(entry.name)]
    if images.is_dir():
        foreign += [entry for entry in _visible(images) if not _PICTURE.fullmatch(entry.name)]
    if foreign:
        raise WorkbenchError(
            f"{folder} also holds {foreign[0].relative_to(folder)}, which is not the set's. "
            "Nothing was written; move it away or choose another folder."
        )


def _drawn(folder: Path) -> int:
    """The highest number of a picture in the folder, plus one."""
    found = [_PICTURE.fullmatch(entry.name) for entry in (folder / "images").glob("*.png")]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


# --- before and while ---


def check_disk(folder: Path, needed: float) -> int:
    """Free bytes where `folder` lies or will lie; WorkbenchError when `needed` bytes do not fit there."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(nearest).free
    if needed + _KEEP_FREE > free:
        raise WorkbenchError(
            f"{folder} needs about {size_text(needed)} more and its disk has {size_text(free)} free. "
            "Make room, ask for fewer or smaller pictures, or choose another disk."
        )
    return free


def size_text(size: float) -> str:
    """Bytes as people say them: "310 MB", "1.2 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def time_text(seconds: float) -> str:
    """A length of time as people say it: "40 s", "12 min", "3.5 h", "3 days"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{round(seconds / 86400):,} days"


@contextlib.contextmanager
def reporter(progress: Progress, count: int, done: int, what: str = "drawing") -> Iterator[Callable]:
    """A function to call with the number of pictures just finished.

    progress: True shows a bar named `what` with the time left, on stderr; a function is called with (done,
    count), at once and after each step; False tells nothing.
    """
    if callable(progress):

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress(done, count)

        tell(0)
        yield tell
    else:
        with tqdm(total=count, initial=done, desc=what, unit=" pictures", disable=not progress) as bar:
            yield bar.update


# --- the card ---


def data_card(
    *,
    title: str,
    tags: Sequence[str],
    licence: str,
    about: str,
    source: str,
    limits: str,
    licence_note: str = "",
    language: str = "en",
) -> str:
    """The text of README.md: the YAML head that the Hugging Face Hub reads, then a few sentences for people.

    licence: an identifier of the Hub such as "mit" or "apache-2.0"; licence_note: more about it, in words.
    """
    head = {
        "license": licence,
        "task_categories": ["text-to-image"],
        "language": [language],
        "tags": list(tags),
        "pretty_name": title,
    }
    # JSON is YAML too, and quotes whatever needs it.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    parts = {
        "Source": source,
        "Licence": f"{licence}. {licence_note}".strip(),
        "Layout": "Hugging Face `imagefolder`; each line of `metadata.jsonl` holds `file_name`, `text` and "
        "whatever else is known of the picture. `dataset.json` holds what the set was made from.",
        "Limits": limits,
    }
    told = "\n".join(f"- **{name}**: {text}" for name, text in parts.items())
    return "\n".join(["---", *lines, "---", "", f"# {title}", "", about, "", told, ""])
