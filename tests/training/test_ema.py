"""The average of G: closed forms of its half-life and ramp-up, buffers, refusals."""

import math

import pytest
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig
from workbench.training.ema import EMA, beta_of, ema_beta


def constant(value: float) -> nn.Module:
    module = nn.Linear(2, 2)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(value)
    module.register_buffer("w_avg", torch.full((3,), value))
    return module


def test_after_one_half_life_half_of_the_old_is_left():
    average, now = EMA(constant(0.0)), constant(1.0)
    beta = ema_beta(32, 10_000_000, 1.0)  # half-life 1000 images: 31.25 steps of 32
    for _ in range(125):  # four half-lives
        average.update(now, beta)
    assert torch.allclose(average.model.weight, torch.full((2, 2), 1 - 0.5**4), atol=1e-6)


def test_n_updates_equal_the_closed_form_of_a_moving_target():
    model, beta = constant(0.0), 0.9
    average = EMA(model)
    for n in range(1, 11):
        with torch.no_grad():
            model.weight.fill_(float(n))
        average.update(model, beta)
    expected = sum(n * 0.1 * beta ** (10 - n) for n in range(1, 11))
    assert torch.allclose(average.model.weight, torch.full((2, 2), expected), atol=1e-5)


def test_ramp_up_is_five_percent_of_the_images_seen():
    assert ema_beta(32, 0, 10.0) == 0.0
    assert ema_beta(32, 20_000, 10.0) == pytest.approx(0.5 ** (32 / 1000))
    assert ema_beta(32, 200_000, 10.0) == ema_beta(32, 10**9, 10.0) == pytest.approx(0.5 ** (32 / 10_000))


def test_the_ramp_up_of_a_run_in_closed_form():
    """While h = r k B, n steps of B leave prod_k 0.5 ** (B / h) = 0.5 ** (sum_k 1 / k / r) of the start."""
    config = TrainConfig(batch_size=10, ema_halflife_kimg=1000.0, ema_rampup=2.0**-1)
    left = math.prod(beta_of(config, 10 * k) for k in range(1, 21))
    assert left == pytest.approx(0.5 ** (2 * sum(1 / k for k in range(1, 21))))
    assert beta_of(config, 1000) == pytest.approx(0.5 ** (10 / 500))
    assert beta_of(config, 10**8) == pytest.approx(0.5 ** (10 / 1_000_000))  # the half-life is reached


def test_without_ramp_up_the_half_life_holds_from_the_first_step():
    config = TrainConfig(batch_size=10, ema_halflife_kimg=1.0, ema_rampup=0.0)
    assert beta_of(config, 10) == beta_of(config, 10**8) == pytest.approx(0.5**0.01)
    usual = TrainConfig()
    assert beta_of(usual, 40_000) == ema_beta(32, 40_000, 5.0, ramp_up=0.05)  # what runs did before


def test_the_batch_size_changes_nothing_per_image():
    assert ema_beta(64, 10**6, 5.0) == pytest.approx(ema_beta(32, 10**6, 5.0) ** 2)


def test_buffers_are_copied_and_weights_stay_float32():
    average = EMA(constant(0.0))
    average.update(constant(1.0).bfloat16(), 0.5)
    assert torch.equal(average.model.w_avg, torch.ones(3))
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in average.model.parameters())
    assert torch.allclose(average.model.weight, torch.full((2, 2), 0.5))


def test_the_average_is_its_own_copy():
    model = constant(0.0)
    average = EMA(model)
    with torch.no_grad():
        model.weight.fill_(7.0)
    assert torch.equal(average.model.weight, torch.zeros(2, 2))


def test_refusals():
    with pytest.raises(WorkbenchError, match="ema_halflife_kimg is 0"):
        ema_beta(32, 100, 0)
    with pytest.raises(WorkbenchError, match="other parameters"):
        EMA(nn.Linear(2, 2)).update(nn.Linear(3, 3), 0.5)
