"""One trial of a sweep, on whichever worker: trained from rung to rung, and measured at each.

A trial is a run folder. `rungs.json` in it holds what was measured so far, and `trial.json` how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.cluster import heeding
from workbench.errors import WorkbenchError
from workbench.images import write_whole
from workbench.training.loop import stopped_by
from workbench.training.runs import CONFIG
from workbench.training.sweeps import Sweep
from workbench.training.trainer import train
from workbench.training.trials import ROW, measure, recipe_of

RUNGS = "rungs.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker is told."""

    sweep: Sweep
    data: str
    out: Path
    clip: str
    judge: str
    cache: Path | None
    device: str | None

    def run(self, name: str) -> Path:
        """The run folder of the trial `name`."""
        return self.out / "trials" / name


def read_rungs(run: Path) -> list[dict]:
    """What was measured of a trial, a row for each rung, ascending."""
    file = run / RUNGS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def write_json(file: Path, value: object) -> None:
    text = json.dumps(value, indent=1) + "\n"
    write_whole(file, lambda handle: handle.write(text.encode()))


def end_trial(run: Path, end: str, **facts: object) -> None:
    """Note that a trial has ended: "done", "given up" or "failed"; it is never trained again."""
    write_json(run / ROW, {**(read_rungs(run) or [{}])[-1], "end": end, **facts})


def result_of(sweep: Sweep, name: str, row: dict) -> dict:
    """What Ray Tune hears of a rung."""
    return {"trial": name, "rung": row["rung"], "objective": row[sweep.objective]}


def run_trial(job: Job, name: str, board: Any) -> None:
    """Train and measure a trial from rung to rung, and report each; rungs that stand there are told again."""
    import ray
    from ray import tune

    if ray.get(board.stopping.remote()):
        return
    ray.get(board.note.remote(name, "running"))
    run = job.run(name)
    try:
        with heeding(board) as stop, stopped_by(stop):
            climb(job, name, tune.report)
    except (WorkbenchError, OSError) as error:
        if (run / CONFIG).is_file() and isinstance(error, WorkbenchError):
            end_trial(run, "failed", why=str(error))
        else:  # before the first step: every other trial would find the same
            ray.get(board.note.remote("refused", error))
    finally:
        with suppress(ray.exceptions.RayError):
            ray.get(board.note.remote(name, "over"))


def climb(job: Job, name: str, report: Callable[[dict], object]) -> None:
    """Train a trial up to each rung, measure it there, and report; until the budget, or a stop.

    A rung that was measured before is reported again, and not trained.
    """
    sweep, plan, run = job.sweep, job.sweep.plan(), job.run(name)
    trial = next(trial for trial in plan.trials if trial.name == name)
    networks, config = recipe_of(plan, trial)
    rows = read_rungs(run)
    for rung in sweep.rungs():
        row = next((row for row in rows if row["rung"] == rung), None)
        if row is None:
            last = rung == sweep.images
            result = train(
                config,
                job.data,
                run,
                clip=job.clip,
                device=job.device,
                preset=networks,
                judge=None,
                progress=False,
                stop_after_nimg=None if last else rung,
            )
            if result.reason == "stopped":
                return
            row = {"rung": rung, **measure(plan, trial, run, job.judge, job.cache)}
            rows = [*rows, row]
            write_json(run / RUNGS, rows)
            if last:
                end_trial(run, "done")
        report(result_of(sweep, name, row))
