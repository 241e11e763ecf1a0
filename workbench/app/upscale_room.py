"""The components of the Upscale tab and where they stand."""

from typing import Any

import gradio as gr

from workbench.app import prompts, upscale_view, upscale_work
from workbench.app.magnifier import Magnifier

_TILES = (upscale_work.AUTOMATIC, "256", "128", "64", "32", "16")


class Room:
    """The components of the tab, by name."""

    def __init__(self, glass: Magnifier) -> None:
        self.glass = glass
        self.path = gr.State(None)  # of the picture to enlarge
        self.made = gr.State(False)  # whether this visitor has enlarged anything

    def keep(self, path: str) -> str:
        """A picture that was drawn here, where uploads lie: a job's folder is cleared away with later jobs,
        and Gradio copies only what a component shows.
        """
        return str(self.preview.move_resource_to_block_cache(path))

    @property
    def asked(self) -> list[Any]:
        """What `upscale_work.asked` takes."""
        return [self.path, self.prompt, self.factor, self.noise, self.seed, self.tile]

    @property
    def given(self) -> list[Any]:
        """What changes with another picture."""
        return [self.path, self.preview, self.tiles]

    @property
    def results(self) -> list[Any]:
        """What changes when a picture was enlarged."""
        return [self.status, self.slider, self.numbers, self.download, self.aura_slider, self.tiles,
                self.python, self.shell, self.made]  # fmt: skip


def result_part(room: Room) -> None:
    room.slider = gr.ImageSlider(
        label="Bicubic on the left, the upscaler on the right",
        type="filepath",
        format="png",
        interactive=False,
        buttons=["fullscreen"],
        max_height=620,
        elem_id="up-slider",
    )
    room.line = gr.Slider(0, 100, 50, step=1, label="Where the line stands, in %", elem_id="up-line")
    with gr.Row(elem_classes="wb-under"):
        room.numbers = gr.HTML(elem_id="up-numbers")
        room.download = gr.DownloadButton(
            "Download PNG", elem_id="up-download", size="sm", interactive=False, scale=0, min_width=220
        )
    room.aura_slider = gr.ImageSlider(
        label="AuraSR on the left, ours on the right",
        type="filepath",
        format="png",
        interactive=False,
        visible=False,
        buttons=["fullscreen"],
        max_height=620,
        elem_id="up-aura-slider",
    )


def pair_part() -> dict[str, Any]:
    gr.HTML(
        '<p class="wb-hint">The small picture leaves much open, and the words decide it: the same picture '
        "and the same seed, enlarged with your prompt and with another.</p>"
    )
    second = gr.Textbox(
        "a white shepherd sitting in the snow at night",
        label="The other prompt",
        lines=1,
        max_lines=3,
        elem_id="up-second",
    )
    with gr.Row():
        draw = gr.Button("Enlarge with both", elem_id="up-both", min_width=180)
        stop = gr.Button("Stop", elem_id="up-both-stop", scale=0, min_width=80)
    return {"second": second, "draw": draw, "stop": stop, "shown": gr.HTML(elem_id="up-pair")}


def again_part() -> dict[str, Any]:
    gr.HTML(
        '<p class="wb-hint">A PNG from this tab says how it was made. Dropped here it is made again and '
        "compared; one that was made of a picture of your own needs that picture, too.</p>"
    )
    drop = gr.File(label="An enlarged PNG", file_types=[".png"], elem_id="up-drop", height=150)
    return {"drop": drop, "verdict": gr.HTML(elem_id="up-verdict")}


def source_part(room: Room) -> dict[str, Any]:
    room.preview = gr.HTML(upscale_view.given_html(None), elem_id="up-given")
    upload = gr.File(label="Your picture", elem_id="up-upload", height=120)
    with gr.Row(elem_classes="wb-keep"):
        draw = gr.Button("Draw one from the prompt", size="sm", elem_id="up-draw", min_width=150)
        fetch = gr.Button("Take the last from Create", size="sm", elem_id="up-fetch", min_width=150)
    return {"upload": upload, "draw": draw, "fetch": fetch}


def control_part(room: Room) -> None:
    room.prompt = gr.Textbox(
        prompts.EXAMPLES[0],
        label="Prompt: what the picture shows",
        lines=1,
        max_lines=4,
        elem_id="up-prompt",
    )
    room.reading = gr.HTML(elem_id="up-reading")
    with gr.Row(elem_classes="wb-seed", equal_height=True):
        room.seed = gr.Textbox("1", label="Seed", elem_id="up-seed", max_lines=1, scale=3, min_width=110)
        room.dice = gr.Button("New seed", elem_id="up-dice", scale=1, min_width=130)
    with gr.Row(equal_height=True):
        room.factor = gr.Radio(
            [4], value=4, label="Times larger", elem_id="up-factor", min_width=130,
            info="Between the model's own powers: drawn larger, then brought down by exact means.",
        )  # fmt: skip
        room.tile = gr.Dropdown(
            list(_TILES), value=_TILES[0], label="Side of a tile, px", elem_id="up-tile", min_width=130,
            filterable=False,
        )  # fmt: skip
    room.noise = gr.Slider(
        0, 0.25, 0, step=0.01, label="Noise on the input", elem_id="up-noise",
        info="0 trusts every pixel. The more noise, the more the model draws anew.",
    )  # fmt: skip
    room.aura = gr.Checkbox(False, label="AuraSR beside it", elem_id="up-aura", visible=False)
    with gr.Row(elem_classes="wb-keep"):
        room.go = gr.Button("Enlarge", variant="primary", elem_id="up-go", min_width=150, scale=3)
        room.stop = gr.Button("Stop", elem_id="up-stop", min_width=80, scale=1)
    room.status = gr.HTML(elem_id="up-status")


def repeat_part(room: Room) -> None:
    with gr.Accordion("Repeat it in Python or a shell", open=False, elem_id="up-repeat"):
        plain = {"interactive": False, "wrap_lines": True, "show_line_numbers": False, "lines": 1}
        room.python = gr.Code(language="python", label="Python", elem_id="up-python", **plain)
        room.shell = gr.Code(language="shell", label="Shell", elem_id="up-shell", **plain)
