"""The run folder: whose it is, what it was started with, and that only one process writes to it.

config.json holds settings, networks, data set, grid prompts, machine and versions; it is written before step
0.
"""

import contextlib
import json
import os
import platform
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import torch

from workbench.datasets.aspects import AspectTable
from workbench.datasets.loading import PictureTable
from workbench.errors import WorkbenchError
from workbench.hardware import Machine
from workbench.images import check_place, clear_os_error, write_whole
from workbench.models.presets import Preset
from workbench.recipe import library_versions
from workbench.training.config import FIXED, SWITCHES, TrainConfig, differences

SCHEMA = 1
KIND = "gigagan-run"
CONFIG = "config.json"
_LOCK = ".lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder if need be and keep other trainers out of it.

    The lock goes with the process, however it ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise clear_os_error(error, folder) from error
    try:
        handle = open(folder / _LOCK, "a")  # noqa: SIM115
    except OSError as error:
        raise clear_os_error(error, folder / _LOCK) from error
    with handle:
        if os.name == "posix":
            _claim(handle, folder)
        yield


def _claim(handle: IO[str], folder: Path) -> None:
    """Take the lock, or raise WorkbenchError; `is_held` may have it for an instant."""
    import fcntl

    for tries_left in reversed(range(5)):
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not tries_left:
                raise WorkbenchError(
                    f"Another training is writing to {folder}: wait until it ends, or choose another folder."
                ) from None
            time.sleep(0.02)


def is_held(folder: Path) -> bool:
    """Whether a trainer writes to this folder now, whoever started it; always False on Windows."""
    if os.name != "posix" or not (folder / _LOCK).is_file():
        return False
    import fcntl

    with open(folder / _LOCK) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_run(folder: str | Path) -> dict:
    """config.json of a run. Raises WorkbenchError where there is none, or one of another kind or version."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise WorkbenchError(
            f"{folder} is no run folder: it has no {CONFIG}. Give the folder named at `workbench train "
            "--out`."
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"{path} cannot be read ({error}): restore it or start in a new folder."
        ) from error
    if not isinstance(facts, dict) or facts.get("kind") != KIND or facts.get("schema") != SCHEMA:
        found = (facts.get("kind"), facts.get("schema")) if isinstance(facts, dict) else type(facts).__name__
        raise WorkbenchError(
            f"{path} is {found}, expected ({KIND!r}, {SCHEMA}): it belongs to something else. Choose "
            "another folder."
        )
    return facts


def check_free(folder: Path, resume: str) -> dict | None:
    """The facts of the run that is there, None for a fresh folder.

    Refuses foreign files, an unwanted run, and a place that is no folder and cannot become one.
    """
    if resume not in ("auto", "never", "extend"):
        raise WorkbenchError(f"resume is {resume!r}: expected auto, never or extend.")
    check_place(folder)
    if not folder.exists() or not (entries := _entries(folder)):
        if resume == "extend":
            raise WorkbenchError(
                f"There is no run in {folder} to extend: check the path, or leave resume at auto."
            )
        return None
    if CONFIG not in entries:
        raise WorkbenchError(
            f"{folder} holds other files ({entries[0]}, …) and no run: choose a new or empty folder."
        )
    facts = read_run(folder)
    if resume == "never":
        raise WorkbenchError(
            f"{folder} already holds a run, and it was not to be resumed: choose a new folder, or resume it."
        )
    return facts


def _entries(folder: Path) -> list[str]:
    """What lies in a folder, without the hidden: the lock, who trains there, what a desktop leaves behind."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def check_same(folder: Path, old: dict, new: dict, resume: str) -> dict[str, tuple[object, object]]:
    """Compare a run's facts with what is asked for now; returns the settings that "extend" changes.

    Raises WorkbenchError that names what differs: with "auto" any setting, always data, networks, FIXED
    settings, and what adds a network to the run or takes one from it.
    """
    changes = differences(TrainConfig.from_json(old["config"]), TrainConfig.from_json(new["config"]))
    parts = [
        name
        for name in ("generator", "discriminator", "vision_aided", "data", "clip")
        if json.loads(json.dumps(old.get(name))) != json.loads(json.dumps(new.get(name)))
    ]
    fixed = {k for k, v in changes.items() if k in FIXED or _switched(k, *v)}
    refused = {k: v for k, v in changes.items() if resume != "extend" or k in fixed}
    if refused or parts:
        said = [f"{name} {was!r}, now {now!r}" for name, (was, now) in refused.items()]
        said += [
            f"the {name} ({_short(old.get(name))}, now {_short(new.get(name))})"
            if name in ("data", "clip")
            else f"the {name} of the preset"
            for name in parts
        ]
        if not parts and not fixed:
            more = ", or go on with the new settings by --resume extend"
        else:
            more = "" if parts else f", or take its weights over into another folder by --start-from {folder}"
        raise WorkbenchError(
            f"{folder} holds a run with other settings: {'; '.join(said)}. Choose another folder, "
            f"give the same settings{more}."
        )
    return changes


def _switched(name: str, was: object, now: object) -> bool:
    """Whether a change of this setting brings something that the run's checkpoint lacks, or has too much."""
    if name == "precision":
        return "fp16" in (was, now)  # with the scale of its loss
    return name in SWITCHES and (was > 0) != (now > 0)


def describe(
    config: TrainConfig, preset: Preset, *, data: dict, clip: str, machine: Machine, grid: dict
) -> dict:
    """All facts of a new run for config.json."""
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.to_json(),
        "generator": preset.generator.to_json(),
        "discriminator": preset.discriminator.to_json(),
        "vision_aided": preset.vision_aided.to_json() if preset.vision_aided else None,
        "data": data,
        "clip": clip,
        "grid": grid,
        "machine": {
            "device": machine.device,
            "precision": machine.precision,
            "cpu": machine.cpu,
            "cores": machine.cores,
            "gpu": machine.gpu,
            "reason": machine.reason,
        },
        "versions": {"python": platform.python_version(), **library_versions(), "torch": torch.__version__},
    }


def model_card(folder: Path, facts: dict, cur_nimg: int, seconds: float) -> dict[str, object]:
    """What a run's model says of itself: facts of config.json, the images it has seen, and the seconds of
    steps that this took.
    """
    config, start = facts["config"], facts.get("started_from")
    card = {
        "name": folder.resolve().name,
        "preset": config["preset"],
        "images": cur_nimg,
        "seconds": round(seconds, 1),
        "seed": config["seed"],
        "data": facts["data"]["path"],
    }
    if start is not None:
        seen = "" if start.get("images") is None else f" after {start['images']:,} images"
        source = Path(start["source"])
        card["began_from"] = f"{source.parent.name if source.name == 'model' else source.name}{seen}"
    return card


def write_facts(folder: Path, facts: dict) -> None:
    """config.json, whole or not at all."""
    data = json.dumps(facts, indent=1, ensure_ascii=False).encode()
    write_whole(folder / CONFIG, lambda handle: handle.write(data))


def fingerprint(table: PictureTable | AspectTable) -> dict:
    """What tells one data set from another, whatever its path: count, size (of the shorter sides), CRC-32 of
    captions and of pixels.
    """
    return {
        "count": len(table),
        "resolution": table.side,
        "captions": zlib.crc32("\n".join(table.texts).encode()),
        "pixels": zlib.crc32(table.raw.numpy().data),
    }


def _short(facts: object) -> str:
    return f"{facts['count']} pictures" if isinstance(facts, dict) and "count" in facts else str(facts)
