"""A training in a process of its own, which outlives the page or the notebook that started it.

What is known of it lies in the hidden folder `.process` of the run: start.json (who trains, since when, on
what), end.json (how it ended) and log.txt (what it said). So it is found again from the run folder alone, and
no process is ever signalled that is not this one: its number, its start and its command line have to agree.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from workbench.errors import WorkbenchError

FOLDER = ".process"
LOG = "log.txt"
_START, _END = "start.json", "end.json"
_MODULE = "workbench.training.background"
_CLOCK_S = 2.0  # by how much the start of one process may read differently after the clock was set
_children: list[subprocess.Popen] = []  # asked now and then, so that ended ones are buried


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train: `TrainConfig.to_json()` and the other arguments of `train`, all plain values.

    judge: None = never evaluate. cwd: where relative paths begin.
    """

    config: dict[str, Any]
    data: str
    clip: str
    vision_clip: str | None = None
    judge: str | None = None
    device: str | None = None
    cwd: str = field(default_factory=os.getcwd)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Who trains in a run folder.

    kind: "ours" (a process of this module, alive), "elsewhere" (another one, by the run's lock) or "none".
    asked: "pause" or "stop" once it was asked to end. began: when our process began, seconds since 1970.
    trouble: why our process ended, where nobody had asked it to; None where all is well. ended: how it did,
    by its own word: "done", "stopped", "interrupted" (at once, nothing saved) or "error"; None where it runs,
    and where it was killed before it could say.
    """

    kind: str
    asked: str | None = None
    began: float | None = None
    trouble: str | None = None
    ended: str | None = None

    @property
    def alive(self) -> bool:
        """Whether somebody trains there now."""
        return self.kind != "none"


def start(run: str | Path, job: Job) -> None:
    """Train `job` into a run folder in a process of its own, or go on with the run that is there.

    Returns at once; `look` tells how it goes. Raises WorkbenchError when somebody trains there already.
    """
    run = Path(run).resolve()
    if look(run).alive:
        raise WorkbenchError(f"A training is writing to {run} already: pause or stop it first.")
    room = run / FOLDER
    room.mkdir(parents=True, exist_ok=True)
    (room / _END).unlink(missing_ok=True)
    _write(room / _START, {"job": asdict(job)})
    with open(room / LOG, "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(run)],
            cwd=job.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal of the page is not meant for it
        )
    _children.append(child)
    began = psutil.Process(child.pid).create_time()
    facts = {"pid": child.pid, "began": began, "run": str(run), "host": platform.node()}
    _write(room / _START, {**facts, "asked": None, "job": asdict(job)})


def look(run: str | Path) -> Trainer:
    """Who trains in this run folder now, and what went wrong where our process ended unasked."""
    from workbench.training.runs import is_held  # brings torch: the page is up before it

    run = Path(run).resolve()
    started = _read(run / FOLDER / _START)
    if _process(run, started) is not None:
        return Trainer(kind="ours", asked=started.get("asked"), began=started["began"])
    if is_held(run):
        return Trainer(kind="elsewhere")
    ours = started.get("run") == str(run)
    return Trainer(
        kind="none",
        asked=started.get("asked") if ours else None,
        began=started.get("began") if ours else None,
        trouble=_trouble(run, started) if ours else None,
        ended=_end(run, started).get("reason") if ours else None,
    )


def ask(run: str | Path, for_what: str, *, at_once: bool = False) -> None:
    """Ask our process to finish its step, save and end.

    for_what: "pause" or "stop", kept for whoever looks; both save, and both can be resumed. Asking again
    changes that word alone. at_once: for those who know that it was asked before and cannot wait: then it
    leaves, and what came after the last checkpoint is lost; the first time it saves all the same. Raises
    WorkbenchError where no process of ours trains.
    """
    if for_what not in ("pause", "stop"):
        raise WorkbenchError(f"A training is asked to pause or to stop, not to {for_what!r}.")
    run = Path(run).resolve()
    started = _read(run / FOLDER / _START)
    process = _process(run, started)
    if process is None:
        other = look(run).kind == "elsewhere"
        raise WorkbenchError(
            f"The training in {run} was started in a terminal: press Ctrl-C there; it saves and ends."
            if other
            else f"Nothing is training in {run} any more."
        )
    again = started.get("asked") is not None
    _write(run / FOLDER / _START, {**started, "asked": for_what})
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
        if not again:
            process.send_signal(signal.SIGTERM)
        elif at_once:
            process.send_signal(signal.SIGINT)


def wait(run: str | Path, timeout_s: float | None = None, *, every_s: float = 0.2) -> Trainer:
    """Wait until nobody trains in this folder, `timeout_s` at most; returns the last look at it."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while (seen := look(run)).alive and (end is None or time.monotonic() < end):
        time.sleep(every_s)
    return seen


def job_of(run: str | Path) -> Job:
    """What goes on with a run: as it was started here, or as its config.json says.

    Raises WorkbenchError for a folder without a run, and for one without checkpoints to go on from.
    """
    from workbench.training import checkpoint, runs
    from workbench.training.history import NAME

    run = Path(run).resolve()
    started = _read(run / FOLDER / _START)
    if "job" in started:
        return Job(**started["job"])
    if (run / NAME).is_file() and not checkpoint.list_checkpoints(run):
        raise WorkbenchError(f"{run} holds no checkpoints to go on from: it is only there to be looked at.")
    facts = runs.read_run(run)
    clip, _, vision_clip = facts["clip"].partition(", seen by ")
    paths = {"data": facts["data"]["path"], "clip": clip, "vision_clip": vision_clip or None}
    return Job(config=facts["config"], judge=_default_judge(), **paths)


def log_tail(run: str | Path, lines: int = 12) -> str:
    """The last lines that our process said, progress bars left out."""
    try:
        text = (Path(run) / FOLDER / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    said = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return "\n".join([line for line in said if line and "%|" not in line][-lines:])


# --- whose process it is ------------------------------------------------------------------------------------


def _process(run: Path, started: dict) -> psutil.Process | None:
    """Our process of this run where it is alive; None where its number belongs to another by now."""
    for child in [child for child in _children if child.poll() is not None]:
        _children.remove(child)
    if not started.keys() >= {"pid", "began", "run", "host"}:
        return None  # about to start, or damaged
    if (started["run"], started["host"]) != (str(run), platform.node()):
        return None  # another computer's, or the folder was copied
    try:
        process = psutil.Process(started["pid"])
        same = abs(process.create_time() - started["began"]) < _CLOCK_S
        own = same and process.cmdline()[-2:] == [_MODULE, str(run)]
        return process if own and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _trouble(run: Path, started: dict) -> str | None:
    """Why our process ended, where nobody had asked it to."""
    if ended := _end(run, started):
        return ended.get("text") if ended.get("reason") == "error" else None
    if started.get("asked") or "pid" not in started:
        return None
    return "The process ended without a word: something killed it, or the computer was switched off."


def _end(run: Path, started: dict) -> dict:
    """How our process said it ended; empty where it has not."""
    ended = _read(run / FOLDER / _END)
    return ended if ended.get("pid") == started.get("pid") else {}


def _read(file: Path) -> dict:
    """A file of `.process`; empty where it is missing or half written by a crash."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, facts: dict) -> None:
    # of this call alone: two visitors who press at once are two threads of one process
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    aside.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(aside, file)


def _default_judge() -> str:
    from workbench.evaluation.features import JUDGE_FOLDER

    return str(JUDGE_FOLDER)


# --- in the process itself ----------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Train what start.json of a run folder says; end.json gets how it ended. Returns the exit status."""
    if len(arguments) != 1:
        raise WorkbenchError("The app and the notebooks start this; to train by hand: workbench train.")
    run = Path(arguments[0])

    def ended(reason: str, text: str, status: int) -> int:
        _write(run / FOLDER / _END, {"pid": os.getpid(), "reason": reason, "text": text})
        return status

    try:
        reason = _train(run, Job(**_read(run / FOLDER / _START)["job"]))
    except KeyboardInterrupt:
        return ended("interrupted", "It left at once.", 130)
    except Exception as error:  # noqa: BLE001 - whoever looks at the run is told; the log has the rest
        known = isinstance(error, (WorkbenchError, OSError))
        text = str(error) if known else f"The training ended by {type(error).__name__}: {error}"
        if not known:
            traceback.print_exc()
        return ended("error", " ".join(text.split()), 2 if known else 1)
    return ended(reason, "", 0)


def _train(run: Path, job: Job) -> str:
    from workbench.training.config import TrainConfig
    from workbench.training.trainer import train

    result = train(
        TrainConfig.from_json(job.config),
        job.data,
        run,
        clip=job.clip,
        vision_clip=job.vision_clip,
        judge=job.judge,
        device=job.device,
    )
    return result.reason


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
