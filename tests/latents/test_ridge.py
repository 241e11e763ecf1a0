"""Ridge regression against its closed form in float64; sums in rounds are the sums of the whole."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.latents.ridge import Sums


def toy(n=400, noise=0.0):
    """A linear world: y is 3 numbers of 2 directions, features are far from 0 and unlike in size."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=g).double() * torch.tensor([1, 10, 0.1, 3, 1]) + torch.arange(5)
    true = torch.randn(5, 2, generator=g).double() @ torch.randn(2, 3, generator=g).double()
    return x, x @ true + 7 + noise * torch.randn(n, 3, generator=g).double()


def summed(x, y, rounds=1):
    sums = Sums(x.shape[1], y.shape[1])
    for a, b in zip(x.chunk(rounds), y.chunk(rounds), strict=True):
        sums.add(a, b)
    return sums


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_it_is_the_closed_form(strength):
    x, y = toy(noise=0.5)
    u = (x - x.mean(0)) / x.std(0, correction=0)
    gram = u.t() @ u / len(u) + strength * torch.eye(5).double()
    weight = torch.linalg.inv(gram) @ u.t() @ (y - y.mean(0)) / len(u)
    fit = summed(x, y).solve(strength, 3)  # all parts: nothing of it is left out
    assert torch.allclose(fit.weight @ fit.basis, weight, atol=1e-9)
    assert torch.allclose(fit(x), y.mean(0) + u @ weight, atol=1e-9)


def test_a_linear_world_is_learnt_and_two_parts_hold_all_of_it():
    x, y = toy()
    fit = summed(x, y).solve(1e-9, 2)
    assert (fit(x) - y).abs().max() < 1e-5
    assert torch.allclose(fit.basis @ fit.basis.t(), torch.eye(2).double(), atol=1e-9)
    assert (summed(x, y).solve(1e-9, 1)(x) - y).abs().max() > 0.1


def test_rounds_add_up_to_the_whole():
    x, y = toy(noise=0.5)
    whole, rounds = summed(x, y), summed(x, y, rounds=7)
    assert whole.n == rounds.n == 400
    for name in ("x", "y", "xx", "xy"):
        assert torch.allclose(getattr(whole, name), getattr(rounds, name), rtol=1e-12)
    assert torch.allclose(whole.solve(0.1, 2)(x), rounds.solve(0.1, 2)(x), atol=1e-9)


def test_a_feature_that_never_changes_says_nothing():
    x, y = toy()
    x[:, 2] = 4.0
    fit = summed(x, y).solve(0.1, 3)
    assert torch.equal(fit.weight[2], torch.zeros(3).double()) and fit(x).isfinite().all()


def test_what_has_no_solution_is_refused():
    x, y = toy(4)
    with pytest.raises(WorkbenchError, match="0 samples"):
        Sums(5, 3).solve(0.1, 1)
    for strength, parts in ((0.0, 1), (0.1, 4), (0.1, 0)):
        with pytest.raises(WorkbenchError, match="expected two samples at least"):
            summed(x, y).solve(strength, parts)
