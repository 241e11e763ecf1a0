"""Captions for pictures that a person brings: from metadata, a text beside, the file's name, its folder."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from workbench.datasets.rows import METADATA_NAMES, decode_text, metadata_lines

Captions = Literal["auto", "metadata", "txt", "filename", "folders", "blip"]
AUTO = ("metadata", "txt", "filename", "folders")
_TEXT_COLUMNS = ("text", "caption", "prompt", "TEXT", "description")
_NAME_COLUMNS = ("file_name", "filename", "file", "image", "path")
_TEXTS = (".txt", ".caption")  # in any case: cameras and Windows write IMG_1.TXT
_LONGEST = 100_000  # characters of a text file that are read as a caption at all

# What cameras, messengers and programs put into names; none of it says what is to be seen.
_NOISE = re.compile(
    "img|dsc|dscf|dscn|dcim|dji|gopr|gp|mvimg|pxl|pano|vid|kif|cimg|hpim|imgp|sdc|wp|wa|whatsapp|whats|app|signal|"
    "telegram|fb|received|untitled|unnamed|copy|kopie|final|edit|edited|export|raw|thumb|thumbnail|hd|uhd|"
    "tmp|temp|download"
)
# Words that say nothing alone and may stand in a caption: "photo of a cat".
_EMPTY_ALONE = re.compile(
    "images?|photos?|pic|pictures?|foto|bild|scan|screenshot|screen|shot|original|small|large|web|frame|"
    "render|output|sample|at|am|pm|of|the|an|and|in|on"
)
_HEX = re.compile(r"(?=.*\d)[0-9a-f]{6,}", re.IGNORECASE)
_VOWEL = re.compile(r"[aeiouyäöüåæøáéíóúàèìòùâêîôûãõ]|[^\x00-\u024f]", re.IGNORECASE)


@dataclass(frozen=True)
class Caption:
    """One caption of a picture: its text, where it is from, and other columns known with it."""

    text: str
    source: str
    columns: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """Something in the captions that was not used: where it stands, why, what to do."""

    where: str
    why: str
    advice: str


def is_caption_file(name: str) -> bool:
    """Whether a file is one that captions are looked for in: metadata, or a text beside a picture."""
    path = PurePosixPath(name)
    return path.name in METADATA_NAMES or path.suffix.lower() in _TEXTS


class CaptionFinder:
    """Finds the captions of the pictures in a tree.

    `lost` lists lines and files that could not be used, complete once `find` was asked for every picture:
    metadata for pictures that never came are in `unclaimed()`.
    """

    def __init__(self, folder: Path, names: Iterable[str], how: Captions) -> None:
        self.folder = folder
        self.ways = AUTO if how == "auto" else (how,)
        self.lost: list[Lost] = []
        names = list(names)
        texts = [name for name in names if PurePosixPath(name).suffix.lower() in _TEXTS]
        self._texts = {_small_suffixed(name): name for name in texts} | {name: name for name in texts}
        self._rows: dict[str, list[Caption]] = {}
        self._where: dict[str, str] = {}
        self.used: set[str] = set()
        if "metadata" in self.ways:
            for name in names:
                if PurePosixPath(name).name in METADATA_NAMES:
                    self._read_metadata(name)

    def find(self, name: str) -> list[Caption]:
        """The captions of one picture by the first way that has any; [] where none has."""
        found = next((found for way in self.ways if (found := getattr(self, f"_by_{way}")(name))), [])
        folder = str(PurePosixPath(name).parent)
        if "folders" in self.ways and folder != ".":
            found = [replace(each, columns={"class": folder} | each.columns) for each in found]
        return found

    def unclaimed(self, taken: set[str]) -> list[Lost]:
        """Lines of metadata whose picture is not among `taken`, the pictures found in the tree."""
        return [
            Lost(
                f"{where}: {name}", "it names a picture that is not there", "put it back or take the line out"
            )
            for name, where in self._where.items()
            if name not in taken
        ]

    def _by_metadata(self, name: str) -> list[Caption]:
        return self._rows.get(name, [])

    def _by_txt(self, name: str) -> list[Caption]:
        stem = name[: -len(PurePosixPath(name).suffix) or None]
        for beside in (f"{stem}.txt", f"{stem}.caption", f"{name}.txt"):
            if (beside := self._texts.get(beside)) is not None:
                self.used.add(beside)
                text, mistake = self._read_text(beside)
                if mistake:
                    self.lost.append(Lost(beside, mistake, "save it as UTF-8 text with the caption in it"))
                return [Caption(text, "txt")] if text else []
        return []

    def _by_filename(self, name: str) -> list[Caption]:
        text = words_of_name(PurePosixPath(name).stem)
        return [Caption(text, "filename")] if text else []

    def _by_folders(self, name: str) -> list[Caption]:
        said = [words for part in PurePosixPath(name).parent.parts if (words := words_of_name(part))]
        return [Caption(", ".join(said), "folders")] if said else []

    def _by_blip(self, name: str) -> list[Caption]:
        return []  # written by the caller, who holds the pixels

    def _read_text(self, name: str) -> tuple[str, str]:
        """(caption, mistake) of a text file; UTF-16 with its mark is a text like any other."""
        try:
            with open(self.folder / name, "rb") as file:
                content = file.read(4 * _LONGEST)
        except OSError as error:
            return "", f"it cannot be read ({error.strerror})"
        text, mistake = decode_text(content)
        if mistake and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "", mistake.partition(".")[0]
        text = tidy(text)
        return text, "" if text else "it is empty"

    def _read_metadata(self, name: str) -> None:
        self.used.add(name)
        beside = PurePosixPath(name).parent
        for line in metadata_lines(self.folder / name):
            where = line.where.removeprefix(f"{self.folder}/")
            if line.mistake:
                self.lost.append(Lost(where, line.mistake, "mend the line"))
            if line.entry is None:
                continue
            file = _first(line.entry, _NAME_COLUMNS)
            text = tidy(_first(line.entry, _TEXT_COLUMNS))
            if not file or not text:
                lacking = "caption" if file else "file name"
                self.lost.append(
                    Lost(where, f"the line has no {lacking}", f"write a {lacking} or take it out")
                )
                continue
            picture = str(beside / file)
            columns = {
                key: plain(value)
                for key, value in line.entry.items()
                if key not in (*_NAME_COLUMNS, *_TEXT_COLUMNS) and value is not None
            }
            self._rows.setdefault(picture, []).append(Caption(text, "metadata", columns))
            self._where[picture] = where


def tidy(text: str) -> str:
    """One line of composed characters: entities resolved, control characters and runs of blanks one blank."""
    text = unicodedata.normalize("NFC", html.unescape(text))
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Co") or c == "\ufeff" else c for c in text)
    return " ".join(text.split())


def plain(value: object) -> object:
    """A value as strict JSON has it: NaN and infinity, which it has not, become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def words_of_name(stem: str) -> str:
    """The words in a file's or folder's name, "" where it says nothing of the picture.

    >>> words_of_name("black-dog_in_the_Snow (2)"), words_of_name("IMG_20240131_120000")
    ('black dog in the snow', '')
    """
    stem = re.sub(r"(?<=[a-zß-ÿ])(?=[A-Z])", " ", stem)
    words = [word.lower() for word in re.split(r"[^\w']+|_+", stem) if word]
    words = [word for word in words if not _HEX.fullmatch(word) and not re.fullmatch(r"[\d.x']+", word)]
    bare = {word: word.strip("0123456789") for word in words}
    # "dog2" is a dog; "n0210" and "e29b" are numbers with letters in them.
    words = [bare[word] for word in words if bare[word] == word or len(bare[word]) > 2]
    words = [word for word in words if not re.search(r"\d", word)]
    words = [word for word in words if not _NOISE.fullmatch(word)]
    said = [word for word in words if not _EMPTY_ALONE.fullmatch(word) and _VOWEL.search(word)]
    # Two letters are an abbreviation, one sign of another script can be a word.
    enough = any(len(word) > 2 or not word.isascii() for word in said)
    return " ".join(words) if enough else ""


def _first(entry: dict, names: Iterable[str]) -> str:
    """The first of the columns `names` that holds a text with something in it."""
    return next(
        (entry[name] for name in names if isinstance(entry.get(name), str) and entry[name].strip()), ""
    )


def _small_suffixed(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) + suffix.lower()
