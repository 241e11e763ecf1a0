"""The components of the Edit tab that show an edit, how they are filled, and how its events are sent."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from workbench.app import edit_view, edit_work
from workbench.app.edit_work import Lab
from workbench.app.jobs import MODEL_QUEUE
from workbench.errors import WorkbenchError

LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
DRAG = {**LIGHT, "trigger_mode": "always_last"}
HEAVY = {
    "concurrency_id": MODEL_QUEUE,
    "concurrency_limit": 1,
    "show_progress": "minimal",
    "api_visibility": "private",
}


class Desk:
    """The components of the tab that show an edit, and how they are filled."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.history = gr.State(None)  # workbench.latents.history.History
        self.table = gr.State(None)  # edit_work.Table
        self.fields: dict[str, Any] = {}

    @property
    def drawn(self) -> list[Any]:
        """What changes with every move of a slider."""
        return [self.history, self.stage, self.undo, self.redo]

    @property
    def all(self) -> list[Any]:
        """Everything that shows the edit."""
        return [*self.drawn, self.ends[0], self.ends[1], self.directions, *self.fields.values()]

    def on(self, event: Any, act: Callable[..., Any], inputs: Any, outputs: list[Any], **how: Any) -> None:
        """Wire an event that does not wait in the queue. What a person can mend is told in the notice, and
        everything else stays: Gradio itself shows the errors of queued events only.
        """

        @functools.wraps(act)
        def told(*values: Any) -> list[Any]:
            try:
                return [*act(*values), ""]
            except (WorkbenchError, OSError) as error:
                return [*[gr.skip()] * len(outputs), edit_view.notice_html(str(error))]

        event(told, inputs, [*outputs, self.notice], **{**LIGHT, **how})

    def redraw(self, history: Any) -> list[Any]:
        """Values of `drawn`. The picture is drawn before anything is returned: a refusal changes nothing."""
        edit = history.now
        after, before = self.lab.picture(edit), self.lab.picture(edit.before)
        began = f"{edit.first.prompt}, seed {edit.first.seed}"
        stage = edit_view.stage_html(after, before, edit_view.told(edit), began)
        buttons = [gr.update(interactive=bool(side)) for side in (history.past, history.future)]
        return [history, stage, *buttons]

    def ends_of(self, edit: Any) -> list[str]:
        """Values of the two ends."""
        ends = (edit.before, replace(edit.before, first=edit.second, start=""))
        names = ("first", "second")
        seeds = ["your own" if end.start else f"seed {end.first.seed}" for end in ends]
        return [
            edit_view.end_html(self.lab.picture(end), name, end.first.prompt, seed)
            for end, name, seed in zip(ends, names, seeds, strict=True)
        ]

    def show(self, history: Any) -> list[Any]:
        """Values of `all`."""
        edit = history.now
        found, why = self.lab.directions()
        sliders = edit_view.directions_html(found, dict(edit.directions), why)
        values = [field_of(edit, name) for name in self.fields]
        return [*self.redraw(history), *self.ends_of(edit), sliders, *values]


def field_of(edit: Any, name: str) -> Any:
    """What the control of a field shows."""
    which, _, part = name.partition(".")
    value = getattr(edit, which)
    return str(getattr(value, part)) if part else value


def begun(history: Any) -> Any:
    """The history of a visitor, from the first look on."""
    from workbench.latents.history import History

    return history or History(now=edit_work.beginning())
