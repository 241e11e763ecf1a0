"""The parts of the Edit tab that bring pictures in and take them out: uploads found in the model, files to
keep, films of the path, and an edited PNG opened again.
"""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.app import edit_keeping, edit_view
from workbench.app.create_back import verdict_html
from workbench.app.edit_desk import HEAVY, LIGHT, Desk, begun
from workbench.app.jobs import in_words

# Films share the model picture by picture, so that they need not keep everybody else waiting.
_FILMS = {"concurrency_id": "films", "concurrency_limit": 1, "show_progress": "hidden",
          "api_visibility": "private"}  # fmt: skip


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
    def save(history: Any) -> tuple[Any, str, str]:
        made, written = edit_keeping.keep(desk.lab, begun(history).now)
        return (
            made,
            status_html("The PNG carries its recipe: dropped below, it brings this edit back."),
            written,
        )

    keep.click(save, desk.history, [files, said, lines], **HEAVY)
    jobs = []
    for button, kind in ((gif, "GIF"), (mp4, "MP4")):

        @in_words
        def film(
            history: Any, frames: float, back: bool, request: gr.Request, kind: str = kind
        ) -> Iterator[Any]:
            visitor = f"{request.session_hash} film"
            for what, value in edit_keeping.film(
                desk.lab, begun(history).now, kind, int(frames), back, visitor
            ):
                if what == "done":
                    path, ratio = value
                    yield [path], status_html(f"{kind} made: the largest step is {ratio:.1f} times the mean.")
                else:
                    yield gr.skip(), status_html(value or "Stopped; nothing was kept.")

        jobs.append(button.click(film, [desk.history, frames, back], [files, said], **_FILMS))
    _wire_stop(desk, stop, "film")


def _wire_stop(desk: Desk, stop: gr.Button, what: str) -> None:
    def end(request: gr.Request) -> None:
        # No `cancels`: the work sees the flag at its next picture, and tells then that it has stopped.
        desk.lab.stops.stop(f"{request.session_hash} {what}")

    stop.click(end, None, None, **LIGHT)


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
    def back(history: Any, path: str) -> list[Any]:
        edit, remade = edit_keeping.open_again(desk.lab, path)
        return [*desk.show(begun(history).changed(edit)), verdict_html(remade)]

    drop.upload(back, [desk.history, drop], [*desk.all, verdict], **HEAVY)
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

    @in_words
    def run(
        history: Any, path: str | None, prompt: str, seconds: float, request: gr.Request
    ) -> Iterator[list[Any]]:
        shown = len(desk.all)
        for what, value in edit_keeping.find(
            desk.lab, begun(history).now, path, prompt, seconds, str(request.session_hash)
        ):
            if what == "done":
                edit, found, target = value
                yield [*desk.show(begun(history).changed(edit)), edit_view.found_html(target, found)]
            else:
                yield [*[gr.skip()] * shown, status_html(value or "Stopped before anything was found.")]

    inputs = [desk.history, upload, prompt, seconds]
    find.click(run, inputs, [*desk.all, said], **{**HEAVY, "show_progress": "hidden"})
    _wire_stop(desk, stop, "upload")
