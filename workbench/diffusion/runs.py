"""The folder of a diffusion run: whose it is, what it was started with, what may change when it goes on."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from workbench.diffusion.config import BUDGET, RunConfig
from workbench.errors import WorkbenchError
from workbench.hardware import Machine
from workbench.recipe import library_versions
from workbench.training import checkpoint, runs

SCHEMA = 1
BASELINE, STUDENT = "diffusion-run", "diffusion-distillation"


def read(folder: str | Path, kind: str | None = None) -> dict[str, Any]:
    """config.json of a diffusion run. Raises WorkbenchError where there is none, or one of another kind."""
    path = Path(folder) / runs.CONFIG
    if not path.is_file():
        raise WorkbenchError(f"{folder} is no run folder: it has no {runs.CONFIG}.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"{path} cannot be read ({error}): restore it or start in a new folder."
        ) from error
    found = facts.get("kind") if isinstance(facts, dict) else type(facts).__name__
    allowed = (BASELINE, STUDENT) if kind is None else (kind,)
    if found not in allowed or facts.get("schema") != SCHEMA:
        raise WorkbenchError(
            f"{path} is of the kind {found!r}: expected {' or '.join(allowed)}. Choose another folder."
        )
    return facts


def present(folder: Path, kind: str) -> dict[str, Any] | None:
    """The facts of the run that is there, None for a new or empty folder; foreign files are refused."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file: choose a new or empty folder for the run.")
    entries = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not entries:
        return None
    if runs.CONFIG not in entries:
        raise WorkbenchError(
            f"{folder} holds other files ({entries[0]}, …) and no run: choose a new or empty folder."
        )
    return read(folder, kind)


def describe(kind: str, config: RunConfig, machine: Machine, precision: str, **more: Any) -> dict[str, Any]:
    """All facts of a new run for config.json."""
    return {
        "schema": SCHEMA,
        "kind": kind,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": config.to_json(),
        **more,
        "machine": {
            "device": machine.device, "precision": precision, "cpu": machine.cpu, "cores": machine.cores,
            "gpu": machine.gpu, "reason": machine.reason,
        },
        "versions": {"python": platform.python_version(), **library_versions(), "torch": torch.__version__},
    }  # fmt: skip


def claim(
    folder: Path, old: dict[str, Any] | None, facts: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """Write config.json of a new run, or check that the one there is this one; its facts. Checkpoints that
    cannot be read are put aside, and said.

    The budget may change; of anything else that differs the first is named (WorkbenchError). A data set is
    the same by its fingerprint, wherever it lies.
    """
    if old is None:
        runs.write_facts(folder, facts)
        return facts
    was, now = (_compared(each) for each in (old, facts))
    for name in was.keys() | now.keys():
        if was.get(name) != now.get(name):
            raise WorkbenchError(
                f"{folder} holds a run with other settings: {name} was {_short(was.get(name))}, now "
                f"{_short(now.get(name))}. Give the same settings (images and minutes may change), or choose "
                "another folder."
            )
    for sentence in checkpoint.put_aside(folder):
        say(sentence)
    kept = {**old, "config": {**old["config"], **{name: facts["config"][name] for name in BUDGET}}}
    if kept != old:
        runs.write_facts(folder, kept)
    return kept


def precision_of(config: RunConfig, machine: Machine, old: dict[str, Any] | None) -> str:
    """As asked; as this run did before on this processor; or as the probe says."""
    if config.precision != "auto":
        return config.precision
    before = old["machine"] if old else None
    if before and (before["device"], before["cpu"]) == (machine.device, machine.cpu):
        return before["precision"]
    return machine.precision


def _compared(facts: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same for a run to go on."""
    plain = json.loads(json.dumps(facts))
    settings = {name: value for name, value in plain["config"].items() if name not in BUDGET}
    data = {name: value for name, value in plain["data"].items() if name != "path"}
    rest = {name: plain.get(name) for name in ("network", "discriminator", "grid")}
    teacher = (plain.get("teacher") or {}).get("weight_hash")
    return {**settings, "data": data, **rest, "text_encoder": plain.get("text_encoder"), "teacher": teacher}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
