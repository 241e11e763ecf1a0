"""Run folders that the page can show: where they are, what they hold, and the one door to their pictures.

A run folder: config.json, history.jsonl (one JSON object a logged step, with "cur_nimg"),
samples/grid_<cur_nimg>.png or .webp, training.gif; one that a page has just started, .process alone.
Numbers and curves come from these files and from nowhere else.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from workbench.errors import WorkbenchError
from workbench.training.grids import FOLDER, GRID, find_grids

URL = "run-picture"
FACTORS = ("coat", "pose", "scene", "light", "all")
_SERVED = re.compile(rf"training\.gif|{FOLDER}/{GRID.pattern}")  # and nothing else in the folder
Series = list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder as the page shows it. name: what stands in the list and in addresses."""

    name: str
    folder: Path

    def url(self, file: str) -> str:
        """Address of one of its pictures, relative to the page; changes with the file, as caches need."""
        return f"{URL}/{self.name}/{file}?v={int((self.folder / file).stat().st_mtime)}"

    def grids(self) -> list[tuple[int, str]]:
        """(images seen, file) of every sample grid, in order."""
        return [(nimg, f"{FOLDER}/{path.name}") for nimg, path in find_grids(self.folder).items()]

    def film(self) -> str | None:
        """The training GIF, None where there is none yet."""
        return "training.gif" if (self.folder / "training.gif").is_file() else None


class Shelf:
    """All runs that can be shown: the shipped one, the user's under `runs/`, and a folder named at start."""

    def __init__(self, *, shipped: Path, runs: Path, named: Path | None = None) -> None:
        self.shipped, self.runs, self.named = shipped, runs, named

    def list(self) -> dict[str, Run]:
        """Runs by name: the one named at start, the shipped one, the newest of the user's and so on."""
        folders: list[Path] = []
        for place in filter(None, (self.named, self.shipped, self.runs)):
            if is_run(place):
                folders.append(place)
            elif place.is_dir():
                # two levels: ablations and sweeps keep their runs in a folder of their own
                mine = [folder for depth in ("*", "*/*") for folder in place.glob(depth) if is_run(folder)]
                folders += sorted(mine, key=lambda folder: folder.stat().st_mtime, reverse=True)
        shelf: dict[str, Run] = {}
        for folder in folders:
            if any(folder.resolve() == run.folder.resolve() for run in shelf.values()):
                continue
            above = folder.parent if folder.parent.parent == self.runs else None
            named = folder.resolve().name if above is None else f"{above.name}-{folder.name}"
            name = _free_name(named, shelf)
            shelf[name] = Run(name=name, folder=folder)
        return shelf

    def get(self, name: str) -> Run:
        """The run of a name; WorkbenchError when it is gone."""
        run = self.list().get(name)
        if run is None:
            raise WorkbenchError(
                f"There is no run named {name} any more: press Refresh to see the runs that are there."
            )
        return run

    def route(self) -> Route:
        """The door: sample grids and the training GIF of the runs on this shelf, no other file."""

        async def serve(request: Request) -> FileResponse:
            run = self.list().get(request.path_params["run"])
            file = request.path_params["file"]
            if run is None or not _SERVED.fullmatch(file):
                raise HTTPException(404)
            path = (run.folder / file).resolve()
            if not path.is_relative_to(run.folder.resolve()) or not path.is_file():
                raise HTTPException(404)
            # Named here, because Python before 3.13 does not know WebP by its ending.
            kind = f"image/{Path(file).suffix[1:]}"
            return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

        return Route(f"/{URL}/{{run}}/{{file:path}}", serve)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, or one that was just started from a page. Closed to us, it holds none."""
    try:
        return (folder / "history.jsonl").is_file() or (folder / ".process" / "start.json").is_file()
    except OSError:
        return False


def _free_name(name: str, taken: Iterable[str]) -> str:
    name = re.sub(r"[^\w.-]+", "-", name) or "run"
    free = (f"{name}-{k}" for k in range(2, 10_000))
    return name if name not in taken else next(candidate for candidate in free if candidate not in taken)


# --- history ---


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's history that still count; nested objects flattened ("a": {"b": 1} is "a.b": 1).

    A torn last line (a run under way) is left out; a broken one before it is a WorkbenchError.
    """
    try:
        facts = (folder / "history.jsonl").stat()
    except FileNotFoundError:
        return []  # a run that is only just starting
    return _records(folder, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=16)
def _records(folder: Path, size: int, changed: int) -> list[dict[str, Any]]:
    """A class that watches one run reads its history once."""
    from workbench.training.history import read_history  # brings torch: the page is up before it

    return [_flat(line) for line in read_history(folder) if isinstance(line.get("cur_nimg"), int)]


def settings_of(folder: Path) -> dict[str, Any]:
    """config.json of a run; empty where it is not written yet, or cannot be read.

    What it holds of `config` and `machine` are objects, or not there.
    """
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: value for key, value in found.items()
        if key not in ("config", "machine") or isinstance(value, dict)
    }  # fmt: skip


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def series(records: Sequence[dict[str, Any]], key: str) -> Series:
    """(images seen, value) of every record with a finite number under `key` or a name that ends in .key."""
    return _collect(records, lambda record: _lookup(record, key))


def ratio_series(records: Sequence[dict[str, Any]], over: str, under: str) -> Series:
    """(images seen, over / under) of every record that holds both."""

    def value(record: dict[str, Any]) -> float | None:
        top, bottom = _lookup(record, over), _lookup(record, under)
        return top / bottom if top is not None and bottom else None

    return _collect(records, value)


def _lookup(record: dict[str, Any], key: str) -> float | None:
    for name, value in record.items():
        if (
            (name == key or name.endswith(f".{key}"))
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
        ):
            return float(value)
    return None


def _collect(records: Sequence[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> Series:
    pairs = ((record["cur_nimg"], value(record)) for record in records)
    return [(n, number) for n, number in pairs if number is not None and math.isfinite(number)]


def loss_keys(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the losses in a history: G's and D's as a whole, or, without these, all that say loss."""
    keys = {key for record in records for key, value in record.items() if isinstance(value, (int, float))}
    whole = [key for key in ("G.loss", "D.loss") if key in keys]
    return whole or sorted((key for key in keys if "loss" in key.lower()), key=lambda key: (len(key), key))


def thin(points: Series, most: int = 400) -> Series:
    """At most `most` points: means of equal stretches, so that no peak is picked by chance."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    parts = [points[k : k + size] for k in range(0, len(points), size)]
    return [
        (round(sum(n for n, _ in part) / len(part)), sum(v for _, v in part) / len(part)) for part in parts
    ]


def at(points: Series, nimg: int) -> float | None:
    """The last value at or before `nimg` images, None when there is none yet."""
    seen = [value for n, value in points if n <= nimg]
    return seen[-1] if seen else None
