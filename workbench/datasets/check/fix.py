"""The safe repairs of a checked data set, written into a new folder: the original is only read.

Safe is what loses nothing that training could use: files that cannot be decoded and second copies go, names
and content are brought together, captions are written plainly. Everything done is listed in `fixed.jsonl`.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from workbench.datasets import writing
from workbench.datasets.check.copies import exact_copies
from workbench.datasets.check.findings import Report
from workbench.datasets.check.looks import Look
from workbench.datasets.check.running import rows_of
from workbench.datasets.own.captions import plain, tidy
from workbench.datasets.rows import Row, find_metadata, metadata_lines, read_picture
from workbench.datasets.tree import shown
from workbench.errors import WorkbenchError

DONE = "fixed.jsonl"
_AS_IS_MODES = ("RGB", "L", "P")  # what every reader takes for the same picture


@dataclass(frozen=True)
class Change:
    """One thing that was done: to which file or line, what, why."""

    name: str
    done: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What `fix_folder` wrote. pictures, rows: in the new folder; changes: all that is other than before."""

    folder: Path
    pictures: int
    rows: int
    changes: tuple[Change, ...]

    def text(self) -> str:
        """A few lines for a terminal."""
        lines = [
            f"{self.pictures} pictures, {self.rows} captions in {self.folder}; the original is untouched"
        ]
        for done, count in Counter(change.done for change in self.changes).most_common():
            first = next(change for change in self.changes if change.done == done)
            lines.append(f"  {count} × {done} (e.g. {shown(first.name)}: {shown(first.why)})")
        return "\n".join([*lines, f"each of them is in {self.folder / DONE}"] if self.changes else lines)


def fix_folder(report: Report, out: str | Path) -> Fixed:
    """Writes a mended copy of the checked folder to `out`, whole or not at all.

    Raises WorkbenchError when `out` is there already, lies within the set, or nothing would be left.
    """
    out = Path(out)
    check_place(report.path, out)
    rows, changes = _mended_rows(report)
    if not rows:
        raise WorkbenchError(f"Nothing of {report.path} is left after mending: no picture has a caption.")
    beside = out.with_name(f".{out.name}.tmp-{uuid.uuid4().hex[:8]}")
    with writing.clear_errors("Nothing was written."):
        try:
            beside.mkdir(parents=True)
            names, more = _write_pictures(report, list(dict.fromkeys(row.file_name for row in rows)), beside)
            changes += more
            _write_rest(report.path, beside, [row for row in rows if row.file_name in names], names, changes)
            os.replace(beside, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)  # moved by now, or not to be kept
    return Fixed(folder=out, pictures=len(names), rows=len(rows), changes=tuple(changes))


def check_place(folder: Path, out: Path) -> None:
    """WorkbenchError unless a mended copy of `folder` may be written to `out`."""
    inner, outer = out.resolve(), folder.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise WorkbenchError(f"{out} and {folder} lie in each other. Choose a folder outside for the copy.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkbenchError(f"{out} is already there. Nothing was written; choose another folder.")


def _mended_rows(report: Report) -> tuple[list[Row], list[Change]]:
    """The rows that stay, each naming the file that stays, with captions plain; and what was changed."""
    changes: list[Change] = []
    try:
        lines = metadata_lines(find_metadata(report.path))
    except WorkbenchError as error:
        raise WorkbenchError(f"{report.path} has no captions to mend: {error}") from error
    found, bad = rows_of(lines, report.path)
    changes += [Change(where, "line left out", "no file name or no caption") for where in bad]
    changes += [
        Change(line.where.removeprefix(f"{report.path}/"), "line left out", line.mistake)
        for line in lines
        if line.entry is None
    ]
    looks = {look.name: look for look in report.looks}
    first = dict(exact_copies(report.whole))
    kept: dict[tuple[str, str], Row] = {}
    for name in dict.fromkeys(row.file_name for row in found):
        if looks[name].trouble:
            changes.append(Change(name, "picture left out", looks[name].trouble))
        elif name in first:
            changes.append(Change(name, "second copy left out", f"the same file as {first[name]}"))
    for row in found:
        if looks[row.file_name].trouble:
            continue
        text = tidy(row.text)
        if text != row.text:
            changes.append(Change(row.file_name, "caption written plainly", row.text[:80]))
        name = first.get(row.file_name, row.file_name)
        kept.setdefault((name, text), Row(name, text, plain(row.factors)))
    return [row for (_, text), row in kept.items() if text], changes


def _write_pictures(report: Report, names: Sequence[str], out: Path) -> tuple[dict[str, str], list[Change]]:
    """Copies or writes anew the pictures `names`; returns old name -> new name and what was changed."""
    looks = {look.name: look for look in report.looks}
    new, taken = {}, set(names)
    for name in names:
        new[name] = name
        if _why_anew(looks[name]):
            path = PurePosixPath(name)
            wanted, number = str(path.with_suffix(".png")), 1
            while wanted != name and wanted in taken:
                number += 1
                wanted = str(path.with_name(f"{path.stem}-{number}.png"))
            taken.add(wanted)
            new[name] = wanted

    def write(name: str) -> None:
        file = out / new[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        if _why_anew(looks[name]):
            writing.write_picture(file, read_picture(report.path / name))
        else:
            shutil.copyfile(report.path / name, file)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, names):
            pass
    changes = [Change(name, "written anew as PNG", why) for name in names if (why := _why_anew(looks[name]))]
    return new, changes


def _why_anew(look: Look) -> str:
    """Why a picture is not copied as it is, or ""."""
    reasons = {
        f"its content is {look.format}": look.mislabelled,
        "an EXIF mark turns it": look.orientation > 1,
        f"its colour mode is {look.mode}": look.mode not in _AS_IS_MODES,
        f"its first of {look.frames} frames is used": look.frames > 1,
        look.damage: bool(look.damage),
    }
    return "; ".join(why for why, true in reasons.items() if true)


def _write_rest(
    folder: Path, out: Path, rows: Sequence[Row], names: dict[str, str], changes: Sequence[Change]
) -> None:
    """Card, list of changes and, last, the metadata."""
    if (folder / "README.md").is_file():
        shutil.copyfile(folder / "README.md", out / "README.md")
    lines = (json.dumps(asdict(change)) + "\n" for change in changes)
    writing.write_text(out / DONE, "".join(lines))
    writing.write_rows(
        out, ({"file_name": names[row.file_name], "text": row.text, **row.factors} for row in rows)
    )
