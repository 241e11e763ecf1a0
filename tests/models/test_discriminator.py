"""D: the number of predictions, levels that never meet, text that matters where it should."""

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator, DiscriminatorConfig, group_deviation, pyramid_for
from workbench.models.ops import box_pyramid


def pyramid(n=4):
    return [torch.randn(n, 3, s, s) for s in (16, 8, 4)]


def test_the_papers_network_makes_fifteen_predictions():
    config = DiscriminatorConfig(
        resolution=64,
        channels=dict.fromkeys((64, 32, 16, 8, 4), 32),
        entries=(64, 32, 16, 8, 4),
        exits=(32, 16, 8, 4, 1),
        attention={},
    )
    assert len(config.predictions) == 15
    logits = Discriminator(config)(
        box_pyramid(torch.randn(2, 3, 64, 64), config.entries), torch.randn(2, 128)
    )
    assert len(logits) == 1 and [tuple(x.shape) for x in logits[0]] == [(2,)] * 15


def test_each_level_moves_its_own_predictions_only():
    D = Discriminator(discriminator_config())
    levels, t = pyramid(), torch.randn(4, TEXT_DIM)
    for level, size in enumerate((16, 8, 4)):
        inputs = [x.clone().requires_grad_() for x in levels]
        (logits,) = D(inputs, t)
        for (entry, _), logit in zip(D.config.predictions, logits, strict=True):
            gradient = torch.autograd.grad(logit.sum(), inputs[level], retain_graph=True, allow_unused=True)[
                0
            ]
            moved = gradient is not None and bool((gradient != 0).any())
            assert moved == (entry == size)


def test_captions_judged_together_equal_captions_judged_alone():
    D = Discriminator(discriminator_config())
    x, t, other = pyramid(), torch.randn(4, TEXT_DIM), torch.randn(4, TEXT_DIM)
    both = D(x, [t, other])
    for together, alone in zip(both[0] + both[1], D(x, t)[0] + D(x, other)[0], strict=True):
        assert torch.allclose(together, alone, atol=1e-5)


def test_the_unconditional_part_ignores_the_caption_and_psi_does_not():
    head = Discriminator(discriminator_config()).heads["4"]
    x, t = torch.randn(4, 32, 4, 4), torch.randn(4, TEXT_DIM)
    free = head(x, None)[0]
    assert not torch.allclose(head.conditional(x, t), head.conditional(x, t.flip(0)))
    assert torch.allclose(head(x, [t])[0], free + head.conditional(x, t), atol=1e-6)


def test_deviation_is_taken_inside_the_pair_and_pixel_by_pixel():
    x = torch.randn(6, 3, 4, 4)
    x[2] = x[3]
    d = group_deviation(x, 2)
    assert d.shape == (6, 1, 4, 4)
    assert torch.allclose(d[0, 0], (x[0] - x[1]).abs().mean(0) / 2, atol=1e-3) and torch.equal(d[0], d[1])
    assert (d[2:4] < 1.1e-4).all()
    order = [0, 1, 4, 5, 2, 3]
    assert torch.allclose(group_deviation(x[order], 2)[order], d)


def test_double_backward_reaches_the_trunk():
    D = Discriminator(discriminator_config())
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    (logits,) = D(box_pyramid(x, D.config.entries), torch.randn(2, TEXT_DIM))
    (gradient,) = torch.autograd.grad(torch.stack(logits).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert D.stages["16"].conv0.weight.grad.abs().sum() > 0
    assert D.stages["8"].attention[0].query.weight.grad.abs().sum() > 0


def test_text_off_leaves_one_judgement():
    D = Discriminator(discriminator_config(text_dim=None))
    assert D.text is None and len(D(pyramid(), None)) == 1


def test_pyramid_for_picks_by_size():
    levels = pyramid()
    assert pyramid_for(levels, (16, 4)) == [levels[0], levels[2]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 24}, "power of two"),
        ({"entries": (8, 4)}, "entries are"),
        ({"exits": (8, 4)}, "exits are"),
        ({"exits": (16, 1)}, "exits are"),
        ({"channels": {16: 32}}, "channels lacks"),
    ],
)
def test_refuses_what_does_not_fit(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        discriminator_config(**changes)
