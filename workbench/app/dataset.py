"""The Dataset tab: turn the world, draw a set, bring one's own pictures, look a set through and check it."""

import html
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app import sets, turning
from workbench.app.jobs import in_words
from workbench.app.long_work import Wish
from workbench.app.sets import Job, Jobs, Sets, progress_html
from workbench.app.uploads import gathered
from workbench.errors import WorkbenchError

_LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_WORK = {
    "concurrency_id": "data",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "api_visibility": "private",
}
_MOST = 2_000  # pictures that the page draws at once; the command line draws any number
_FLUX = (
    "workbench dataset flux --out runs/datasets/flux --count 5000 --resolution 256",
    "A GPU with 24 GB draws 5,000 pictures with Flux.1 Schnell in some hours. The first time it says which "
    "weights are wanted, and how large they are.",
)
_OWN_TIP = (
    "Captions come from a <code>metadata.jsonl</code>, from <code>.txt</code> files beside the pictures, "
    "from file names or from folder names, whichever is there first. What cannot be taken is named, with the "
    "reason. The originals are only read."
)
_STOPPED = sets.status_html(
    "Stopped: nothing is running. Whole pictures are kept, and the same button goes on."
)
# What the data set functions call an option, and what it is called here.
_ON_THIS_PAGE = {
    "a smaller --resolution, a larger original, or --upscale":
        "fewer Pixels, larger originals, or tick “Enlarge pictures that are too small”",
    ", or try --captions blip": "",
    " (--frames takes more)": "",
}  # fmt: skip


def dataset_tab(root: Path, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; must be called inside `tab`. New sets go under root/datasets."""
    shelf, jobs = Sets(root), Jobs()
    with gr.Tabs(elem_id="dataset-parts"):
        with gr.Tab("Turn the world", id="turn") as turn:
            _turn_part(turn, tab)
        with gr.Tab("Draw a set", id="draw"):
            _draw_part(shelf, jobs)
        with gr.Tab("Your pictures", id="own"):
            _own_part(shelf, jobs)
        with gr.Tab("Look and check", id="look") as look:
            _look_part(shelf, jobs, look)


# --- turn the world ---


def _turn_part(part: gr.Tab, tab: gr.Tab) -> None:
    with gr.Row(elem_classes="wb-work"):
        with gr.Column(scale=2, min_width=300):
            picture = gr.Image(
                show_label=False, elem_id="turned", interactive=False, format="png", buttons=["fullscreen"]
            )
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                named = [
                    gr.Dropdown([turning.START[name]], value=turning.START[name], label=name.capitalize(),
                                min_width=120, filterable=False, elem_id=f"turn-{name}")
                    for name in turning.NAMED
                ]  # fmt: skip
            sliders = [
                gr.Slider(low, high, turning.START[name], step=step, label=label, elem_id=f"turn-{name}")
                for name, label, low, high, step in turning.NUMBERS
            ]
            with gr.Row(elem_classes="wb-seed", equal_height=True):
                index = gr.Number(0, label="Picture of seed 0", precision=0, minimum=0, elem_id="turn-index")
                another = gr.Button("The next dog", elem_id="turn-next", scale=1, min_width=150)
    words = gr.HTML(elem_id="turn-words")
    values = [*named, *sliders]
    show = in_words(turning.draw)

    def first(*values: Any) -> list[Any]:
        offered = turning.choices()
        return [gr.update(choices=list(offered[name])) for name in turning.NAMED] + list(show(*values))

    @in_words
    def following(at: float | None) -> list[Any]:
        number = 0 if at is None else int(at) + 1
        found = turning.drawn(0, number)
        return [number, *found, *turning.draw(*found)]

    for control in values:
        control.input(show, values, [picture, words], trigger_mode="always_last", **_LIGHT)
    another.click(following, index, [index, *values, picture, words], **_LIGHT)
    for event in (tab.select, part.select):
        event(first, values, [*named, picture, words], **_LIGHT)


# --- draw a set ---


def _draw_part(shelf: Sets, jobs: Jobs) -> None:
    with gr.Row(equal_height=True):
        name = gr.Textbox("my-world", label="Name", elem_id="draw-name", max_lines=1)
        count = gr.Slider(16, _MOST, 100, step=1, label="Pictures", elem_id="draw-count")
        resolution = gr.Dropdown([32, 64, 128, 256], value=64, label="Pixels", elem_id="draw-resolution")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="draw-seed")
    go, stop, outputs = _making("Draw", "draw")
    with gr.Accordion("At real size, or with Flux", open=False):
        lines = ("workbench dataset world --out runs/datasets/world --count 20000 --resolution 64", _FLUX[0])
        for line in lines:
            gr.Code(line, language="shell", interactive=False, show_line_numbers=False, lines=1)
        gr.HTML(f'<p class="wb-hint">{_FLUX[1]}</p>')

    def work(folder: Path, count: int, seed: int, resolution: int, job: Job) -> Path:
        from workbench.datasets.world.folder import write_world

        return write_world(
            folder, count=count, seed=seed, resolution=resolution, workers=1, batch=4, progress=job.tell
        )

    @in_words
    def draw(visitor: str, name: str, count: float, resolution: int, seed: float) -> Iterator[tuple]:
        folder, seed = shelf.place(name), 0 if seed is None else seed
        task = partial(work, folder, int(count), int(seed), int(resolution))
        yield from _followed(jobs, task, folder, "Drawing", visitor)

    _wire(go, stop, draw, [name, count, resolution, seed], outputs, jobs)


def _making(verb: str, name: str) -> tuple[gr.Button, gr.Button, list[Any]]:
    """The row of buttons that makes a set or cancels that, and under it status, sheet and summary."""
    with gr.Row():
        go = gr.Button(verb, variant="primary", elem_id=f"{name}-go", scale=0, min_width=160)
        stop = gr.Button("Cancel", elem_id=f"{name}-stop", scale=0, min_width=100)
    return go, stop, [gr.HTML(elem_id=f"{name}-status"), _sheet(f"{name}-sheet"),
                      gr.HTML(elem_id=f"{name}-summary")]  # fmt: skip


def _followed(jobs: Jobs, task: Any, folder: Path, doing: str, visitor: str) -> Iterator[tuple]:
    """(status, sheet, summary) while a set is made, and when it is there."""
    began = time.perf_counter()
    yield progress_html(Job(), began, doing), gr.skip(), gr.skip()
    job = Job()
    for job in jobs.run(task, visitor):
        if not job.ending:  # Cancel has had its say
            yield progress_html(job, began, doing), gr.skip(), gr.skip()
    if job.result is None:
        yield _STOPPED, gr.skip(), gr.skip()
        return
    text = _as_here(job.result.text()) if hasattr(job.result, "text") else f"The set is in {folder}."
    done = f'<p class="wb-status" role="status"><b>Done in {time.perf_counter() - began:.1f} s.</b></p>'
    yield (
        f'{done}<pre class="wb-said">{html.escape(text)}</pre>',
        sets.pictures(folder),
        sets.summary_html(folder),
    )


def _wire(
    go: gr.Button, stop: gr.Button, work: Callable, inputs: list[Any], outputs: list[Any], jobs: Jobs
) -> None:
    """Let one button begin work that another one ends; outputs: the status first.

    work(visitor, *inputs) yields outputs. The visitor's name there is of this button alone: Cancel of one
    part leaves another part's job running. The work says itself that it has stopped, so that its event is
    over by then, and the button waits for it: a page that is told to leave its event forgets clicks that
    come before it has done so.
    """
    wish = gr.State(Wish())

    def mine(request: gr.Request) -> str:
        return f"{request.session_hash} {go.elem_id}"

    def ask(wish: Wish, *values: Any) -> Any:
        wish.ask(*values)
        return gr.Button(interactive=False)

    def run(wish: Wish, request: gr.Request) -> Iterator[Any]:
        if (asked := wish.take()) is None:  # cancelled while it waited for others
            yield [gr.skip()] * len(outputs)
            return
        yield from work(mine(request), *asked)

    def end(wish: Wish, request: gr.Request) -> list[Any]:
        if wish.drop():  # pressed again, it has its old place among those who wait
            return [sets.status_html("Stopped before it began."), gr.Button(interactive=True)]
        running = jobs.stop(mine(request))
        return [sets.status_html("Stopping …") if running else _STOPPED, gr.skip()]

    begun = go.click(ask, [wish, *inputs], go, **_LIGHT)
    ended = begun.then(run, wish, outputs, **_WORK)
    for event in (ended.success, ended.failure):  # what `then` names "all" leaves failures out
        event(lambda: gr.Button(interactive=True), None, go, **_LIGHT)
    stop.click(end, wish, [outputs[0], go], **_LIGHT)


def _sheet(name: str) -> gr.Gallery:
    """A contact sheet to click through; the style sheet hides an empty one."""
    return gr.Gallery(
        show_label=False, elem_id=name, elem_classes="wb-sheet", columns=10, height="auto",
        object_fit="contain", format="png", interactive=False, buttons=["fullscreen"],
    )  # fmt: skip


# --- your pictures ---


def _own_part(shelf: Sets, jobs: Jobs) -> None:
    gr.HTML(f'<p class="wb-hint">{_OWN_TIP}</p>')
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            files = gr.File(
                label="Pictures, or a ZIP of a folder", file_count="multiple", elem_id="own-files", height=170
            )
        with gr.Column(scale=3, min_width=320):
            with gr.Row(equal_height=True):
                name = gr.Textbox("my-pictures", label="Name", elem_id="own-name", max_lines=1)
                resolution = gr.Dropdown(
                    [32, 64, 128, 256, 512], value=64, label="Pixels", elem_id="own-resolution"
                )
            with gr.Row(equal_height=True):
                fit = gr.Dropdown([("cut the centre square out", "crop"), ("pad to a square", "pad")],
                                  value="crop", label="Fit", elem_id="own-fit")  # fmt: skip
                captions = gr.Dropdown(["auto", "metadata", "txt", "filename", "folders"], value="auto",
                                       label="Captions from", elem_id="own-captions")  # fmt: skip
            upscale = gr.Checkbox(False, label="Enlarge pictures that are too small", elem_id="own-upscale",
                                  info="Left out and named otherwise.")  # fmt: skip
    go, stop, outputs = _making("Make a data set", "own")

    @in_words
    def take(visitor: str, files: Any, name: str, resolution: int, fit: str, captions: str,
             upscale: bool) -> Iterator[tuple]:  # fmt: skip
        folder = shelf.place(name)
        task = partial(_take, list(files or ()), folder, int(resolution), fit, captions, bool(upscale))
        yield from _followed(jobs, task, folder, "Reading pictures", visitor)

    inputs = [files, name, resolution, fit, captions, upscale]
    _wire(go, stop, take, inputs, outputs, jobs)


def _take(
    files: list[str], folder: Path, resolution: int, fit: str, captions: str, upscale: bool, job: Job
) -> Any:
    """Uploaded files, as they lie in the upload folder, to a data set; None when it was stopped.

    Where no picture was taken, the name stays free. Raises WorkbenchError then, unless it was stopped, and
    for a name that a finished set of others has.
    """
    from workbench.datasets.own.importing import import_folder
    from workbench.datasets.own.taking import TakeConfig

    with tempfile.TemporaryDirectory(prefix="workbench-own-") as room:
        source = gathered(files, Path(room) / folder.name)
        _refuse_taken(folder, source)
        config, new = TakeConfig(resolution=resolution, fit=fit, upscale=upscale), not folder.exists()
        done = import_folder(
            source, folder, config=config, captions=captions, progress=_counting(job), stop=lambda: job.ending
        )
    if done.pictures or done.stopped:
        if new and not done.pictures:
            shutil.rmtree(folder)
        return None if done.stopped else done
    if new:
        shutil.rmtree(folder)  # a set of nothing would keep the name from the next try
    raise WorkbenchError(_as_here(_none_taken(done.skipped)))


def _none_taken(skipped: Sequence[Any]) -> str:
    if not skipped:
        return "What was given holds no files: drop pictures, or a ZIP of a folder with pictures in it."
    first = skipped[0]
    return f"No picture could be taken, {first.source} for one: {first.reason}. What to do: {first.do}."


def _as_here(text: str) -> str:
    """A text with the controls of this page in the place of the options of the command line."""
    for option, control in _ON_THIS_PAGE.items():
        text = text.replace(option, control)
    return text


def _refuse_taken(folder: Path, source: Path) -> None:
    """Raises WorkbenchError where `folder` holds a finished set, with a picture in it, and `source` lacks a
    file of that.

    Every upload lies in a folder called like the set: to the import, other files are a source that changed,
    whose old pictures go.
    """
    from workbench.datasets.own.taking import read_journal
    from workbench.datasets.tree import walk

    metadata = folder / "metadata.jsonl"
    if not metadata.is_file() or not metadata.stat().st_size:
        return
    here = {entry.name: (entry.size, entry.changed) for entry in walk(source)}
    journal = read_journal(folder)
    if not journal or any(here.get(name) != (held.size, held.changed) for name, held in journal.items()):
        raise WorkbenchError(
            f"There is a finished set called {folder.name} already, and not of these files. Nothing was "
            "changed: choose another name."
        )


def _counting(job: Job):
    """Progress without the exception by which other jobs are ended: the import looks at `ending` itself."""

    def tell(done: int, total: int) -> None:
        job.done, job.total = done, total

    return tell


# --- look and check ---


def _look_part(shelf: Sets, jobs: Jobs, part: gr.Tab) -> None:
    with gr.Row(elem_classes="wb-runbar", equal_height=True):
        where = "Folders with a metadata.jsonl under runs/, where the app was started."
        name = gr.Dropdown([], label="Data set", elem_id="set", scale=4, info=where)
        refresh = gr.Button("Refresh", elem_id="set-refresh", scale=0, min_width=110)
        check = gr.Button("Check it", variant="primary", elem_id="set-check", scale=0, min_width=130)
        stop = gr.Button("Cancel", elem_id="set-stop", scale=0, min_width=100)
    summary, sheet = gr.HTML(elem_id="set-summary"), _sheet("set-sheet")
    status, report = gr.HTML(elem_id="set-status"), gr.HTML(elem_id="set-report")

    # What these two cannot do, they tell in their answer: they do not queue, and of such an event the page
    # shows no error. And the list is there whatever is wrong with the set that is shown first.
    def show(name: str | None) -> tuple[str, Any, str, str]:
        if not name:
            said = "No data set here yet. Draw one, or bring your pictures."
            return f'<div class="wb-empty"><h3>{said}</h3></div>', [], "", ""
        return *sets.seen(shelf, name), ""

    def look_again(name: str | None) -> tuple[Any, ...]:
        found = list(shelf.list())
        name = name if name in found else (found[0] if found else None)
        return gr.update(choices=found, value=name), *show(name)

    @in_words
    def check_it(visitor: str, name: str | None) -> Iterator[tuple[str, str]]:
        if not name:
            raise WorkbenchError("There is no data set to check: draw one, or bring your pictures.")
        folder, began = shelf.get(name), time.perf_counter()
        job = Job()
        for job in jobs.run(lambda job: sets.report_html(folder, _tokenizer(), job), visitor):
            if not job.ending:
                yield progress_html(job, began, "Looking at every picture"), gr.skip()
        yield (_STOPPED, gr.skip()) if job.result is None else ("", job.result)

    outputs = [summary, sheet, status, report]
    name.input(show, name, outputs, **_LIGHT)
    refresh.click(look_again, name, [name, *outputs], **_LIGHT)
    part.select(look_again, name, [name, *outputs], **_LIGHT)
    _wire(check, stop, check_it, [name], [status, report], jobs)


def _tokenizer() -> Any:
    """The shipped text encoder's, None where it is not there: then the words are not looked at."""
    from workbench.models.clip_io import read_json
    from workbench.models.tokens import tokenizer_from_json

    vocabulary = Path(__file__).resolve().parents[2] / "assets" / "models" / "mini-clip" / "vocabulary.json"
    return tokenizer_from_json(read_json(vocabulary)) if vocabulary.is_file() else None
