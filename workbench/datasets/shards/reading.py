"""Samples out of WebDataset shards: a picture, its caption and its columns, with every damage named.

The files of a sample lie side by side in the tar under one key: `000000.jpg`, `000000.txt`, `000000.json`.
Only these three kinds are ever read, and they are decoded here: webdataset's own decoders would unpickle
others.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image, UnidentifiedImageError

from workbench.datasets import decode
from workbench.datasets.rows import PICTURE_SUFFIXES, decode_text
from workbench.datasets.shards.files import BrokenShard, Member, members
from workbench.datasets.shards.filters import Filters
from workbench.datasets.shards.report import ShardReport

PICTURES = tuple(suffix[1:] for suffix in PICTURE_SUFFIXES)
CAPTIONS = ("txt", "text", "caption")
_CAPTION_COLUMNS = ("caption", "text", "TEXT")
MOST_BYTES = {"picture": 256 * 2**20, "text": 16 * 2**20}
_META = re.compile(r"__[^/]*__($|/)")  # what webdataset keeps for itself
_NO_JSON = "mend the JSON and pack the shard again; the sample is kept without its columns"

_DOUBLED = "give each sample a key of its own, its files side by side, and pack the shard again"


@dataclass(frozen=True)
class Sample:
    """One sample, not decoded. shard, key: where it is; ordinal: its place among the shard's samples, broken
    ones counted too; picture: the file's bytes; suffix: ".png" and so on; columns: its JSON."""

    shard: str
    key: str
    ordinal: int
    picture: bytes = field(repr=False)
    suffix: str
    text: str
    columns: dict


def read_samples(
    shard: str, report: ShardReport, filters: Filters | None = None, *, start: int = 0
) -> Iterator[Sample]:
    """The samples of a shard from ordinal `start` on that are whole and pass the filters, in order.

    What is left out goes into the report: damage by name, filtered samples by number. A shard that breaks off
    ends there and is named. Nothing is raised for what a shard holds.
    """
    filters = filters or Filters()
    for ordinal, (key, files) in enumerate(_groups(shard, report)):
        if ordinal < start:
            continue
        sample = _sample(shard, key, ordinal, files, report)
        if sample is None:
            continue
        size = _size(sample, report)
        if size is None:
            continue
        why_not = filters.why_not(size, sample.columns)
        if why_not is None:
            report.kept += 1
            yield sample
        else:
            report.filtered[why_not] += 1


def picture_of(sample: Sample, report: ShardReport) -> Image.Image | None:
    """The sample's picture as `rows.read_picture` gives it; None, and a finding, when it is broken."""
    try:
        with _opened(sample) as picture:
            return decode.to_srgb(picture)
    except _Broken as error:
        _note_picture(sample, str(error), report)
        return None


# --- a sample's picture ---


class _Broken(Exception):
    """Why a picture cannot be decoded."""


@contextmanager
def _opened(sample: Sample) -> Iterator[Image.Image]:
    """`decode.opened` for bytes in memory: the same formats, the same limit; raises _Broken."""
    try:
        picture = Image.open(io.BytesIO(sample.picture), formats=decode.FORMATS)
        if picture.width * picture.height > decode.MOST_PIXELS:
            raise _Broken(f"it claims more than {decode.MOST_PIXELS // 1_000_000} million pixels")
        yield picture
    except UnidentifiedImageError as error:
        raise _Broken("no picture format that is known here") from error
    except Image.DecompressionBombError as error:
        raise _Broken("it claims far too many pixels") from error
    except Exception as error:
        # Met by damaged bytes a decoder raises what it likes: struct.error, IndexError, zlib.error …
        raise _Broken(" ".join(str(error).split())[:120] or type(error).__name__) from error


def _size(sample: Sample, report: ShardReport) -> tuple[int, int] | None:
    try:
        with _opened(sample) as picture:
            return picture.size
    except _Broken as error:
        _note_picture(sample, str(error), report)
        return None


def _note_picture(sample: Sample, why: str, report: ShardReport) -> None:
    advice = "replace the picture and pack the shard again, or go on without it"
    report.note(sample.shard, sample.key, f"broken picture ({why})", advice)


# --- from members to samples ---


def _groups(shard: str, report: ShardReport) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, content by suffix) of each run of members with one key; whatever falls out is noted."""
    seen: set[str] = set()
    key, files, doubled = "", {}, False
    try:
        for member in members(shard, _wanted):
            parts = _key_and_suffix(member, shard, report)
            if parts is None:
                continue
            if parts[0] != key:
                if files and not doubled:
                    yield key, files
                key, files = parts[0], {}
                doubled = key in seen
                seen.add(key)
                if doubled:
                    report.note(shard, key, "a key that came before; the first is kept", _DOUBLED)
            _take(shard, key, parts[1], member, files, report)
    except BrokenShard as error:
        why = f"{error.why}; samples before it are kept"
        report.note(shard, error.member, why, error.advice, again=error.again)
        if error.member.startswith(f"{key}."):
            files = {}  # the sample that was cut through
    if files and not doubled:
        yield key, files


def _wanted(name: str, size: int) -> bool:
    kind = _kind(name.rpartition("/")[2].partition(".")[2].lower())
    return kind is not None and size <= MOST_BYTES["picture" if kind == "picture" else "text"]


def _kind(suffix: str) -> str | None:
    if suffix in PICTURES:
        return "picture"
    return "caption" if suffix in CAPTIONS else "json" if suffix == "json" else None


def _key_and_suffix(member: Member, shard: str, report: ShardReport) -> tuple[str, str] | None:
    """The parts before and behind the first dot of the file's name; None for what is no file of a sample."""
    name = member.name
    if _META.match(name):
        return None
    if name.startswith("/") or ".." in re.split(r"[/\\]", name):
        report.note(
            shard, name, "a name that leads out of the shard", "do not trust this shard; it is not read"
        )
        return None
    if not member.plain:
        report.note(shard, name, "a link or a device, not a file", "pack the file itself")
        return None
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    if not stem or not dot or not suffix:
        report.note(shard, name, "a name without key and suffix", "expected names such as 000000.jpg")
        return None
    return f"{folder}{slash}{stem}", suffix.lower()


def _take(shard: str, key: str, suffix: str, member: Member, files: dict, report: ShardReport) -> None:
    if _kind(suffix) is None:
        report.unread[suffix] += 1
    elif suffix in files:
        report.note(shard, member.name, "the same file twice; the first is kept", "take one of them out")
    elif member.content is None:
        advice = "shrink the file and pack the shard again"
        report.note(shard, member.name, f"too large to be read ({member.size:,} bytes)", advice)
    else:
        files[suffix] = member.content


def _sample(shard: str, key: str, ordinal: int, files: dict, report: ShardReport) -> Sample | None:
    pictures = [suffix for suffix in files if suffix in PICTURES]
    columns = _columns(shard, key, files, report)
    text = _caption(shard, key, files, columns, report)
    if not pictures:
        report.note(shard, key, "a sample without a picture", "add its .png, .jpg or .webp or take it out")
        return None
    if len(pictures) > 1:
        report.note(shard, key, "two pictures; the first is kept", "give each picture a key of its own")
    if not text:
        advice = "add its .txt, or a caption to its .json, or take it out"
        report.note(shard, key, "a sample without a caption", advice)
        return None
    return Sample(shard, key, ordinal, files[pictures[0]], f".{pictures[0]}", text, columns)


def _columns(shard: str, key: str, files: dict, report: ShardReport) -> dict:
    if "json" not in files:
        return {}
    try:
        # NaN and Infinity are no JSON; a column of None says as much.
        found = json.loads(files["json"].decode("utf-8-sig"), parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())[:80]
        report.note(shard, key, f"broken JSON ({why})", _NO_JSON)
        return {}
    if not isinstance(found, dict):
        report.note(shard, key, "JSON that is no object", _NO_JSON)
        return {}
    return found


def _caption(shard: str, key: str, files: dict, columns: dict, report: ShardReport) -> str:
    """The caption file's text, else the caption among the columns, else ""."""
    for suffix in CAPTIONS:
        if suffix in files:
            text, mistake = decode_text(files[suffix])
            if mistake:
                report.note(
                    shard,
                    f"{key}.{suffix}",
                    f"a caption that {mistake.partition('.')[0]}",
                    "save it as UTF-8",
                )
            if text.strip():
                return text.strip()
    named = (columns.get(name) for name in _CAPTION_COLUMNS)
    return next((text.strip() for text in named if isinstance(text, str) and text.strip()), "")
