"""The gradient penalty against functions whose gradient is known."""

import torch

from workbench.training.penalties import gradient_penalty


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
