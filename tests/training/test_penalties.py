"""The gradient penalty against functions whose gradient is known."""

import torch

from workbench.training.config import TrainConfig
from workbench.training.penalties import finite_difference_penalty, gradient_penalty
from workbench.training.step_batch import StepBatch
from workbench.training.terms import due_penalties


def test_linear_judge_gives_the_square_of_its_slope():
    a = torch.randn(3, 4, 4)
    penalty = gradient_penalty(lambda x: [(x * a).sum((1, 2, 3))], torch.randn(5, 3, 4, 4))
    assert torch.isclose(penalty, a.square().sum(), rtol=1e-5)


def test_several_predictions_count_by_their_mean():
    a, b = torch.randn(3, 4, 4), torch.randn(3, 4, 4)
    judge = lambda x: [(x * a).sum((1, 2, 3)), (x * b).sum((1, 2, 3))]  # noqa: E731
    penalty = gradient_penalty(judge, torch.randn(5, 3, 4, 4))
    assert torch.isclose(penalty, ((a + b) / 2).square().sum(), rtol=1e-5)


def test_gradient_of_the_penalty_flattens_the_judge():
    slope = torch.tensor(2.0, requires_grad=True)
    penalty = gradient_penalty(lambda x: [slope * x.square().sum((1, 2, 3)) / 2], torch.ones(2, 1, 2, 2))
    penalty.backward()
    assert torch.isclose(penalty, torch.tensor(16.0)) and torch.isclose(slope.grad, torch.tensor(16.0))


def test_finite_difference_of_a_linear_judge_is_its_slope_along_each_direction():
    a, x = torch.randn(3, 4, 4, dtype=torch.float64), torch.randn(5, 3, 4, 4, dtype=torch.float64)
    judge = lambda x: [(x * a).sum((1, 2, 3)), 3 * (x * a).sum((1, 2, 3))]  # noqa: E731
    found = finite_difference_penalty(judge, x, torch.Generator().manual_seed(7))
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(7)).double()
    expected = (2 * (v * a).sum((1, 2, 3))).square().mean()
    assert torch.isclose(found.double(), expected, rtol=1e-4)


def test_finite_difference_agrees_in_the_mean_with_the_exact_penalty():
    """Of a judge that is no straight line, over directions enough for the scatter of chi-square."""
    weight = torch.randn(8, 12) / 3
    judge = lambda x: [torch.tanh(x.flatten(1) @ weight.t()).sum(1)]  # noqa: E731
    x = torch.randn(16, 3, 2, 2)
    exact = gradient_penalty(judge, x)
    many = finite_difference_penalty(judge, x.repeat(2000, 1, 1, 1), torch.Generator().manual_seed(0))
    assert torch.isclose(many, exact, rtol=0.05)


def test_finite_difference_trains_the_judge_without_second_derivatives():
    slope = torch.tensor(2.0, requires_grad=True)
    x = torch.ones(4000, 1, 2, 2)
    judge = lambda x: [slope * x.square().sum((1, 2, 3)) / 2]  # noqa: E731
    finite_difference_penalty(judge, x, torch.Generator().manual_seed(0)).backward()
    assert 14 < slope.grad < 18  # exact: 16


def test_sixteen_plain_steps_weigh_as_much_as_a_lazy_one():
    batch = StepBatch(images=torch.zeros(2, 3, 4, 4), text=None, mismatch=None, z=None, generator=None)
    for every in (1, 4, 16):
        config = TrainConfig(r1_every=every, r1_gamma=2.0, r2_gamma=3.0)
        due = [
            (name, gamma * config.r1_every)
            for step in range(16)
            for name, gamma, _ in due_penalties(batch, [batch.images], step, config)
        ]
        assert sum(weight for name, weight in due if name == "D.r1") == 32
        assert sum(weight for name, weight in due if name == "D.r2") == 48
