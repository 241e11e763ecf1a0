"""Captions that no one could write: between two prompts, a prompt without a word, one word louder.

A mixed caption holds the rows of t_local of all its parts, each with a prior: its share of the
cross-attention before the softmax is normalised. t_global, and so w = M(z, t_global), is mixed linearly.

Differs from the paper, which interpolates the rows of t_local one by one: rows of two prompts that stand at
the same place mean different words, and the end of text stands elsewhere. With priors the two captions
compete for attention instead, the ends are exact, and a caption mixed with itself is itself.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.points import texts_of
from workbench.models.inspect import Word, words_of
from workbench.models.mapping import Text
from workbench.models.tokens import split_words
from workbench.pipeline import Pipeline, clean_prompt
from workbench.pipeline.prompts import MAX_CHARACTERS

MAX_LOUDNESS = 100.0  # a trained attention is all but hard: 10 moves it a little
MAX_NEGATIVE = 10.0
CONTRAST = 3.0
NEGATIVE = 1.5  # how far a negative word pushes t_global away, in units of its own effect
_MARKED = re.compile(r"\(([^():]+):\s*([^()]*)\)")


@dataclass(frozen=True)
class Marked:
    """A prompt as typed with marks. text: without them; loud: (first character of the text, the one behind
    the last, loudness) of each mark.
    """

    text: str
    loud: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True)
class Spoken:
    """A prompt as the encoder reads it. marked: as typed; caption: cleaned, without marks; text: of one row;
    words: of the caption, with their rows of the text.
    """

    marked: Marked
    caption: str
    text: Text
    words: list[Word]


def parse_marks(prompt: str) -> Marked:
    """Read `(word:1.4)`; several words may stand inside. Without marks the prompt stays as it is.

    >>> parse_marks("a dog in the (snow:1.4)")
    Marked(text='a dog in the snow', loud=((13, 17, 1.4),))

    Raises WorkbenchError for a loudness that is no number from 0 to 100.
    """
    loud: list[tuple[int, int, float]] = []
    text, at = "", 0
    for match in _MARKED.finditer(prompt):
        text += prompt[at : match.start()]
        loud.append((len(text), len(text) + len(match[1]), _number(match[2], match[0])))
        text, at = text + match[1], match.end()
    return Marked(text + prompt[at:], tuple(loud))


def spoken(pipeline: Pipeline, prompt: str) -> Spoken | None:
    """A prompt with marks as G hears it, no word louder yet; None where G reads no text.

    The words are those of the caption that is encoded. Rows that are counted on what was typed are others'
    as soon as a character of it is not read.
    """
    marked = parse_marks(prompt)
    text = texts_of(pipeline, [marked.text])
    if text is None:
        return None
    caption = clean_prompt(marked.text, pipeline.text_encoder).text
    return Spoken(marked, caption, text, words_of(caption, pipeline.text_encoder))


def read(pipeline: Pipeline, prompt: str, *, negative: str = "", strength: float = NEGATIVE) -> Text | None:
    """A prompt with marks, and away from `negative`: a Text of one row; None where G reads no text.

    A mark on a part of a word makes the whole word louder.
    """
    said = spoken(pipeline, prompt)
    if said is None:
        return None
    text = _louder(pipeline, said)
    return away_from(pipeline, text, said.caption, negative, strength) if negative.strip() else text


def mix(texts: Sequence[Text], weights: Tensor | Sequence[float], *, contrast: float = 1.0) -> Text:
    """A caption between several of one row each, or of N rows each: prior of every row times its weight.

    texts: K of N rows; weights [K] or [N, K], each row summing to 1 where a caption "between" is meant; a
    weight below 0 moves t_global away and mutes the rows. contrast: power to which the weights are raised for
    the priors. N comes from the weights where the texts have one
    row.
    """
    weights = torch.as_tensor(weights, dtype=torch.float32, device=texts[0].t_global.device)
    weights = weights.expand(len(texts[0].mask), -1) if weights.dim() == 1 else weights
    if weights.shape[1] != len(texts) or not torch.isfinite(weights).all():
        raise WorkbenchError(
            f"There are {len(texts)} captions and weights {weights.tolist()[:2]}: expected one finite number "
            "for each."
        )
    n = len(weights)
    rows = [text if len(text.mask) == n else text.repeat_interleave(n) for text in texts]
    t_global = sum(weights[:, k : k + 1] * row.t_global for k, row in enumerate(rows))
    loud = weights.clamp_min(0) ** contrast
    prior = torch.cat([row.loudness * loud[:, k : k + 1] for k, row in enumerate(rows)], dim=1)
    joined = (torch.cat([getattr(row, part) for row in rows], dim=1) for part in ("t_local", "mask"))
    t_local, mask = joined
    return Text(t_local, t_global, mask, prior)


def between(a: Text, b: Text, t: Tensor | Sequence[float]) -> Text:
    """The captions at t [N] in [0, 1] from a to b (one row each): exactly a at 0, exactly b at 1.

    A trained attention is all but hard: the louder caption's words win everywhere until the odds are far on
    the other side. So the odds go as ((1 - t) / t)^3, which spreads the turn over the whole path.
    """
    t = torch.as_tensor(t, dtype=torch.float32)
    return mix([a, b], torch.stack([1 - t, t], dim=1), contrast=CONTRAST)


def away_from(pipeline: Pipeline, text: Text, prompt: str, negative: str, strength: float = NEGATIVE) -> Text:
    """`text` of `prompt` without `negative`: t = t_0 + strength (t_0 - t_n), by extrapolation in t_global.

    t_0 is the prompt without the negative words (itself where it has none of them), t_n the same with them at
    its end: the difference is what these words do to this prompt. Where the context has no room for them, the
    difference is taken of a prompt that lacks its last words. Rows of the prompt that are negative words are
    muted. prompt: as it is encoded. Raises WorkbenchError for a strength outside [0, 10], where no word of
    the prompt is left, and for negative words that the context has no room for.
    """
    if not math.isfinite(strength) or not 0 <= strength <= MAX_NEGATIVE:
        raise WorkbenchError(f"The strength of negative words is {strength}: expected 0 to {MAX_NEGATIVE:g}.")
    negative = _readable(pipeline, negative)
    banned = {word.lower() for word in split_words(negative)}
    left = [word for word in split_words(prompt) if word.lower() not in banned]
    if not left:
        raise WorkbenchError(
            f"The negative words {negative!r:.60} leave nothing of the prompt: take some of them away."
        )
    start = _with_room(pipeline, left, negative)
    (all_left, without, with_words) = (
        texts_of(pipeline, [part]).t_global for part in (" ".join(left), start, f"{start} {negative}")
    )
    t_global = all_left + strength * (without - with_words)
    muted = [word.rows for word in words_of(prompt, pipeline.text_encoder) if word.text.lower() in banned]
    return scaled(replace(text, t_global=t_global), [row for rows in muted for row in rows], 0.0)


def scaled(text: Text, rows: Sequence[int], loudness: float) -> Text:
    """The caption with some rows of t_local `loudness` times as loud."""
    prior = text.loudness.clone()
    prior[:, list(rows)] *= loudness
    return replace(text, prior=prior)


def _louder(pipeline: Pipeline, said: Spoken) -> Text:
    """The marked words louder; one that the encoder does not read has no row to be loud in."""
    wanted: dict[int, float] = {}
    typed, every = said.marked.text, split_words(said.caption)
    for first, stop, loudness in said.marked.loud:
        before, until = (split_words(_readable(pipeline, typed[:place])) for place in (first, stop))
        within = before != every[: len(before)]  # the mark begins inside a word, which `before` has a part of
        wanted |= dict.fromkeys(range(len(before) - within, len(until)), loudness)
    text = said.text
    for word in said.words:
        if word.number in wanted:
            text = scaled(text, word.rows, wanted[word.number])
    return text


def _with_room(pipeline: Pipeline, words: Sequence[str], negative: str) -> str:
    """As many of the first words as leave the context room for the negative ones; all, as a rule."""
    encoder = pipeline.text_encoder

    def too_long(count: int) -> bool:
        together = f"{' '.join(words[:count])} {negative}"
        return len(together) > MAX_CHARACTERS or bool(encoder.truncated_words(together))

    count = bisect_left(range(1, len(words) + 1), True, key=too_long)
    if not count:
        raise WorkbenchError(
            f"The negative words {negative!r:.60} leave no room for the prompt in the "
            f"{encoder.context_length} tokens that the model reads: take some of them away."
        )
    return " ".join(words[:count])


def _readable(pipeline: Pipeline, typed: str) -> str:
    """What the encoder reads of a piece of a prompt; behind a word, because a piece may hold none itself."""
    return clean_prompt(f"a {typed}", pipeline.text_encoder).text[2:]


def _number(written: str, where: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_LOUDNESS:
        raise WorkbenchError(
            f"The loudness in {where!r} is {written.strip()!r}: expected a number from 0 to "
            f"{MAX_LOUDNESS:g}, as in (snow:1.4)."
        )
    return value
