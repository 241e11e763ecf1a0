"""Real training processes stopped at random moments, resumed, and compared with the run that never was."""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import tiny_run
import torch

from workbench.training import checkpoint
from workbench.training.history import TIMES, read_history

PATIENCE_S = 600
HOW = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)  # in turn; SIGKILL is the hard one


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One process that was stopped. how: the signal's name; writing: whether it died inside a checkpoint's
    write; at: images in its newest checkpoint then, None before the first; differs: what the resumed run has
    otherwise than the whole one.
    """

    how: str
    writing: bool
    at: int | None
    differs: list[str]


def stop_and_resume(
    inputs: tuple[Path, Path], whole: Path, run: Path, dice: random.Random, seconds: float, *, number: int = 0
) -> Stop:
    """Start a run in a process of its own, stop it at a random moment, finish it here, compare it.

    number: every fourth (from 0) is killed inside a checkpoint's write; `HOW` goes by it. seconds: about as
    long as a run takes. A process that came to its end first does not count and is started again elsewhere.
    """
    how, writing = HOW[number % len(HOW)], number % len(HOW) == 0
    for attempt in range(50):
        folder = run.with_name(f"{run.name}-{attempt}")
        process = tiny_run.start_process(inputs, folder)
        if _stop(process, folder, how, dice, seconds, writing=writing):
            break
    else:
        raise RuntimeError("50 processes in a row ended before they could be stopped")
    at = checkpoint.newest_nimg(folder)
    tiny_run.run_tiny(inputs, folder)
    return Stop(how=how.name, writing=writing, at=at, differs=differences(whole, folder))


def _stop(process, folder: Path, how: signal.Signals, dice, seconds: float, *, writing: bool) -> bool:
    """Send the signal at its moment; whether it met the process alive, and where it was meant to."""
    _wait(lambda: (folder / "config.json").is_file())
    if writing:
        part = dice.randrange(1, 5)  # which of the five checkpoints
        _wait(lambda: not process.is_alive() or _finished(folder) >= part)
        _wait(lambda: not process.is_alive() or _leftovers(folder), pause_s=0.0)
    else:
        time.sleep(dice.uniform(0, seconds))
    met = process.is_alive()
    if met:
        os.kill(process.pid, how)
    process.join(PATIENCE_S)
    return met and (not writing or bool(_leftovers(folder)))


def differences(one: Path, other: Path) -> list[str]:
    """In what two finished runs differ: bits of the newest checkpoint, history apart from times, grids."""
    a, b = (checkpoint.newest(run)[0] for run in (one, other))
    parts, others = a.tensors(), b.tensors()
    found = [] if a.cur_nimg == b.cur_nimg and parts.keys() == others.keys() else ["the last checkpoint"]
    found += [
        f"{part}.{name}"
        for part in parts.keys() & others.keys()
        for name in parts[part].keys() | others[part].keys()
        if not _same(parts[part].get(name), others[part].get(name))
    ]
    if lines(one) != lines(other):
        found.append("history.jsonl")
    grids = [{p.name: p.read_bytes() for p in (run / "samples").glob("*.png")} for run in (one, other)]
    if grids[0] != grids[1]:
        found.append("samples")
    if _leftovers(other):
        found.append("leftovers")
    return found


def lines(run: Path) -> list[dict]:
    """Every line of a history, without what the clock says."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_history(run, undone=True)]


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


def _leftovers(run: Path) -> list[Path]:
    return list((run / "checkpoints").glob("tmp-step-*"))


def _finished(run: Path) -> int:
    """How many checkpoints were ever finished, those cleared away since among them."""
    newest = checkpoint.newest_nimg(run)
    return 0 if newest is None else newest // tiny_run.tiny_config().checkpoint_every_nimg + 1


def _wait(reached, *, pause_s: float = 0.002) -> None:
    end = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError("the training process did not get there")
        time.sleep(pause_s)
