"""What is wrong with a data set folder, or could be, each with a suggestion: `check_folder(path).text()`.

Unlike `read_folder`, which stops at the first mistake, this reads on and counts all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.datasets.rows import PICTURE_SUFFIXES, Row, metadata_entries, read_picture, row_from_entry
from workbench.errors import WorkbenchError

ENOUGH_PICTURES = 500
# Two of 64 bits of the difference hash, and then 3 of 255 grey levels of mean difference between 16 px
# thumbnails: the hash alone takes every two pictures with one plain ground for copies.
_HASH_BITS, _THUMBNAIL_LEVELS = 2, 3.0
_HASHED_AT_MOST = 50_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """level: "problem" (training stops or suffers) or "note"; names: the files or lines concerned."""

    level: str
    what: str
    suggestion: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check_folder` found. sizes: (width, height) -> pictures; modes: colour mode in the file ->
    pictures."""

    path: Path
    count: int
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    captions: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """No problem; notes are allowed."""
        return not any(finding.level == "problem" for finding in self.findings)

    def text(self) -> str:
        """The report for a terminal: a summary, then a finding with its suggestion on two lines each."""
        lines = [f"{self.path}: {self.count} pictures, {self.captions} different captions"]
        if self.sizes:
            sizes = sorted(self.sizes.items(), key=lambda item: -item[1])
            shown = ", ".join(f"{width}×{height} ({count})" for (width, height), count in sizes[:3])
            more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
            modes = ", ".join(f"{mode} ({count})" for mode, count in sorted(self.modes.items()))
            lines.append(f"sizes: {shown}{more}; colour modes: {modes}")
        for finding in self.findings:
            names = (
                f" ({', '.join(finding.names[:3])}{', …' if len(finding.names) > 3 else ''})"
                if finding.names
                else ""
            )
            lines += [f"{finding.level}: {finding.what}{names}", f"  → {finding.suggestion}"]
        if not self.findings:
            lines.append("nothing to mend")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Look:
    """One decoded picture: size and mode in the file, difference hash, 16 px thumbnail; or what broke it."""

    name: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    hash: int = 0
    thumbnail: np.ndarray | None = None
    broken: str = ""


def check_folder(path: str | Path) -> Report:
    """Looks at every row and every picture of the folder. WorkbenchError only where there is nothing to
    check: no folder, no metadata, metadata that cannot be read at all."""
    folder = Path(path)
    rows, bad = [], []
    for where, entry in metadata_entries(folder):
        try:
            rows.append(row_from_entry(entry, where))
        except WorkbenchError:
            bad.append(where.removeprefix(f"{folder}/"))
    names = list(dict.fromkeys(row.file_name for row in rows))
    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(lambda name: _look(folder, name), names))
    whole = [look for look in looks if not look.broken]
    findings = [*_of_rows(rows, bad), *_of_files(folder, looks), *_of_sizes(whole), *_of_copies(whole)]
    return Report(
        path=folder,
        count=len(whole),
        sizes=dict(Counter(look.size for look in whole)),
        modes=dict(Counter(look.mode for look in whole)),
        captions=len({row.text for row in rows}),
        findings=tuple(sorted(findings, key=lambda finding: finding.level != "problem")),
    )


def difference_hash(picture: Image.Image) -> int:
    """64 bits: is a point of a 9×8 grey miniature brighter than its right neighbour. Copies that were only
    scaled or stored again differ in a bit or two. (Krawetz 2013, "Kind of like that".)"""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes(), "big")


def _look(folder: Path, name: str) -> _Look:
    file = folder / name
    if not file.is_file():
        return _Look(name, broken="missing")
    try:
        picture = read_picture(file)
        with Image.open(file) as opened:
            mode = opened.mode
    except WorkbenchError:
        return _Look(name, broken="broken")
    thumbnail = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), dtype=np.int16)
    return _Look(name, picture.size, mode, difference_hash(picture), thumbnail)


def _of_rows(rows: Sequence[Row], bad: Sequence[str]) -> list[Finding]:
    found = []
    if bad:
        found.append(
            Finding(
                level="problem",
                what=f"rows without a file name or a caption: {len(bad)}",
                names=tuple(bad),
                suggestion="write a caption for each, or take the lines out",
            )
        )
    distinct = {(row.file_name, row.text) for row in rows}
    if len(distinct) < len(rows):
        found.append(
            Finding(
                level="note",
                what=f"rows that stand twice: {len(rows) - len(distinct)}",
                suggestion="keep one line for each picture and caption",
            )
        )
    texts = Counter(row.text for row in rows)
    text, often = texts.most_common(1)[0] if texts else ("", 0)
    if len(rows) >= 10 and often > len(rows) / 2:
        found.append(
            Finding(
                level="problem",
                what=f"{often} of {len(rows)} captions are the same: {text!r}",
                suggestion="say in each caption what sets its picture apart, or the prompt cannot steer",
            )
        )
    elif len(rows) >= 10 and len(texts) < len(rows):
        found.append(
            Finding(
                level="note",
                what=f"captions that repeat another picture's: {len(rows) - len(texts)}",
                suggestion="fine where the pictures show the same; training pairs them",
            )
        )
    return found


def _of_files(folder: Path, looks: Sequence[_Look]) -> list[Finding]:
    found = []
    for state, suggestion in (
        ("missing", "put them back or take their lines out of the metadata"),
        ("broken", "replace them, or delete them and their lines in the metadata"),
    ):
        names = tuple(look.name for look in looks if look.broken == state)
        if names:
            found.append(
                Finding(
                    level="problem",
                    what=f"{state} pictures: {len(names)}",
                    names=names,
                    suggestion=suggestion,
                )
            )
    named = {look.name for look in looks}
    nameless = sorted(
        name
        for file in folder.rglob("*")
        if file.suffix.lower() in PICTURE_SUFFIXES
        and (name := file.relative_to(folder).as_posix()) not in named
    )
    if nameless:
        found.append(
            Finding(
                level="note",
                what=f"pictures without a line in the metadata: {len(nameless)}",
                names=tuple(nameless),
                suggestion="write captions for them; they take no part as it is",
            )
        )
    whole = sum(1 for look in looks if not look.broken)
    if whole < ENOUGH_PICTURES:
        level = "problem" if whole < 2 else "note"
        found.append(
            Finding(
                level=level,
                what=f"few pictures for training from nothing: {whole}",
                suggestion=f"gather {ENOUGH_PICTURES} at least; with fewer a GAN learns them by heart",
            )
        )
    return found


def _of_sizes(looks: Sequence[_Look]) -> list[Finding]:
    found = []
    small = tuple(look.name for look in looks if min(look.size) < 64)
    if small:
        found.append(
            Finding(
                level="note",
                what=f"pictures with a side below 64 px: {len(small)}",
                names=small,
                suggestion="train at their own resolution, or leave them out: enlarged they are blurred",
            )
        )
    long = tuple(look.name for look in looks if max(look.size) > 2 * min(look.size))
    if long:
        found.append(
            Finding(
                level="note",
                what=f"pictures more than twice as long as wide: {len(long)}",
                names=long,
                suggestion="crop them: only the centre square is used",
            )
        )
    odd = tuple(look.name for look in looks if look.mode not in ("RGB", "P"))
    if odd:
        modes = ", ".join(sorted({look.mode for look in looks} - {"RGB", "P"}))
        found.append(
            Finding(
                level="note",
                what=f"pictures not in RGB but in {modes}: {len(odd)}",
                names=odd,
                suggestion="they are converted on reading, transparency on white; look whether that suits",
            )
        )
    return found


def _of_copies(looks: Sequence[_Look]) -> list[Finding]:
    looks = looks[:_HASHED_AT_MOST]
    copies = _near_copies(looks)
    if not copies:
        return []
    return [
        Finding(
            level="note",
            what=f"pictures nearly the same as another: {len(copies)}",
            names=tuple(f"{looks[a].name} = {looks[b].name}" for a, b in copies),
            suggestion="keep one of each; copies are learned by heart",
        )
    ]


def _near_copies(looks: Sequence[_Look]) -> list[tuple[int, int]]:
    """[(picture, an earlier one nearly the same)]; each picture once."""
    if len(looks) < 2:
        return []
    hashes = np.array([look.hash for look in looks], dtype=np.uint64)
    thumbnails = np.stack([look.thumbnail for look in looks])
    found: list[tuple[int, int]] = []
    for row in range(1, len(looks)):
        near = np.flatnonzero(np.bitwise_count(hashes[:row] ^ hashes[row]) <= _HASH_BITS)
        if len(near):
            apart = np.abs(thumbnails[near] - thumbnails[row]).mean(axis=(1, 2, 3))
            if apart.min() <= _THUMBNAIL_LEVELS:
                found.append((row, int(near[apart.argmin()])))
    return found
