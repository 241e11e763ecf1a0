"""Weights as thin factors: exact where the rank allows, the best of their rank, the same after a file."""

import pytest
import torch
from safetensors.torch import load, save

from workbench.models.factored import factors, packed, product, unpacked


def moment_of(x):
    return x.double().T @ x.double() / len(x)


def lost_by(weight, other, x):
    """Share of the mean square of W x that another matrix loses, in float64."""
    said = x.double() @ weight.double().T
    return ((said - x.double() @ other.double().T).square().sum() / said.square().sum()).item()


def test_a_weight_of_low_rank_comes_back():
    torch.manual_seed(0)
    weight = torch.randn(24, 3) @ torch.randn(3, 40)
    left, right = factors(weight, torch.eye(40), 1e-6)
    assert left.shape == (24, 3) and right.shape == (3, 40)
    torch.testing.assert_close(product((left, right)), weight, atol=2e-2, rtol=2e-3)


def test_directions_that_no_input_has_cost_nothing():
    torch.manual_seed(1)
    x = torch.randn(500, 4) @ torch.randn(4, 40)
    weight = torch.randn(32, 40)
    pair = factors(weight, moment_of(x), 1e-4)
    assert pair[0].shape[1] == 4
    assert lost_by(weight, product(pair), x) < 1e-5
    assert lost_by(weight, product(pair), torch.randn(500, 40)) > 0.5


@pytest.mark.parametrize("lost", [0.3, 0.1, 0.01])
def test_it_loses_no_more_than_asked_and_no_rank_below_would_do(lost):
    torch.manual_seed(2)
    x = torch.randn(4000, 64) * torch.logspace(0, -2, 64)
    weight = torch.randn(64, 64)
    pair = factors(weight, moment_of(x), lost)
    rank = pair[0].shape[1]
    assert lost_by(weight, product(pair), x) < lost + 1e-3
    # Eckart and Young: no matrix of a lower rank loses less than the singular values left out
    root = torch.linalg.cholesky(moment_of(x))
    energy = torch.linalg.svdvals(weight.double() @ root).square()
    assert energy[rank - 1 :].sum() / energy.sum() > lost


def test_a_full_weight_is_left_alone():
    assert factors(torch.randn(16, 16), torch.eye(16), 1e-4) is None


def test_kernels_keep_their_shape():
    torch.manual_seed(3)
    flat = torch.randn(20, 2) @ torch.randn(2, 45)
    left, right = factors(flat.view(20, 5, 3, 3), torch.eye(45), 1e-6)
    assert right.shape == (2, 5, 3, 3) and product((left, right)).shape == (20, 5, 3, 3)


def test_a_file_holds_the_same_bits():
    torch.manual_seed(4)
    pair = factors(torch.randn(30, 4) @ torch.randn(4, 50), torch.eye(50), 1e-6)
    state = {"a.weight": product(pair), "b.weight": torch.randn(3, 3)}
    kept = packed(state, {"a.weight": pair, "gone.weight": pair})
    assert set(kept) == {"a.weight.left", "a.weight.right", "b.weight"}
    read = {name: value.float() for name, value in load(save({k: v.half() for k, v in kept.items()})).items()}
    whole, pairs = unpacked(read)
    assert torch.equal(whole["a.weight"], state["a.weight"]) and set(pairs) == {"a.weight"}
    assert set(packed(whole, pairs)) == set(kept)


def test_a_weight_that_has_changed_is_kept_whole():
    pair = factors(torch.randn(30, 4) @ torch.randn(4, 50), torch.eye(50), 1e-6)
    state = {"a.weight": product(pair) + 1}
    assert torch.equal(packed(state, {"a.weight": pair})["a.weight"], state["a.weight"])


def test_halves_that_do_not_fit_stay_for_the_loader_to_name():
    state = {
        "a.weight.left": torch.ones(4, 2),
        "b.weight.left": torch.ones(4, 2),
        "b.weight.right": torch.ones(3, 5),
    }
    assert unpacked(state) == (state, {})
