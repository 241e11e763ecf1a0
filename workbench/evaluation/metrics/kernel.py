"""Kernel distance between two sets of features, with an error bar over subsets.

Letters: N, M rows, F features, m of a subset. Binkowski et al. 2018 (KID): the squared maximum mean
discrepancy with the kernel (x y / F + 1)^3, unbiased, so that its mean does not depend on the number of
pictures, and it may fall below 0 for two sets of one distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError

SUBSETS, SUBSET_SIZE = 100, 1000
SEED = 2020  # torch-fidelity's: the same rows give the same subsets


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """mean and std: over subsets; subsets: how many; size: rows of each."""

    mean: float
    std: float
    subsets: int
    size: int


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def mmd2(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD of two sets [m, F] of the same size, in float64."""
    x, y, m = x.double(), y.double(), len(x)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (m * (m - 1))
    return (within - 2 * xy.mean()).item()


def kernel_distance(
    x: Tensor, y: Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = SEED
) -> KernelDistance:
    """Mean and deviation of `mmd2` over random subsets of x [N, F] and y [M, F], drawn without repetition and
    in torch-fidelity's order. A set smaller than `size` makes all subsets as small as it is.

    Raises WorkbenchError for features of different length and fewer than two rows.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2 or subsets < 1:
        raise WorkbenchError(
            f"A kernel distance of features {tuple(x.shape)} and {tuple(y.shape)} over {subsets} subsets: "
            "expected [N, F] and [M, F] with N, M >= 2, and a subset or more."
        )
    m, draw = min(size, len(x), len(y)), np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        mine, theirs = draw.choice(len(x), m, replace=False), draw.choice(len(y), m, replace=False)
        values.append(mmd2(x[torch.from_numpy(mine)], y[torch.from_numpy(theirs)]))
        if m == len(x) == len(y):
            break  # every subset is all rows
    found = np.array(values)
    return KernelDistance(mean=float(found.mean()), std=float(found.std()), subsets=len(found), size=m)
