"""A run on a Ray cluster: Ray Train starts `train` on each worker, as `accelerate launch` would.

The run folder lies on a path that all machines share, and everything that a run is stands in it. So a worker
that dies costs the steps since the last checkpoint: all start again from there; and a command that was killed
goes on when it is given again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from workbench import hardware
from workbench.cluster import cores_each, everywhere, heeding, last_line, machines, new_board, ray_cluster
from workbench.errors import ProcessLost, WorkbenchError
from workbench.training import checkpoint, runs
from workbench.training.config import TrainConfig
from workbench.training.history import NAME
from workbench.training.loop import Result, last_words, signals, stopped_by
from workbench.training.trainer import train

MAX_DEATHS = 3  # without a checkpoint in between: then it is no accident


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker is told. options: further arguments of `train`."""

    config: TrainConfig
    data: str
    out: Path
    gpu: bool
    options: dict[str, Any]


def launch(
    config: TrainConfig,
    data: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    device: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Result:
    """`train` on `workers` workers of a Ray cluster; options are further arguments of `train`.

    workers: None = one for each GPU, or for each machine where there is none (device "cpu": take none).
    address: of a running cluster; None = this machine alone. SIGINT and SIGTERM let all finish the step and
    save. Raises WorkbenchError where the cluster has no room, where workers die again and again without
    coming further, and whatever `train` raises on a worker.
    """
    if workers is not None and workers < 1:
        raise WorkbenchError(f"The number of Ray workers is {workers}: expected 1 or more.")
    out = Path(out).resolve()
    runs.check_free(out, options.get("resume", "auto"))  # before a minute is spent on Ray
    with ray_cluster(address, hardware.usable_cores()) as (ray, _), signals() as stop:
        gpu, workers, cores = _room(machines(ray), workers, device)
        out.mkdir(parents=True, exist_ok=True)  # for workers to see that they share it
        for name in ("clip", "vision_clip", "judge", "start_from", "start_critics"):
            if options.get(name) is not None:
                options[name] = everywhere(options[name])
        job = Job(config=config, data=everywhere(data), out=out, gpu=gpu, options=options)
        with _Follower(out, config, progress) as follower:
            result = _until_it_ends(ray, job, (workers, cores), stop, follower)
    if progress:
        facts = runs.read_run(out)
        images, prompt = facts["config"]["images"], facts["grid"]["prompts"][0]
        tqdm.write(last_words(result.reason, result.cur_nimg, images, result.model, prompt))
    return result


def _room(found: list[tuple[int, int]], workers: int | None, device: str | None) -> tuple[bool, int, int]:
    """(with GPUs, workers, cores of each)."""
    gpus = sum(gpus for _, gpus in found)
    gpu = gpus > 0 and device != "cpu"
    if device not in (None, "cpu") and not gpu:
        raise WorkbenchError(f"The device is {device}, and the Ray cluster has no GPU: leave --device out.")
    workers = workers or (gpus if gpu else len(found))
    cores = cores_each(found, workers, gpu=gpu)
    if cores == 0:
        has = f"{sum(cores for cores, _ in found)} cores" + (f" and {gpus} GPUs" if gpu else "")
        raise WorkbenchError(
            f"{workers} Ray workers find no room: the cluster has {has}, and each takes a core"
            f"{' and a GPU' if gpu else ''}. Ask for fewer by --ray-workers."
        )
    return gpu, workers, cores


# --- on the command's side ---


def _until_it_ends(ray: Any, job: Job, room: tuple[int, int], stop: Any, follower: _Follower) -> Result:
    """Start the workers, and again where one died, until they are through or it makes no sense any more."""
    deaths = 0
    while True:
        board, before = new_board(ray), checkpoint.newest_nimg(job.out)
        error = _attempt(ray, job, room, board, stop, follower)
        notes = ray.get(board.notes.remote())
        if "result" in notes:
            return notes["result"]
        if "refused" in notes:
            raise notes["refused"]
        now = checkpoint.newest_nimg(job.out)
        deaths = deaths + 1 if now == before else 1
        place = "the start" if now is None else f"the checkpoint at {now} images"
        if stop.is_set() or deaths >= MAX_DEATHS:
            often = "" if stop.is_set() else f" {deaths} times without coming further"
            raise WorkbenchError(
                f"The Ray workers ended without a word{often} ({last_line(error)}). The same command goes on "
                f"from {place}; is there memory enough for each?"
            )
        follower.say(f"A Ray worker ended without a word ({last_line(error)}). All go on from {place}.")
        _wait_until_free(job.out)
        job = replace(job, options={**job.options, "resume": "auto"})


def _attempt(
    ray: Any, job: Job, room: tuple[int, int], board: Any, stop: Any, follower: _Follower
) -> BaseException:
    """Run the workers once; how Ray says that it ended."""
    storage = job.out.parent / f".{job.out.name}.ray"
    pool = ThreadPoolExecutor(1)
    try:
        # In a thread of its own: in the main one Ray takes Ctrl-C for itself, and lets the workers drop all.
        running: Future = pool.submit(_trainer(job, room, board, storage).fit)
        told = False
        while not wait([running], timeout=0.5).done:
            follower.look()
            if stop.is_set() and not told:
                ray.get(board.stop.remote())
                told = True
        follower.look()
        return running.exception() or WorkbenchError("they gave no result")
    finally:
        pool.shutdown(wait=False)
        shutil.rmtree(storage, ignore_errors=True)


def _trainer(job: Job, room: tuple[int, int], board: Any, storage: Path) -> Any:
    """Ray's own trainer. What it stores (nothing that we read) goes to a folder that is thrown away."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workers, cores = room

    def work() -> None:
        run_worker(job, board)

    return TorchTrainer(
        work,
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=job.gpu, resources_per_worker={"CPU": cores}
        ),
        torch_config=TorchConfig(backend="nccl" if job.gpu else "gloo"),
        run_config=RunConfig(
            name="run", storage_path=str(storage), failure_config=FailureConfig(max_failures=0)
        ),
    )


def _wait_until_free(out: Path, seconds: float = 60.0) -> None:
    """Until the last of the old workers is gone, and with it the lock on the run folder."""
    end = time.monotonic() + seconds
    while True:
        try:
            with runs.held(out):
                return
        except WorkbenchError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


class _Follower:
    """The bar and the sentences of a run in this terminal, from the history that the first worker writes."""

    def __init__(self, out: Path, config: TrainConfig, progress: bool) -> None:
        self.path, self.progress = out / NAME, progress
        self.read = self.path.stat().st_size if self.path.is_file() else 0
        total = config.images if isinstance(config.images, int) else None
        self.bar = tqdm(
            total=total,
            initial=checkpoint.newest_nimg(out) or 0,
            unit="img",
            desc=out.name,
            disable=not progress,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )

    def __enter__(self) -> _Follower:
        return self

    def __exit__(self, *failure: object) -> None:
        self.bar.close()

    def say(self, text: str) -> None:
        if self.progress:
            tqdm.write(text)

    def look(self) -> None:
        """Show the whole lines that came since the last look."""
        size = self.path.stat().st_size if self.path.is_file() else 0
        self.read = min(self.read, size)  # what a resumed run dropped is written once more
        if size == self.read:
            return
        with open(self.path, "rb") as handle:
            handle.seek(self.read)
            lines = handle.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self.read += len(line)
            self._show(json.loads(line))

    def _show(self, line: dict) -> None:
        if line["kind"] == "step":
            losses = {name: line[name] for name in ("G.loss", "D.loss") if line.get(name) is not None}
            self.bar.set_postfix({name: f"{value:.2f}" for name, value in losses.items()}, refresh=False)
            self.bar.update(line["cur_nimg"] - self.bar.n)
        elif line["kind"] == "event":
            self.say(line["text"])


# --- on a worker's side ---


def run_worker(job: Job, board: Any) -> None:
    """`train` in this worker; the board hears of its result, or of the mistake that it found."""
    import ray
    import ray.train

    try:
        if not job.out.is_dir():
            raise WorkbenchError(
                f"A Ray worker finds no folder {job.out}: give one on a path that all machines share."
            )
        if not job.gpu:
            os.environ["ACCELERATE_USE_CPU"] = "true"
        with heeding(board) as stop, stopped_by(stop):
            result = train(
                job.config,
                job.data,
                job.out,
                device=None if job.gpu else "cpu",
                progress=False,
                **job.options,
            )
    except ProcessLost:
        raise  # it was the other worker that ended; the command starts all of them again
    except (WorkbenchError, OSError) as error:
        ray.get(board.note.remote("refused", error))
        raise
    if ray.train.get_context().get_world_rank() == 0:
        ray.get(board.note.remote("result", result))
