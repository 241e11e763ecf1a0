"""The Training tab: start a run in its own process, watch it, pause, resume and stop it; look at any run."""

import html
from typing import Any

import gradio as gr

from workbench.app.jobs import in_words
from workbench.app.launching import (
    FEWEST,
    MOST,
    PRESETS,
    Desk,
    check_budget,
    free_name,
    gpu_lines_html,
    shell_line,
)
from workbench.app.live import live_html, look, says_saving
from workbench.app.run_view import no_run_html, run_html
from workbench.app.runs import Shelf
from workbench.app.sets import Sets
from workbench.errors import WorkbenchError

_LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# What may be refused goes through the queue: without it, a refusal reaches the page as a server's error.
_ACT = {**_LIGHT, "queue": True}
_LOOK_S = 2.0  # between two looks at the chosen run
_BUDGET = 20_000


def training_tab(shelf: Shelf, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; must be called inside `tab`. Runs are looked up anew at each visit."""
    desk = Desk(shelf, Sets(shelf.runs))
    with gr.Row(elem_classes="wb-runbar", equal_height=True):
        where = "The shipped run, and those under runs/ where the app was started."
        run = gr.Dropdown([], label="Run", elem_id="run", scale=4, info=where)
        refresh = gr.Button("Refresh", elem_id="run-refresh", scale=0, min_width=110)
    started, begun, go = _start_part(desk, tab)
    live = gr.HTML(elem_id="run-live")
    with gr.Row(elem_classes="wb-run-buttons"):
        pause = gr.Button("Pause", elem_id="run-pause", scale=0, min_width=110, visible=False)
        resume = gr.Button(
            "Resume", variant="primary", elem_id="run-resume", scale=0, min_width=110, visible=False
        )
        stop = gr.Button("Stop", elem_id="run-stop", scale=0, min_width=110, visible=False)
    view = gr.HTML(elem_id="run-view")
    shown = gr.State(None)  # what this visitor sees: nothing is sent twice
    timer = gr.Timer(_LOOK_S, active=False)
    outputs = [live, view, pause, resume, stop, shown]

    @in_words
    def show(name: str | None, shown: dict | None) -> list[Any]:
        return _changed(desk, name, shown)

    @in_words
    def look_again(name: str | None) -> list[Any]:
        found = list(shelf.list())
        name = name if name in found else (found[0] if found else None)
        return [gr.update(choices=found, value=name), gr.Timer(active=True), *_changed(desk, name, None)]

    def look_at(started: str | None) -> list[Any]:
        return look_again(started) if started else [gr.skip()] * (2 + len(outputs))

    def told(act: Any) -> Any:
        @in_words
        def done(name: str | None, seen: str | None) -> list[Any]:
            if not name:
                raise WorkbenchError("There is no run to do that to: choose one in the list.")
            act(name, seen)
            return _changed(desk, name, None)

        return done

    def end(name: str, seen: str | None) -> None:
        # Another visitor may have asked already: leaving at once is for him alone who saw that it saves.
        desk.stop(name, at_once=says_saving(seen))

    run.input(show, [run, shown], outputs, **_LIGHT)
    timer.tick(show, [run, shown], outputs, **_LIGHT)
    looked = [
        event(look_again, run, [run, timer, *outputs], **_LIGHT) for event in (tab.select, refresh.click)
    ]
    begun.success(look_at, started, [run, timer, *outputs], **_LIGHT)
    # The first look takes seconds; answered after a start, it would bring back the run chosen before.
    looked[0].then(lambda: gr.update(interactive=True), None, go, **_LIGHT)
    buttons = ((pause, lambda name, _: desk.pause(name)), (resume, lambda name, _: desk.resume(name)))
    for button, act in (*buttons, (stop, end)):
        button.click(told(act), [run, live], outputs, **_ACT)


def _changed(desk: Desk, name: str | None, shown: dict | None) -> list[Any]:
    """What to send of a run (live, view, three buttons) and what is shown then; skips what is there."""
    before, now = shown or {}, _now(desk, name)
    if now == before:
        return [gr.skip()] * 6
    sent = [now[part] if now[part] != before.get(part) else gr.skip() for part in ("live", "view")]
    same = now["buttons"] == before.get("buttons")
    sent += [gr.skip() if same else gr.update(visible=visible) for visible in now["buttons"]]
    return [*sent, now]


def _now(desk: Desk, name: str | None) -> dict[str, Any]:
    """live, view: HTML; buttons: whether pause, resume and stop can be pressed.

    A run that is gone or damaged is told in the place of its state, not as a notice every two seconds: and
    these events don't queue, so a notice would not be seen.
    """
    if not name:
        return {"live": "", "view": no_run_html(), "buttons": (False, False, False)}
    try:
        run = desk.shelf.get(name)
        seen = look(run.folder)
        live, view = live_html(run, seen), run_html(run, alive=seen.alive)
    except Exception as error:  # noqa: BLE001 - a folder that anybody may have put there, told in its place
        said = str(error) if isinstance(error, (WorkbenchError, OSError)) else _odd(name, error)
        said = f'<p class="wb-status" role="status">{html.escape(said)}</p>'
        return {"live": said, "view": "", "buttons": (False, False, False)}
    pausable = seen.ours and seen.state in ("starting", "running")
    resumable = seen.resumable and seen.state in ("paused", "stopped", "failed", "still")
    return {"live": live, "view": view, "buttons": (pausable, resumable, seen.ours and seen.alive)}


def _odd(name: str, error: Exception) -> str:
    return (
        f"The run {name} cannot be shown ({type(error).__name__}: {error}): its files are damaged, or no "
        "training of this workbench wrote them. Choose another in the list."
    )


def _start_part(desk: Desk, tab: gr.Tab) -> tuple[gr.State, Any, gr.Button]:
    """The form that begins a run: (state with the name of the run begun, the event, the button)."""
    started = gr.State(None)
    with gr.Accordion("Start a training run", open=False, elem_id="start") as part:
        with gr.Row(equal_height=True):
            data = gr.Dropdown([], label="Data set", elem_id="start-data", scale=2, min_width=200,
                               info="Made in the Dataset tab.")  # fmt: skip
            preset = gr.Dropdown(list(PRESETS), value=PRESETS[0], label="Preset", elem_id="start-preset",
                                 min_width=150, info="Networks, and their pixels.")  # fmt: skip
            images = gr.Number(_BUDGET, label="Images", precision=0, minimum=FEWEST, maximum=MOST,
                               elem_id="start-images", min_width=130, info="Shown to D in all.")  # fmt: skip
            name = gr.Textbox("my-run", label="Name", elem_id="start-name", max_lines=1, min_width=150,
                              info="A folder under runs/.")  # fmt: skip
        estimate = gr.HTML(elem_id="start-estimate")
        refused = gr.HTML(elem_id="start-refused")
        go = gr.Button("Start", variant="primary", elem_id="start-go", scale=0, min_width=140,
                       interactive=False)  # fmt: skip
        with gr.Accordion("On a GPU, or on several", open=False):
            gr.HTML(gpu_lines_html())
    form = [name, data, preset, images]

    def reckon(name: str, data: str | None, preset: str, images: float) -> str:
        return _estimate_html(desk, name, data, preset, images)

    def offer(name: str, data: str | None, preset: str, images: float) -> list[Any]:
        found = list(desk.sets.list())
        data = data if data in found else (found[0] if found else None)
        name = free_name(desk.shelf, name or "my-run")
        return [gr.update(choices=found, value=data), name, _estimate_html(desk, name, data, preset, images)]

    def offer_next(started: str | None, *asked: Any) -> list[Any]:
        return offer(*asked) if started else [gr.skip()] * 3  # a refused name stays, to be mended

    def begin(name: str, data: str | None, preset: str, images: float) -> list[Any]:
        try:
            begun = desk.start(name, data, preset, images)
        except (WorkbenchError, OSError) as error:
            said = f'<p class="wb-status" role="alert">{html.escape(str(error))}</p>'
            return [None, gr.skip(), said]
        return [begun, gr.update(open=False), ""]  # the run is what is looked at now

    tab.select(offer, form, [data, name, estimate], **_LIGHT)
    for control in form:
        control.change(reckon, form, estimate, trigger_mode="always_last", **_LIGHT)
    begun = go.click(begin, form, [started, part, refused], **_LIGHT)
    begun.success(offer_next, [started, *form], [data, name, estimate], **_LIGHT)
    return started, begun, go


def _estimate_html(desk: Desk, name: str, data: str | None, preset: str, images: float) -> str:
    """How long it takes and the line that does the same in a terminal, or where to get a data set."""
    if not data:
        where = "draw one, or bring your pictures, in the Dataset tab"
        return f'<p class="wb-status">There is no data set yet: {where}.</p>'
    said = f'<p class="wb-status" role="status">{html.escape(desk.estimate(preset, images))}</p>'
    try:
        line = shell_line(desk.place(name), desk.sets.get(data), preset, check_budget(images))
    except (WorkbenchError, OSError) as error:
        return f'{said}<p class="wb-hint">{html.escape(str(error))}</p>'
    return f'{said}<p class="wb-hint">The same in a terminal: <code>{html.escape(line)}</code></p>'
