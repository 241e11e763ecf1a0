"""A look at a run under way: the newest grid and how far it is, while a cell trains."""

from __future__ import annotations

import threading
from pathlib import Path

import ipywidgets

from workbench.training.gif import find_grids
from workbench.training.history import NAME, read_history
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
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="384px"))
        self.box = ipywidgets.VBox([ipywidgets.HBox([self.bar, self.label]), self.picture])
        self.shown = -1

    def look(self) -> None:
        """Read what is there now. Grids are written whole, so that no half one is ever read."""
        seen = read_history(self.run)[-1:] if (self.run / NAME).is_file() else []
        if seen:
            self.bar.value = seen[0]["cur_nimg"]
            self.label.value = f"{seen[0]['cur_nimg']:,} of {self.bar.max:,} images"
        grids = find_grids(self.run)
        if grids and max(grids) != self.shown:
            self.shown = max(grids)
            self.picture.value = grids[self.shown].read_bytes()

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
