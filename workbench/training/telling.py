"""What a run tells while it goes: history.jsonl, the line in the terminal, a tracker; and what telling
costs.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch
from tqdm import tqdm

from workbench.training.history import History
from workbench.training.signs import Remark
from workbench.training.trackers import Tracker

SHOWN = ("G.loss", "D.loss")  # in the live line


class Reporter:
    """Hands each line of a run to the history and the tracker, and each remark to the terminal too.

    open_tracker: from the images so far to a tracker, None for none. seconds: time spent in `timed` blocks.
    """

    def __init__(
        self,
        out: Path,
        *,
        main: bool,
        say: Callable[[str], None],
        open_tracker: Callable[[int], Tracker] | None = None,
    ) -> None:
        self.main, self.say = main, say
        self.history = History(out)
        self.seconds = 0.0
        self._open, self._tracker, self._depth = open_tracker if main else None, None, 0

    def begin(self, cur_nimg: int) -> None:
        """From here on the tracker gets what is told; what it has beyond `cur_nimg` is taken back."""
        self.close()
        self._tracker = self._open(cur_nimg) if self._open else None

    def close(self) -> None:
        """Let the tracker write what it holds."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def line(self, line: dict) -> None:
        """One line of the history."""
        if not self.main:
            return
        self.history.append(line)
        if self._tracker is not None:
            self._tracker.take(line)

    def event(self, cur_nimg: int, remark: Remark) -> None:
        """Something to know, in words."""
        self.say(remark.text)
        facts = {"event": remark.event, "text": remark.text, **remark.facts}
        self.line({"kind": "event", "cur_nimg": cur_nimg, **facts})

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of this block as telling, once where blocks lie in each other."""
        begun, self._depth = time.perf_counter(), self._depth + 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.perf_counter() - begun


def progress_bar(name: str, images: int, cur_nimg: int, *, shown: bool) -> tqdm:
    """The live line: images, images a second, time left; `set_line` adds losses and memory."""
    return tqdm(
        total=images,
        initial=cur_nimg,
        unit="img",
        desc=name,
        disable=not shown,
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
        smoothing=0.05,
    )


def set_line(bar: tqdm, means: dict[str, float], device: torch.device) -> None:
    """Losses and memory at the end of the live line."""
    losses = {name: f"{means[name]:.2f}" for name in SHOWN if name in means}
    bar.set_postfix({**losses, "memory": f"{memory_gib(device):.1f} GiB"}, refresh=False)


def memory_gib(device: torch.device) -> float:
    """What this process holds now: of the GPU on CUDA, else of main memory."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30
