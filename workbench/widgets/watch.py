"""A look at a run under way: the newest grid and how far it is, while a cell trains."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import ipywidgets
from IPython.display import display

from workbench.training.gif import find_grids
from workbench.training.history import NAME, read_history
from workbench.widgets.sliders import VIEW

PLAIN = "While this cell runs, a live notebook shows the newest pictures here; they follow below."


class Watcher:
    """Shows the newest grid of the run folder `run` and the images seen, out of `images`."""

    def __init__(self, run: str | Path, images: int) -> None:
        self.run = Path(run)
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

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            "text/plain": PLAIN,
            VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id},
        }


@contextlib.contextmanager
def watching(run: str | Path, images: int, *, every_s: float = 1.0) -> Iterator[Watcher]:
    """`with watching(run, images): train(...)`. Looks every `every_s` seconds, and once more at the end."""
    watcher, over = Watcher(run, images), threading.Event()
    display(watcher)

    def looking() -> None:
        while not over.wait(every_s):
            watcher.look()

    thread = threading.Thread(target=looking, daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        over.set()
        thread.join()
        watcher.look()
