"""A picture under sliders, and a still picture wherever no kernel runs: on a page, on paper, in a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.widgets.pictures import Picture

VIEW = "application/vnd.jupyter.widget-view+json"
Range = tuple[float, float, float]  # lowest, highest, start


class Sliders:
    """`draw(**values)` under one control a name: a slider for (lowest, highest, start), a menu for words.

    still: the picture that a static page shows instead. Controls can be set from code:
    `.controls["azimuth"].value = 90`. live: draw while a slider moves, for what takes a blink of an eye.
    buttons: text -> what writes a file from the same values and returns its path.
    """

    def __init__(
        self,
        draw: Callable[..., Picture],
        still: Picture,
        *,
        live: bool = False,
        buttons: Mapping[str, Callable[..., Path]] | None = None,
        **ranges: Range | Sequence[str],
    ) -> None:
        if not ranges:
            raise WorkbenchError(
                "Sliders need at least one name with (lowest, highest, start) or a list of words."
            )
        self.draw, self.still = draw, still
        self.controls = {name: _control(name, choice, live) for name, choice in ranges.items()}
        self.buttons = {text: ipywidgets.Button(description=text) for text in buttons or {}}
        for text, button in self.buttons.items():
            button.on_click(lambda _, write=buttons[text]: self._write(write))
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="max-content"))
        self.problem = ipywidgets.Label()
        for control in self.controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()
        below = [ipywidgets.HBox(list(self.buttons.values()))] if self.buttons else []
        self.box = ipywidgets.VBox([*self.controls.values(), self.picture, *below, self.problem])

    @property
    def values(self) -> dict[str, float | str]:
        """Where the controls stand."""
        return {name: control.value for name, control in self.controls.items()}

    def _write(self, write: Callable[..., Path]) -> None:
        """Says under the picture where the file lies, or why there is none."""
        try:
            self.problem.value = f"saved: {write(**self.values)}"
        except (WorkbenchError, OSError) as error:
            self.problem.value = str(error)

    def _redraw(self, change: object = None) -> None:
        """A refused value is said under the picture, which stays as it was."""
        try:
            drawn = self.draw(**self.values)
        except WorkbenchError as error:
            self.problem.value = str(error)
            return
        buffer = io.BytesIO()
        drawn.image.save(buffer, format="PNG")
        self.picture.value, self.problem.value = buffer.getvalue(), ""

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data, metadata = self.still._repr_mimebundle_()
        return {
            **data,
            VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id},
        }, metadata


def _control(name: str, choice: Range | Sequence[str], live: bool) -> ipywidgets.Widget:
    label = name.replace("_", " ")
    if all(isinstance(value, str) for value in choice):
        return ipywidgets.Dropdown(options=list(choice), description=label)
    low, high, start = choice
    if not low <= start <= high or low == high:
        raise WorkbenchError(
            f"{name} runs from {low} to {high} and starts at {start}: give a start between them."
        )
    return ipywidgets.FloatSlider(
        value=start,
        min=low,
        max=high,
        step=(high - low) / 60,
        description=label,
        continuous_update=live,
        readout_format=".0f" if high - low > 20 else ".2f",
        style={"description_width": "initial"},
    )
