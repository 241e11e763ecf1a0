"""The Create tab: a prompt becomes pictures with their recipes, and a picture gives its settings back."""

import html
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app import prompts, repeat
from workbench.app.create_back import HEAVY, LIGHT, drop_zone, wire_drop
from workbench.app.create_large import Large, Turn, download_update, prints
from workbench.app.jobs import (
    MAX_BEST_OF,
    MAX_COUNT,
    Progress,
    Studio,
    check_best_of,
    check_count,
    in_words,
    looks_local,
    missing_model,
)
from workbench.app.long_work import Wish
from workbench.app.magnifier import Magnifier
from workbench.app.sentences import absent_html

Pictures = list[tuple[str, str]]  # file and caption
_ACT = {**LIGHT, "queue": True}  # what may be refused goes through the queue, or the page shows no sentence
_NO_MODEL = "No model to make pictures with"
NOTHING_YET = "Stopped before the first picture."
_NEW_SEEDS = 1_000_000  # what the dice draws from: short enough to be said aloud in a classroom


# --- pure functions ---


def generate(
    studio: Studio,
    prompt: str,
    seed: str | int,
    count: int,
    truncation: float,
    of: int = 1,
    visitor: str = "",
) -> Iterator[tuple[list[tuple[str, str]], str, str, str]]:
    """(pictures with captions, notice HTML, Python line, shell line), again after each few pictures; without
    a picture where the job was stopped before the first.
    """
    from workbench.noise import parse_seed

    first = parse_seed(str(seed))
    lines = [line(studio.model, prompt, first, check_count(count), truncation, check_best_of(of))
             for line in (repeat.python_line, repeat.shell_line)]  # fmt: skip
    for progress in studio.generate(prompt, first, count, truncation, of, visitor=visitor):
        yield captioned(progress), progress_html(progress, studio.facts().device), *lines


def captioned(progress: Progress) -> list[tuple[str, str]]:
    """File and caption of every picture, as the gallery takes them."""
    return [(str(path), f"seed {seed}") for path, seed in zip(progress.files, progress.seeds, strict=True)]


def progress_html(progress: Progress, device: str) -> str:
    """What was made and how long it took."""
    made = len(progress.files)
    if not made:
        return status_html(NOTHING_YET)
    each = 1000 * progress.seconds / made
    where = {"cpu": "this CPU", "cuda": "this GPU"}.get(device, device)
    noun = "picture" if made == 1 else "pictures"
    chosen = f" each the best of {progress.of}," if progress.of > 1 else ""
    head = f"<b>{made} {noun}</b>,{chosen} {each:.0f} ms per picture on {html.escape(where)}."
    if progress.stopped:
        head = f"Stopped: {head[:-1]} of {progress.wanted} wanted."
    elif not progress.done:
        head = f"{made} of {progress.wanted} …"
    return status_html(head)


def status_html(sentence: str) -> str:
    """A sentence, HTML in it, as the status under the gallery."""
    return f'<p class="wb-status" role="status">{sentence}</p>'


def notice(studio: Studio, prompt: str) -> str:
    """The live notice under the prompt; silent about the words while the model is still being loaded."""
    if not studio.ready:
        said = "The words are checked once the model is loaded."
        return f'<div class="wb-reading"><p class="wb-hint">{said}</p></div>'
    return prompts.reading_html(prompts.read(prompt, studio.pipeline().text_encoder))


# --- the tab ---


def create_tab(studio: Studio, glass: Magnifier) -> tuple[gr.DownloadButton, gr.Button]:
    """Lay out the tab and wire it; must be called inside `gr.Tab`.

    Returns what holds the file of the picture shown last, and the button that sends it to the Upscale tab.
    """
    large = Large(glass)
    absent = looks_local(studio.model) and not Path(studio.model).exists()
    gone = absent_html(_NO_MODEL, missing_model(studio.model) if absent else None)
    missing = gr.HTML(gone, elem_id="no-model", visible=bool(gone))
    with gr.Row(elem_classes="wb-promptbar", equal_height=True):
        prompt = gr.Textbox(
            prompts.EXAMPLES[0],
            label="Prompt",
            lines=1,
            max_lines=4,
            autofocus=True,
            scale=8,
            placeholder=f"for example: {prompts.EXAMPLES[0]}",
            elem_id="prompt",
        )
        make = gr.Button("Make pictures", variant="primary", elem_id="make", scale=0, min_width=170)
    reading = gr.HTML(elem_id="reading")
    with gr.Row(elem_classes="wb-examples"):
        examples = [
            gr.Button(text, size="sm", min_width=0, elem_id=f"example-{k}")
            for k, text in enumerate(prompts.EXAMPLES)
        ]
    with gr.Row(elem_classes="wb-work"):
        with gr.Column(scale=3, min_width=320):
            gallery, status, stop, download = _results()
            large.layout()
        with gr.Column(scale=2, min_width=300):
            knobs = _knobs()
            large.switch()
            builder, write, roll = _builder()
            drop, verdict, pair = drop_zone()
            python, shell = _repeat_lines()
    starts = [make.click, prompt.submit, knobs["dice"].click, *(button.click for button in examples)]
    large.clear_at(starts)  # wired first, so that it is done before any job begins
    results = [gallery, status, python, shell, download]
    jobs = _wire_making(studio, large, prompt, knobs, [make, *examples], stop, results)
    large.wire(jobs, stop, gallery)
    _wire_picking(gallery, download, large)
    _wire_help(studio, prompt, reading, builder, write, roll, missing)
    gr.context.Context.root_block.load(large.opened, None, [large.on, large.send], **LIGHT)  # type: ignore[union-attr]
    plain = [knobs[name] for name in ("seed", "truncation", "count", "of")]
    wire_drop(glass, drop, [prompt, *plain, verdict, pair])
    return download, large.send


def _results() -> tuple[gr.Gallery, gr.HTML, gr.Button, gr.DownloadButton]:
    gallery = gr.Gallery(
        show_label=False,
        elem_id="gallery",
        columns=4,
        height="auto",
        object_fit="contain",
        format="png",
        interactive=False,
        buttons=["fullscreen"],
    )
    with gr.Row(elem_classes="wb-under"):
        status = gr.HTML(elem_id="status")
        stop = gr.Button("Stop", elem_id="stop", size="sm", scale=0, min_width=70)
        download = gr.DownloadButton(
            "Download PNG", elem_id="download", size="sm", interactive=False, scale=0, min_width=190
        )
    return gallery, status, stop, download


def _knobs() -> dict[str, Any]:
    with gr.Row(elem_classes="wb-seed", equal_height=True):
        seed = gr.Textbox("1", label="Seed", elem_id="seed", max_lines=1, scale=3, min_width=110)
        dice = gr.Button("New seed", elem_id="dice", scale=1, min_width=150)
    lock = gr.Checkbox(
        True,
        label="Lock the seed",
        elem_id="lock",
        info="Locked, the same seed gives the same picture. Unlocked, each press draws a new one.",
    )
    count = gr.Slider(
        1, MAX_COUNT, 4, step=1, label="Pictures", elem_id="count", info="Their seeds count up from this one."
    )
    truncation = gr.Slider(
        0,
        1.5,  # `workbench.pipeline.MAX_TRUNCATION`, which would bring torch
        1,
        step=0.05,
        label="Variety against typicality",
        elem_id="truncation",
        info="Truncation: 1 is the full variety of the seeds, 0 the one typical picture; above 1 is wild.",
    )
    of = gr.Slider(
        1,
        MAX_BEST_OF,
        1,
        step=1,
        label="Best of",
        elem_id="best-of",
        info="Draws so many for each picture and keeps the one that a CLIP finds nearest to the prompt.",
    )
    return {"seed": seed, "dice": dice, "lock": lock, "count": count, "truncation": truncation, "of": of}


def _builder() -> tuple[list[gr.Dropdown], gr.Button, gr.Button]:
    with gr.Accordion("Build a caption", open=False, elem_id="builder"):
        with gr.Row():
            picks = [
                gr.Dropdown(
                    [prompts.OPEN],
                    value=prompts.OPEN,
                    label=name.capitalize(),
                    min_width=110,
                    elem_id=f"pick-{name}",
                    filterable=False,
                )
                for name in prompts.FACTOR_NAMES
            ]
        with gr.Row():
            write = gr.Button("Write the prompt", size="sm", elem_id="write")
            roll = gr.Button("A random caption", size="sm", elem_id="roll")
    return picks, write, roll


def _repeat_lines() -> tuple[gr.Code, gr.Code]:
    """Not editable, with Gradio's copy button."""
    with gr.Accordion("Repeat it in Python or a shell", open=False, elem_id="repeat"):
        plain = {"interactive": False, "wrap_lines": True, "show_line_numbers": False, "lines": 1}
        python = gr.Code(language="python", label="Python", elem_id="python-line", **plain)
        shell = gr.Code(language="shell", label="Shell", elem_id="shell-line", **plain)
    return python, shell


def _wire_making(
    studio: Studio,
    large: Large,
    prompt: gr.Textbox,
    knobs: dict[str, Any],
    buttons: list[gr.Button],
    stop: gr.Button,
    results: list[Any],
) -> list[Any]:
    """Prompt, button, dice and examples make pictures; stop ends the visitor's job. Returns the jobs."""
    seed = knobs["seed"]
    inputs, wish = [prompt, seed, knobs["count"], knobs["truncation"], knobs["of"]], gr.State(Wish())

    @in_words
    def granted(wish: Wish, turn: Turn, request: gr.Request) -> Iterator[list[Any]]:
        asked = wish.take()
        if asked is None:  # taken back by Stop, or made already for an earlier press
            yield [gr.skip()] * len(results)
            return
        large.give_up(turn, request)
        for step in generate(studio, *asked, visitor=str(request.session_hash)):
            yield _shown(step)
        if not wish.stopped:
            turn.waiting = prints(step[0])

    def first(wish: Wish, turn: Turn, request: gr.Request) -> Iterator[list[Any]]:
        """What the page opens with; a missing model is told by the page itself."""
        if studio.trouble():
            yield [gr.skip()] * len(results)
        else:
            yield from granted(wish, turn, request)

    def end(wish: Wish, request: gr.Request) -> Any:
        # No `cancels`: the job sees the flag after the pictures in hand, and tells then that it has stopped.
        studio.stop(str(request.session_hash))
        return status_html(NOTHING_YET) if wish.drop() else gr.skip()

    make, *examples = buttons
    wished = [
        event(_wished, [knobs["lock"], wish, *inputs], seed, **_ACT) for event in (make.click, prompt.submit)
    ]
    wished.append(knobs["dice"].click(partial(_wished, False), [wish, *inputs], seed, **_ACT))
    for button in examples:
        example = partial(_example, text=button.value)
        wished.append(button.click(example, [wish, *inputs[1:]], prompt, **_ACT))
    # A press while a job runs is done after it: the gallery ends with what was asked for last.
    job = {"inputs": [wish, large.turn], "outputs": results, "api_visibility": "private", **HEAVY}
    jobs = [press.success(granted, trigger_mode="always_last", **job) for press in wished]
    root = gr.context.Context.root_block
    opened = root.load(Wish.ask, [wish, *inputs], None, **LIGHT)  # type: ignore[union-attr]
    jobs.append(opened.success(first, **job))
    _offer(studio, inputs, results)
    stop.click(end, wish, results[1], **LIGHT)
    return jobs


def _offer(studio: Studio, inputs: list[Any], results: list[Any]) -> None:
    """The same for programs, as `generate` of the page's API."""

    @in_words
    def run(
        prompt: str, seed: str, count: float, truncation: float, of: float, request: gr.Request
    ) -> Iterator[list]:
        """Make pictures of a prompt: picture k is that of seed + k, or the best of `of` candidates that begin
        with it. Returns PNG files, recipes inside.
        """
        for step in generate(studio, prompt, seed, count, truncation, of, str(request.session_hash)):
            yield _shown(step)

    gr.on([], run, inputs, results, api_name="generate", **HEAVY)


def _wished(locked: bool, wish: Wish, prompt: str, seed: str, *knobs: float) -> str:
    """The seed of the wish: that on the page, or a new one where it is not locked."""
    seed = seed if locked else new_seed()
    wish.ask(prompt, seed, *knobs)
    return seed


def _example(wish: Wish, seed: str, *knobs: float, text: str = "") -> str:
    wish.ask(text, seed, *knobs)
    return text


def _shown(step: tuple[Pictures, str, str, str]) -> list[Any]:
    """Gallery, status, both lines and the download button; pictures stay until there are new ones."""
    pictures, *said = step
    return [pictures, *said, first_download(pictures)] if pictures else [gr.skip(), *said, gr.skip()]


def _wire_picking(gallery: gr.Gallery, download: gr.DownloadButton, large: Large) -> None:
    """A click on a picture offers it for download, small and large."""

    def pick(shown: Pictures, small: Pictures | None, event: gr.SelectData) -> list[Any]:
        # The paths of both were checked to be the page's own; one in the event could be anything.
        own = (small or shown)[event.index]
        other = shown[event.index]
        return [first_download([own]), gr.skip() if other[0] == own[0] else download_update(*other)]

    for clicked in (gallery, large.small):
        clicked.select(pick, [gallery, large.small], [download, large.download], **LIGHT)


def new_seed() -> str:
    """A seed from the dice."""
    return str(random.randrange(_NEW_SEEDS))


def first_download(pictures: Pictures) -> dict[str, Any]:
    """The download button for the first picture: the file as it was written, recipe inside."""
    path, caption = pictures[0]
    return gr.update(value=path, label=f"Download PNG, {caption}", interactive=True)


def _wire_help(
    studio: Studio,
    prompt: gr.Textbox,
    reading: gr.HTML,
    builder: list[gr.Dropdown],
    write: gr.Button,
    roll: gr.Button,
    missing: gr.HTML,
) -> None:
    """The live notice and the two ways to have a prompt written. None of it waits for the model's queue."""

    def tell(text: str) -> str:
        return notice(studio, text)

    def open_page(text: str) -> list[Any]:
        offered = prompts.choices()
        updates = [gr.update(choices=offered[name]) for name in prompts.FACTOR_NAMES]
        gone = absent_html(_NO_MODEL, studio.trouble())  # waits for the load under way
        return [*updates, "" if gone else notice(studio, text), gr.update(value=gone, visible=bool(gone))]

    prompt.change(tell, prompt, reading, trigger_mode="always_last", **LIGHT)
    write.click(prompts.compose, builder, prompt, **LIGHT)
    roll.click(prompts.random_caption, None, prompt, **LIGHT)
    root = gr.context.Context.root_block
    root.load(open_page, prompt, [*builder, reading, missing], **LIGHT)  # type: ignore[union-attr]
