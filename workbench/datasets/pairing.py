"""Which pictures belong together: groups, and a partner for a picture that is alone in its group.

Two pictures are of one group when they share all four factors, or, where the metadata has no factors, the
caption. A caption of a group is then true of every picture in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.datasets.world.captions import FACTOR_NAMES, named_factors

# A partner is looked for among this many pictures at most, evenly spread, so that the search grows linearly.
_CANDIDATES = 20_000


def known_factors(columns: dict) -> dict[str, str]:
    """The four factors of a row of metadata, or {} unless all four are there."""
    known = {name: str(columns[name]) for name in FACTOR_NAMES if columns.get(name)}
    return known if len(known) == len(FACTOR_NAMES) else {}


def group_ids(texts: Sequence[str], known: Sequence[dict[str, str]]) -> Tensor:
    """[N] long: equal for pictures of one group, counted from 0 in order of first appearance."""
    ids: dict[tuple, int] = {}
    keys = (
        tuple(factors.values()) if factors else ("text", text)
        for text, factors in zip(texts, known, strict=True)
    )
    return torch.tensor([ids.setdefault(key, len(ids)) for key in keys], dtype=torch.long)


def lonely_partners(
    texts: Sequence[str], known: Sequence[dict[str, str]], groups: Tensor, files: Sequence[str]
) -> Tensor:
    """[N] long: for a picture alone in its group the one to pair it with, -1 for all others.

    It is the picture whose caption has the largest word overlap (common words over all words of both).
    Where factors are known, more of the caption's own claims coming true of the partner goes first, so that
    the pair's caption is true of both when any picture allows it. Among equals the least used one is taken,
    so that no picture becomes everybody's partner.
    """
    sizes = torch.bincount(groups)
    lonely = (sizes[groups] == 1).nonzero().flatten().tolist()
    partners = torch.full((len(texts),), -1, dtype=torch.long)
    if not lonely or len(texts) < 2:
        return partners
    pool = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _CANDIDATES)).round().astype(np.int64))
    bags = [set(re.findall(r"\w+", text.lower())) for text in texts]
    postings: dict[str, list[int]] = {}
    for at, row in enumerate(pool):
        for word in bags[row]:
            postings.setdefault(word, []).append(at)
    by_word = {word: np.array(rows) for word, rows in postings.items()}
    lengths = np.array([len(bags[row]) for row in pool])
    pool_files = np.array([files[row] for row in pool])
    values = {name: np.array([known[row].get(name, "") for row in pool]) for name in FACTOR_NAMES}
    used = np.zeros(len(pool))
    for row in lonely:
        common = np.zeros(len(pool))
        for word in bags[row] & by_word.keys():
            common[by_word[word]] += 1
        score = common / np.maximum(len(bags[row]) + lengths - common, 1)
        if known[row]:
            for name, value in named_factors(texts[row]).items():
                score += values[name] == value
        score[(pool == row) | (pool_files == files[row])] = -1
        best = np.flatnonzero(score >= score.max() - 1e-9)
        at = best[np.argmin(used[best])]
        used[at] += 1
        # One picture under many captions leaves no other file: any other row then, rather than none.
        partners[row] = int(pool[at]) if score[at] >= 0 else (row + 1) % len(texts)
    return partners


def false_captions(
    captions: Sequence[str],
    caption_rows: Tensor,
    rows: Tensor,
    known: Sequence[dict[str, str]],
    groups: Tensor,
) -> np.ndarray:
    """[P, C] bool: whether caption c (of row caption_rows[c]) is certainly false of the picture rows[p].

    Where the picture's factors are known, the caption has to name one of them wrongly: another group is not
    enough, because a caption may name only what both groups share. Else another group (that is, another
    text) has to do.
    """
    claims = [named_factors(text) for text in captions]
    truths = [known[row] for row in rows.tolist()]
    other = (groups[rows][:, None] != groups[caption_rows][None, :]).numpy()
    wrong = np.zeros_like(other)
    for name in FACTOR_NAMES:
        # a column a factor, instead of a question for each of P times C
        claimed = np.array([claim.get(name, "") for claim in claims], dtype=object)
        true = np.array([truth.get(name, "") for truth in truths], dtype=object)
        wrong |= (claimed[None, :] != "") & (claimed[None, :] != true[:, None])
    return np.where(np.array([bool(truth) for truth in truths])[:, None], wrong, other)


def derangement(allowed: np.ndarray, generator: torch.Generator) -> list[int]:
    """For each row k of `allowed` [K, K] a column that it allows, drawn with `generator`; -1 where it
    allows none.

    Every column once where that can be (a maximum bipartite matching by augmenting paths, over a random
    order); rows left over take any column that they allow.
    """
    size = len(allowed)
    order = [torch.randperm(size, generator=generator).tolist() for _ in range(size + 1)]
    choices = [[column for column in order[row] if allowed[row, column]] for row in range(size)]
    holder = [-1] * size

    def place(row: int, tried: set[int]) -> bool:
        for column in choices[row]:
            if column not in tried:
                tried.add(column)
                if holder[column] < 0 or place(holder[column], tried):
                    holder[column] = row
                    return True
        return False

    for row in order[size]:
        place(row, set())
    taken = {row: column for column, row in enumerate(holder) if row >= 0}
    return [taken.get(row, choices[row][0] if choices[row] else -1) for row in range(size)]
