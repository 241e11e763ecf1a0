"""DiffAugment: fixed by its generator, differentiable, and each kind does what it says."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.training import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_generator_decides():
    x = torch.randn(4, 3, 16, 16)
    policy = "color,translation,cutout"
    assert torch.equal(augment.augment(x, policy, generator()), augment.augment(x, policy, generator()))
    assert not torch.equal(augment.augment(x, policy, generator()), augment.augment(x, policy, generator(1)))
    assert augment.augment(x, "", generator()) is x


def test_translation_shifts_whole_pictures_by_at_most_an_eighth():
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    x = torch.stack([row, column, row]).expand(32, 3, 16, 16)
    shift = augment.translation(x, generator()) - x
    inner = shift[:, :, 4:12, 4:12]
    assert (inner == inner[:, :, :1, :1]).all()
    reached = inner[:, :2, 0, 0]
    assert reached.abs().max() == 2 and len(reached.unique()) == 5


def test_cutout_blanks_at_most_half_a_side_squared():
    x = torch.ones(64, 3, 16, 16)
    blanked = (augment.cutout(x, generator()) == 0).float().mean((1, 2, 3))
    assert blanked.max() <= 81 / 256 and blanked.min() > 0


def test_color_keeps_the_shape_and_moves_the_mean():
    x = torch.rand(64, 3, 8, 8)
    y = augment.color(x, generator())
    moved = (y - x).mean((1, 2, 3))
    assert y.shape == x.shape and moved.abs().max() < 0.75 and moved.std() > 0.1


@pytest.mark.parametrize("kind", augment.KINDS)
def test_gradients_pass_through(kind):
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    augment.augment(x, kind, generator()).square().sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).float().mean() > 0.4


def test_unknown_kind_is_named():
    with pytest.raises(WorkbenchError, match=r"\['blur'\].*color, translation, cutout"):
        augment.augmentations("color,blur")
