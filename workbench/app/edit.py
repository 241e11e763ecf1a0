"""The Edit tab: two pictures with a slider between, directions, mixed styles, a picture of one's own, files.

Layout and wiring; `edit_work.py` does the work.
"""

import time
from dataclasses import replace
from typing import Any

import gradio as gr

from workbench.app import edit_view, edit_work
from workbench.app.edit_desk import DRAG, HEAVY, Desk, Sheet
from workbench.app.edit_files import keep_part, open_part, own_part
from workbench.app.edit_keeping import answer
from workbench.app.edit_work import FIRST, SECOND, Lab
from workbench.app.jobs import MODEL_QUEUE, Studio, in_words

KINDS = [("Seed and prompt", "both"), ("Seed (z)", "z"), ("Prompt", "prompt"), ("Style (w)", "w")]
RANGES = [("Coarse: layout, pose", "coarse"), ("Middle", "middle"), ("Fine: colours", "fine")]


def edit_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; must be called inside `tab`. The first visit draws the example."""
    desk = Desk(Lab(studio))
    with gr.Row(elem_classes="wb-work"):
        with gr.Column(scale=3, min_width=320):
            over = _picture_part(desk)
        with gr.Column(scale=2, min_width=300), gr.Tabs(elem_id="edit-parts"):
            with gr.Tab("Pictures", id="edit-pictures"):
                rolls = _pictures_part(desk)
            with gr.Tab("Directions", id="edit-directions-tab"):
                reset = gr.Button("Reset all directions", size="sm", elem_id="edit-reset")
                desk.directions = gr.HTML(
                    js_on_load=edit_view.script("directions"), elem_id="edit-directions"
                )
            with gr.Tab("Mix", id="edit-mix"):
                mixing = _mixing_part()
            with gr.Tab("Upload", id="edit-own"):
                own_part(desk)
            with gr.Tab("Keep", id="edit-keep"):
                keep_part(desk)
                open_part(desk)
    _wire_fields(desk)
    _wire_history(desk, over, reset)
    _wire_rolls(desk, rolls)
    _wire_mixing(desk, mixing)

    @in_words
    def first(sheet: Sheet) -> list[Any]:
        if (trouble := studio.trouble()) is not None:
            return [edit_view.empty_html(trouble), *[gr.skip()] * (len(desk.all) - 1)]
        with sheet.lock:
            return desk.show(sheet.history)

    tab.select(first, desk.sheet, desk.all, **HEAVY)

    @in_words
    def edit(edit: dict) -> tuple[str, dict]:
        """Draw an edit (`workbench.latents.edits.to_json`): its PNG as a data address, and its recipe."""
        return answer(desk.lab, edit)

    gr.api(edit, api_name="edit", concurrency_id=MODEL_QUEUE, concurrency_limit=1)


# --- layout ---


def _picture_part(desk: Desk) -> gr.Button:
    desk.notice = gr.HTML(elem_id="edit-notice")
    desk.stage = gr.HTML(edit_view.empty_html("The picture is being drawn …"), elem_id="edit-stage")
    with gr.Row(elem_classes="wb-between", equal_height=True):
        first = gr.HTML(elem_id="edit-first")
        desk.fields["t"] = gr.Slider(0, 1, 0, step=0.01, label="From first to second", elem_id="edit-t")
        second = gr.HTML(elem_id="edit-second")
    desk.ends = (first, second)
    desk.fields["kind"] = gr.Radio(KINDS, value="both", label="What changes on the way", elem_id="edit-kind")
    with gr.Row(elem_classes="wb-under"):
        desk.undo = gr.Button(
            "Undo", size="sm", interactive=False, elem_id="edit-undo", scale=0, min_width=80
        )
        desk.redo = gr.Button(
            "Redo", size="sm", interactive=False, elem_id="edit-redo", scale=0, min_width=80
        )
        over = gr.Button("Back to the first", size="sm", elem_id="edit-over", scale=0, min_width=140)
        gr.HTML(edit_view.COMPARE, js_on_load=edit_view.script("compare"), elem_id="edit-compare", scale=1)
    return over


def _pictures_part(desk: Desk) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for which, name, (prompt, seed) in (("first", "First", FIRST), ("second", "Second", SECOND)):
        desk.fields[f"{which}.prompt"] = gr.Textbox(
            prompt, label=f"{name} picture", lines=1, max_lines=3, elem_id=f"edit-{which}-prompt"
        )
        with gr.Row(elem_classes="wb-seed", equal_height=True):
            desk.fields[f"{which}.seed"] = gr.Textbox(
                str(seed), label="Seed", max_lines=1, scale=3, min_width=110, elem_id=f"edit-{which}-seed"
            )
            parts[which] = gr.Button("Roll a new one", scale=1, min_width=150, elem_id=f"edit-{which}-roll")
    with gr.Row(elem_classes="wb-locks"):
        parts["lock_seed"] = gr.Checkbox(
            False, label="Lock the seed", elem_id="edit-lock-seed", min_width=140
        )
        parts["lock_prompt"] = gr.Checkbox(
            True, label="Lock the prompt", elem_id="edit-lock-prompt", min_width=140
        )
    gr.HTML(
        '<p class="wb-hint">Rolling keeps what is locked. A word in brackets with a number is louder or '
        "quieter: <code>a dog in the (snow:1.4)</code>.</p>"
    )
    desk.fields["negative"] = gr.Textbox(
        "",
        label="Negative words",
        max_lines=2,
        placeholder="for example: snow night",
        elem_id="edit-negative",
        info="Both pictures are led away from them.",
    )
    desk.fields["truncation"] = gr.Slider(
        0, 1.5, 1, step=0.05, label="Variety against typicality", elem_id="edit-truncation",
        info="Truncation: 1 is the full variety of the seeds, 0 the one typical picture of the prompt.",
    )  # fmt: skip
    return parts


def _mixing_part() -> dict[str, Any]:
    gr.HTML(
        '<p class="wb-hint">Rows are pictures of the first prompt, columns give them some of their layers: '
        "pictures of the second prompt.</p>"
    )
    which = gr.Radio(RANGES, value="coarse", label="Layers from the columns", elem_id="edit-range")
    draw = gr.Button("Draw the table", elem_id="edit-draw-table")
    table = gr.HTML(js_on_load=edit_view.script("table"), elem_id="edit-table")
    return {"which": which, "draw": draw, "table": table}


# --- wiring ---


def _wire_fields(desk: Desk) -> None:
    """Each control changes its own part of the edit; sliders redraw while they move."""
    sliding = {"t", "truncation"}
    for name, control in desk.fields.items():
        shown = (desk.drawn, desk.redraw)
        if name not in ("t", "kind"):
            shown = ([*desk.drawn, *desk.ends], desk.redraw_with_ends)

        def turn(history: Any, value: Any, name: str = name) -> Any:
            if value is None:  # the slider's number was cleared, to type another
                return None
            edit = edit_work.with_field(desk.lab, history.now, name, value)
            if edit == history.now:  # the field was left as it was
                return None
            return history.changed(edit, name if name in sliding else "", time.monotonic())

        if name in sliding or name == "kind":
            # Not preprocessed: Gradio fails at a number that is cleared, and the edit checks them all itself.
            desk.on(control.input, turn, [control], shown, **DRAG, preprocess=name == "kind")
        else:
            for event in (control.submit, control.blur):
                desk.on(event, turn, [control], shown)


def _wire_history(desk: Desk, over: gr.Button, reset: gr.Button) -> None:
    """Undo, redo, back to the first picture, and the directions with their reset."""

    def start_over(history: Any) -> Any:
        return history.changed(history.now.before)

    def no_directions(history: Any) -> Any:
        return history.changed(replace(history.now, directions=()))

    steps = (
        (desk.undo, lambda history: history.undone()),
        (desk.redo, lambda history: history.redone()),
        (over, start_over),
        (reset, no_directions),
    )
    for button, step in steps:
        desk.on(button.click, step, [], desk.whole)

    def move(history: Any, event: gr.EventData) -> Any:
        edit = edit_work.with_strengths(history.now, event._data.get("values"))
        return history.changed(edit, "directions", time.monotonic())

    desk.on(desk.directions.input, move, [], (desk.drawn, desk.redraw), **DRAG)


def _wire_rolls(desk: Desk, rolls: dict[str, Any]) -> None:
    for which in ("first", "second"):

        def roll(history: Any, seed: bool, prompt: bool, which: str = which) -> Any:
            return history.changed(edit_work.rolled(history.now, which, seed, prompt))

        desk.on(rolls[which].click, roll, [rolls["lock_seed"], rolls["lock_prompt"]], desk.whole)


def _wire_mixing(desk: Desk, parts: dict[str, Any]) -> None:
    """The table is drawn by its button or another range; a cell of it becomes the edited picture."""
    typed = [name for name in desk.fields if "." in name]

    @in_words
    def draw(sheet: Sheet, which: str, *values: str) -> tuple[Any, str]:
        edit = sheet.history.now
        for name, value in zip(typed, values, strict=True):  # typed a moment ago, perhaps not yet in the edit
            edit = edit_work.with_field(desk.lab, edit, name, value)
        return desk.lab.table(edit, which)

    def take(history: Any, spec: Any, event: gr.EventData) -> Any:
        if "row" not in event._data:  # a click beside the cells
            return None
        edit = edit_work.cell(history.now, spec, event._data["row"], event._data.get("column"))
        return history.changed(edit)

    inputs = [desk.sheet, parts["which"], *(desk.fields[name] for name in typed)]
    for event in (parts["draw"].click, parts["which"].input):
        event(draw, inputs, [desk.table, parts["table"]], **HEAVY)
    desk.on(parts["table"].click, take, [desk.table], desk.whole)
