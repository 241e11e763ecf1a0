"""Fréchet distances between two sets of features, in float64.

Letters: N samples, F feature dimension. The distance is that of two Gaussians with the sets' means and
covariances (Dowson and Landau 1982; Heusel et al. 2017 use it on Inception features and call that FID). It is
called "frechet" here whatever the features: the name FID belongs to Inception features alone.
"""

import torch
from torch import Tensor

from workbench.errors import WorkbenchError


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """features [N, F] -> mean [F] and unbiased covariance [F, F], both float64.

    The covariance has rank N - 1 at most, so N > F is needed for a full one; below that a distance may still
    be read against a floor of the same N. Raises WorkbenchError for N < 2, another shape or values that are
    not finite.
    """
    if features.ndim != 2 or features.shape[0] < 2:
        raise WorkbenchError(
            f"Features have shape {tuple(features.shape)}: expected [N, F] with N >= 2. Measure more "
            "pictures."
        )
    x = features.to(torch.float64)
    if not torch.isfinite(x).all():
        raise WorkbenchError(
            "Features hold values that are not finite: expected finite numbers. "
            "Look at the pictures they were taken from."
        )
    mean = x.mean(dim=0)
    centred = x - mean
    return mean, centred.T @ centred / (x.shape[0] - 1)


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a positive semi-definite matrix [F, F]; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def frechet(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2).

    mean [F], cov [F, F], any float type; computed in float64. The inner matrix is symmetric, so a symmetric
    eigendecomposition serves and no complex numbers appear, unlike with a general matrix square root of C1
    C2. Dowson and Landau 1982, eq. 16. Raises WorkbenchError when the shapes don't belong together.
    """
    dims = mean1.shape[0]
    if mean1.shape != mean2.shape or cov1.shape != (dims, dims) or cov2.shape != (dims, dims):
        raise WorkbenchError(
            f"Means {tuple(mean1.shape)}, {tuple(mean2.shape)} and covariances {tuple(cov1.shape)}, "
            f"{tuple(cov2.shape)} don't match: expected [F] and [F, F]. Take both sets from the same "
            "features."
        )
    m1, c1, m2, c2 = (t.to(torch.float64) for t in (mean1, cov1, mean2, cov2))
    root = _root(c1)
    inner = root @ c2 @ root
    cross = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
    distance = (m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross
    return max(0.0, distance.item())


def frechet_from_features(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of two feature sets [N, F] and [M, F]."""
    return frechet(*mean_and_covariance(a), *mean_and_covariance(b))


class Moments:
    """Mean and covariance of features that come in parts, in [F, F] float64 of memory however many."""

    def __init__(self, dims: int) -> None:
        self.count = 0
        self.total = torch.zeros(dims, dtype=torch.float64)
        self.outer = torch.zeros(dims, dims, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features [N, F]."""
        x = features.to(torch.float64)
        self.count += len(x)
        self.total += x.sum(dim=0)
        self.outer += x.T @ x

    def __add__(self, other: "Moments") -> "Moments":
        """Those of both sets together."""
        both = Moments(len(self.total))
        both.count = self.count + other.count
        both.total, both.outer = self.total + other.total, self.outer + other.outer
        return both

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """As `mean_and_covariance` of all parts at once, and with its refusals."""
        if self.count < 2:
            raise WorkbenchError(
                f"Features of {self.count} pictures have no covariance: expected 2 or more. Measure more "
                "pictures."
            )
        mean = self.total / self.count
        covariance = (self.outer - self.count * torch.outer(mean, mean)) / (self.count - 1)
        if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
            raise WorkbenchError(
                "Features hold values that are not finite: expected finite numbers. "
                "Look at the pictures they were taken from."
            )
        return mean, covariance

    def distance(self, other: "Moments") -> float:
        """Squared Fréchet distance to another set."""
        return frechet(*self.mean_and_covariance(), *other.mean_and_covariance())
