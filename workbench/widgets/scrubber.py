"""Every grid of a run under one slider, none left out, with what was measured and said at that moment."""

from __future__ import annotations

import html
from pathlib import Path

import ipywidgets
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.images import open_picture
from workbench.training.gif import dense_at_first
from workbench.training.grids import EXPECTED, find_grids
from workbench.training.history import NAME, read_history
from workbench.widgets.pictures import Picture, sheet, show_file
from workbench.widgets.sliders import VIEW

_GRID_ROWS = 6
_READINGS = {
    "all": "all four factors right {:.0%}",
    "ratio": "Fréchet {:.1f} × floor",
    "diversity": "diversity {:.2f}",
}


class Scrubber:
    """A slider over the grids of the run folder `run`; arrow keys move one grid; `.slider.value = k`.

    A static page shows the first row of `rows` grids, dense at the start. Raises WorkbenchError where there
    is no grid.
    """

    def __init__(self, run: str | Path, *, rows: int = 5, zoom: float = 1.0) -> None:
        self.run, self.rows, self.zoom = Path(run), rows, zoom
        self.grids = find_grids(self.run)
        if not self.grids:
            raise WorkbenchError(f"There are no grids ({EXPECTED}) in {run}: give the folder of a run.")
        self.counts = list(self.grids)
        self.lines = read_history(self.run) if (self.run / NAME).is_file() else []
        end = len(self.counts) - 1
        self.slider = ipywidgets.IntSlider(
            value=end, min=0, max=end, description="grid", continuous_update=True
        )
        self.slider.layout.width = "480px"
        self.words = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="576px"))
        self.slider.observe(self._show, names="value")
        self.box = ipywidgets.VBox([self.slider, self.words, self.picture])
        self._show()

    def _show(self, change: object = None) -> None:
        count = self.counts[self.slider.value]
        show_file(self.picture, self.grids[count])
        self.words.value = self.said(count)

    def said(self, count: int) -> str:
        """Where this grid stands, and what had last been measured and remarked by then."""
        place = f"<b>{count:,} images</b>, grid {self.counts.index(count) + 1} of {len(self.counts)}"
        seen = [line for line in self.lines if line["cur_nimg"] <= count]
        measured = next((line for line in reversed(seen) if line["kind"] == "eval"), {})
        readings = [
            text.format(measured[name]) for name, text in _READINGS.items() if measured.get(name) is not None
        ]
        remark = next(
            (line["text"] for line in reversed(seen) if line["kind"] == "event" and line.get("text")), ""
        )
        return "<br>".join(filter(None, (place, " · ".join(readings), html.escape(remark))))

    @property
    def still(self) -> Picture:
        """The first row of some grids, from first to last."""
        chosen = dense_at_first(self.counts, self.rows)
        names = [f"{count:,} images" for count in chosen]
        strips = [self._first_row(self.grids[count]) for count in chosen]
        alt = f"The first row of {len(chosen)} of {len(self.counts)} grids of the run, from first to last"
        return sheet(strips, 1, alt, row_names=names, zoom=self.zoom)

    @staticmethod
    def _first_row(path: Path) -> Image.Image:
        with open_picture(path) as grid:
            return grid.convert("RGB").crop((0, 0, grid.width, grid.height // _GRID_ROWS))

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data, metadata = self.still._repr_mimebundle_()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {**data, VIEW: view}, metadata
