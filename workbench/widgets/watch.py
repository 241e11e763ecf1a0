"""A run that is watched while it trains: in this kernel, or in a process of its own that a button stops."""

from __future__ import annotations

import atexit
import html
import threading
from pathlib import Path

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.training import background
from workbench.training.background import Job
from workbench.training.grids import find_grids
from workbench.training.history import NAME, read_history
from workbench.training.loop import Result
from workbench.widgets.pictures import show_file
from workbench.widgets.sliders import VIEW

PLAIN = "In a live notebook the newest pictures appear here during training; they follow further down."


class Watcher:
    """The newest grid of the run folder `run` and the images seen, out of `images`.

    One cell shows it; `with watcher: train(...)` in the next keeps it fresh: a look every `every_s` seconds
    and one at the end.
    """

    def __init__(self, run: str | Path, images: int, *, every_s: float = 1.0) -> None:
        self.run, self.every_s = Path(run), every_s
        self.over = threading.Event()
        self.thread: threading.Thread | None = None
        self.bar = ipywidgets.IntProgress(max=images, layout=ipywidgets.Layout(width="384px"))
        self.label = ipywidgets.Label("getting ready …")
        self.words = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="384px"))
        self.box = ipywidgets.VBox([ipywidgets.HBox([self.bar, self.label]), self.words, self.picture])
        self.shown = -1

    def look(self) -> None:
        """Read what is there now. Grids are written whole, so that no half one is ever read."""
        seen = read_history(self.run) if (self.run / NAME).is_file() else []
        if seen:
            self.bar.value = seen[-1]["cur_nimg"]
            self.label.value = f"{seen[-1]['cur_nimg']:,} of {self.bar.max:,} images"
            self.words.value = _words(seen)
        grids = find_grids(self.run)
        if grids and max(grids) != self.shown:
            self.shown = max(grids)
            show_file(self.picture, grids[self.shown])

    def __enter__(self) -> Watcher:
        self.over.clear()
        self.thread = threading.Thread(target=self._keep_looking, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.over.set()
        self.thread.join()
        self.look()

    def _keep_looking(self) -> None:
        while not self.over.wait(self.every_s):
            self.look()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/plain": PLAIN,
            VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id},
        }


class LiveRun(Watcher):
    """A training in a process of its own, watched, with a button that stops it.

    `start` begins, or goes on with what is in `run`; `wait` is for the cell that needs the run: it returns
    when the training has ended, or was stopped by the button or by interrupting the cell. Each way saves. The
    process ends with the kernel.
    """

    def __init__(self, run: str | Path, job: Job, *, every_s: float = 1.0) -> None:
        super().__init__(run, job.config["images"], every_s=every_s)
        self.job, self.asked = job, False
        self.button = ipywidgets.Button(description="Stop", tooltip="Finishes the step, saves and ends.")
        self.button.on_click(lambda _: self.stop())
        self.box.children = (self.button, *self.box.children)
        atexit.register(self._ask)  # never at once: the kernel may end while it saves

    def start(self) -> LiveRun:
        """Begin, or go on; where it trains already, only watch."""
        if not background.look(self.run).alive:
            background.start(self.run, self.job)
            self.asked = False
        self.button.disabled = False
        if self.thread is None or not self.thread.is_alive():
            super().__enter__()
        return self

    def stop(self) -> None:
        """Ask it to finish its step, save and end; asked again from here, it leaves at once."""
        if self._ask(at_once=self.asked):
            self.asked = True

    def _ask(self, *, at_once: bool = False) -> bool:
        """Ask our process to save and end; False where there is none. at_once: where it was asked before."""
        ours = background.look(self.run).kind == "ours"
        if ours:
            background.ask(self.run, "stop", at_once=at_once)
            self.label.value = "finishing this step, then saving …"
        return ours

    def wait(self) -> Result:
        """How the training ended; stopped before its first line, at 0 images. Raises WorkbenchError with its
        own words where something went wrong.
        """
        try:
            trainer = background.wait(self.run)
        except KeyboardInterrupt:  # the notebook's square button, which saves even after ours
            self._ask()
            trainer = background.wait(self.run)
        self.button.disabled = True
        if self.thread is not None:
            self.__exit__()
        if trainer.trouble:
            raise WorkbenchError(trainer.trouble)
        lines = read_history(self.run) if (self.run / NAME).is_file() else []
        seen = lines[-1]["cur_nimg"] if lines else 0
        seconds = next((line["seconds"] for line in reversed(lines) if line["kind"] == "step"), 0.0)
        reason = "done" if seen >= self.bar.max else "stopped"
        return Result(run=self.run, cur_nimg=seen, reason=reason, model=self.run / "model", seconds=seconds)


def _words(lines: list[dict]) -> str:
    """The speed and the losses of the last log line, and the newest remark."""
    step = next((line for line in reversed(lines) if line["kind"] == "step"), {})
    names = {
        "images_per_s": "{:.0f} images a second",
        "G.loss": "G's loss {:.2f}",
        "D.loss": "D's loss {:.2f}",
    }
    numbers = [text.format(step[name]) for name, text in names.items() if step.get(name) is not None]
    remark = next(
        (line["text"] for line in reversed(lines) if line["kind"] == "event" and line.get("text")), ""
    )
    return "<br>".join(filter(None, (" · ".join(numbers), html.escape(remark))))
