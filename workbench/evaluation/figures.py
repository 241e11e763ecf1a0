"""The figures that the project states: assets/reports/figures.json, one entry an id, each with the command
that remakes it.

An entry: {"value", "unit", "goal", "n", "command", "machine", "versions", "date", "commit"}. GOALS declares
every id with its goal, its unit and the key under which the command's JSON output carries the value.
"""

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch
from rich.table import Table

from workbench import hardware
from workbench.errors import WorkbenchError
from workbench.evaluation.goals import GOALS, MODEL, UPSAMPLING, met, parse_goal

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "assets" / "reports" / "figures.json"


MET = {True: "yes", False: "[bold]no[/bold]", None: "-"}


def machine_name() -> str:
    """The machine in a few words, without a name that could identify it: "2-core x86-64 CPU (AVX2), no GPU".

    The widest instructions that torch uses belong to it: where they end at AVX2, bf16 is 15 times slower.
    """
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    kind = f"{platform.machine().replace('_', '-')} CPU ({torch.backends.cpu.get_cpu_capability()})"
    return f"{hardware.usable_cores()}-core {kind}, {gpu}"


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


def table(path: Path | None = None, *, dated: bool = True) -> Table:
    """Every declared or recorded figure as a rich table: figure, goal, measured, met; dated: n and date."""
    entries = read(path)
    out = Table("figure", "goal", "measured", "unit", "met", *(("n", "date") if dated else ()))
    for id in [*GOALS, *(extra for extra in entries if extra not in GOALS)]:
        entry = entries.get(id)
        if entry is None:
            out.add_row(id, GOALS[id].goal, "not measured", GOALS[id].unit, "-")
            continue
        answer = MET[met(entry["value"], entry["goal"])]
        about = ("" if entry.get("n") is None else str(entry["n"]), entry.get("date", "")) if dated else ()
        out.add_row(id, entry["goal"], f"{entry['value']:.4g}", entry["unit"], answer, *about)
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
