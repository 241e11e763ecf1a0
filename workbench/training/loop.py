"""Parts of the training loop that know nothing of networks: signals, statistics, words."""

import contextlib
import contextvars
import math
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_STOP: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("stop", default=None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a call of `train` ended. reason: "done", "stopped" (Ctrl-C, SIGTERM) or "paused" (stop_after_nimg);
    model: folder of the pipeline; seconds: spent in this call's loop, `telling` of them in logging, monitor
    and grids."""

    run: Path
    cur_nimg: int
    reason: str
    model: Path
    seconds: float
    telling: float = 0.0


class Diverged(Exception):
    """Training left the rails.

    The trainer goes back to a good checkpoint. to_best: to the best instead of the newest; facts: for the
    history.
    """

    def __init__(self, text: str, *, to_best: bool = False, facts: dict | None = None) -> None:
        super().__init__(text)
        self.to_best, self.facts = to_best, facts or {}


@contextlib.contextmanager
def stopped_by(stop: threading.Event) -> Iterator[None]:
    """Within it, `signals` of this thread gives `stop`: for a worker, whose threads no signal reaches."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


@contextlib.contextmanager
def signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event.

    A second SIGINT interrupts at once. Outside of the main thread only `stopped_by` sets it.
    """
    stop = _STOP.get() or threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heard(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        print(
            "\nFinishing this step, then saving. Press Ctrl-C again to leave at once.",
            file=sys.stderr,
            flush=True,
        )

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def own_randomness() -> Iterator[None]:
    """Leave the caller's global generators as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield


def last_words(reason: str, cur_nimg: int, images: int, model: Path, prompt: str) -> str:
    """What is said at the end of a call, with the next command."""
    if reason == "done":
        return (
            f"Done: {cur_nimg} images. The model is in {model}; next: "
            f'workbench sample --model {model} --prompt "{prompt}"'
        )
    return (
        f"{'Stopped' if reason == 'stopped' else 'Paused'} at {cur_nimg} of {images} images and saved. "
        f"The same command goes on from here; the model so far is in {model}."
    )


class Statistics:
    """Means of named 0-d tensors between two log lines, without a synchronisation in between.

    Kept as [sum, count] of float64, added one by one in order: where a checkpoint falls between changes no
    bit. Values that are not finite are left out of the means; "finite" is kept as a flag a step.
    """

    def __init__(self, saved: dict | None = None) -> None:
        self._sums: dict[str, list] = (
            {name: list(pair) for name, pair in saved["sums"].items()} if saved else {}
        )
        self._flags: list[bool] = list(saved["flags"]) if saved else []
        self._waiting: list[dict[str, Tensor]] = []

    def add(self, stats: dict[str, Tensor]) -> None:
        """Take the statistics of one step as they are, still on the device."""
        self._waiting.append(stats)

    def take(self) -> tuple[dict[str, float], list[bool]]:
        """(means, one "finite" flag a step) since the last call, and start afresh."""
        self._fold()
        means = {name: total / count for name, (total, count) in self._sums.items()}
        flags, self._sums, self._flags = self._flags, {}, []
        return means, flags

    def to_json(self) -> dict:
        """What `Statistics(saved)` goes on from."""
        self._fold()
        return {"sums": self._sums, "flags": self._flags}

    def _fold(self) -> None:
        rows = [(name, value) for stats in self._waiting for name, value in stats.items()]
        self._waiting = []
        if not rows:
            return
        values = torch.stack(
            [torch.as_tensor(value).detach().double().reshape(()) for _, value in rows]
        ).tolist()
        for (name, _), value in zip(rows, values, strict=True):
            if name == "finite":
                self._flags.append(bool(value))
            elif math.isfinite(value):
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = [total + value, count + 1]
