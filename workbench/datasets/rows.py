"""Rows of a data set folder: metadata and pictures read with care, whoever wrote them.

Anything that a person can have got wrong is refused by a WorkbenchError that names the file or the line.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from workbench.errors import WorkbenchError

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Row:
    """One picture of a folder. file_name: relative to the folder; text: its caption; factors: all other
    columns."""

    file_name: str
    text: str
    factors: dict = field(default_factory=dict)


def read_folder(path: str | Path, *, check_pictures: bool = True) -> list[Row]:
    """All rows of the folder at `path`, in the order of its metadata.

    check_pictures: decode every picture once (about 0.1 ms a small one), so that a broken one is named now
    and not in the middle of a training run. Without it a picture is only looked for. Raises WorkbenchError:
    no folder, no metadata, a row without a caption, a picture missing or broken.
    """
    folder = Path(path)
    entries = metadata_entries(folder)
    rows = [row_from_entry(entry, where) for where, entry in entries]
    if not rows:
        raise WorkbenchError(
            f"{folder} names no picture: its metadata is empty. Write one line for each picture."
        )
    for name in dict.fromkeys(row.file_name for row in rows):
        if not os.path.isfile(f"{folder}/{name}"):  # pathlib would double the time of a cached start
            raise WorkbenchError(
                f"{folder / name} is named in the metadata and is not there. "
                "Put the picture back or take its line out."
            )
    if check_pictures:
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(lambda row: read_picture(folder / row.file_name), rows):
                pass
    return rows


def metadata_entries(folder: Path) -> list[tuple[str, dict]]:
    """[(where, columns)] of the folder's metadata, unchecked beyond being readable; `where` names file and
    line."""
    if not folder.exists():
        raise WorkbenchError(
            f"There is no folder {folder}. Expected a data set: pictures and a metadata.jsonl."
        )
    if not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file. Expected a folder with pictures and a metadata.jsonl.")
    source = next((folder / name for name in METADATA_NAMES if (folder / name).is_file()), None)
    if source is None:
        raise WorkbenchError(_why_no_metadata(folder))
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front.
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbenchError(
            f"{source} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    return list(_csv_entries(source, text) if source.suffix == ".csv" else _jsonl_entries(source, text))


def row_from_entry(entry: dict, where: str) -> Row:
    """One checked row; WorkbenchError names `where` when file_name or text is missing, empty or no text."""
    for name in ("file_name", "text"):
        value = entry.get(name)
        if not isinstance(value, str) or not value.strip():
            found = "nothing" if value is None else repr(value)
            columns = ", ".join(str(key) for key in entry) or "no columns"
            raise WorkbenchError(
                f"{where}: `{name}` is {found} (columns: {columns}). Expected "
                + ("a caption in words." if name == "text" else "the picture's place in the folder.")
            )
    if os.path.isabs(entry["file_name"]) or ".." in re.split(r"[/\\]", entry["file_name"]):
        raise WorkbenchError(
            f"{where}: file_name {entry['file_name']!r} leads out of the folder. "
            "Expected a name relative to it, such as images/000000.png."
        )
    factors = {key: value for key, value in entry.items() if key not in ("file_name", "text")}
    return Row(file_name=entry["file_name"], text=entry["text"], factors=factors)


def read_picture(path: Path) -> Image.Image:
    """The picture at `path` as RGB: upright by its EXIF mark, first frame, transparency on white, 16 bit as
    8.

    Raises WorkbenchError that names the file when it is missing, cut short or no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB") if opened.mode == "RGB" else _flatten(opened)
            return ImageOps.exif_transpose(picture) if opened.getexif() else picture
    except FileNotFoundError as error:
        raise WorkbenchError(f"{path} is not there. Put the picture back or take its line out.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WorkbenchError(
            f"{path} is broken or no picture ({error}). "
            "Replace it, or delete it and its line in the metadata."
        ) from error


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return picture.convert("I").point(lambda value: value / 257).convert("L").convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _jsonl_entries(source: Path, text: str) -> Iterator[tuple[str, dict]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise WorkbenchError(
                f"{source} line {number} is not JSON ({error.msg}). Expected one object a line, "
                'such as {"file_name": "images/a.png", "text": "a dog"}.'
            ) from error
        if not isinstance(entry, dict):
            raise WorkbenchError(
                f"{source} line {number} is {line.strip()[:40]!r}. Expected one object a line, "
                'such as {"file_name": "images/a.png", "text": "a dog"}.'
            )
        yield f"{source} line {number}", entry


def _csv_entries(source: Path, text: str) -> Iterator[tuple[str, dict]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    for entry in reader:
        # A cell too many comes under the key None, a cell too few as the value None: neither is a column.
        yield (
            f"{source} line {reader.line_num}",
            {key: value for key, value in entry.items() if key is not None and value is not None},
        )


def _why_no_metadata(folder: Path) -> str:
    if (folder / "dataset.json").is_file():
        return (
            f"{folder} is a data set whose rendering was interrupted: it has no metadata.jsonl yet. "
            "Run the command that made it again; it goes on where it was."
        )
    pictures = sum(1 for file in folder.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        return f"{folder} is empty: no metadata.jsonl and no picture in it. Expected pictures with captions."
    return (
        f"{folder} holds {pictures} pictures and no metadata.jsonl, so no captions. Write one line for each "
        'picture: {"file_name": "images/a.png", "text": "a dog"}.'
    )
