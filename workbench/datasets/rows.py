"""Rows of a data set folder: metadata and pictures read with care, whoever wrote them.

Anything that a person can have got wrong is refused by a WorkbenchError that names the file or the line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from workbench.datasets import decode
from workbench.datasets.shards.files import holds_shards
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
    lines = metadata_lines(find_metadata(folder))
    for line in lines:
        if line.entry is None:
            raise WorkbenchError(f"{line.where} {line.mistake}")
    return [(line.where, line.entry) for line in lines]


def find_metadata(folder: Path) -> Path:
    """The metadata file of a folder; WorkbenchError, with the reason as far as it can be told, where none
    is."""
    source = next((folder / name for name in METADATA_NAMES if (folder / name).is_file()), None)
    if source is None:
        raise WorkbenchError(_why_no_metadata(folder))
    return source


@dataclass(frozen=True)
class Line:
    """One line of a metadata file. where: file and line; entry: its columns, None where it has none; mistake:
    what is wrong with it and what to do, or ""."""

    where: str
    entry: dict | None
    mistake: str = ""


def metadata_lines(source: Path) -> list[Line]:
    """Every line of a metadata file, mistakes included: nothing in the file stops the reading.

    A file that is not UTF-8 gives a line of its own that says so, then what could be read all the same.
    """
    text, mistake = decode_text(source.read_bytes())
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [Line(str(source), None, mistake)] if mistake else []
    read = _csv_lines if source.suffix == ".csv" else _jsonl_lines
    return lines + list(read(source, text))


def decode_text(content: bytes) -> tuple[str, str]:
    """(text, mistake) of a text file: UTF-8 with or without byte-order mark; UTF-16 with its mark is read and
    named; other bytes are named and replaced."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), "is not UTF-8 text but UTF-16. Save it as UTF-8."
    try:
        return content.decode("utf-8-sig"), ""  # spreadsheets put a byte-order mark in front
    except UnicodeDecodeError as error:
        mistake = f"is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        return content.decode("utf-8-sig", errors="replace"), mistake


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
    """The picture at `path` as 8-bit sRGB: upright by its EXIF mark, first frame, transparency on white.

    Raises WorkbenchError that names the file when it is missing, cut short or no picture (then
    `decode.NoPicture`).
    """
    try:
        with decode.opened(path) as picture:
            return decode.to_srgb(picture)
    except FileNotFoundError as error:
        raise WorkbenchError(f"{path} is not there. Put the picture back or take its line out.") from error
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be opened ({error.strerror}). Mend its permissions.") from error


_EXPECTED = 'Expected one object a line, such as {"file_name": "images/a.png", "text": "a dog"}.'


def _jsonl_lines(source: Path, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            entry, mistake = _json_object(line)
            yield Line(f"{source} line {number}", entry, mistake)


def _json_object(line: str) -> tuple[dict | None, str]:
    """(columns, mistake) of one line of JSON."""
    doubts: list[str] = []

    def join(pairs: list[tuple]) -> dict:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
            doubts.append(f"holds `{twice}` twice: the last one counts. Keep one.")
        return entry

    def constant(name: str) -> float:
        doubts.append(f"holds {name}, which is no JSON number. Write null or a number.")
        return float(name)

    try:
        entry = json.loads(line, object_pairs_hook=join, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", "") or str(error)
        return None, f"is not JSON ({why}). {_EXPECTED}"
    if not isinstance(entry, dict):
        return None, f"is {line.strip()[:40]!r}. {_EXPECTED}"
    return entry, " ".join(doubts)


def _csv_lines(source: Path, text: str) -> Iterator[Line]:
    reader = csv.DictReader(io.StringIO(text))
    try:
        for cells in reader:
            # A cell too many comes under the key None, a cell too few as the value None: neither is a column.
            entry = {key: value for key, value in cells.items() if key is not None and value is not None}
            uneven = "has another number of cells than the first line. Quote cells with commas."
            mistake = uneven if len(entry) < len(cells) else ""
            yield Line(f"{source} line {reader.line_num}", entry, mistake)
    except csv.Error as error:
        where = f"{source} line {reader.line_num}"
        yield Line(where, None, f"ends the reading ({error}). Save the table again as CSV, or as JSON lines.")


def _why_no_metadata(folder: Path) -> str:
    if (folder / "dataset.json").is_file():
        return (
            f"{folder} is a data set whose rendering was interrupted: it has no metadata.jsonl yet. "
            "Run the command that made it again; it goes on where it was."
        )
    if holds_shards(folder):
        return (
            f"{folder} holds shards and no metadata.jsonl. Training takes it as it is; for all else make a "
            f"folder of it with `workbench dataset shards unpack {folder} --out …`."
        )
    pictures = sum(1 for file in folder.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        return f"{folder} is empty: no metadata.jsonl and no picture in it. Expected pictures with captions."
    return (
        f"{folder} holds {pictures} pictures and no metadata.jsonl, so no captions. Write one line for each "
        'picture: {"file_name": "images/a.png", "text": "a dog"}, or let '
        "`workbench dataset folder` make a data set of it."
    )
