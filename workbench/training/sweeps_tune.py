"""Ray Tune for a sweep: it starts the trials side by side, and ASHA gives up the worse ones.

Ray is imported here at the top, so this module is imported once it is connected. What Ray stores of its own
is thrown away unread: a sweep goes on from its trials' folders.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from threading import Event
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from workbench.cluster import cores_each, last_line, machines, new_board
from workbench.errors import WorkbenchError
from workbench.training.sweeps_trial import Job, end_trial, read_rungs, result_of, run_trial
from workbench.training.trials import ROW

MAX_FAILURES = 2  # of one trial's process, in one call


def tune_trials(job: Job, waiting: list[str], stop: Event, say: Callable[[str], None]) -> None:
    """Have Ray Tune run the trials `waiting`; it returns when all ended or, after `stop`, when all saved.

    Raises WorkbenchError where no machine has the cores of a trial, and what a trial finds before its first
    step.
    """
    gpu = job.device != "cpu" and sum(gpus for _, gpus in machines(ray)) > 0
    if cores_each(machines(ray), 1, gpu=gpu) < job.sweep.cores:
        raise WorkbenchError(
            f"A trial takes {job.sweep.cores} cores, and no machine of the Ray cluster has as many: make "
            "`cores` of the sweep smaller."
        )
    board = new_board(ray)

    def work(config: dict) -> None:
        run_trial(job, config["trial"], board)

    watch = Watcher(job, board, stop, say)
    storage = job.out / ".ray"
    shutil.rmtree(storage, ignore_errors=True)
    try:
        tune.Tuner(
            tune.with_resources(work, {"cpu": job.sweep.cores, "gpu": int(gpu)}),
            param_space={"trial": tune.grid_search(waiting)},
            tune_config=tune.TuneConfig(scheduler=scheduler(job, say)),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(storage),
                stop=watch,
                callbacks=[watch],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            ),
        ).fit()
    except ray.exceptions.RayError as error:
        raise WorkbenchError(
            f"Ray gave up on the sweep ({last_line(error)}). The same command goes on with it."
        ) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    if watch.refused is not None:
        raise watch.refused


def scheduler(job: Job, say: Callable[[str], None]) -> TrialScheduler:
    """ASHA with the memory of the trials that ended before; without halving, trials in their order."""
    if job.sweep.halving is None:
        return FIFOScheduler()
    asha = RememberingASHA(job, say)
    for trial in job.sweep.plan().trials:
        run = job.run(trial.name)
        if (run / ROW).is_file():
            past = SimpleNamespace(trial_id=f"past-{trial.name}")
            asha.on_trial_add(None, past)
            for row in read_rungs(run):
                asha.on_trial_result(None, past, result_of(job.sweep, trial.name, row))
    return asha


class RememberingASHA(ASHAScheduler):
    """ASHA that notes in a trial's folder that it gave the trial up; controller None: that was before."""

    def __init__(self, job: Job, say: Callable[[str], None]) -> None:
        super().__init__(
            time_attr="rung",
            metric="objective",
            mode="min" if job.sweep.best_is_low else "max",
            max_t=job.sweep.images,
            grace_period=job.sweep.halving.first,
            reduction_factor=job.sweep.halving.reduction,
        )
        self.job, self.say = job, say

    def on_trial_result(self, controller: Any, trial: Any, result: dict) -> str:
        action = super().on_trial_result(controller, trial, result)
        early = result["rung"] < self.job.sweep.images
        if action == TrialScheduler.STOP and early and controller is not None:
            end_trial(self.job.run(result["trial"]), "given up")
            self.say(f"Trial {result['trial']} is given up at {result['rung']} images.")
        return action

    def __getstate__(self) -> dict:
        return _without(self, "say")


class Watcher(tune.Callback, tune.Stopper):
    """Says how trials go, and ends the sweep when a person or a mistake asks for it.

    refused: the mistake that a trial found before its first step.
    """

    def __init__(self, job: Job, board: Any, stop: Event, say: Callable[[str], None]) -> None:
        self.job, self.board, self.stop, self.say = job, board, stop, say
        self.refused: Exception | None = None
        self.told = False

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
        value = f"{self.job.sweep.objective} {result['objective']:.4g}"
        self.say(f"Trial {result['trial']}: {value} at {result['rung']} images.")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self.refused = ray.get(self.board.notes.remote()).get("refused")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self.say(f"Trial {trial.config['trial']} ended without a word; the same command tries it again.")

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        """Whether the sweep ends now: once every running trial has saved."""
        if self.refused is not None:
            return True
        if not self.stop.is_set():
            return False
        if not self.told:
            ray.get(self.board.stop.remote())
            self.told = True
        return "running" not in ray.get(self.board.notes.remote()).values()

    def __getstate__(self) -> dict:
        return _without(self, "say", "stop", "board")


def _without(thing: object, *names: str) -> dict:
    """Its state for the copy that Ray Tune writes and nobody reads, without what cannot be written."""
    return {name: value for name, value in vars(thing).items() if name not in names}
