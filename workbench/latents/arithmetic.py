"""Sums of prompts: "black shepherd sitting" - "sitting" + "lying down", and the picture in words nearest to
it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from workbench.datasets.world import COATS, LIGHTS, POSES, SCENES, Factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.latents.captions import read, spoken
from workbench.latents.points import Points, from_w, from_z
from workbench.models.inspect import Word
from workbench.models.mapping import Text
from workbench.noise import draw_z
from workbench.pipeline import Pipeline

SPACES = ("prompt", "w")
_SIGN = re.compile(r"[+\-\u2212](\s|$)")


@dataclass(frozen=True)
class Term:
    """One prompt of a sum. sign: 1 or -1, or any other weight."""

    prompt: str
    sign: float = 1.0


def parse_sum(written: str) -> list[Term]:
    """Terms of "black shepherd sitting - sitting + lying down"; a sign stands between blanks.

    >>> parse_sum("black dog - black + white")
    [Term(prompt='black dog', sign=1.0), Term(prompt='black', sign=-1.0), Term(prompt='white', sign=1.0)]
    """
    signed = written.strip()
    signed = signed if _SIGN.match(signed) else f"+ {signed}"
    parts = re.split(r"(?:^|\s+)([+\-\u2212])(?:\s+|$)", signed)
    terms = [
        Term(prompt.strip(), 1.0 if sign == "+" else -1.0)
        for sign, prompt in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if not terms or any(not term.prompt or _SIGN.match(term.prompt) for term in terms):
        raise WorkbenchError(
            f"{written!r:.80} is no sum of prompts: write for example "
            '"black shepherd sitting - sitting + lying down".'
        )
    return terms


def total(
    pipeline: Pipeline, terms: Sequence[Term], seeds: Sequence[int], *, space: str = "prompt"
) -> Points:
    """Points of a sum of prompts, one a seed.

    space "prompt": t_global is summed and w made of it, t_local holds the words whose signs add up to more
    than nothing. space "w": the w of each term is made with the seed, then summed; t_local as before. Signs
    that sum to 1 stay among prompts. Raises WorkbenchError without terms, for an unknown space and for a G
    without text.
    """
    if space not in SPACES:
        raise WorkbenchError(f"There is no space {space!r} to sum in: choose one of {', '.join(SPACES)}.")
    if not terms:
        raise WorkbenchError("A sum needs a prompt: give at least one term.")
    said = [spoken(pipeline, term.prompt) for term in terms]
    if said[0] is None:
        raise WorkbenchError(f"{pipeline.name} reads no text: there are no prompts to sum.")
    texts = [read(pipeline, term.prompt) for term in terms]
    n, signs = len(seeds), [term.sign for term in terms]
    z = draw_z(seeds, pipeline.G.config.z_dim).to(pipeline.device)
    text = _summed(terms, texts, [one.words for one in said]).repeat_interleave(n)
    if space == "prompt":
        return from_z(pipeline, z, text)
    ws = [from_z(pipeline, z, one.repeat_interleave(n)).ws for one in texts]
    return from_w(pipeline, sum(sign * w for sign, w in zip(signs, ws, strict=True)), text)


def _summed(terms: Sequence[Term], texts: Sequence[Text], words: Sequence[Sequence[Word]]) -> Text:
    """One caption: the words of all terms, but those whose signs add up to nothing or less are muted."""
    balance: dict[str, float] = {}
    for term, own in zip(terms, words, strict=True):
        for word in own:
            balance[word.text.lower()] = balance.get(word.text.lower(), 0.0) + term.sign
    rows, mask, prior = [], [], []
    for term, text, own in zip(terms, texts, words, strict=True):
        if term.sign <= 0:
            continue
        loud = text.loudness.clone()
        for word in own:
            if balance[word.text.lower()] <= 0:
                loud[:, list(word.rows)] = 0.0
        rows.append(text.t_local)
        mask.append(text.mask)
        prior.append(loud)
    if not rows:
        raise WorkbenchError("Every prompt of this sum is taken away: leave at least one with a plus.")
    t_global = sum(term.sign * text.t_global for term, text in zip(terms, texts, strict=True))
    return Text(torch.cat(rows, 1), t_global, torch.cat(mask, 1), torch.cat(prior, 1))


# --- what a picture shows, in words -------------------------------------------------------------------------


def world_captions() -> list[tuple[Factors, str]]:
    """One caption for each of the 225 combinations of coat, pose, scene and light."""
    every = [
        Factors(coat=coat, pose=pose, scene=scene, light=light)
        for coat, pose, scene, light in product(COATS, POSES, SCENES, LIGHTS)
    ]
    return [(factors, full_caption(factors, 0, 0)) for factors in every]


def nearest(embeddings: Tensor, candidates: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """For each of N embeddings [N, e] the k nearest of M candidates [M, e] by cosine: (rows [N, k], cosines).

    Candidates are embeddings of pictures or captions, both of unit length.
    """
    cosine = embeddings @ candidates.t()
    found = cosine.topk(min(k, len(candidates)), dim=1)
    return found.indices, found.values
