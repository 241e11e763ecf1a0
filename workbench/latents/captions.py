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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.points import texts_of
from workbench.models.inspect import words_of
from workbench.models.mapping import Text
from workbench.models.tokens import split_words
from workbench.pipeline import Pipeline

MAX_LOUDNESS = 100.0  # a trained attention is all but hard: 10 moves it a little
MAX_NEGATIVE = 10.0
CONTRAST = 3.0
NEGATIVE = 1.5  # how far a negative word pushes t_global away, in units of its own effect
_MARKED = re.compile(r"\(([^():]+):\s*([^()]*)\)")


@dataclass(frozen=True)
class Marked:
    """A prompt as typed with marks. text: without them; loud: (word number, loudness) of marked words."""

    text: str
    loud: tuple[tuple[int, float], ...] = ()


def parse_marks(prompt: str) -> Marked:
    """Read `(word:1.4)`; several words may stand inside. Without marks the prompt stays as it is.

    >>> parse_marks("a dog in the (snow:1.4)")
    Marked(text='a dog in the snow', loud=((4, 1.4),))

    Raises WorkbenchError for a loudness that is no number from 0 to 100.
    """
    loud: list[tuple[int, float]] = []
    text, at = "", 0
    for match in _MARKED.finditer(prompt):
        text += prompt[at : match.start()]
        first = len(split_words(text))
        loudness = _number(match[2], match[0])
        loud += [(first + k, loudness) for k in range(len(split_words(match[1])))]
        text, at = text + match[1], match.end()
    return Marked(text + prompt[at:], tuple(loud))


def read(pipeline: Pipeline, prompt: str, *, negative: str = "", strength: float = NEGATIVE) -> Text | None:
    """A prompt with marks, and away from `negative`: a Text of one row; None where G reads no text."""
    marked = parse_marks(prompt)
    text = texts_of(pipeline, [marked.text])
    if text is None:
        return None
    if marked.loud:
        text = _louder(pipeline, text, marked)
    return away_from(pipeline, text, marked.text, negative, strength) if negative.strip() else text


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
    prior = torch.cat([_prior(row) * loud[:, k : k + 1] for k, row in enumerate(rows)], dim=1)
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
    its end: the difference is what these words do to this prompt. Rows of the prompt that are negative words
    are muted. Raises WorkbenchError for a strength outside [0, 10] and where no word of the prompt is left.
    """
    if not math.isfinite(strength) or not 0 <= strength <= MAX_NEGATIVE:
        raise WorkbenchError(f"The strength of negative words is {strength}: expected 0 to {MAX_NEGATIVE:g}.")
    banned = {word.lower() for word in split_words(negative)}
    left = " ".join(word for word in split_words(prompt) if word.lower() not in banned)
    if not left:
        raise WorkbenchError(
            f"The negative words {negative!r:.60} leave nothing of the prompt: take some of them away."
        )
    without, with_words = (texts_of(pipeline, [part]) for part in (left, f"{left} {negative}"))
    t_global = without.t_global + strength * (without.t_global - with_words.t_global)
    muted = [word.rows for word in words_of(prompt, pipeline.text_encoder) if word.text.lower() in banned]
    return scaled(replace(text, t_global=t_global), [row for rows in muted for row in rows], 0.0)


def scaled(text: Text, rows: Sequence[int], loudness: float) -> Text:
    """The caption with some rows of t_local `loudness` times as loud."""
    prior = _prior(text).clone()
    prior[:, list(rows)] *= loudness
    return replace(text, prior=prior)


def _louder(pipeline: Pipeline, text: Text, marked: Marked) -> Text:
    """The marked words louder; one that the encoder does not read has no row to be loud in."""
    wanted = dict(marked.loud)
    for word in words_of(marked.text, pipeline.text_encoder):
        if word.number in wanted:
            text = scaled(text, word.rows, wanted[word.number])
    return text


def _prior(text: Text) -> Tensor:
    return torch.ones_like(text.t_local[..., 0]) if text.prior is None else text.prior


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
