"""G against D by hand: two buttons take a step each, a third takes it back, a strip keeps the record."""

from __future__ import annotations

import io

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.widgets.one_step import Match
from workbench.widgets.pictures import Picture
from workbench.widgets.sliders import VIEW
from workbench.widgets.step_pictures import faces

_MEANS = ("real, true caption", "made, true caption")


class ByHand:
    """Buttons over a `Match`. From code: `.buttons["D"].click()`; `record` holds who stepped, in order.

    A static page shows the pictures as they stood when the widget was made.
    """

    def __init__(self, match: Match) -> None:
        self.match = match
        self.still = self._faces()
        words = {"D": "D takes a step", "G": "G takes a step", "undo": "Take it back"}
        self.buttons = {name: ipywidgets.Button(description=text) for name, text in words.items()}
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="max-content"))
        self.strip = ipywidgets.Label()
        self.verdict = ipywidgets.Label()
        self.buttons["D"].on_click(lambda _: self._press(match.step_D))
        self.buttons["G"].on_click(lambda _: self._press(match.step_G))
        self.buttons["undo"].on_click(lambda _: self._press(match.undo))
        row = ipywidgets.HBox(list(self.buttons.values()))
        self.box = ipywidgets.VBox([row, self.strip, self.verdict, self.picture])
        self._show()

    @property
    def record(self) -> str:
        """Who stepped, in order: "DGGD"."""
        return "".join(move.who for move in self.match.moves)

    def _press(self, act) -> None:
        try:
            act()
        except WorkbenchError as error:
            self.verdict.value = str(error)
            return
        self._show()

    def _show(self) -> None:
        buffer = io.BytesIO()
        picture = self._faces()
        size = (round(picture.image.width * picture.zoom), round(picture.image.height * picture.zoom))
        picture.image.resize(size).save(buffer, format="PNG")
        self.picture.value = buffer.getvalue()
        self.strip.value = f"steps so far: {' '.join(self.record) or 'none'}"
        self.verdict.value = " · ".join(f"{kind}: mean logit {self.look.mean(kind):+.2f}" for kind in _MEANS)

    def _faces(self) -> Picture:
        self.look = self.match.look()
        return faces(self.match, self.look, "Real and made pictures of one batch with D's logits over them")

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data, metadata = self.still._repr_mimebundle_()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {**data, VIEW: view}, metadata
