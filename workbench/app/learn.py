"""The Learn tab: the eight terms of GigaGAN, each with what it does to the visitor's own prompt where that is
cheap: words, spotlights, kernel shares, the pyramid, and a switch that turns one piece off.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import gradio as gr

from workbench.app.jobs import MODEL_QUEUE, Studio, in_words
from workbench.models.glossary import TERMS, Term

# Torch and the pipeline come with the model: imported inside the functions, the page is up before that.

PROMPT = "a red shepherd lying in the park at sunset"
SEED = "2"
WHOLE = "nothing"
SWITCHES = {
    WHOLE: "",
    "cross-attention": "Without cross-attention the words reach the picture through the style w alone.",
    "self-attention": "Without self-attention each place knows only its neighbours.",
    "kernel choice": "All kernels of a bank are mixed alike, whatever the prompt.",
}
_SIDE = 96  # pixels of the pictures as sent; the page scales them
_KERNEL_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#999999", "#F0E442", "#332288",
)  # fmt: skip
_NOT_HERE = {
    "matching": "The discriminator and its losses are at work in training only: "
    "the notebook <code>01_theory</code> shows them judging pictures under true and false captions.",
    "contrastive": "It acts in training only: the notebook <code>01_theory</code> shows the table of "
    "similarities that it is made of.",
    "vision-aided": "Its judges are at work in training only: the notebook <code>01_theory</code> asks each "
    "of them what it thinks.",
}


# --- pure functions ---


def look_inside(studio: Studio, prompt: str, seed: str, off: str) -> tuple[str, dict[str, str]]:
    """(HTML of the picture with and without the piece `off`, key of each term -> HTML of what it does).

    Raises WorkbenchError for a prompt, seed or switch that cannot be used, and for a missing model.
    """
    from workbench.errors import WorkbenchError
    from workbench.models import inspect
    from workbench.noise import draw_z, parse_seed
    from workbench.pipeline import clean_prompt

    number = parse_seed(str(seed))
    if off not in SWITCHES:
        raise WorkbenchError(f"There is no piece {off!r} to switch off: choose one of {', '.join(SWITCHES)}.")
    pipeline = studio.pipeline()
    if pipeline.text_encoder is None:
        raise WorkbenchError(
            f"{pipeline.name} was trained without text, and this page follows a prompt through a model: "
            "start the app with a model that reads text."
        )
    cleaned = clean_prompt(prompt, pipeline.text_encoder)
    text, G = pipeline.text(cleaned.text), pipeline.G
    z = draw_z([number], G.config.z_dim).to(pipeline.device)
    with studio.alone():
        w = _mapped(G, z, text)
        seen = inspect.look(G, w, text)
        without = None if off == WHOLE else _without(G, w, text, off)
        steps = _grown(pipeline, cleaned.text, number)
    words = inspect.words_of(cleaned.text, pipeline.text_encoder)
    shown = {
        "clip": _strip(*steps),
        "cross-attention": _spotlights(seen, words),
        "self-attention": _places(seen),
        "kernels": kernels_html(seen.selection),
        "multi-scale": _pyramid(seen),
    }
    shown |= {key: f'<p class="wb-hint">{said}</p>' for key, said in _NOT_HERE.items()}
    return _top(seen.pyramid[0], without, off, cleaned.warnings), shown


def _mapped(G: Any, z: Any, text: Any) -> Any:
    import torch

    with torch.no_grad():
        return G.mapping(z, text.t_global)


def _without(G: Any, w: Any, text: Any, off: str) -> Any:
    """The picture with one piece switched off."""
    from workbench.models import inspect

    switch = inspect.kernels(G, "uniform") if off == "kernel choice" else inspect.strength(G, off, 0.0)
    with switch:
        return inspect.look(G, w, text).pyramid[0]


def _grown(pipeline: Any, prompt: str, seed: int) -> tuple[Any, list[str]]:
    """Pictures of the prompt's first word, first two words, … with their captions; long prompts in leaps."""
    words = prompt.split()
    ends = range(1, len(words) + 1) if len(words) <= 10 else range(len(words) % 10 or 10, len(words) + 1, 10)
    parts = [" ".join(words[:end]) for end in ends]
    readable = [part for part in parts if any(character.isalnum() for character in part)]
    images = pipeline(readable, seed=[seed] * len(readable)).images
    return images, [f"… {part.split()[-1]}" for part in readable]


def _spotlights(seen: Any, words: Sequence[Any]) -> str:
    from workbench.models import inspect

    if not seen.cross or not words:
        return '<p class="wb-hint">This model has no cross-attention, or knows none of these words.</p>'
    maps = inspect.word_maps(seen, words, max(seen.cross))
    large = inspect.enlarged(seen.pyramid[0].clamp(-1, 1), _SIDE)[0]
    lit = inspect.spotlights(large, inspect.against_average(maps))
    captions = [
        f"{word.text} {share:.0%}" for word, share in zip(words, maps.mean((1, 2)).tolist(), strict=True)
    ]
    said = (
        "Bright: listens to the word more than the average place does. The number is its share of attention."
    )
    return _strip(lit, captions) + f'<p class="wb-hint">{said}</p>'


def _places(seen: Any) -> str:
    from workbench.models import inspect

    if not seen.own:
        return '<p class="wb-hint">This model has no self-attention.</p>'
    size = max(seen.own)
    large = inspect.enlarged(seen.pyramid[0].clamp(-1, 1), _SIDE)[0]
    places = {
        "top": (size // 8, size // 3),
        "middle": (size // 2, size // 2),
        "ground": (size - 2, size // 4),
    }
    lit = [inspect.asked_by(large, seen.own[size][0], place, size) for place in places.values()]
    said = "The framed place asks; bright are the places that it listens to."
    return _strip(lit, list(places)) + f'<p class="wb-hint">{said}</p>'


def _pyramid(seen: Any) -> str:
    from workbench.models import inspect

    levels = [inspect.enlarged(level[:1].clamp(-1, 1), _SIDE)[0] for level in reversed(seen.pyramid)]
    return _strip(levels, [f"{level.shape[-1]} px" for level in reversed(seen.pyramid)])


def kernels_html(selection: dict[str, Any]) -> str:
    """A bar and its numbers for each layer with a bank: the shares of its kernels ([1, K] each)."""
    if not selection:
        return '<p class="wb-hint">This model has one kernel in every layer: there is nothing to choose.</p>'
    rows = []
    for name, shares in selection.items():
        cells = "".join(
            f'<i style="width:{100 * share:.1f}%;background:{_KERNEL_COLOURS[k % len(_KERNEL_COLOURS)]}" '
            f'title="kernel {k + 1}: {share:.0%}"></i>'
            for k, share in enumerate(shares[0].tolist())
        )
        words = ", ".join(f"{share:.0%}" for share in shares[0].tolist())
        rows.append(f"<dt>{html.escape(name)}</dt><dd>{cells}</dd><dd>{words}</dd>")
    return f'<dl class="wb-kernels">{"".join(rows)}</dl>'


def _strip(images: Any, captions: Sequence[str]) -> str:
    figures = "".join(picture_html(image, caption) for image, caption in zip(images, captions, strict=True))
    return f'<div class="wb-strip">{figures}</div>'


def picture_html(image: Any, caption: str) -> str:
    """One picture [3, H, W] with its caption, inside the page itself."""
    from PIL import Image

    from workbench.images import to_uint8

    buffer = io.BytesIO()
    Image.fromarray(to_uint8(image[None])[0]).save(buffer, format="JPEG", quality=88)
    data, words = base64.b64encode(buffer.getvalue()).decode("ascii"), html.escape(caption)
    shown = f'<img src="data:image/jpeg;base64,{data}" alt="{words}">'
    return f"<figure>{shown}<figcaption>{words}</figcaption></figure>"


def _top(picture: Any, without: Any, off: str, warnings: Sequence[str]) -> str:
    shown = [picture_html(picture[0].clamp(-1, 1), "as the model makes it")]
    if without is not None:
        shown.append(picture_html(without[0].clamp(-1, 1), f"without {off}"))
    said = "".join(f"<li>{html.escape(line)}</li>" for line in (*filter(None, [SWITCHES[off]]), *warnings))
    return f'<div class="wb-pair">{"".join(shown)}</div>' + (f"<ul>{said}</ul>" if said else "")


def words_html(entry: Term) -> str:
    """Name and sentences of a term."""
    wrong = f"<p><b>Not so:</b> {html.escape(entry.not_so)}</p>" if entry.not_so else ""
    return f"<h3>{html.escape(entry.name)}</h3><p>{html.escape(entry.plain)}</p>{wrong}"


# --- the tab ---


def learn_tab(studio: Studio, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; must be called inside `tab`. The first visit shows the example."""
    with gr.Row(elem_classes="wb-promptbar", equal_height=True):
        prompt = gr.Textbox(PROMPT, label="Prompt", max_lines=3, scale=6, elem_id="learn-prompt")
        seed = gr.Textbox(SEED, label="Seed", max_lines=1, scale=1, min_width=90, elem_id="learn-seed")
        look = gr.Button("Look inside", variant="primary", scale=0, min_width=150, elem_id="look")
    off = gr.Radio(list(SWITCHES), value=WHOLE, label="Switch off", elem_id="off")
    top = gr.HTML(elem_id="learn-top")
    panels = []
    for entry in TERMS:
        with gr.Row(elem_classes="wb-term", elem_id=f"term-{entry.key}"):
            with gr.Column(scale=2, min_width=300):
                gr.HTML(words_html(entry))
                delimiters = [{"left": "$$", "right": "$$", "display": True}]
                gr.Markdown(f"$$ {entry.formula} $$", latex_delimiters=delimiters, elem_classes="wb-formula")
            with gr.Column(scale=3, min_width=300):
                panels.append(gr.HTML(elem_classes="wb-live"))

    @in_words
    def show(prompt: str, seed: str, off: str) -> list[str]:
        head, shown = look_inside(studio, prompt, seed, off)
        return [head, *(shown[entry.key] for entry in TERMS)]

    def first(prompt: str, seed: str, off: str) -> list[Any]:
        """At a visit: the Create tab tells what to do about a missing model."""
        if (trouble := studio.trouble()) is not None:
            return [f'<p class="wb-hint">{html.escape(trouble)}</p>', *[gr.skip()] * len(panels)]
        return show(prompt, seed, off)

    inputs, outputs = [prompt, seed, off], [top, *panels]
    heavy = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": 1, "show_progress": "minimal"}
    for event in (look.click, prompt.submit, seed.submit, off.input):
        event(show, inputs, outputs, api_visibility="private", **heavy)
    tab.select(first, inputs, outputs, api_visibility="private", **heavy)
