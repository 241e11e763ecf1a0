"""Truncation as in the paper: towards the mean of all pictures, then towards the mean of the prompt's.

w' = lerp(w_bar, w, psi_global), w'' = lerp(w_bar_c, w', psi_prompt); psi = 1 leaves w alone (Kang et al.
2023, App. A). w_bar is G's running mean over z and captions, w_bar_c the mean over 16 fixed z of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.points import Points, points
from workbench.pipeline import Pipeline, check_truncation, clean_prompt

MEANS = ("prompt", "all")


def truncate(pipeline: Pipeline, at: Points, prompt: str, *, over_all: float, over_prompt: float) -> Points:
    """Points of one prompt, pulled to the mean over all pictures by `over_all`, then to that of the prompt.

    Both from 0 (the mean itself) to 1.5; 1 and 1 is the identity. Raises WorkbenchError out of this range.
    """
    psi_all, psi_prompt = check_truncation(over_all), check_truncation(over_prompt)
    mean_all = pipeline.G.w_avg
    mean_prompt = pipeline.w_mean(clean_prompt(prompt, pipeline.text_encoder).text)
    return at.with_ws(torch.lerp(mean_prompt, torch.lerp(mean_all, at.ws, psi_all), psi_prompt))


def truncation_grid(
    pipeline: Pipeline, prompt: str, seeds: Sequence[int], psis: Sequence[float], *, towards: str = "prompt"
) -> Points:
    """psi x seeds: len(psis) * len(seeds) points, row by row. towards: "prompt" or "all".

    Raises WorkbenchError for another mean and without a psi.
    """
    if towards not in MEANS:
        raise WorkbenchError(f"There is no mean {towards!r:.40}: choose one of {', '.join(MEANS)}.")
    if not len(psis):
        raise WorkbenchError("A table of truncation needs a strength for each row: give at least one psi.")
    base = points(pipeline, prompt, seeds)
    rows = []
    for psi in psis:
        over_all, over_prompt = (psi, 1.0) if towards == "all" else (1.0, psi)
        rows.append(truncate(pipeline, base, prompt, over_all=over_all, over_prompt=over_prompt))
    return Points.cat(rows)


def spread(at: Points) -> Tensor:
    """Standard deviation of w over the points, mean over its numbers: []. How much variety is left."""
    return at.ws.std(0, correction=0).mean()
