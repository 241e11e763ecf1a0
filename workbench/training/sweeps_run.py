"""A sweep as a folder: which sweep it is, which trials have ended, and the cluster that trains the rest.

All that a sweep knows stands in its trials' run folders, `trials/<name>/`, so that it goes on from them: a
trial that ended is not trained again and its rungs count for the others, one that was cut off goes on from
its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from workbench import hardware
from workbench.cluster import everywhere, ray_cluster
from workbench.errors import WorkbenchError
from workbench.evaluation.features import load_judge
from workbench.evaluation.reference import CACHE
from workbench.images import check_place
from workbench.training.loop import signals
from workbench.training.sweeps import Sweep
from workbench.training.sweeps_trial import Job, write_json
from workbench.training.trials import ROW, check_sets

SWEEP = "sweep.json"


def run_sweep(
    sweep: Sweep,
    data: str | Path,
    out: str | Path,
    *,
    clip: str | Path,
    judge: str | Path,
    address: str | None = None,
    device: str | None = None,
    cache: Path | None = CACHE,
    say: Callable[[str], None] = print,
) -> bool:
    """Train and measure the trials of a sweep that have not ended, as many at once as there are cores for.

    address: of a running Ray cluster, which shares all paths; None = this machine alone. cache: where the
    judge's view of the held-out renders is kept. Returns whether every trial has ended; SIGINT and SIGTERM
    let the running ones finish their step and save, and the same call goes on. Raises WorkbenchError for a
    folder of another sweep, a set that is not Shepherd World's alone, a cluster without room, and mistakes
    that a trial finds before its first step.
    """
    out = Path(out).resolve()
    inputs = {"data": everywhere(data), "clip": everywhere(clip)}
    facts = json.loads(json.dumps({**asdict(sweep), **inputs}))
    _refuse_others(facts, out)
    job = Job(
        sweep=sweep,
        out=out,
        **inputs,
        judge=everywhere(judge),
        cache=None if cache is None else Path(cache).resolve(),
        device=device,
    )
    waiting = [trial for trial in sweep.plan().trials if not (job.run(trial.name) / ROW).is_file()]
    check_sets(sweep.plan(), waiting, inputs["data"])  # a wrong set claims no folder
    _claim(facts, out)
    load_judge(judge)  # a wrong folder is told here, not by every trial
    if waiting:
        here = hardware.usable_cores()
        with ray_cluster(address, here, instead=None), signals() as stop:
            from workbench.training.sweeps_tune import tune_trials

            tune_trials(job, [trial.name for trial in waiting], stop, say)
    return not any(not (job.run(trial.name) / ROW).is_file() for trial in waiting)


def _refuse_others(now: dict, out: Path) -> None:
    """WorkbenchError for a folder of another sweep or of anything else; more samples are the same sweep."""
    file = out / SWEEP
    if file.is_file():
        then = json.loads(file.read_text(encoding="utf-8"))
        differ = [name for name in now if name not in ("samples", "cores") and then.get(name) != now[name]]
        if differ:
            raise WorkbenchError(f"{out} holds another sweep: {differ[0]} differs. Choose another folder.")
    elif out.is_dir() and any(out.iterdir()):
        raise WorkbenchError(f"{out} holds other files and no sweep: choose a new or empty folder.")
    check_place(out)


def _claim(facts: dict, out: Path) -> None:
    """Write down which sweep the folder is."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SWEEP, facts)
