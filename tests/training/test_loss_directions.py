"""One step on each loss moves what it is for; penalties bear huge logits; DiffAugment favours nobody."""

from types import SimpleNamespace

import pytest
import torch

from workbench.training import losses, steps
from workbench.training.config import TrainConfig
from workbench.training.penalties import finite_difference_penalty, gradient_penalty
from workbench.training.step_batch import StepBatch


def moved(loss, *values: torch.Tensor) -> list[torch.Tensor]:
    """How far one step of gradient descent on loss(*values) moves each of them."""
    parameters = [value.clone().requires_grad_() for value in values]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    loss(*parameters).backward()
    optimizer.step()
    return [after.detach() - value for after, value in zip(parameters, values, strict=True)]


UP, DOWN = 1, -1
# logits of (real, generated) pictures, of generated ones alone, or of pictures under wrong captions
ON_LOGITS = {
    "d_nonsaturating": (lambda r, f: losses.d_nonsaturating([r], [f]), (UP, DOWN)),
    "g_nonsaturating": (lambda f: losses.g_nonsaturating([f]), (UP,)),
    "d_relativistic": (lambda r, f: losses.d_relativistic([r], [f]), (UP, DOWN)),
    "g_relativistic": (lambda r, f: losses.g_relativistic([r], [f]), (DOWN, UP)),
    "d_hinge": (lambda r, f: losses.d_hinge([r], [f]), (UP, DOWN)),
    "g_hinge": (lambda f: losses.g_hinge([f]), (UP,)),
    "d_matching": (lambda m: losses.d_matching([m]), (DOWN,)),
    "d_matching_hinge": (lambda m: losses.d_matching_hinge([m]), (DOWN,)),
    "G cooperative": (lambda m: losses.G_MATCHING["cooperative"]([m]), (DOWN,)),
    "G adversarial": (lambda m: losses.G_MATCHING["adversarial"]([m]), (UP,)),
}


@pytest.mark.parametrize("name", ON_LOGITS)
def test_a_step_moves_the_logits_the_right_way(name):
    loss, ways = ON_LOGITS[name]
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(6, generator=generator) - 0.5 for _ in ways]  # inside the hinges' slopes
    for change, way in zip(moved(loss, *values), ways, strict=True):
        assert (change.sign() == way).all()


def steep(slope: torch.Tensor):
    """A judge whose steepness is `slope`, bent so that its second derivative counts."""
    return lambda x: [slope * torch.tanh(x.flatten(1)).sum(1)]


PENALTIES = {
    "exact": gradient_penalty,
    "finite difference": lambda judge, x: finite_difference_penalty(
        judge, x, torch.Generator().manual_seed(0)
    ),
}


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=list(PENALTIES))
@pytest.mark.parametrize("slope", [-2.0, 2.0])
def test_a_step_on_a_penalty_flattens_the_judge(penalty, slope):
    x = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(1)) / 4
    change = moved(lambda s: 1e-3 * penalty(steep(s), x), torch.tensor(slope))[0]
    assert change * slope < 0 and abs(slope + change) < abs(slope)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=list(PENALTIES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [1e4, -1e4])
def test_penalties_are_finite_where_logits_are_huge(penalty, dtype, value):
    weight = torch.full((48, 1), value / 48, dtype=dtype, requires_grad=True)
    seen = []

    def judge(x):
        seen.append((x.to(dtype).flatten(1) @ weight)[:, 0])
        return seen[-1:]

    found = penalty(judge, torch.ones(4, 3, 4, 4))
    found.backward()
    assert (seen[0].detach().float() / value - 1).abs().max() < 0.1
    assert found.dtype == torch.float32 and found.isfinite() and weight.grad.isfinite().all()


@pytest.mark.parametrize("p", [None, 0.5])
def test_real_and_generated_pictures_are_changed_alike_and_a_slope_reaches_g(p):
    """The same policy, as often, drawn in one way: equal pictures and draws come out equal."""
    config = TrainConfig(diffaugment="color,translation,cutout")
    ada = None if p is None else SimpleNamespace(p=torch.tensor(p))
    players = SimpleNamespace(tower=lambda x: ([x], x.mean((1, 2, 3))), ada=ada)
    pictures = torch.rand(8, 3, 16, 16) * 2 - 1

    def batch(seed: int = 0) -> StepBatch:
        generator = torch.Generator().manual_seed(seed)
        return StepBatch(images=pictures, text=None, mismatch=None, z=None, generator=generator)

    fakes = pictures.clone().requires_grad_()
    (real,), ((fake,), _) = (
        steps.see_reals(players, batch(), config),
        steps.see_fakes(players, batch(), [fakes], config),
    )
    assert torch.equal(real, fake) and not torch.equal(real, pictures)
    once = batch()  # in a step both draw from one generator, so that the changes themselves differ
    (first,), ((second,), _) = (
        steps.see_reals(players, once, config),
        steps.see_fakes(players, once, [fakes], config),
    )
    assert not torch.equal(first, second)
    fake.square().sum().backward()
    assert fakes.grad.isfinite().all() and fakes.grad.any() and not real.requires_grad
    plain = steps.see_reals(players, batch(), TrainConfig(diffaugment=""))[0]
    assert torch.equal(plain, pictures)
