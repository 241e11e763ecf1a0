"""A picture dropped back on the Create tab: its settings come back, and it is made again and compared."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.app.jobs import MODEL_QUEUE, in_words
from workbench.app.magnifier import Magnifier
from workbench.app.upscale_work import open_again

LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
HEAVY = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}


def made_again(glass: Magnifier, png: str | Path) -> tuple[Any, Path]:
    """The verdict on a PNG of ours (`workbench.pipeline.Remade`), small or enlarged, and the picture made
    again.
    """
    from workbench.images import read_recipe, save_png

    if (read_recipe(png) or {}).get("kind") != "upscaled":
        return glass.studio.remake(png)
    remade = open_again(glass, png, None)
    return remade, save_png(remade.image, glass.studio.new_folder() / "made-again.png")


def verdict_html(remade: Any) -> str:
    """A `workbench.pipeline.Remade` as one word with a sign of its own, the distance, the reasons."""
    sign = {"identical": "＝", "close": "≈", "different": "≠"}[remade.verdict]
    measured = "" if remade.db is None or remade.verdict == "identical" else f" ({remade.db:.1f} dB)"
    why = " ".join(remade.reasons) or "Every pixel is the same."
    return (
        f'<div class="wb-verdict {remade.verdict}" role="status"><span aria-hidden="true">{sign}</span>'
        f"<p><b>{remade.verdict.capitalize()}</b>{measured}. {html.escape(why)}</p></div>"
    )


def drop_zone() -> tuple[gr.File, gr.HTML, gr.Gallery]:
    with gr.Accordion("Drop a picture back", open=False, elem_id="drop-back"):
        drop = gr.File(label="A PNG made here", file_types=[".png"], elem_id="drop", height=130)
        verdict = gr.HTML(elem_id="verdict")
        pair = gr.Gallery(
            show_label=False,
            columns=2,
            height="auto",
            format="png",
            interactive=False,
            visible=False,
            elem_id="pair",
            object_fit="contain",
            buttons=[],
        )
    return drop, verdict, pair


def wire_drop(glass: Magnifier, drop: gr.File, outputs: list[Any]) -> None:
    """A dropped PNG sets the page and is made again."""

    @in_words
    def back(path: str) -> tuple[Any, ...]:
        remade, made = made_again(glass, path)
        recipe = remade.recipe
        while isinstance(recipe.get("input"), dict):  # the picture that was enlarged
            recipe = recipe["input"]
        seed, truncation = str(recipe["seed"]), recipe.get("truncation", 1.0)
        pair = gr.update(value=[(path, "dropped"), (str(made), f"made again, seed {seed}")], visible=True)
        return recipe["prompt"], seed, truncation, 1, 1, verdict_html(remade), pair

    drop.upload(back, drop, outputs, api_visibility="private", **HEAVY)
    drop.clear(lambda: ("", gr.update(value=None, visible=False)), None, outputs[-2:], **LIGHT)
