"""Ridge regression in closed form, of sums that are filled round by round and never grow.

Letters: N samples, F features, d targets, k parts of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError

FLAT = 1e-12  # share of the largest deviation below which a feature says nothing


@dataclass(frozen=True)
class Fit:
    """y = offset + ((x - mean) / scale) @ weight @ basis, all float64. mean, scale [F]; weight [F, k]; basis
    [k, d], rows of unit length at right angles; offset [d].
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    basis: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[N, F] -> [N, d]."""
        return self.offset + (x.double() - self.mean) / self.scale @ self.weight @ self.basis


class Sums:
    """The sums that the normal equations need, in float64: F² + F d numbers whatever N is."""

    def __init__(self, features: int, targets: int):
        self.n = 0
        self.x, self.y = torch.zeros(features).double(), torch.zeros(targets).double()
        self.xx = torch.zeros(features, features).double()
        self.xy = torch.zeros(features, targets).double()

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take N more samples in: x [N, F], y [N, d]."""
        x, y = x.detach().cpu().double(), y.detach().cpu().double()
        self.n += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx.addmm_(x.t(), x)
        self.xy.addmm_(x.t(), y)

    def solve(self, strength: float, parts: int) -> Fit:
        """Minimise mean |y - fit|² + strength |weight|² over standardised features; then keep the k parts of
        y in which the fit varies most (reduced-rank regression, Izenman 1975).

        Raises WorkbenchError before two samples are in, for a strength that is not above 0 and for more parts
        than y has numbers.
        """
        if self.n < 2 or not strength > 0 or not 1 <= parts <= len(self.y):
            raise WorkbenchError(
                f"There are {self.n} samples, strength {strength:g} and {parts} parts of {len(self.y)} "
                "numbers: expected two samples at least, a strength above 0 and no more parts than numbers."
            )
        mean, offset = self.x / self.n, self.y / self.n
        covariance = self.xx / self.n - torch.outer(mean, mean)
        deviation = covariance.diagonal().clamp_min(0).sqrt()
        flat = deviation <= FLAT * deviation.max()
        scale = torch.where(flat, 1.0, deviation)
        alike = covariance / torch.outer(scale, scale)
        toward = (self.xy / self.n - torch.outer(mean, offset)) / scale[:, None]
        weight = torch.linalg.solve(alike + strength * torch.eye(len(alike)).double(), toward)
        weight[flat] = 0
        basis = torch.linalg.eigh(weight.t() @ alike @ weight).eigenvectors.flip(1)[:, :parts].t()
        return Fit(mean, scale, weight @ basis.t(), basis, offset)
