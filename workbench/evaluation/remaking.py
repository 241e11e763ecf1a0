"""Figures measured again by the commands that they name: one of them, or every one that can be made here."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rich.table import Table

from workbench.errors import WorkbenchError
from workbench.evaluation import figures
from workbench.evaluation.figures import MET, ROOT
from workbench.evaluation.goals import GOALS, WALL, met

# What is measured as a whole day's work of its own, or of another clone: never on the way.
_APART = ("make ", "env ", "python benchmarks/")


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A figure measured again: old is the recorded value, new what the command gave just now."""

    id: str
    old: float
    new: float
    unit: str
    goal: str
    met: bool | None

    def __rich__(self) -> Table:
        """Old and new side by side, for a terminal."""
        return table([self])


@dataclass(frozen=True, kw_only=True)
class Remade:
    """What one command gave. figures: one for each id that names it; skipped: why it was not run, or None."""

    command: str
    figures: tuple[Rerun, ...] = ()
    seconds: float = 0.0
    skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Output:
    """What a command printed last as a JSON object (None: none), and its wall time in seconds."""

    found: dict | None = field(repr=False)
    seconds: float


def table(reruns: list[Rerun]) -> Table:
    """Old and new values side by side."""
    out = Table("figure", "goal", "old", "new", "unit", "met")
    for one in reruns:
        out.add_row(one.id, one.goal, f"{one.old:.4g}", f"{one.new:.4g}", one.unit, MET[one.met])
    return out


def _nearest(id: str, entries: dict) -> str:
    """Those that may be meant, in words."""
    found = difflib.get_close_matches(id, entries, n=3, cutoff=0.0)
    return f"the nearest are {', '.join(found)}" if found else "none is, yet"


def rerun(
    id: str, *, record: bool = False, path: Path | None = None, timeout_s: float | None = None
) -> Rerun:
    """Run the command of a recorded figure (without a shell, from the repository root) and return old and new
    value; with `record` the new one is written into the file.

    The new value is what the command's last JSON object holds under the figure's key (GOALS; the id's last
    part for others), or the command's wall time. Raises WorkbenchError when there is no such figure, the
    command fails, or its output lacks the value.
    """
    entries = figures.read(path)
    if id not in entries:
        raise WorkbenchError(
            f"No figure {id!r} is recorded: {_nearest(id, entries)}. `workbench figures` lists them all."
        )
    output = _run(id, entries[id]["command"], timeout_s)
    again = _again(id, entries[id], output)
    if record:
        _record(again, entries[id], path)
    return again


def remake(*, record: bool = False, path: Path | None = None) -> Iterator[Remade]:
    """Run each command of the file once, and yield what it gave as it comes; with `record` all its figures
    are written.

    Commands that take another clone or install other software are left to be run by hand, and so are those
    whose files are not there; each says so. Raises WorkbenchError as `rerun` does.
    """
    entries = figures.read(path)
    commands = dict.fromkeys(entry["command"] for entry in entries.values())
    for command in commands:
        if why := _why_not(command):
            yield Remade(command=command, skipped=why)
            continue
        ids = [id for id, entry in entries.items() if entry["command"] == command]
        output = _run(ids[0], command, None)
        again = tuple(_again(id, entries[id], output) for id in ids)
        if record:
            for one in again:
                _record(one, entries[one.id], path)
        yield Remade(command=command, figures=again, seconds=output.seconds)


def _why_not(command: str) -> str | None:
    """Why `remake` does not run a command, in words; None where it does."""
    if command.startswith(_APART):
        return "is run by hand: it takes another environment, long, or a person's eyes"
    words = shlex.split(command)
    read = [word for before, word in pairwise(words) if word.startswith("runs/") and before != "--out"]
    missing = [word for word in read if not (ROOT / word).exists()]
    return f"needs {', '.join(missing)}, which is not here" if missing else None


def _record(again: Rerun, entry: dict, path: Path | None) -> None:
    figures.record(
        again.id, again.new, command=entry["command"], unit=again.unit, goal=again.goal, n=entry.get("n"),
        path=path,
    )  # fmt: skip


def _again(id: str, entry: dict, output: _Output) -> Rerun:
    """The figure's new value out of its command's output."""
    key = GOALS[id].key if id in GOALS else id.rsplit(".", 1)[-1]
    new = output.seconds
    if key != WALL:
        new = output.found
        for name in key.split("."):
            new = new.get(name) if isinstance(new, dict) else None
        if isinstance(new, bool) or not isinstance(new, int | float):
            raise WorkbenchError(
                f"The command of {id!r} printed no JSON object with a number under {key!r}: "
                f"{entry['command']}. Add --json to it."
            )
    reached = met(new, entry["goal"])
    return Rerun(id=id, old=entry["value"], new=new, unit=entry["unit"], goal=entry["goal"], met=reached)


def _run(id: str, command: str, timeout_s: float | None) -> _Output:
    """Run the command of a figure to its end."""
    words = _arguments(command)
    start = time.perf_counter()
    try:
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=timeout_s)
    except FileNotFoundError as error:
        raise WorkbenchError(
            f"The command of {id!r} cannot start: {words[0]} is not found. Install it or run it from the "
            "project's environment."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise WorkbenchError(
            f"The command of {id!r} ran past {timeout_s:g} s: {command}. Allow it more time."
        ) from error
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise WorkbenchError(
            f"The command of {id!r} ended with status {done.returncode}: {command}. Run it by hand "
            "to see why."
        )
    return _Output(found=_last_json(done.stdout), seconds=seconds)


def _last_json(text: str) -> dict | None:
    """The last JSON object in a command's output that starts at the beginning of a line, else None."""
    decoder = json.JSONDecoder()
    for start in reversed([m.start() for m in re.finditer(r"^\{", text, re.MULTILINE)]):
        try:
            found, _ = decoder.raw_decode(text[start:])
        except ValueError:
            continue  # an earlier line may still start a whole object
        return found
    return None


def _arguments(command: str) -> list[str]:
    """The command's words; `workbench` and `python` are those of the running environment, on PATH or not."""
    words = shlex.split(command)
    if not words:
        raise WorkbenchError(
            "The figure names no command: expected the line that remakes it. Record it again with one."
        )
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    beside = Path(sys.executable).with_name(words[0])
    return [str(beside), *words[1:]] if beside.exists() else words
