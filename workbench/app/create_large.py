"""The second size of the Create tab: each picture again, enlarged, as soon as the small ones stand there.

Without an upscaler's folder none of this is seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app.jobs import in_words
from workbench.app.long_work import Tell
from workbench.app.magnifier import Magnifier
from workbench.app.upscale_given import read
from workbench.app.upscale_view import status_html

_LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Beside the model's own queue, so that nobody waits for another's large pictures to see small ones.
_LARGE = {"concurrency_id": "large", "concurrency_limit": 1, "show_progress": "hidden",
          "api_visibility": "private"}  # fmt: skip
Shown = list[tuple[str, str]]  # file and caption


@dataclass(frozen=True, kw_only=True)
class Enlarged:
    """The first pictures of a gallery, enlarged. files: as many PNGs; side: of one; seconds: of all."""

    files: tuple[Path, ...]
    side: int
    seconds: float
    wanted: int


@dataclass
class Turn:
    """Which pictures of one visitor wait to be enlarged: the newest job's alone.

    waiting: `prints` of them. Held in a `gr.State` and changed in place, so that a `follow` late in the queue
    sees what is newest then, not what was when it was sent.
    """

    waiting: tuple[str, ...] = ()


def prints(pictures: Shown) -> tuple[str, ...]:
    """What tells pictures apart: the content of each file, since names come again. OSError for one gone."""
    return tuple(sha256(Path(path).read_bytes()).hexdigest() for path, _ in pictures)


class Large:
    """The components of the second size."""

    def __init__(self, glass: Magnifier) -> None:
        self.glass = glass
        self.turn = gr.State(Turn())

    def layout(self) -> None:
        """What is said of the large pictures, two buttons, and the small ones beneath."""
        with gr.Row(elem_classes="wb-under"):
            self.status = gr.HTML(elem_id="large-status")
            self.download = gr.DownloadButton(
                "Download large PNG",
                elem_id="download-large",
                size="sm",
                visible=False,
                scale=0,
                min_width=190,
            )
            self.send = gr.Button(
                "Send to Upscale", elem_id="send-up", size="sm", visible=False, scale=0, min_width=150
            )
        self.small = gr.Gallery(
            show_label=False,
            elem_id="gallery-small",
            columns=8,
            height="auto",
            object_fit="contain",
            format="png",
            interactive=False,
            allow_preview=False,
            buttons=[],
            visible=False,
        )

    def switch(self) -> gr.Checkbox:
        """On by default, shown where there is an upscaler."""
        self.on = gr.Checkbox(
            True, label="Large pictures, too", elem_id="large-on", visible=not self.glass.absent,
            info="Each picture is enlarged by the upscaler as soon as it is there.",
        )  # fmt: skip
        return self.on

    @property
    def outputs(self) -> list[Any]:
        """What a new job clears."""
        return [self.small, self.status, self.download]

    def give_up(self, turn: Turn, request: gr.Request) -> None:
        """Enlarge nothing more for this visitor, until a job ends again."""
        turn.waiting = ()
        self.glass.stops.stop(f"{request.session_hash} large")

    def clear_at(self, starts: list[Any]) -> None:
        """starts: what asks for a job; the large pictures of the one before end there."""

        def cleared(turn: Turn, request: gr.Request) -> list[Any]:
            self.give_up(turn, request)
            return [gr.update(value=None, visible=False), "", gr.update(visible=False)]

        gr.on(starts, cleared, self.turn, self.outputs, **_LIGHT)

    def opened(self) -> list[Any]:
        """Switch and send button, for the page that opens: seen where there is an upscaler."""
        there = not self.glass.absent
        label = "Large pictures, too"
        if there and self.glass.trouble() is None and self.glass.studio.trouble() is None:
            side = self.glass.studio.facts().resolution * self.glass.upscaler().factor
            label = f"{side} px, too"
        return [gr.update(visible=there, label=label), gr.update(visible=there)]

    def wire(self, jobs: list[Any], stop: gr.Button, gallery: gr.Gallery) -> None:
        """jobs: events that made small pictures in the gallery."""

        @in_words
        def follow(pictures: Shown | None, on: bool, turn: Turn, request: gr.Request) -> Iterator[list[Any]]:
            if not on or not pictures or self.glass.absent or prints(pictures) != turn.waiting:
                yield [gr.skip()] * (1 + len(self.outputs))
                return
            turn.waiting = ()
            visitor, first = f"{request.session_hash} large", True
            for what, value in enlarged(self.glass, [path for path, _ in pictures], visitor):
                if isinstance(value, Enlarged):
                    yield self.shown(pictures, value, first)
                    first = False
                else:
                    said = "Stopped." if what == "stopped" else value
                    yield [gr.skip(), gr.skip(), status_html(said), gr.skip()]

        shown = [gallery, *self.outputs]
        for job in jobs:
            # "multiple": one that still waits must not keep out that of a newer job.
            job.success(follow, [gallery, self.on, self.turn], shown, trigger_mode="multiple", **_LARGE)
        stop.click(self.give_up, self.turn, None, **_LIGHT)

    def shown(self, pictures: Shown, now: Enlarged, first: bool) -> list[Any]:
        """Gallery and `outputs`: large ones as far as there are, the small ones beneath them."""
        large = [(str(path), said) for path, (_, said) in zip(now.files, pictures, strict=False)]
        done = len(large)
        each = f"{1000 * now.seconds / done:.0f} ms per picture"
        head = f"{done} of {now.wanted} at {now.side} px …"
        if done == now.wanted:
            head = f"Above at {now.side} px, {each}; beneath as the model draws them."
        offered = download_update(*large[0]) if first else gr.skip()  # later ones are picked by a click
        return [large + pictures[done:], gr.update(value=pictures, visible=True), status_html(head), offered]


def download_update(path: str, caption: str) -> dict[str, Any]:
    """The second download button, for one large picture: its name ends with its side."""
    size = Path(path).stem.rpartition("-")[2].replace("px", " px")
    return gr.update(value=path, label=f"Download {size}, {caption}", visible=True, interactive=True)


def enlarged(glass: Magnifier, files: list[str], visitor: str = "") -> Iterator[tuple[str, Any]]:
    """Enlarge each picture with the prompt and the seed of its recipe: what `Stops.run` yields, `Enlarged`
    after each.
    """
    return glass.stops.run(lambda tell: _enlarged(glass, files, tell), visitor)


def _enlarged(glass: Magnifier, files: list[str], tell: Tell) -> Enlarged | None:
    import time

    from workbench.images import save_png

    made: list[Path] = []
    seconds, now = 0.0, None
    if not glass.ready:
        tell("Loading the upscaler …")
    upscaler, folder = glass.upscaler(), None
    for file in files:
        given = read(file, glass.studio, upscaler.factor)
        start = time.perf_counter()
        drawn = upscaler(given.images, given.prompt, seed=given.recipe.get("seed", 0), inputs=[given.recipe])
        seconds += time.perf_counter() - start
        side = int(drawn.images.shape[3])
        folder = folder or glass.studio.new_folder()
        made.append(save_png(drawn.images, folder / f"{Path(file).stem}-{side}px.png", drawn.recipes[0]))
        now = Enlarged(files=tuple(made), side=side, seconds=seconds, wanted=len(files))
        tell(now)
    return now
