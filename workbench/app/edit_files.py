"""The parts of the Edit tab that bring pictures in and take them out: uploads found in the model, files to
keep, films of the path, and an edited PNG opened again.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.app import edit_keeping, edit_view
from workbench.app.create_back import verdict_html
from workbench.app.edit_desk import HEAVY, LIGHT, Desk, Sheet
from workbench.app.jobs import in_words
from workbench.app.long_work import Wish

# Long work shares the model picture by picture, so that it need not keep everybody else waiting.
_FILMS = {"concurrency_id": "films", "concurrency_limit": 1, "show_progress": "hidden",
          "api_visibility": "private"}  # fmt: skip
_FINDS = {**_FILMS, "concurrency_id": "finds"}
_ACT = {**LIGHT, "queue": True}  # what may be refused goes through the queue, or the page shows no sentence


def status_html(sentence: str) -> str:
    """One line of progress or result."""
    import html

    return f'<p class="wb-status" role="status">{html.escape(sentence)}</p>'


def keep_part(desk: Desk) -> None:
    """Picture, recipe and films as files, and the lines that repeat the edit."""
    with gr.Row(elem_classes="wb-keep"):
        keep = gr.Button("Picture and recipe", size="sm", elem_id="edit-keep-picture", min_width=140)
        gif = gr.Button("Film as GIF", size="sm", elem_id="edit-gif", min_width=95)
        mp4 = gr.Button("Film as MP4", size="sm", elem_id="edit-mp4", min_width=95)
        stop = gr.Button("Stop", size="sm", elem_id="edit-stop", min_width=60)
    frames = gr.Slider(
        8, 120, 48, step=4, label="Frames of the film", elem_id="edit-frames",
        info="From the first picture to the second at even speed, with the rest of the edit in each.",
    )  # fmt: skip
    back = gr.Checkbox(True, label="There and back", elem_id="edit-back")
    said = gr.HTML(elem_id="edit-kept")
    files = gr.File(
        label="Ready to download", file_count="multiple", interactive=False, elem_id="edit-files", height=160
    )
    with gr.Accordion("Repeat it in Python", open=False, elem_id="edit-repeat"):
        lines = gr.Code(
            language="python",
            label="Python",
            interactive=False,
            wrap_lines=True,
            show_line_numbers=False,
            elem_id="edit-lines",
        )

    @in_words
    def save(sheet: Sheet) -> tuple[Any, str, str]:
        made, written = edit_keeping.keep(desk.lab, sheet.history.now)
        return (
            made,
            status_html("The PNG carries its recipe: dropped below, it brings this edit back."),
            written,
        )

    keep.click(save, desk.sheet, [files, said, lines], **HEAVY)
    wishes = []
    for button, kind in ((gif, "GIF"), (mp4, "MP4")):

        @in_words
        def film(sheet: Sheet, wish: Wish, request: gr.Request, kind: str = kind) -> Iterator[Any]:
            if (asked := wish.take()) is None:  # stopped while it waited for others
                yield gr.skip(), gr.skip()
                return
            visitor, (frames, back) = f"{request.session_hash} film", asked
            edit = sheet.history.now
            for what, value in edit_keeping.film(desk.lab, edit, kind, int(frames), back, visitor):
                if what == "done":
                    path, ratio = value
                    yield [path], status_html(f"{kind} made: the largest step is {ratio:.1f} times the mean.")
                else:
                    yield gr.skip(), status_html(value or "Stopped; nothing was kept.")

        wishes.append(gr.State(Wish()))
        asking = button.click(Wish.ask, [wishes[-1], frames, back], None, **_ACT)
        asking.success(film, [desk.sheet, wishes[-1]], [files, said], **_FILMS)
    _wire_stop(desk, stop, "film", wishes, said)


def _wire_stop(desk: Desk, stop: gr.Button, what: str, waiting: list[gr.State], said: gr.HTML) -> None:
    def end(request: gr.Request, *wishes: Wish) -> Any:
        # No `cancels`: the work sees the flag at its next picture, and tells then that it has stopped.
        desk.lab.stops.stop(f"{request.session_hash} {what}")
        dropped = [wish.drop() for wish in wishes]
        return status_html("Stopped before it began.") if any(dropped) else gr.skip()

    stop.click(end, waiting, said, **LIGHT)


def open_part(desk: Desk) -> None:
    """A PNG made here sets the tab, and is drawn again and compared."""
    drop = gr.File(
        label="Open a PNG made here: its edit comes back",
        file_types=[".png"],
        elem_id="edit-drop",
        height=165,
    )
    verdict = gr.HTML(elem_id="edit-verdict")

    @in_words
    def back(sheet: Sheet, path: str) -> list[Any]:
        edit, remade = edit_keeping.open_again(desk.lab, path)
        return [*desk.changed(sheet, edit), verdict_html(remade)]

    drop.upload(back, [desk.sheet, drop], [*desk.all, verdict], **HEAVY)
    drop.clear(lambda: "", None, verdict, **LIGHT)


def own_part(desk: Desk) -> None:
    """A picture of the visitor's, found in the model: from then on it is the first picture."""
    upload = gr.File(label="Any picture: the middle of it is taken", elem_id="edit-upload", height=150)
    prompt = gr.Textbox(
        "",
        label="What it shows",
        placeholder="left empty, it is guessed",
        max_lines=2,
        elem_id="edit-own-prompt",
    )
    seconds = gr.Slider(10, 120, 60, step=10, label="Seconds at most", elem_id="edit-own-seconds")
    with gr.Row():
        find = gr.Button("Find it in the model", elem_id="edit-find", min_width=180)
        stop = gr.Button("Stop", elem_id="edit-find-stop", scale=0, min_width=80)
    said = gr.HTML(elem_id="edit-found")

    wish = gr.State(Wish())

    @in_words
    def run(sheet: Sheet, wish: Wish, request: gr.Request) -> Iterator[list[Any]]:
        still = [gr.skip()] * len(desk.all)
        if (asked := wish.take()) is None:  # stopped while it waited for others
            yield [*still, gr.skip()]
            return
        visitor = f"{request.session_hash} upload"
        for what, value in edit_keeping.find(desk.lab, sheet.history.now, *asked, visitor):
            if what == "done":
                edit, found, target = value
                yield [*desk.changed(sheet, edit), edit_view.found_html(target, found)]
            else:
                yield [*still, status_html(value or "Stopped before anything was found.")]

    asking = find.click(Wish.ask, [wish, upload, prompt, seconds], None, **_ACT)
    asking.success(run, [desk.sheet, wish], [*desk.all, said], **_FINDS)
    _wire_stop(desk, stop, "upload", [wish], said)
