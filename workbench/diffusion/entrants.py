"""Who and what is at hand for a race: model folders and measured results, what ships first, then the runs.

`root` is a folder that holds both; None is the folder one is in, and what ships is found wherever that is.
Light: no torch is imported, so that a page can look before any model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    "diffusion": Path("assets/models/shepherd-64-diffusion"),
    "student": Path("assets/models/shepherd-64-student"),
}
RESULTS = (Path("assets/reports/race.json"), Path("runs/race/race.json"))
KINDS = {"diffusion-baseline": "diffusion", "diffusion-student": "student"}  # as config.json says them
COMMANDS = {
    "diffusion": "workbench diffusion train --data runs/world --out runs/diffusion --minutes 170",
    "student": f"workbench diffusion distill --teacher {SHIPPED['diffusion']} --critics "
    "assets/models/critics-64 --data runs/world --out runs/student --minutes 25",
    "result": f"workbench compare --diffusion {SHIPPED['diffusion']} --student {SHIPPED['student']} --n 1000",
}

_FACTS = {"kind", "weights", "steps", "settings", "ms", "ratio", "all"}  # what a reader takes for granted


def find(kind: str, root: Path | None = None) -> Path | None:
    """The folder of the shipped model of a kind ("diffusion" or "student"), else of the newest finished run
    that has one; None where there is none.
    """
    shipped = _shipped(SHIPPED[kind], root)
    made = ((root or Path()) / "runs").glob("*/model")
    runs = sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)
    return next((folder for folder in (shipped, *runs) if _kind(folder) == kind), None)


def results(root: Path | None = None) -> list[tuple[Path, dict[str, Any]]]:
    """The races measured, with their files. WorkbenchError for a damaged one."""
    shipped, own = RESULTS
    places = (_shipped(shipped, root), (root or Path()) / own)
    return [(place, _read(place)) for place in places if place.is_file()]


def result_of(weights: Mapping[str, str], root: Path | None = None) -> tuple[Path, dict[str, Any]] | None:
    """The first of `results` in which the lanes of these kinds had these weights (kind -> hash), or None."""
    for path, result in results(root):
        if all(_weights(result, kind) == {known} for kind, known in weights.items()):
            return path, result
    return None


def how_to_make(what: str) -> str:
    """The command, in backticks, that makes a model (a key of SHIPPED) or a "result"."""
    return f"`{COMMANDS[what]}`"


def _shipped(place: Path, root: Path | None) -> Path:
    """Where something that ships lies: under `root`; for None under the folder one is in, else ROOT."""
    here = (root or Path()) / place
    return here if root is not None or here.exists() else ROOT / place


def _weights(result: Mapping[str, Any], kind: str) -> set[str]:
    return {row["weights"] for row in result["lanes"] if row["kind"] == kind}


def _kind(folder: Path) -> str | None:
    """ "diffusion" or "student" for a model folder of the diffusion lane; None for any other."""
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return KINDS.get(facts.get("kind")) if isinstance(facts, dict) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        whole = {"n", "lanes"} <= result.keys() and all(row.keys() >= _FACTS for row in result["lanes"])
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise WorkbenchError(f"{path} cannot be read ({error}): {_AGAIN}") from error
    if not whole:
        raise WorkbenchError(f"{path} is no result of a race, or not a whole one: {_AGAIN}")
    return result


_AGAIN = f"delete it and race again with {how_to_make('result')}."
