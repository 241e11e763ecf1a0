"""The components of the Edit tab that show an edit, how they are filled, and how its events are sent."""

import functools
import threading
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
Shown = tuple[list[Any], Callable[[Any], list[Any]]]  # components, and what fills them from a history


class Sheet:
    """One visitor's edit with its steps, held in a `gr.State` and changed in place.

    A field that is left and the button pressed next ask at once: each act holds `lock` from reading the
    history to keeping it, or the later answer would undo the other.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._history: Any = None

    def __deepcopy__(self, memo: Any) -> "Sheet":
        return Sheet()  # Gradio copies a State's value for each visitor, and a lock cannot be copied

    @property
    def history(self) -> Any:
        """`workbench.latents.history.History`, from the first look on; waits for the act in hand."""
        from workbench.latents.history import History

        with self.lock:
            self._history = self._history or History(now=edit_work.beginning())
            return self._history

    def keep(self, history: Any) -> None:
        """What an act made of the history."""
        with self.lock:
            self._history = history


class Desk:
    """The components of the tab that show an edit, and how they are filled."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sheet = gr.State(Sheet())
        self.table = gr.State(None)  # edit_work.Table
        self.fields: dict[str, Any] = {}

    @property
    def drawn(self) -> list[Any]:
        """What changes with every move of a slider."""
        return [self.stage, self.undo, self.redo]

    @property
    def all(self) -> list[Any]:
        """Everything that shows the edit."""
        return [*self.drawn, self.ends[0], self.ends[1], self.directions, *self.fields.values()]

    @property
    def whole(self) -> Shown:
        """All of it, for `on`."""
        return self.all, self.show

    def on(self, event: Any, act: Callable[..., Any], inputs: list[Any], shown: Shown, **how: Any) -> None:
        """Wire an event that does not wait in the queue. What a person can mend is told in the notice, and
        everything else stays: Gradio itself shows the errors of queued events only.

        act: of the history and the inputs, the new history; None where nothing is to be done.
        """
        outputs, fill = shown
        still = [gr.skip()] * len(outputs)

        @functools.wraps(act)
        def told(sheet: Sheet, *values: Any) -> list[Any]:
            try:
                with sheet.lock:
                    history = act(sheet.history, *values)
                    return [*(still if history is None else self.kept(sheet, history, fill)), ""]
            except (WorkbenchError, OSError) as error:
                return [*still, edit_view.notice_html(str(error))]

        event(told, [self.sheet, *inputs], [*outputs, self.notice], **{**LIGHT, **how})

    def kept(self, sheet: Sheet, history: Any, fill: Callable[[Any], list[Any]]) -> list[Any]:
        """What `fill` shows of a new history. It is drawn before it is kept: a refusal changes nothing."""
        shown = fill(history)
        sheet.keep(history)
        return shown

    def changed(self, sheet: Sheet, edit: Any) -> list[Any]:
        """Values of `all` with an edit that took long to make: the next step of whatever was done since."""
        with sheet.lock:
            return self.kept(sheet, sheet.history.changed(edit), self.show)

    def redraw(self, history: Any) -> list[Any]:
        """Values of `drawn`."""
        edit = history.now
        after, before = self.lab.picture(edit), self.lab.picture(edit.before)
        began = f"{edit.first.prompt}, seed {edit.first.seed}"
        stage = edit_view.stage_html(after, before, edit_view.told(edit), began)
        buttons = [gr.update(interactive=bool(side)) for side in (history.past, history.future)]
        return [stage, *buttons]

    def redraw_with_ends(self, history: Any) -> list[Any]:
        """Values of `drawn` and of the two ends."""
        return [*self.redraw(history), *self.ends_of(history.now)]

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
        return [*self.redraw_with_ends(history), sliders, *values]


def field_of(edit: Any, name: str) -> Any:
    """What the control of a field shows."""
    which, _, part = name.partition(".")
    value = getattr(edit, which)
    return str(getattr(value, part)) if part else value
