"""HTML of the Edit tab: the edited picture, the two ends of its path, the table to click, the directions."""

import base64
import html
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PATHS = {"z": "the seed", "w": "the style w", "prompt": "the prompt", "both": "prompt and seed"}
GROUPS = {
    "coat": "Coat",
    "pose": "Pose",
    "scene": "Scene",
    "light": "Light",
    "turn": "Where the dog looks and stands",
    "ganspace": "Found without labels: GANSpace",
    "sefa": "Found without labels: SeFa",
    "text": "From words",
    "supervised": "From the world's factors",
}
ASSETS = Path(__file__).parent / "assets"


def data_uri(image: Any) -> str:
    """A picture [3, S, S] in [-1, 1] as PNG inside an address: lossless, and small at 64 px."""
    from PIL import Image

    from workbench.images import to_uint8

    buffer = io.BytesIO()
    Image.fromarray(to_uint8(image[None])[0]).save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def stage_html(after: str, before: str, said: str, began: str) -> str:
    """The edited picture, the one it began with for the comparison, and what was done in a sentence."""
    words, first = html.escape(said), html.escape(began)
    return (
        '<div class="wb-stage">'
        f'<figure class="wb-before"><img src="{before}" alt="Before: {first}"><figcaption>before</figcaption>'
        "</figure>"
        f'<figure class="wb-after"><img src="{after}" alt="{words}"><figcaption>after</figcaption></figure>'
        f'</div><p class="wb-status" role="status">{words}</p>'
    )


def end_html(picture: str, name: str, prompt: str, seed: str) -> str:
    """One end of the path."""
    words = html.escape(f"{name}: {prompt}, {seed}")
    return (
        f'<figure class="wb-end"><img src="{picture}" alt="{words}" title="{words}">'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
    )


def told(edit: Any) -> str:
    """What an edit does, in a sentence: also the alt text of its picture."""
    begin = "a picture of your own" if edit.start else f"{edit.first.prompt}, seed {edit.first.seed}"
    parts = []
    if edit.t and edit.still:
        parts.append(
            f"the path changes {PATHS[edit.kind]} and both pictures agree in that, so it stands still"
        )
    elif edit.t:
        way = "in a straight line" if edit.start else f"through {PATHS[edit.kind]}"
        parts.append(f"{edit.t:.0%} of the way to the second picture, {way}")
    parts += [f"{mixed.which} layers of seed {mixed.key.seed}" for mixed in edit.mixing]
    parts += [f"{name} {strength:+.2f}" for name, strength in edit.directions if strength]
    if edit.truncation != 1:
        parts.append(f"truncation {edit.truncation:g}")
    if edit.negative.strip():
        parts.append(f"away from “{edit.negative.strip()}”")
    return f"{begin}: {'; '.join(parts)}." if parts else f"{begin}: nothing changed yet."


def notice_html(sentence: str) -> str:
    """What went wrong, over the page for some seconds; the same mistake twice is shown twice."""
    return f'<p class="wb-notice" role="alert" data-when="{time.monotonic_ns()}">{html.escape(sentence)}</p>'


def empty_html(sentence: str) -> str:
    """In place of the picture."""
    return f'<p class="wb-hint" role="status">{html.escape(sentence)}</p>'


def found_html(target: Any, found: Any) -> str:
    """The given picture beside the one that was found (`latents.inversion.Inverted`), with how near it is."""
    shown = "".join(
        f'<figure><img src="{data_uri(image)}" alt="{words}"><figcaption>{words}</figcaption></figure>'
        for image, words in ((target[0], "yours"), (found.image[0], "as the model draws it"))
    )
    said = f"{found.verdict} Read as “{found.prompt}”. {found.steps} steps in {found.seconds:.0f} s; "
    said += f"{found.distance_name} {found.distance:.2f}."
    return f'<div class="wb-pair">{shown}</div><p class="wb-status" role="status">{html.escape(said)}</p>'


# --- the table of styles ---


def table_html(columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]], spec: Any) -> str:
    """Sources down the side, styles along the top, and in each cell a button with their mixture.

    columns, rows, cells: addresses of pictures; spec: `edit_work.Table`.
    """
    head = "".join(
        f'<th scope="col"><img src="{picture}" alt="style: {html.escape(key.prompt)}, seed {key.seed}">'
        f"<span>{key.seed}</span></th>"
        for picture, key in zip(columns, spec.styles, strict=True)
    )
    body = "".join(_row(k, rows[k], cells[k], spec) for k in range(len(rows)))
    return (
        '<div class="wb-scroll"><table class="wb-styles"><caption>Down: whose picture it is. Across: '
        f"whose {spec.which} layers it takes. Click a mixture to go on with it.</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(k: int, source: str, cells: Sequence[str], spec: Any) -> str:
    key = spec.sources[k]
    shown = "".join(
        f'<td><button type="button" data-row="{k}" data-column="{j}" aria-label="Take seed {key.seed} with '
        f'the {spec.which} layers of seed {spec.styles[j].seed}"><img src="{cell}" alt=""></button></td>'
        for j, cell in enumerate(cells)
    )
    alt = f"source: {html.escape(key.prompt)}, seed {key.seed}"
    return f'<tr><th scope="row"><img src="{source}" alt="{alt}"><span>{key.seed}</span></th>{shown}</tr>'


# --- directions ---


def directions_html(directions: Sequence[Any], strengths: Mapping[str, float], why_none: str = "") -> str:
    """A slider for each direction, by what it is for, with what it was measured to do."""
    if not directions:
        return f'<div class="wb-empty"><h3>No directions yet</h3><p>{html.escape(why_none)}</p></div>'
    grouped: dict[str, list[Any]] = {}
    for direction in directions:
        grouped.setdefault(group_of(direction), []).append(direction)
    order = [name for name in GROUPS if name in grouped] + [name for name in grouped if name not in GROUPS]
    shown = []
    for k, name in enumerate(order):
        used = any(strengths.get(direction.name) for direction in grouped[name])
        rows = "".join(_slider(direction, strengths.get(direction.name, 0.0)) for direction in grouped[name])
        title = html.escape(GROUPS.get(name, name.capitalize()))
        shown.append(
            f'<details data-group="{html.escape(name)}"{" open" if used or k == 0 else ""}>'
            f"<summary>{title} <small>{len(grouped[name])}</small></summary>{rows}</details>"
        )
    # Moved sliders are not in the page's own value: it must differ from the last one to be taken up again.
    return f'<div class="wb-directions" data-when="{time.monotonic_ns()}">{"".join(shown)}</div>'


def group_of(direction: Any) -> str:
    """What a direction stands under: its factor, its name before a colon, or where it came from."""
    if direction.target:
        return str(direction.target)
    head, colon, _ = direction.name.partition(":")
    return head.strip() if colon and direction.source == "supervised" else str(direction.source)


def measured(direction: Any) -> str:
    """The effect of a direction at its suggested strength, in words."""
    effect, parts = direction.effect, []
    if effect is None:
        return "effect not measured"
    if effect.reached is not None:
        parts.append(f"reaches {direction.value} in {effect.reached:.0%}")
    parts.append(f"other factors changed in {effect.leaked:.0%}")
    return f"at {effect.strength:g}: " + ", ".join(parts)


def _slider(direction: Any, strength: float) -> str:
    low, high = direction.strengths
    name = html.escape(direction.name)
    short = html.escape(direction.name.partition(":")[2].strip() or direction.name)
    step = 0.05 if high - low <= 4 else 0.1
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step  # 0 is a place of the slider
    exact = repr(float(strength)).removesuffix(".0")  # to the last digit: an opened edit stays the same
    return (
        f'<div class="wb-direction"><label><span>{short}</span>'
        f'<input type="range" data-name="{name}" min="{low:g}" max="{high:g}" step="{step:g}" '
        f'value="{exact}" aria-label="{name}"></label><output>{strength:+.2f}</output>'
        f'<button type="button" data-reset aria-label="Reset {name}" title="Back to 0">↺</button>'
        f"<small>{html.escape(measured(direction))}</small></div>"
    )


COMPARE = """<div class="wb-compare" role="group" aria-label="Compare">
<button type="button" data-hold>Hold to see before</button>
<button type="button" data-pair aria-pressed="false">Side by side</button></div>"""


def script(name: str) -> str:
    """What a piece of this tab does in the browser."""
    return (ASSETS / f"edit_{name}.js").read_text(encoding="utf-8")
