"""Fréchet distance: closed forms, identities, refusals."""

import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.evaluation.distances import Moments, frechet, frechet_from_features, mean_and_covariance

F64 = torch.float64


def random_covariance(dims: int, seed: int) -> torch.Tensor:
    a = torch.randn(dims, dims + 3, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return a @ a.T / dims


def test_diagonal_gaussians_have_the_closed_form():
    s1, s2 = torch.tensor([1.0, 4.0, 0.25], dtype=F64), torch.tensor([9.0, 1.0, 0.25], dtype=F64)
    m1, m2 = torch.tensor([0.0, 1.0, 2.0], dtype=F64), torch.tensor([3.0, 1.0, -2.0], dtype=F64)
    expected = 9 + 16 + (1 - 3) ** 2 + (2 - 1) ** 2 + 0
    assert math.isclose(frechet(m1, s1.diag(), m2, s2.diag()), expected, rel_tol=1e-12)


def test_a_gaussian_is_at_distance_zero_from_itself():
    cov = random_covariance(20, 0)
    assert frechet(torch.ones(20), cov, torch.ones(20), cov) < 1e-9


def test_a_shifted_mean_costs_its_squared_length():
    cov, mean = random_covariance(12, 1), torch.zeros(12, dtype=F64)
    assert math.isclose(frechet(mean, cov, mean + 2.0, cov), 4.0 * 12, rel_tol=1e-9)


def test_it_is_symmetric_and_blind_to_rotation():
    c1, c2 = random_covariance(9, 2), random_covariance(9, 3)
    m1, m2 = torch.randn(9, dtype=F64), torch.randn(9, dtype=F64)
    q = torch.linalg.qr(torch.randn(9, 9, dtype=F64, generator=torch.Generator().manual_seed(4)))[0]
    here = frechet(m1, c1, m2, c2)
    assert math.isclose(here, frechet(m2, c2, m1, c1), rel_tol=1e-9)
    assert math.isclose(here, frechet(q @ m1, q @ c1 @ q.T, q @ m2, q @ c2 @ q.T), rel_tol=1e-9)


def test_commuting_full_covariances_have_the_closed_form():
    values, q = torch.linalg.eigh(random_covariance(7, 5))
    other = torch.linspace(0.1, 3.0, 7, dtype=F64)
    expected = (values.sqrt() - other.sqrt()).square().sum().item()
    zero = torch.zeros(7, dtype=F64)
    assert math.isclose(frechet(zero, (q * values) @ q.T, zero, (q * other) @ q.T), expected, rel_tol=1e-9)


def test_rank_deficient_covariances_give_a_finite_distance():
    a = torch.randn(5, 30, generator=torch.Generator().manual_seed(6))
    b = torch.randn(5, 30, generator=torch.Generator().manual_seed(7))
    assert 0 < frechet_from_features(a, b) < 1000
    assert frechet_from_features(a, a) < 1e-6


def test_mean_and_covariance_are_torchs_own():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(8)).to(F64)
    mean, cov = mean_and_covariance(x)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(cov, torch.cov(x.T))


def test_samples_of_two_gaussians_come_near_their_distance():
    gen = torch.Generator().manual_seed(9)
    a, b = torch.randn(40_000, 4, generator=gen), 2 * torch.randn(40_000, 4, generator=gen) + 1
    assert abs(frechet_from_features(a, b) - (4 + 4)) < 0.15


def test_refusals():
    with pytest.raises(WorkbenchError, match=r"shape \(1, 3\)"):
        mean_and_covariance(torch.zeros(1, 3))
    with pytest.raises(WorkbenchError, match="not finite"):
        mean_and_covariance(torch.full((4, 3), math.nan))
    with pytest.raises(WorkbenchError, match="don't match"):
        frechet(torch.zeros(3), torch.eye(3), torch.zeros(4), torch.eye(4))


def moments(x: torch.Tensor, parts: int = 1) -> Moments:
    held = Moments(x.shape[1])
    for part in x.tensor_split(parts):
        held.add(part)
    return held


def test_moments_of_parts_are_those_of_the_whole():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(8)) + 3
    for held in (moments(x), moments(x, 7), moments(x[:13]) + moments(x[13:])):
        torch.testing.assert_close(held.mean_and_covariance(), mean_and_covariance(x))
    assert moments(x).distance(moments(x, 7)) < 1e-9
    other = torch.randn(40, 6, generator=torch.Generator().manual_seed(9))
    assert math.isclose(moments(x).distance(moments(other)), frechet_from_features(x, other), rel_tol=1e-9)


def test_moments_refuse():
    with pytest.raises(WorkbenchError, match="Features of 1 pictures have no covariance"):
        moments(torch.zeros(1, 3)).mean_and_covariance()
    with pytest.raises(WorkbenchError, match="not finite"):
        moments(torch.full((3, 2), math.nan)).mean_and_covariance()
