"""The figures that the project states: assets/reports/figures.json, one entry an id, each with the command
that remakes it.

An entry: {"value", "unit", "goal", "n", "command", "machine", "versions", "date", "commit"}. GOALS declares
every id with its goal, its unit and the key under which the command's JSON output carries the value.
"""

import datetime
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from rich.table import Table

from workbench import hardware
from workbench.errors import WorkbenchError
from workbench.evaluation.goals import GOALS, MODEL, UPSAMPLING, WALL, met, parse_goal

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "assets" / "reports" / "figures.json"


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
        out = Table("figure", "goal", "old", "new", "unit", "met")
        out.add_row(self.id, self.goal, f"{self.old:.4g}", f"{self.new:.4g}", self.unit, _MET[self.met])
        return out


_MET = {True: "yes", False: "[bold]no[/bold]", None: "-"}


def machine_name() -> str:
    """The machine in a few words, without a name that could identify it: "2-core x86-64 CPU, no GPU"."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{hardware.usable_cores()}-core {platform.machine().replace('_', '-')} CPU, {gpu}"


def provenance() -> dict:
    """Where and with what something is measured now: machine, versions, date (UTC), commit."""
    return {
        "machine": machine_name(),
        "versions": _versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
    }


def _versions() -> dict[str, str]:
    names = {"python": platform.python_version()}
    for package in ("torch", "open_clip_torch"):
        try:
            names[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is absent has no version to state
    return names


def _commit() -> str | None:
    """Short hash of the checked-out commit, with "+" when tracked files differ from it; None outside a git
    clone.
    """
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "workbench", "assets/models"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    except OSError:  # no git on this machine
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def read(path: Path | None = None) -> dict[str, dict]:
    """All entries by id; {} where there is no file. Raises WorkbenchError when it holds something else."""
    path = FIGURES if path is None else Path(path)
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkbenchError(
            f"{path} is not readable JSON ({error}): expected an object of figures. Restore it from git."
        ) from error
    if not isinstance(entries, dict) or not all(
        isinstance(e, dict) and "value" in e for e in entries.values()
    ):
        raise WorkbenchError(
            f"{path} holds something else than figures: expected objects with a value. Restore it from git."
        )
    return entries


def record(
    id: str,
    value: float,
    *,
    command: str,
    unit: str | None = None,
    goal: str | None = None,
    n: int | None = None,
    path: Path | None = None,
) -> dict:
    """Write one figure into the file and return its entry. unit and goal default to what GOALS declares for
    the id.

    Machine, versions, date (UTC) and commit are filled in. The file is replaced atomically; other entries
    stay as they are. Raises WorkbenchError for an id without goal and unit, or a value that is no finite
    number.
    """
    declared = GOALS.get(id)
    if declared is None and (unit is None or goal is None):
        raise WorkbenchError(
            f"The figure {id!r} is not declared: expected one of {', '.join(sorted(GOALS))}, or a unit and "
            "a goal with it."
        )
    goal = declared.goal if goal is None else goal
    parse_goal(goal)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or abs(value) == float("inf")
    ):
        raise WorkbenchError(
            f"The figure {id!r} has the value {value!r}: expected a finite number. Measure it again."
        )
    entry = {
        "value": float(f"{value:.6g}"),
        "unit": declared.unit if unit is None else unit,
        "goal": goal,
        "n": n,
        "command": command,
        **provenance(),
    }
    path = FIGURES if path is None else Path(path)
    entries = read(path) | {id: entry}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    beside.write_text(
        json.dumps(dict(sorted(entries.items())), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    os.replace(beside, path)
    return entry


def record_model(result: dict, *, command: str, path: Path | None = None) -> None:
    """Record every figure of the demo model or the upsampler that an evaluation's result carries."""
    for id in (*(f"faithfulness.{k}" for k in ("coat", "pose", "scene", "light")), *MODEL, *UPSAMPLING):
        if GOALS[id].key in result:
            record(id, result[GOALS[id].key], n=result["n"], command=command, path=path)


def table(path: Path | None = None) -> Table:
    """Every declared or recorded figure as a rich table: figure, goal, measured, met."""
    entries = read(path)
    out = Table("figure", "goal", "measured", "unit", "met", "n", "date")
    for id in [*GOALS, *(extra for extra in entries if extra not in GOALS)]:
        entry = entries.get(id)
        if entry is None:
            out.add_row(id, GOALS[id].goal, "not measured", GOALS[id].unit, "-", "", "")
            continue
        answer = _MET[met(entry["value"], entry["goal"])]
        n = "" if entry.get("n") is None else str(entry["n"])
        out.add_row(
            id, entry["goal"], f"{entry['value']:.4g}", entry["unit"], answer, n, entry.get("date", "")
        )
    return out


def markdown(path: Path | None = None) -> str:
    """The declared figures as a Markdown table, for texts: what is quoted there is this, made anew, never
    typed.
    """
    entries = read(path)
    lines = ["| figure | goal | measured | on |", "|---|---|---|---|"]
    for id, goal in GOALS.items():
        entry = entries.get(id)
        value = "not measured yet" if entry is None else f"{entry['value']:.4g} {entry['unit']}"
        lines.append(f"| `{id}` | {goal.goal} | {value} | {'' if entry is None else entry['machine']} |")
    return "\n".join(lines)


def update_text(text_path: Path, *, path: Path | None = None) -> None:
    """Put the table of `markdown` between the figure marks of a Markdown file. Raises WorkbenchError without
    marks.
    """
    begin, end = "<!-- figures: begin -->\n", "<!-- figures: end -->"
    text = text_path.read_text()
    if begin not in text or end not in text:
        raise WorkbenchError(
            f"{text_path} has no figure marks: expected the lines {begin.strip()} and {end}."
        )
    head, rest = text.split(begin, 1)
    text_path.write_text(head + begin + markdown(path) + "\n" + end + rest.split(end, 1)[1])


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


def rerun(id: str, *, path: Path | None = None, timeout_s: float | None = None) -> Rerun:
    """Run the command of a recorded figure (without a shell, from the repository root) and return old and new
    value.

    The new value is what the command's last JSON object holds under the figure's key (GOALS; the id's last
    part for others), or the command's wall time. The file stays as it is. Raises WorkbenchError when there is
    no such figure, the command fails, or its output lacks the value.
    """
    entries = read(path)
    if id not in entries:
        raise WorkbenchError(
            f"No figure {id!r} is recorded: expected one of {', '.join(sorted(entries)) or '(none yet)'}. "
            "`workbench figures` lists them."
        )
    entry = entries[id]
    key = GOALS[id].key if id in GOALS else id.rsplit(".", 1)[-1]
    words = _arguments(entry["command"])
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
            f"The command of {id!r} ran past {timeout_s:g} s: {entry['command']}. Allow it more time."
        ) from error
    wall_s = time.perf_counter() - start
    if done.returncode != 0:
        raise WorkbenchError(
            f"The command of {id!r} ended with status {done.returncode}: {entry['command']}. Run it by hand "
            "to see why."
        )
    if key == WALL:
        new = wall_s
    else:
        found = _last_json(done.stdout)
        new = found
        for name in key.split("."):
            new = new.get(name) if isinstance(new, dict) else None
        if isinstance(new, bool) or not isinstance(new, int | float):
            raise WorkbenchError(
                f"The command of {id!r} printed no JSON object with a number under {key!r}: "
                f"{entry['command']}. Add --json to it."
            )
    return Rerun(
        id=id,
        old=entry["value"],
        new=new,
        unit=entry["unit"],
        goal=entry["goal"],
        met=met(new, entry["goal"]),
    )
