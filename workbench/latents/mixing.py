"""Style mixing: the coarse layers of one picture with the fine layers of another; prompt mixing likewise."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from workbench.errors import WorkbenchError
from workbench.latents.layers import indices, levels_of
from workbench.latents.points import Points, points
from workbench.models.generator import Generator
from workbench.pipeline import Pipeline

Which = str | int | Iterable[int]  # a range's name, a layer from which on, or layers


def mix_layers(G: Generator, a: Points, b: Points, which: Which) -> Points:
    """Points of `a` with the layers `which` of `b`, row by row (N of each, or one of either).

    The styles of the layers come from b, and so does the caption of every size whose first layer does: a
    style and the words it was made from stay together. Raises WorkbenchError for other numbers of points.
    """
    chosen = indices(G, which)
    n = max(len(a), len(b))
    if not {len(a), len(b)} <= {1, n}:
        raise WorkbenchError(
            f"There are {len(a)} points to mix with {len(b)}: expected as many of both, or one of either. "
            "For each with each take style_table."
        )
    a, b = (part if len(part) == n else part[[0] * n] for part in (a, b))
    ws = a.ws.clone()
    ws[:, list(chosen)] = b.ws[:, list(chosen)]
    from_b = set(levels_of(G, chosen))
    texts = tuple(b.texts[k] if k in from_b else a.texts[k] for k in range(len(a.texts)))
    return Points(ws, texts)


def style_table(G: Generator, sources: Points, styles: Points, which: Which) -> Points:
    """Every source (row) with the layers `which` of every style (column): R * C points, row by row."""
    rows = torch.arange(len(sources)).repeat_interleave(len(styles))
    columns = torch.arange(len(styles)).repeat(len(sources))
    return mix_layers(G, sources[rows], styles[columns], which)


def mix_prompts(pipeline: Pipeline, first: str, then: str, seed: int, layer: int) -> Points:
    """One seed under two prompts: `first` before layer `layer`, `then` from it on (0: `then` alone)."""
    both = points(pipeline, [first, then], seed)
    return mix_layers(pipeline.G, both[0], both[1], layer)
