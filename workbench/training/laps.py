"""Runs that follow one another, each from the weights that the one before ended with, told as one."""

import json
import shutil
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.images import write_whole
from workbench.models.clip_io import write_json
from workbench.training import runs
from workbench.training.grids import FOLDER, find_grids
from workbench.training.history import NAME as HISTORY
from workbench.training.history import read_history


def join_laps(earlier: str | Path, later: str | Path, out: str | Path) -> Path:
    """The story of two runs in the new folder `out`, without weights; returns it.

    Image counts and seconds of the later lap go on where the earlier ended. Its grids count from where its G
    began to learn: until then they all show what the earlier one ended with. config.json is the later lap's,
    with a list `laps` of {"config", "images", "D_alone"}: the images that each took, and how many of them
    before its G began to learn. `out` can be joined to a third. Raises WorkbenchError when `out` exists, or
    either is no run that has begun.
    """
    earlier, later, out = Path(earlier), Path(later), Path(out)
    if out.exists():
        raise WorkbenchError(f"{out} is already there and is not overwritten: move it away first.")
    facts = [runs.read_run(run) for run in (earlier, later)]
    first, second = (read_history(run) for run in (earlier, later))
    for run, lines in ((earlier, first), (later, second)):
        if not any(line["kind"] == "step" for line in lines):
            raise WorkbenchError(f"{run} has told nothing of its training yet: train it first.")
    end, alone = _images(first), _alone(second)
    kept = {n: path for n, path in find_grids(later).items() if n > alone or alone == 0}
    (out / FOLDER).mkdir(parents=True)
    for path in find_grids(earlier).values():
        shutil.copyfile(path, out / FOLDER / path.name)
    names = {}
    for count, path in kept.items():
        names[count] = f"{FOLDER}/grid_{end + count:09d}{path.suffix}"
        shutil.copyfile(path, out / names[count])
    lines = [*first, _border(end, alone), *_moved(second, end, _seconds(first), names)]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    write_whole(out / HISTORY, lambda handle: handle.write(data))
    laps = facts[0].get("laps") or [{"config": facts[0]["config"], "images": end, "D_alone": _alone(first)}]
    last = {"config": facts[1]["config"], "images": _images(second), "D_alone": alone}
    write_json(out / "config.json", facts[1] | {"laps": [*laps, last]})
    return out


def _images(lines: list[dict]) -> int:
    return max(line["cur_nimg"] for line in lines)


def _seconds(lines: list[dict]) -> float:
    """Of all steps; 0 where they were not told."""
    return max((line.get("seconds", 0.0) for line in lines if line["kind"] == "step"), default=0.0)


def _alone(lines: list[dict]) -> int:
    """Images before the line after which G learns; all, where it never does."""
    steps = [line for line in lines if line["kind"] == "step"]
    learns = next((k for k, line in enumerate(steps) if "G.loss" in line), len(steps))
    return steps[learns - 1]["cur_nimg"] if learns > 0 else 0


def _border(end: int, alone: int) -> dict:
    """The event at which the later lap starts."""
    text = "A new run goes on from this G, with a fresh D and fresh heads."
    if alone > 0:
        text += f" They learn alone for {alone} images before G goes on."
    return {"kind": "event", "cur_nimg": end, "event": "lap", "text": text}


def _moved(lines: list[dict], by: int, after: float, names: dict[int, str]) -> list[dict]:
    """The later lap's lines with counts and seconds that go on; of its samples those that `names` names."""
    moved = []
    for line in lines:
        if line["kind"] == "sample":
            if line["cur_nimg"] not in names:
                continue
            line = line | {"file": names[line["cur_nimg"]]}
        if line["kind"] == "step" and "seconds" in line:
            line = line | {"seconds": line["seconds"] + after}
        moved.append(line | {"cur_nimg": line["cur_nimg"] + by})
    return moved
