"""README.md of a model folder: front matter for the Hub, how to call the model, and what its card says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def card_text(card: Mapping[str, Any], *, parameters: int, resolution: int, text: bool = True) -> str:
    """The README of a GAN.

    Short facts are lines of one list, longer texts and nested values have a section each. text: whether the
    model reads prompts.
    """
    task, kind = (
        ("text-to-image", "A text-conditional")
        if text
        else ("unconditional-image-generation", "An unconditional")
    )
    call = '"a white shepherd sitting in the snow at night", ' if text else '"", '
    lines = [
        f"{kind} GAN (GigaGAN, Kang et al. 2023): {resolution} × {resolution} px, "
        f"{parameters:,} parameters in the generator, weights in float16.",
        "",
        "```python",
        "from workbench.pipeline import Pipeline",
        "",
        'pipe = Pipeline.from_pretrained("PATH_OR_HUB_NAME")',
        f"pipe({call}seed=1, truncation=0.8).images",
        "```",
    ]
    return page(card, task, lines)


def upscaler_card_text(card: Mapping[str, Any], *, parameters: int, factor: int, text: bool = True) -> str:
    """The README of an upscaler; factor: what one pass makes of a side."""
    kind, call = ("A text-conditional", ', "a white shepherd in the snow"') if text else ("An", "")
    lines = [
        f"{kind} GAN upscaler (GigaGAN, Kang et al. 2023, Sec. 3.5): {factor} times the width and height of "
        f"pictures of any size, {parameters:,} parameters, weights in float16.",
        "",
        "```python",
        "from workbench.pipeline import Upscaler",
        "",
        'up = Upscaler.from_pretrained("PATH_OR_HUB_NAME")',
        f"up(pictures{call}, seed=1).images  # pictures: [N, 3, H, W] in [-1, 1]",
        "```",
        "",
        "Or from the command line: `workbench upscale IN --out OUT --model PATH_OR_HUB_NAME`.",
    ]
    return page(card, "image-to-image", lines)


def page(
    card: Mapping[str, Any], task: str, lines: list[str], kinds: Sequence[str] = ("gigagan", "gan")
) -> str:
    """Front matter with the tags `kinds` and the task, title, `lines`, then the facts of the card."""
    tags = json.dumps([*kinds, task])
    license_name = json.dumps(card.get("license", "mit"))
    front = f"---\nlicense: {license_name}\npipeline_tag: {task}\ntags: {tags}\n---\n"
    lines = [f"# {card.get('name', 'model')}", "", *lines]
    facts = {key: value for key, value in card.items() if key not in ("name", "license")}
    short = [key for key, value in facts.items() if _is_short(value)]
    if short:
        lines += ["", "## How it was made", ""]
    for key in short:
        value = facts.pop(key)
        said = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        lines.append(f"- **{key.replace('_', ' ').capitalize()}**: {said}")
    for key, value in facts.items():
        said = value
        if not isinstance(value, str):
            said = "```json\n" + json.dumps(value, indent=2, ensure_ascii=False) + "\n```"
        lines += ["", f"## {key.replace('_', ' ').capitalize()}", "", said]
    return front + "\n".join(lines) + "\n"


def _is_short(value: object) -> bool:
    """Whether a card's value fits into a line."""
    return not isinstance(value, Mapping | Sequence) or (
        isinstance(value, str) and len(value) <= 80 and "\n" not in value
    )
