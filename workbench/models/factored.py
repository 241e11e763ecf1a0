"""Weights kept as two thin factors, where what they are fed lies in few directions.

W [O, I] is replaced by left [O, r] right [r, I]. Of all matrices of rank r, the one chosen loses least of W x
on average over the inputs x seen: with C = E[x x^T], the truncated singular value decomposition of W C^(1/2),
times C^(-1/2) (Eckart and Young 1936 in the norm of C). A kernel [O, I, k, k] counts as [O, I k k].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Factors = tuple[Tensor, Tensor]  # left [O, r], right [r, I, ...]
LEFT, RIGHT = ".left", ".right"
_FLAT = 1e-7  # of the largest eigenvalue: below it an input direction counts as never seen


@torch.no_grad()
def factors(weight: Tensor, moment: Tensor, lost: float) -> Factors | None:
    """The thinnest factors that lose at most the share `lost` of the mean square of W x, with fp16's values.

    weight [O, I, ...]; moment C [n, n], n = the numbers of one row of W. None where they would be no smaller
    than W itself.
    """
    matrix = weight.detach().flatten(1).double()
    values, vectors = torch.linalg.eigh(moment.double())
    root = values.clamp_min(values.max() * _FLAT).sqrt()
    u, s, vt = torch.linalg.svd(matrix @ (vectors * root) @ vectors.T, full_matrices=False)
    energy = s.square()
    left_out = 1 - energy.cumsum(0) / energy.sum().clamp_min(torch.finfo(torch.double).tiny)
    rank = int((left_out > lost).sum()) + 1
    if rank * sum(matrix.shape) >= matrix.numel():
        return None
    # the square root of s to either side, so that neither leaves fp16's range
    scale = s[:rank].sqrt()
    left = u[:, :rank] * scale
    right = scale[:, None] * (vt[:rank] @ (vectors / root) @ vectors.T)
    return tuple(t.half().float().contiguous() for t in (left, right.unflatten(1, weight.shape[1:])))


def product(pair: Factors) -> Tensor:
    """The weight that two factors stand for, with fp16's values, float32: the same bits on every machine.

    Products of fp16 numbers are exact in float64, and their sums all but exact, in whatever order.
    """
    left, right = pair
    full = left.double() @ right.flatten(1).double()
    return full.half().float().unflatten(1, right.shape[1:])


def packed(state: Mapping[str, Tensor], pairs: Mapping[str, Factors]) -> dict[str, Tensor]:
    """The state with factors in the place of each weight that still is their product."""
    kept = dict(state)
    for key, pair in pairs.items():
        if key in kept and torch.equal(kept[key].detach().cpu().float(), product(pair)):
            del kept[key]
            kept |= {key + LEFT: pair[0], key + RIGHT: pair[1]}
    return kept


def unpacked(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Factors]]:
    """The whole weights of a packed state, and the factors by the weight's name.

    A lone factor, or two that don't fit each other, stay as they are: whoever loads the state names them.
    """
    whole, pairs = dict(state), {}
    for name in state:
        key = name.removesuffix(LEFT)
        if key == name or key + RIGHT not in state or state[name].shape[1:] != state[key + RIGHT].shape[:1]:
            continue
        pairs[key] = whole.pop(key + LEFT), whole.pop(key + RIGHT)
        whole[key] = product(pairs[key])
    return whole, pairs
