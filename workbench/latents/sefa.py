"""Directions in closed form, from the weights alone (SeFa, Shen and Zhou 2021): the w that moves the
modulation most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.directions import Direction, Move
from workbench.latents.layers import indices, layers
from workbench.models.checks import is_count
from workbench.models.generator import Generator
from workbench.models.ops import AdaptiveConv2d
from workbench.pipeline import Pipeline

STEP = 0.1


def modulation(G: Generator, which: str = "all", *, with_selection: bool = False) -> Tensor:
    """Rows of every style affine of the layers, each of unit length: [channels, w_dim].

    with_selection: the rows that choose kernels too, so that directions which switch kernels are found.
    Raises WorkbenchError where this G has no such layers.
    """
    rows = []
    for index, conv in _convolutions(G).items():
        if index in indices(G, which):
            rows.append(conv.style.weight)
            if with_selection and conv.select is not None:
                rows.append(conv.select.weight)
    if not rows:
        raise WorkbenchError(f"This G has no {which} layers: choose all, or a range that it has.")
    A = torch.cat([row.detach().float() for row in rows])
    return A / A.norm(dim=1, keepdim=True).clamp_min(1e-12)


def eigenvectors(A: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` unit vectors n that make |A n| largest, one orthogonal to the next: (vectors [count, d],
    eigenvalues of A^T A [count]); each with its largest number positive. Raises WorkbenchError for a count
    outside [1, d].
    """
    if not is_count(count, 1) or count > A.shape[1]:
        raise WorkbenchError(f"{count!r:.40} directions in {A.shape[1]} numbers: expected 1 to {A.shape[1]}.")
    values, vectors = torch.linalg.eigh((A.t() @ A).double())
    found = vectors.t().flip(0)[:count]
    signs = found.gather(1, found.abs().argmax(1, keepdim=True)).sign()
    return (found * signs).float(), values.flip(0)[:count].float()


@torch.no_grad()
def find(
    pipeline: Pipeline, *, count: int = 4, layers: str = "all", with_selection: bool = False
) -> list[Direction]:
    """SeFa directions of a range of layers. One unit of strength moves w by STEP for each of its numbers, in
    the root mean square: a little less than w of one prompt varies with z in the shipped model.
    """
    found, values = eigenvectors(modulation(pipeline.G, layers, with_selection=with_selection), count)
    scale = STEP * pipeline.G.config.w_dim**0.5
    where = "" if layers == "all" else f" {layers}"
    return [
        Direction(
            name=f"weights {k + 1}{where}",
            source="sefa",
            layers=indices(pipeline.G, layers),
            w=Move(vector=found[k] * scale),
            suggested=1.0,
            facts={"eigenvalue": values[k].item(), "with_selection": with_selection},
        )
        for k in range(count)
    ]


def _convolutions(G: Generator) -> dict[int, AdaptiveConv2d]:
    """Place in ws -> the convolution that it modulates; attention layers take w as a token and have none."""
    found, names = {}, iter(layers(G))
    for size, stack in G.blocks.items():
        for block in stack:
            for conv in (block.conv0, block.conv1):
                found[next(names).index] = conv
            for _ in block.attention:
                next(names)
        found[next(names).index] = G.to_rgb[size]
    return found
