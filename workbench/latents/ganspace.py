"""Directions without labels: principal components of w (GANSpace, Härkönen et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.directions import Direction, Move
from workbench.latents.layers import RANGES, indices
from workbench.latents.points import from_z, texts_of
from workbench.models.checks import check_whole
from workbench.noise import draw_z
from workbench.pipeline import Pipeline

FIRST_SEED = 90_000_000_000


def components(w: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Principal components of w [N, d]: (V [count, d] orthonormal, deviations [count], share of the variance
    [count]), strongest first; each with its largest number positive, so that the sign is the same everywhere.
    """
    if not 1 <= count <= min(len(w) - 1, w.shape[1]):
        raise WorkbenchError(
            f"{count} components of {len(w)} points with {w.shape[1]} numbers: expected 1 to "
            f"{min(len(w) - 1, w.shape[1])}."
        )
    _, values, right = torch.linalg.svd(w.double() - w.double().mean(0), full_matrices=False)
    found = right[:count]
    signs = found.gather(1, found.abs().argmax(1, keepdim=True)).sign()
    deviations = values / (len(w) - 1) ** 0.5
    share = values.square() / values.square().sum()
    return (found * signs).float(), deviations[:count].float(), share[:count].float()


@torch.no_grad()
def find(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    count: int = 6,
    seeds: int = 64,
    layers: str = "all",
) -> list[Direction]:
    """PCA of w over `seeds` seeds of each prompt, each prompt's mean taken away first: what z varies, not
    what the prompts say. One prompt gives that prompt's own components.

    One unit of strength is one standard deviation. layers: a range that the components move ("coarse", …).
    Raises WorkbenchError for unknown layers, without a prompt, and for fewer than 2 seeds.
    """
    check_whole(seeds, "seeds", 2)  # of one seed nothing is left beside the prompt's mean
    if not len(prompts):
        raise WorkbenchError("The components are those of some prompts: give at least one.")
    if layers not in (*RANGES, "all"):
        raise WorkbenchError(f"There are no layers {layers!r}: choose all, {', '.join(RANGES)}.")
    z = draw_z(range(FIRST_SEED, FIRST_SEED + seeds), pipeline.G.config.z_dim)
    centred = []
    for prompt in prompts:
        text = texts_of(pipeline, [prompt])
        rows = None if text is None else text.repeat_interleave(seeds)
        w = from_z(pipeline, z, rows).ws[:, 0]
        centred.append(w - w.mean(0))
    found, deviations, share = components(torch.cat(centred), count)
    where = "" if layers == "all" else f" {layers}"
    return [
        Direction(
            name=f"component {k + 1}{where}",
            source="ganspace",
            layers=indices(pipeline.G, layers),
            w=Move(vector=found[k] * deviations[k]),
            suggested=2.0,
            facts={"share": share[k].item(), "prompts": len(prompts), "seeds": seeds},
        )
        for k in range(count)
    ]
