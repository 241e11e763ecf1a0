"""Turning Shepherd World by hand: a dog of chosen factors, its captions, and its row in a data set."""

import html
import json
from dataclasses import asdict
from typing import Any

# Torch and the world are imported inside the functions: the page is up before that.

SIDE = 192
NAMED = ("coat", "pose", "scene", "light")
# (factor, label, lowest, highest, step); within what the world draws for its data sets, and the full turn.
NUMBERS = (
    ("azimuth_deg", "View (0 looks at you)", -180, 180, 5),
    ("head_yaw_deg", "Head turned, degrees", -40, 40, 5),
    ("tail_deg", "Tail raised, degrees", 0, 45, 5),
    ("tongue", "Tongue out", 0, 1, 0.1),
    ("size", "Size", 0.8, 1.2, 0.02),
    ("light_deg", "Light from, degrees", -120, 120, 10),
)
START = {"coat": "black-and-tan", "pose": "standing", "scene": "park", "light": "day", "azimuth_deg": 60,
         "head_yaw_deg": 0, "tail_deg": 20, "tongue": 0.3, "size": 1.0, "light_deg": 45}  # fmt: skip


def choices() -> dict[str, tuple[str, ...]]:
    """Named factor -> its values."""
    from workbench.datasets.world import CHOICES

    return {name: CHOICES[name] for name in NAMED}


def draw(*values: Any) -> tuple[Any, str]:
    """(picture as uint8 [S, S, 3], captions and row as HTML) of a dog; values: NAMED, then NUMBERS in order.

    Raises WorkbenchError for a value that the world does not know.
    """
    from workbench.datasets.world import Factors, render
    from workbench.images import to_uint8

    names = (*NAMED, *(name for name, *_ in NUMBERS))
    numbers = [float(value) if k >= len(NAMED) else value for k, value in enumerate(values)]
    factors = Factors(**dict(zip(names, numbers, strict=True)))
    return to_uint8(render([factors], SIDE))[0], words_html(factors)


def drawn(seed: int, index: int) -> list[Any]:
    """The values of picture `index` of a data set with this seed, in the order that `draw` takes."""
    from workbench.datasets.world import draw_factors

    factors = draw_factors(seed, index)
    numbers = [_rounded(getattr(factors, name), low, high, step) for name, _, low, high, step in NUMBERS]
    return [getattr(factors, name) for name in NAMED] + numbers


def _rounded(value: float, low: float, high: float, step: float) -> float:
    """Where a slider can stand."""
    return min(high, max(low, round(round(value / step) * step, 4)))


def words_html(factors: Any) -> str:
    """Three captions that are true of the dog, with what each claims, and its row of metadata."""
    from workbench.datasets.world import captions

    lines = []
    for text in dict.fromkeys(captions.caption(factors, 0, index) for index in range(40)):
        claims = ", ".join(captions.named_factors(text).values())
        lines.append(f"<li>{html.escape(text)} <small>claims {html.escape(claims)}</small></li>")
        if len(lines) == 3:
            break
    row = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(factors).items()}
    return (
        f'<p class="wb-hint">True captions of this dog, as a data set would hold them:</p>'
        f'<ul class="wb-captions">{"".join(lines)}</ul>'
        f'<details class="wb-row"><summary>All factors</summary>'
        f"<pre><code>{html.escape(json.dumps(row, indent=1))}</code></pre></details>"
    )
