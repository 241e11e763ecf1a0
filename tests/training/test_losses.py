"""Each loss: its value in closed form, the direction it pulls, finite at extreme logits."""

import math

import pytest
import torch

from workbench.training import losses


def logits(*values):
    return [torch.full((4,), float(v)) for v in values]


ZERO = logits(0, 0, 0)
LN2 = math.log(2)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda: losses.d_nonsaturating(ZERO, ZERO), 2 * LN2),
        (lambda: losses.g_nonsaturating(ZERO), LN2),
        (lambda: losses.d_relativistic(ZERO, ZERO), LN2),
        (lambda: losses.g_relativistic(ZERO, ZERO), LN2),
        (lambda: losses.d_hinge(ZERO, ZERO), 2.0),
        (lambda: losses.g_hinge(logits(3, 5)), -4.0),
        (lambda: losses.d_matching(ZERO), LN2),
        (lambda: losses.d_matching_hinge(logits(-2, 1)), 1.0),
        (lambda: losses.d_nonsaturating(logits(2), logits(-2)), 2 * math.log(1 + math.exp(-2))),
        (lambda: losses.G_MATCHING["cooperative"](logits(1)), math.log(1 + math.e)),
        (lambda: losses.G_MATCHING["adversarial"](logits(1)), math.log(1 + 1 / math.e)),
        (lambda: losses.reconstruction(torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 3, 4, 4)), 0.25),
    ],
)
def test_values_in_closed_form(loss, expected):
    assert abs(loss().item() - expected) < 1e-6


@pytest.mark.parametrize(
    ("loss", "real", "fake"),
    [
        (losses.d_nonsaturating, -1, 1),
        (losses.d_relativistic, -1, 1),
        (losses.d_hinge, -1, 1),
        (losses.g_relativistic, 1, -1),
    ],
)
def test_two_sided_losses_pull_real_and_fake_the_right_way(loss, real, fake):
    r, f = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    loss([r], [f]).backward()
    assert (r.grad.sign() == real).all() and (f.grad.sign() == fake).all()


@pytest.mark.parametrize(
    ("loss", "sign"),
    [
        (losses.g_nonsaturating, -1),
        (losses.g_hinge, -1),
        (losses.d_matching, 1),
        (losses.d_matching_hinge, 1),
        (losses.G_MATCHING["cooperative"], 1),
        (losses.G_MATCHING["adversarial"], -1),
    ],
)
def test_one_sided_losses_pull_the_right_way(loss, sign):
    x = torch.zeros(4, requires_grad=True)
    loss([x]).backward()
    assert (x.grad.sign() == sign).all()


ON_LOGITS = {
    "d_nonsaturating": lambda x: losses.d_nonsaturating([x], [-x]),
    "g_nonsaturating": lambda x: losses.g_nonsaturating([x]),
    "d_relativistic": lambda x: losses.d_relativistic([x], [-x]),
    "g_relativistic": lambda x: losses.g_relativistic([x], [-x]),
    "d_hinge": lambda x: losses.d_hinge([x], [-x]),
    "g_hinge": lambda x: losses.g_hinge([x]),
    "d_matching": lambda x: losses.d_matching([x]),
    "d_matching_hinge": lambda x: losses.d_matching_hinge([x]),
    "cooperative": lambda x: losses.G_MATCHING["cooperative"]([x]),
    "adversarial": lambda x: losses.G_MATCHING["adversarial"]([x]),
    "clip_contrastive": lambda x: losses.clip_contrastive(x[:, None], x[:, None], torch.arange(4), 100.0),
    "reconstruction": lambda x: losses.reconstruction(x, -x),
    "out_of_range": losses.out_of_range,
    "mode_seeking": lambda x: losses.mode_seeking([x.view(4, 1, 1, 1)], [torch.arange(4.0).view(4, 1, 1, 1)]),
}


@pytest.mark.parametrize("name", ON_LOGITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1e4, -1e4])
def test_finite_at_extreme_values(name, dtype, value):
    x = torch.full((4,), value, dtype=dtype, requires_grad=True)
    loss = ON_LOGITS[name](x)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()
    assert loss.dtype == torch.float32 or name == "out_of_range"


def test_means_do_not_depend_on_the_number_of_predictions():
    assert torch.isclose(
        losses.d_nonsaturating(logits(1), logits(2)), losses.d_nonsaturating(logits(1, 1, 1), logits(2, 2, 2))
    )


def test_contrastive_loss_prefers_each_pictures_own_caption():
    text = torch.eye(4)
    target = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    right, wrong = text[target], text[(target + 1) % 4]
    scale = 100.0
    assert losses.clip_contrastive(right, text, target, scale) < 1e-6
    assert torch.isclose(losses.clip_contrastive(wrong, text, target, scale), torch.tensor(100.0))
    flat = torch.zeros(8, 4)
    assert abs(losses.clip_contrastive(flat, text, target, scale).item() - math.log(4)) < 1e-6


def test_mode_seeking_vanishes_at_the_spread_of_real_pairs_and_pushes_apart_below_it():
    real = torch.randn(4, 3, 8, 8)
    assert losses.mode_seeking([real.clone()], [real]) == 0
    fake = (real * 0.25).requires_grad_()
    loss = losses.mode_seeking([fake], [real])
    assert torch.isclose(loss, torch.tensor(0.75))
    assert torch.isclose(losses.mode_seeking([fake, 3 * real], [real, real]), torch.tensor(0.375))
    loss.backward()
    with torch.no_grad():
        further = fake - 0.1 * fake.grad
    assert losses.mode_seeking([further], [real]) < loss


def test_pair_distance_in_numbers():
    x = torch.zeros(4, 3, 2, 2)
    x[1] += 0.5
    assert torch.equal(losses.pair_distance(x), torch.tensor([0.5, 0.0]))


def test_out_of_range_is_zero_inside_and_quadratic_outside():
    assert losses.out_of_range(torch.tensor([-1.02, 0.0, 1.0])) == 0
    assert torch.isclose(losses.out_of_range(torch.tensor([2.02, -2.02])), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("loss", "measure"),
    [
        (
            lambda x: losses.clip_contrastive(x, torch.eye(4), torch.arange(4), 10.0),
            lambda x: x.diag().mean(),
        ),
        (lambda x: losses.reconstruction(x, torch.ones(4, 4)), lambda x: -(x - 1).abs().mean()),
        (lambda x: losses.out_of_range(x + 3), lambda x: -(x + 3).abs().mean()),
    ],
)
def test_one_optimiser_step_moves_what_the_loss_is_for(loss, measure):
    x = torch.zeros(4, 4, requires_grad=True)
    before = measure(x.detach())
    optimizer = torch.optim.SGD([x], lr=0.1)
    loss(x).backward()
    optimizer.step()
    assert measure(x.detach()) > before
