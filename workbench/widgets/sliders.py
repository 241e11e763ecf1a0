"""A picture under sliders, and a still picture wherever no kernel runs: on a page, on paper, in a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import ipywidgets

from workbench.errors import WorkbenchError
from workbench.widgets.pictures import Picture

VIEW = "application/vnd.jupyter.widget-view+json"
Range = tuple[float, float, float]  # lowest, highest, start


class Sliders:
    """`draw(**values)` under one control a name: a slider for (lowest, highest, start), a menu for words.

    still: the picture that a static page shows instead. Controls can be set from code:
    `.controls["azimuth"].value = 90`.
    """

    def __init__(self, draw: Callable[..., Picture], still: Picture, **ranges: Range | Sequence[str]) -> None:
        if not ranges:
            raise WorkbenchError(
                "Sliders need at least one name with (lowest, highest, start) or a list of words."
            )
        self.draw, self.still = draw, still
        self.controls = {name: _control(name, choice) for name, choice in ranges.items()}
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="max-content"))
        self.problem = ipywidgets.Label()
        for control in self.controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()
        self.box = ipywidgets.VBox([*self.controls.values(), self.picture, self.problem])

    def _redraw(self, change: object = None) -> None:
        """A refused value is said under the picture, which stays as it was."""
        try:
            drawn = self.draw(**{name: control.value for name, control in self.controls.items()})
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


def _control(name: str, choice: Range | Sequence[str]) -> ipywidgets.Widget:
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
        continuous_update=False,
        readout_format=".0f",
    )
