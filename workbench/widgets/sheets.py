"""A contact sheet to click through: pages of small pictures, one of them shown large with its words.

Only the pictures of the page at hand are read, so that a set of any size opens at once.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ipywidgets
from PIL import Image, ImageOps

from workbench.datasets.check.findings import Report
from workbench.datasets.rows import read_folder, read_picture
from workbench.datasets.tree import shown
from workbench.errors import WorkbenchError
from workbench.widgets.pictures import Picture, sheet
from workbench.widgets.sliders import VIEW

ALL = "all pictures"
NAMED = "pictures that a finding names"
LARGE_PX = 320
_STILL_ZOOM = 2  # the still sheet is stored at half the size of its thumbnails


class ContactSheet:
    """Pages of thumbnails, each over a button; the pressed one stands large below, with its words.

    read: name -> picture; one that it refuses with a WorkbenchError is a blank with the reason as its words.
    words: name -> what is said of the picture, in the order of the sheet. kinds: menu entry -> the names it
    stands for, beside all of them; start: the entry it opens with. side: thumbnails in px. A static page
    shows that entry's first page instead (`still`). Driven from code: `.menu.value = …`, `.page.value = 2`,
    `.buttons[0].click()`.
    """

    def __init__(
        self,
        read: Callable[[str], Image.Image],
        words: Mapping[str, str],
        *,
        kinds: Mapping[str, Sequence[str]] | None = None,
        start: str = ALL,
        columns: int = 8,
        rows: int = 3,
        side: int = 88,
    ) -> None:
        if not words or min(columns, rows, side) < 1:
            raise WorkbenchError(
                f"A contact sheet of {len(words)} pictures in {columns} columns and {rows} rows, {side} px "
                "each: give at least one of each."
            )
        self.read, self.words, self.columns, self.side = read, words, columns, side
        self.kinds = {ALL: tuple(words)} | {kind: tuple(names) for kind, names in (kinds or {}).items()}
        self.kinds = {kind: names for kind, names in self.kinds.items() if names}
        if start not in self.kinds:
            raise WorkbenchError(f"There are no {start!r} to begin with: expected {', '.join(self.kinds)}.")
        self.start = start
        self._place = {name: number for number, name in enumerate(words, start=1)}
        self.names: tuple[str, ...] = ()  # on the page at hand
        self._build(columns * rows)
        self._turn()
        self.press(self.names[0])

    def _build(self, slots: int) -> None:
        entries = [(f"{kind} ({len(names)})", kind) for kind, names in self.kinds.items()]
        self.menu = ipywidgets.Dropdown(options=entries, value=self.start, description="show")
        self.menu.layout.width = "max-content"
        self.page = ipywidgets.BoundedIntText(value=1, min=1, max=1, description="page")
        self.where = ipywidgets.Label()
        self.thumbnails = [ipywidgets.Image(format="jpeg") for _ in range(slots)]
        self.buttons = [ipywidgets.Button(layout={"width": f"{self.side}px"}) for _ in range(slots)]
        self.large = ipywidgets.Image(format="png")
        self.caption = ipywidgets.HTML()
        self.menu.observe(self._choose, names="value")
        self.page.observe(self._turn, names="value")
        for at, button in enumerate(self.buttons):
            button.on_click(lambda _, at=at: self.press(self.names[at]))
        self.cells = [ipywidgets.VBox(pair) for pair in zip(self.thumbnails, self.buttons, strict=True)]
        layout = {"grid_template_columns": f"repeat({self.columns}, max-content)", "grid_gap": "4px"}
        self.grid = ipywidgets.GridBox(self.cells, layout=layout)
        head = ipywidgets.HBox([self.menu, self.page, self.where])
        self.box = ipywidgets.VBox([head, self.grid, self.caption, self.large])

    def _choose(self, change: object = None) -> None:
        """Goes to the first page of the chosen kind."""
        if self.page.value == 1:
            self._turn()
        else:
            self.page.value = 1  # its observer turns

    def _turn(self, change: object = None) -> None:
        """Fills the page with its pictures; places that stay empty are hidden."""
        names, slots = self.kinds[self.menu.value], len(self.cells)
        self.page.max = math.ceil(len(names) / slots)
        start = (self.page.value - 1) * slots
        self.names = names[start : start + slots]
        self.where.value = f"of {self.page.max}"
        for at, cell in enumerate(self.cells):
            cell.layout.display = "flex" if at < len(self.names) else "none"
        for name, image, button in zip(self.names, self.thumbnails, self.buttons, strict=False):
            image.value = _file(self._look(name)[0], self.side, "JPEG")
            button.description = str(self._place.get(name, "–"))
            button.tooltip = shown(name)

    def press(self, name: str) -> None:
        """Shows one picture large, with its words."""
        picture, words = self._look(name)
        self.large.value = _file(picture, LARGE_PX, "PNG")
        self.caption.value = f"<b>{html.escape(shown(name))}</b><br>{html.escape(shown(words))}"

    def _look(self, name: str) -> tuple[Image.Image, str]:
        """A picture and its words; where it cannot be read, a grey blank and the reason."""
        try:
            return self.read(name), self.words.get(name, "")
        except WorkbenchError as error:
            return Image.new("RGB", (self.side, self.side), "lightgrey"), str(error)

    @property
    def still(self) -> Picture:
        """The first page that it opened with, as a page without a kernel shows it."""
        names = self.kinds[self.start][: len(self.cells)]
        side = max(1, self.side // _STILL_ZOOM)
        small = [_fitted(self._look(name)[0], side) for name in names]
        alt = f"Contact sheet: {len(names)} of {len(self.kinds[self.start])}, {self.start}"
        return sheet(small, min(self.columns, len(names)), alt, zoom=_STILL_ZOOM)

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data, metadata = self.still._repr_mimebundle_()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {**data, VIEW: view}, metadata


def sheet_of(folder: str | Path, *, report: Report | None = None, **settings: int) -> ContactSheet:
    """A contact sheet of a data set folder, each picture with its first caption.

    report: what `checks.check_folder` found there, however broken the folder is. Its findings that name
    pictures become menu entries, and the sheet opens with all that they name. settings: columns, rows and
    side of ContactSheet. Raises WorkbenchError for a folder that holds no data set.
    """
    folder = Path(folder)
    if report is None:
        rows = read_folder(folder, check_pictures=False)
        words = {row.file_name: row.text for row in reversed(rows)}
        words = {row.file_name: words[row.file_name] for row in rows}
        return ContactSheet(lambda name: read_picture(folder / name), words, **settings)
    looked_at = {look.name for look in report.looks}
    kinds = {
        finding.what.partition(":")[0]: [name for name in finding.files or finding.names if name in looked_at]
        for finding in report.findings
    }
    named = tuple(dict.fromkeys(name for names in kinds.values() for name in names))
    return ContactSheet(
        lambda name: read_picture(folder / name),
        report.texts,
        kinds={NAMED: named} | kinds,
        start=NAMED if named else ALL,
        **settings,
    )


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture in a white square of `side` px."""
    return ImageOps.pad(picture.convert("RGB"), (side, side), Image.Resampling.LANCZOS, color="white")


def _file(picture: Image.Image, side: int, format: str) -> bytes:
    buffer = io.BytesIO()
    _fitted(picture, side).save(buffer, format)
    return buffer.getvalue()
