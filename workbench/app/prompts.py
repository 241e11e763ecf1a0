"""The prompt, before any picture is made: what the model reads in it, and help to write one.

Pure functions from text to text or HTML; everything a person typed is escaped where HTML is made.
"""

import html
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from workbench.errors import WorkbenchError

# The world and its captions bring torch: imported inside the functions, so that the page is up before that.

FACTOR_NAMES = ("coat", "pose", "scene", "light")
OPEN = "any"
EXAMPLES = (
    "a black-and-tan shepherd sitting on the beach by day",
    "a black-and-tan shepherd standing in the park",
    "a red shepherd lying on the beach at sunset",
    "a red shepherd sitting in the studio",
    "a sable shepherd standing on the beach by day",
    "a white shepherd lying in the park at sunset",
    "a black shepherd standing in the city at night",
    "a white shepherd sitting in the snow at night",
)
_SCENE_WORDS = {"park": "in the park", "city": "in the city", "snow": "in the snow",
                "beach": "on the beach", "studio": "in the studio"}  # fmt: skip
_LIGHT_WORDS = {"day": "by day", "sunset": "at sunset", "night": "at night"}
_SHOWN_WORDS = 60  # a page of chips helps nobody; the rest is counted


class Reader(Protocol):
    """What the notice asks of a text encoder (`workbench.models.text.TextEncoder`)."""

    context_length: int

    def unknown_words(self, caption: str) -> list[str]: ...
    def truncated_words(self, caption: str) -> list[str]: ...


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word of a prompt. state: "known", "unknown" (in no training caption) or "dropped" (too long)."""

    text: str
    state: str
    near: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a model reads in a prompt.

    tokens, limit: used and allowed, None where the tokenizer cannot tell; claims: the factors it names;
    warnings: what is left out, or why nothing can be drawn, in the pipeline's own sentences; more: words past
    the characters that are read.
    """

    words: tuple[Word, ...]
    tokens: int | None
    limit: int | None
    claims: dict[str, str]
    warnings: tuple[str, ...] = ()
    more: int = 0

    def of_state(self, state: str) -> list[str]:
        """The words in one state, in order."""
        return [word.text for word in self.words if word.state == state]


def read(prompt: str, encoder: Reader | None) -> Reading:
    """What `encoder` (None: a model without text) makes of `prompt`, word by word: what spaces part."""
    from workbench.datasets.world.captions import named_factors
    from workbench.models.tokens import split_words
    from workbench.pipeline.prompts import within_reach

    warnings = _warnings(prompt, encoder)
    more = len(prompt.split())
    prompt = within_reach(prompt)  # read again with every key: a pasted book would keep everybody waiting
    more -= len(prompt.split())
    if encoder is None:
        ignored = tuple(Word(text=piece, state="dropped") for piece in prompt.split())
        return Reading(words=ignored, tokens=None, limit=None, claims={}, warnings=warnings, more=more)
    unknown = set(encoder.unknown_words(prompt))
    dropped = list(encoder.truncated_words(prompt))  # the known words past the limit, in order
    words = []
    for piece in reversed(prompt.split()):
        parts, state = split_words(piece), "known"
        for part in reversed(parts):
            if dropped and part == dropped[-1]:
                dropped.pop()
                state = "dropped"
        if state == "known" and not unknown.isdisjoint(parts):
            state = "unknown"
        words.append(Word(text=piece, state=state))
    return Reading(
        words=tuple(reversed(words)),
        tokens=count_tokens(prompt, encoder),
        limit=encoder.context_length,
        claims=named_factors(prompt) if prompt.strip() else {},
        warnings=warnings,
        more=more,
    )


def _warnings(prompt: str, encoder: Reader | None) -> tuple[str, ...]:
    """The pipeline's sentences on a prompt: its refusal where it holds no words, none where it is empty."""
    from workbench.pipeline import clean_prompt

    if not prompt.strip():
        return ()
    try:
        return tuple(clean_prompt(prompt, encoder).warnings)
    except WorkbenchError as error:
        return (str(error),)


def choices() -> dict[str, list[str]]:
    """What the caption builder offers for each factor; `OPEN` first."""
    from workbench.datasets import world

    values = (world.COATS, world.POSES, world.SCENES, world.LIGHTS)
    return {name: [OPEN, *offered] for name, offered in zip(FACTOR_NAMES, values, strict=True)}


def count_tokens(prompt: str, encoder: Reader) -> int | None:
    """Tokens the whole prompt takes, start and end marks included; None where the tokenizer cannot tell."""
    encode = getattr(getattr(encoder, "tokenizer", None), "encode", None)
    return None if encode is None else len(encode(prompt)) + 2


def compose(coat: str = OPEN, pose: str = OPEN, scene: str = OPEN, light: str = OPEN) -> str:
    """A plain prompt that names the given factors and no others; `OPEN` leaves one to the noise."""
    words = ["a"]
    words += [coat] if coat != OPEN else []
    words.append("shepherd")
    words += [pose] if pose != OPEN else []
    words += [_SCENE_WORDS[scene]] if scene != OPEN else []
    words += [_LIGHT_WORDS[light]] if light != OPEN else []
    return " ".join(words)


def random_caption(seed: int | None = None) -> str:
    """A caption as the training data holds them, naming all four factors; without a seed, any."""
    from workbench.datasets.world import draw_factors
    from workbench.datasets.world.captions import full_caption

    seed = random.randrange(2**31) if seed is None else seed
    return full_caption(draw_factors(seed, 0), seed, 0)


def reading_html(reading: Reading) -> str:
    """The live notice under the prompt: a chip a word, tokens used, what it names, what is left out."""
    if not reading.words:
        said = "Describe a shepherd: coat, pose, scene and light."
        return f'<div class="wb-reading"><p class="wb-hint">{said}</p></div>'
    shown = reading.words[:_SHOWN_WORDS]
    chips = "".join(_chip(word) for word in shown)
    left = len(reading.words) - len(shown) + reading.more
    if left:
        chips += f'<span class="wb-hint">… and {left:,} more word{"s" * (left > 1)}</span>'
    warned = "".join(f"<li>{html.escape(warning)}</li>" for warning in reading.warnings)
    return (
        f'<div class="wb-reading" role="status"><p class="wb-chips">{chips}{_limit_line(reading)}</p>'
        f'<p class="wb-claims">{_claims_line(reading)}</p>{f"<ul>{warned}</ul>" if warned else ""}</div>'
    )


def _chip(word: Word) -> str:
    text = html.escape(word.text if len(word.text) <= 40 else word.text[:39] + "…")
    if word.state == "unknown":
        return f'<span class="wb-chip unknown"><s>{text}</s><small>unknown</small></span>'
    if word.state == "dropped":
        return f'<span class="wb-chip dropped"><s>{text}</s><small>dropped</small></span>'
    return f'<span class="wb-chip">{text}</span>'


def _claims_line(reading: Reading) -> str:
    named = [
        f"{name} <b>{html.escape(reading.claims[name])}</b>"
        for name in FACTOR_NAMES
        if name in reading.claims
    ]
    left = [name for name in FACTOR_NAMES if name not in reading.claims]
    said = f"Names {', '.join(named)}." if named else "Names none of coat, pose, scene and light."
    return said + (f" The seed decides the {_joined(left)}." if left and named else "")


def _limit_line(reading: Reading) -> str:
    if reading.limit is None or reading.tokens is None:
        return ""
    over = " over" if reading.tokens > reading.limit else ""
    return f'<span class="wb-count{over}">{reading.tokens:,} of {reading.limit} tokens</span>'


def vocabulary_html(encoder: Any) -> str:
    """The words that a text encoder reads, for the foot of the page; nothing where it has no list of them."""
    words = getattr(getattr(encoder, "tokenizer", None), "words", None)
    if not words:  # open_clip's own tokenizer knows pieces of words, and a model without text none
        return ""
    chips = " ".join(f"<span>{html.escape(word)}</span>" for word in words)
    return (
        f"<details class='wb-words'><summary>The {len(words)} words this model reads</summary>"
        f"<p>{chips}</p></details>"
    )


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
