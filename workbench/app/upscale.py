"""The Upscale tab: a small picture and its prompt become a large one, seen against plain enlargement.

Layout and wiring; `upscale_work.py` does the work.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app import prompts, repeat, upscale_view, upscale_work
from workbench.app.create import new_seed
from workbench.app.create_back import verdict_html
from workbench.app.jobs import MODEL_QUEUE, in_words
from workbench.app.long_work import Wish
from workbench.app.magnifier import NO_AURA, Magnifier, aura_folder, missing_upscaler
from workbench.app.sentences import marked
from workbench.app.upscale_given import read
from workbench.app.upscale_room import (
    Room,
    again_part,
    control_part,
    pair_part,
    repeat_part,
    result_part,
    source_part,
)
from workbench.errors import WorkbenchError

_LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_ACT = {**_LIGHT, "queue": True}  # what may be refused goes through the queue, or the page shows no sentence
_MODEL = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, "show_progress": "minimal",
          "api_visibility": "private"}  # fmt: skip
# Pictures of minutes share the machine with everybody else's prompts instead of keeping them waiting.
_LONG = {"concurrency_id": "upscale", "concurrency_limit": 1, "show_progress": "hidden",
         "api_visibility": "private"}  # fmt: skip
_NOT_BEGUN = "Stopped before it began."


def upscale_tab(glass: Magnifier, tab: gr.Tab, tabs: gr.Tabs, drawn: gr.Component, send: gr.Button) -> None:
    """Lay out the tab and wire it; must be called inside `tab`.

    drawn: the Create tab's component that holds the file of its last picture; send: its button that brings
    that picture here.
    """
    room = Room(glass)
    gone = upscale_view.missing_html(missing_upscaler(glass.model) if glass.absent else None)
    room.missing = gr.HTML(gone, elem_id="up-missing", visible=bool(gone))
    with gr.Row(elem_classes="wb-work wb-up"):
        with gr.Column(scale=3, min_width=320), gr.Tabs(elem_id="up-parts"):
            with gr.Tab("Compare", id="up-before"):
                result_part(room)
            with gr.Tab("Tiles", id="up-tiles-tab"):
                room.tiles = gr.HTML(upscale_view.tiles_html(None, ()), elem_id="up-tiles")
            with gr.Tab("Two prompts", id="up-two"):
                pair = pair_part()
            with gr.Tab("Open a PNG", id="up-again-tab"):
                again = again_part()
        with gr.Column(scale=2, min_width=300, elem_classes="wb-up-controls"):
            sources = source_part(room)
            control_part(room)
            repeat_part(room)
            room.aura_hint = gr.HTML(elem_id="up-aura-hint")
    enlarge = _wire_go(room)
    _wire_sources(room, sources, drawn)
    _wire_send(room, drawn, send, tabs, enlarge)
    _wire_controls(room)
    _wire_pair(room, pair)
    _wire_again(room, again)
    _wire_open(room, tab, drawn, enlarge)


# --- wiring ---


def shown(glass: Magnifier, path: str | None, factor: Any, tile: Any) -> tuple[Any, Any, str, str]:
    """(path, preview, tiles, the picture's prompt) of a picture. Raises what `upscale_given.read` does."""
    least = min(glass.factors())
    given = read(path, glass.studio, least)
    try:
        ask = upscale_work.asked(path, "", factor, 0, "0", tile)
        tiles = upscale_view.tiles_html(given, upscale_work.plans(glass, given.height, given.width, ask))
    except WorkbenchError as error:  # too large for this factor, and not for a smaller one
        tiles = upscale_view.status_html(str(error))
    return path, upscale_view.given_html(given), tiles, given.prompt


def drawn_here(glass: Magnifier, prompt: str, seed: str) -> str:
    """The file of a picture drawn from the prompt, among a job's. Raises WorkbenchError as Create does."""
    from workbench.noise import parse_seed

    (progress,) = glass.studio.generate(prompt, parse_seed(str(seed)), 1, 1.0, visitor="upscale")
    return str(progress.files[0])


def beginning(glass: Magnifier, last: str | None, prompt: str) -> str | None:
    """The file that the tab opens with: what Create made last, else one drawn from the prompt."""
    if last and Path(last).exists():
        return last
    return None if glass.studio.trouble() is not None else drawn_here(glass, prompt, "1")


def _wire_sources(room: Room, sources: dict[str, Any], drawn: gr.Component) -> None:
    glass, cut = room.glass, [room.factor, room.tile]

    @in_words
    def take(path: str | None, factor: Any, tile: Any, prompt: str) -> list[Any]:
        *rest, said = shown(glass, path, factor, tile)
        return [*rest, said or prompt]

    @in_words
    def draw(prompt: str, seed: str, factor: Any, tile: Any) -> list[Any]:
        return list(shown(glass, room.keep(drawn_here(glass, prompt, seed)), factor, tile)[:3])

    whole = [*room.given, room.prompt]
    sources["upload"].upload(take, [sources["upload"], *cut, room.prompt], whole, **_MODEL)
    sources["draw"].click(draw, [room.prompt, room.seed, *cut], room.given, **_MODEL)
    sources["fetch"].click(_sent(glass), [drawn, *cut, room.prompt], whole, **_MODEL)


def _sent(glass: Magnifier) -> Any:
    """What brings the last picture of the Create tab here."""

    @in_words
    def sent(path: str | None, factor: Any, tile: Any, prompt: str) -> list[Any]:
        if not path:
            raise WorkbenchError("There is no picture in Create yet: make one there first.")
        *rest, said = shown(glass, path, factor, tile)
        return [*rest, said or prompt]

    return sent


def _wire_send(room: Room, drawn: gr.Component, send: gr.Button, tabs: gr.Tabs, enlarge: Any) -> None:
    """The Create tab's button turns to this tab and enlarges its picture here."""
    send.click(lambda: gr.update(selected="upscale"), None, tabs, **_LIGHT)
    brought = send.click(
        _sent(room.glass), [drawn, room.factor, room.tile, room.prompt], [*room.given, room.prompt], **_MODEL
    )
    enlarge(brought.success)


def _wire_controls(room: Room) -> None:
    glass = room.glass

    def tell(text: str) -> str:
        return reading(glass, text)

    @in_words
    def cut(path: str | None, factor: Any, tile: Any) -> Any:
        return shown(glass, path, factor, tile)[2] if path else gr.skip()

    room.prompt.change(tell, room.prompt, room.reading, trigger_mode="always_last", **_LIGHT)
    room.dice.click(new_seed, None, room.seed, **_LIGHT)
    for control in (room.factor, room.tile):
        control.input(cut, [room.path, room.factor, room.tile], room.tiles, **_MODEL)
    # The handle in the picture takes a pointer alone; this one takes the keyboard, too.
    move = "(at) => Array(2).fill({'__type__': 'update', 'slider_position': at})"
    room.line.input(None, room.line, [room.slider, room.aura_slider], js=move, **_LIGHT)


def reading(glass: Magnifier, text: str) -> str:
    """What the upscaler reads in a prompt; an empty one may be left so."""
    if not glass.ready:
        return ""
    upscaler = glass.upscaler()
    if not text.strip():
        said = f"Without a prompt the model reads “{upscaler.read('')}”." if upscaler.neutral_prompt else ""
        return f'<div class="wb-reading"><p class="wb-hint">{said}</p></div>'
    return prompts.reading_html(prompts.read(text, getattr(upscaler, "text_encoder", None)))


def results(glass: Magnifier, ask: upscale_work.Ask, made: upscale_work.Made) -> list[Any]:
    """Values of `Room.results`."""
    label = f"Download PNG, {made.size[0]} × {made.size[1]} px"
    other = gr.update(visible=made.aura is not None, value=None if made.aura is None else made.aura[1])
    upscaler = glass.upscaler()
    lines = [
        line(glass.model, glass.studio.model, ask, made.given)
        for line in (repeat.upscale_python, repeat.upscale_shell)
    ]
    return [
        upscale_view.status_html("Done."),
        tuple(map(str, made.pair)),
        upscale_view.made_html(made, upscaler.device.type),
        gr.update(value=str(made.png), label=label, interactive=True),
        other,
        upscale_view.tiles_html(made.given, made.passes) if made.passes else gr.skip(),
        *lines,
        True,
    ]


def _wire_go(room: Room) -> Any:
    """Go and Stop. Returns what lets another event enlarge, too."""
    glass, quiet, wish = room.glass, len(room.results) - 1, gr.State(Wish())

    @in_words
    def run(wish: Wish, request: gr.Request) -> Iterator[list[Any]]:
        if (asked := wish.take()) is None:  # stopped while it waited for others
            yield [gr.skip()] * len(room.results)
            return
        try:
            ask = upscale_work.asked(*asked)
            for what, value in upscale_work.enlarge(glass, ask, f"{request.session_hash} upscale"):
                if what == "done":
                    yield results(glass, ask, value)
                else:
                    told = value or upscale_view.status_html("Stopped; nothing was kept.")
                    yield [told, *[gr.skip()] * quiet]
        except (WorkbenchError, OSError) as error:  # stays, where the notice goes after a while
            yield [upscale_view.status_html(str(error)), *[gr.skip()] * quiet]
            raise

    def end(wish: Wish, request: gr.Request) -> Any:
        # No `cancels`: the work sees the flag at its next tile, and tells then that it has stopped.
        glass.stops.stop(f"{request.session_hash} upscale")
        return upscale_view.status_html(_NOT_BEGUN) if wish.drop() else gr.skip()

    def enlarge(event: Any, ask: Any = Wish.ask, more: Sequence[Any] = ()) -> None:
        """ask: what wishes for it, of the controls and `more`."""
        wished = event(ask, [wish, *room.asked, room.aura, *more], None, **_ACT)
        wished.success(run, wish, room.results, **_LONG)

    enlarge(room.go.click)
    room.stop.click(end, wish, room.status, **_LIGHT)
    return enlarge


def _wire_pair(room: Room, pair: dict[str, Any]) -> None:
    glass, wish = room.glass, gr.State(Wish())

    @in_words
    def run(wish: Wish, request: gr.Request) -> Iterator[Any]:
        if (asked := wish.take()) is None:  # stopped while it waited for others
            yield gr.skip()
            return
        *how, second = asked
        ask = upscale_work.asked(*how)
        for what, value in upscale_work.two_prompts(glass, ask, second, f"{request.session_hash} pair"):
            yield value if what != "stopped" else upscale_view.status_html("Stopped.")

    def end(wish: Wish, request: gr.Request) -> Any:
        glass.stops.stop(f"{request.session_hash} pair")
        return upscale_view.status_html(_NOT_BEGUN) if wish.drop() else gr.skip()

    pressed = pair["draw"].click(Wish.ask, [wish, *room.asked, pair["second"]], None, **_ACT)
    pressed.success(run, wish, pair["shown"], **_LONG)
    pair["stop"].click(end, wish, pair["shown"], **_LIGHT)


def _wire_again(room: Room, again: dict[str, Any]) -> None:
    @in_words
    def back(png: str, path: str | None) -> str:
        return verdict_html(upscale_work.open_again(room.glass, png, path))

    again["drop"].upload(back, [again["drop"], room.path], again["verdict"], **_LONG)
    again["drop"].clear(lambda: "", None, again["verdict"], **_LIGHT)


def _wire_open(room: Room, tab: gr.Tab, drawn: gr.Component, enlarge: Any) -> None:
    """The first visit loads the upscaler, takes a picture to begin with, and enlarges it."""
    glass = room.glass

    @in_words
    def opened(path: str | None, last: str | None, prompt: str) -> list[Any]:
        if (trouble := glass.trouble()) is not None:
            gone = gr.update(value=upscale_view.missing_html(trouble), visible=True)
            return [gone, *[gr.skip()] * 9]
        factors, own = glass.factors(), glass.upscaler().factor
        at_hand = aura_folder() is not None
        picture = [gr.skip()] * 4
        if path is None and (begin := beginning(glass, last, prompt)) is not None:
            *picture, said = shown(glass, room.keep(begin), own, None)
            picture.append(said or prompt)
        return [
            gr.update(visible=False),
            gr.update(choices=factors, value=own) if path is None else gr.update(choices=factors),
            gr.update(maximum=glass.upscaler().noise_max, interactive=glass.upscaler().noise_max > 0),
            gr.update(visible=at_hand),
            "" if at_hand else f'<p class="wb-hint">{marked(NO_AURA)}</p>',
            reading(glass, prompt),
            *picture,
        ]

    def first(wish: Wish, path: str | None, *asked: Any) -> None:
        *how, made = asked
        if not made and path is not None and not glass.absent:
            wish.ask(path, *how)

    outputs = [room.missing, room.factor, room.noise, room.aura, room.aura_hint, room.reading, *room.given,
               room.prompt]  # fmt: skip
    looked = tab.select(opened, [room.path, drawn, room.prompt], outputs, **_MODEL)
    enlarge(looked.success, first, [room.made])
