"""Held-out pictures: a share of a set that training never sees, chosen by name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from workbench.datasets.rows import Row, read_folder
from workbench.datasets.writing import clear_errors, write_rows
from workbench.errors import WorkbenchError

HELD_OUT = 0.1


def is_held_out(file_name: str, share: float = HELD_OUT) -> bool:
    """Whether the picture of this name is held out: a hash of the name below `share` of all hashes.

    A set that grows moves no picture from one side to the other, and nobody has to keep a list. Raises
    WorkbenchError for a share outside 0 … 1.
    """
    if not 0.0 <= share <= 1.0:
        raise WorkbenchError(f"share is {share}: expected 0 to 1, for example {HELD_OUT}.")
    digest = hashlib.sha256(file_name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split(rows: Sequence[Row], share: float = HELD_OUT) -> tuple[list[Row], list[Row]]:
    """(rows to train on, rows held out), each in their order."""
    training = [row for row in rows if not is_held_out(row.file_name, share)]
    return training, [row for row in rows if is_held_out(row.file_name, share)]


def write_split(path: str | Path, out: str | Path, share: float = HELD_OUT) -> tuple[int, int]:
    """Writes the set at `path` as two, `out`/training and `out`/held-out; returns how many pictures each has.

    Pictures are hard links where the disk allows them, copies elsewhere; the original is only read. Raises
    WorkbenchError where one side would be empty, or `out` holds something or lies in the set.
    """
    source, out = Path(path), Path(out)
    sides = dict(zip(("training", "held-out"), split(read_folder(source), share), strict=True))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkbenchError(f"{out} is there and holds something. Choose a folder that is new or empty.")
    if source.resolve() in out.resolve().parents:
        raise WorkbenchError(f"{out} lies in {source}. Choose a folder outside of the data set.")
    if empty := [name for name, rows in sides.items() if not rows]:
        raise WorkbenchError(
            f"With a share of {share}, {empty[0]} would get none of the pictures of {source}: choose another "
            "share, or gather more pictures."
        )
    with clear_errors("Nothing of the original was touched."):
        for name, rows in sides.items():
            for file_name in dict.fromkeys(row.file_name for row in rows):
                _place(source / file_name, out / name / file_name)
            entries = ({"file_name": row.file_name, "text": row.text} | row.factors for row in rows)
            write_rows(out / name, entries)
    return len(sides["training"]), len(sides["held-out"])


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)  # of a symbolic link, what it leads to
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
