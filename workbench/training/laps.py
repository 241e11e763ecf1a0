"""Runs that follow one another, each from the weights that the one before ended with, told as one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.images import write_whole
from workbench.models.clip_io import write_json
from workbench.training import runs
from workbench.training.grids import FOLDER, find_grids
from workbench.training.history import NAME as HISTORY
from workbench.training.history import read_history

_COUNTS = ("cur_nimg", "from_nimg", "back_to_nimg")  # of a line, images so far; the last two of a roll-back


def join_laps(laps: Sequence[str | Path], out: str | Path) -> Path:
    """The story of runs in their order, in the new folder `out`, without weights; returns it.

    Image counts and seconds of each lap go on where the one before ended. Its grids count from where its G
    began to learn: until then they all show what the lap before ended with. config.json is the last lap's,
    with a list `laps` of {"config", "images", "D_alone"}: the images that each took, and how many of them
    before its G began to learn. A lap may be a folder that this made. Raises WorkbenchError when `out`
    exists, or a lap is no run that has begun.
    """
    laps, out = [Path(lap) for lap in laps], Path(out)
    if out.exists():
        raise WorkbenchError(f"{out} is already there and is not overwritten: move it away first.")
    facts, lines, told, pictures = {}, [], [], {}
    for lap in laps:
        facts, own = runs.read_run(lap), _told(lap)
        end, alone = _images(lines), _alone(own)
        grids = {n: path for n, path in find_grids(lap).items() if n > alone or alone == 0}
        names = {n: f"{FOLDER}/grid_{end + n:09d}{path.suffix}" for n, path in grids.items()}
        pictures |= {names[n]: path for n, path in grids.items()}
        if lines:
            lines.append(_border(end, alone, facts))
        lines += _moved(own, end, _seconds(lines), names)
        told += facts.get("laps") or [{"config": facts["config"], "images": _images(own), "D_alone": alone}]
    (out / FOLDER).mkdir(parents=True)
    for name, path in pictures.items():
        shutil.copyfile(path, out / name)
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    write_whole(out / HISTORY, lambda handle: handle.write(data))
    write_json(out / "config.json", facts | {"laps": told})
    return out


def numbers_of(laps: Sequence[str | Path]) -> list[dict]:
    """Steps and events of runs in their order, whatever they trained; grids are left out.

    Image counts and seconds of each go on where the one before ended. Raises WorkbenchError for a lap that
    has not begun.
    """
    lines: list[dict] = []
    for lap in laps:
        own, end, after = _told(lap), _images(lines), _seconds(lines)
        if lines:
            text = "A new run goes on from these weights."
            lines.append({"kind": "event", "cur_nimg": end, "event": "lap", "text": text})
        lines += _moved(own, end, after, {})
    return lines


def _told(lap: str | Path) -> list[dict]:
    """A run's lines, steps among them."""
    lines = read_history(lap)
    if not any(line["kind"] == "step" for line in lines):
        raise WorkbenchError(f"{lap} has told nothing of its training yet: train it first.")
    return lines


def _images(lines: list[dict]) -> int:
    return max((line["cur_nimg"] for line in lines), default=0)


def _seconds(lines: list[dict]) -> float:
    """Of all steps; 0 where they were not told."""
    return max((line.get("seconds", 0.0) for line in lines if line["kind"] == "step"), default=0.0)


def _alone(lines: list[dict]) -> int:
    """Images before the line after which G learns; all, where it never does."""
    steps = [line for line in lines if line["kind"] == "step"]
    learns = next((k for k, line in enumerate(steps) if "G.loss" in line), len(steps))
    return steps[learns - 1]["cur_nimg"] if learns > 0 else 0


def _border(end: int, alone: int, facts: dict) -> dict:
    """The event at which a later lap starts."""
    known = facts.get("started_from", {}).get("shares", {}).get("D", 0.0) > 0
    text = f"A new run goes on from this G, with {'its' if known else 'a fresh'} D."
    if alone > 0:
        text += f" For {alone} images D learns alone, beside a G that stands still."
    return {"kind": "event", "cur_nimg": end, "event": "lap", "text": text}


def _moved(lines: list[dict], by: int, after: float, names: dict[int, str]) -> list[dict]:
    """A lap's lines with counts and seconds that go on; of its samples those that `names` names."""
    moved = []
    for line in lines:
        if line["kind"] == "sample":
            if line["cur_nimg"] not in names:
                continue
            line = line | {"file": names[line["cur_nimg"]]}
        if line["kind"] == "step" and "seconds" in line:
            line = line | {"seconds": line["seconds"] + after}
        counts = {name: line[name] + by for name in _COUNTS if name in line}
        moved.append(line | counts)
    return moved
