"""DiffAugment: fixed by its generator, differentiable, what each kind says, as often as it is asked."""

import json
import math

import pytest
import tiny_run
import torch

from workbench.errors import WorkbenchError
from workbench.training import augment
from workbench.training.checkpoint import newest
from workbench.training.config import TrainConfig


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


@pytest.mark.parametrize("kind", augment.KINDS)
def test_as_many_pictures_are_changed_as_the_probability_says(kind):
    x = torch.rand(2000, 3, 16, 16) * 2 - 1
    never = augment.augment(x, kind, generator(), probability=torch.tensor(0.0))
    assert torch.equal(never, x)
    always = (augment.augment(x, kind, generator(), probability=torch.tensor(1.0)) != x).any((1, 2, 3))
    third = (augment.augment(x, kind, generator(), probability=torch.tensor(0.3)) != x).any((1, 2, 3))
    expected = 0.3 * always.float().mean()  # a shift may be by nothing
    assert (third.float().mean() - expected).abs() < 4 * (0.3 * 0.7 / 2000) ** 0.5
    assert not (third & ~always).any()  # the change itself is drawn alike


def test_the_controller_moves_towards_its_target_and_stays_between_never_and_always():
    ada = augment.Adaptive(target=0.6, kimg=1.0)
    surer, unsure = torch.tensor(0.7), torch.tensor(0.5)
    moves = [ada.move(surer, 250).item() for _ in range(5)]
    assert moves == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert ada.move(unsure, 100).item() == pytest.approx(0.9)
    assert ada.move(torch.tensor(0.6), 100).item() == pytest.approx(0.9)  # there: nothing to do
    assert [ada.move(unsure, 800).item() for _ in range(2)] == pytest.approx([0.1, 0.0])


def test_a_run_adapts_step_by_step_and_keeps_its_probability_across_a_stop(inputs, tmp_path, same_run):
    options = {"heads": True, "diffaugment": "color", "ada_target": 0.2, "ada_kimg": 0.1}
    options |= {"lr_D": 3e-2, "log_every_nimg": 8}  # heads that soon are sure, and a line a step
    tiny_run.run_tiny(inputs, tmp_path / "whole", **options)
    tiny_run.run_tiny(inputs, tmp_path / "stopped", **options, stop_after_nimg=160)
    tiny_run.run_tiny(inputs, tmp_path / "stopped", **options)
    same_run(tmp_path / "whole", tmp_path / "stopped")
    expected, shown = 0.0, []
    for line in map(json.loads, (tmp_path / "whole" / "history.jsonl").read_text().splitlines()):
        if line["kind"] == "step":
            expected = min(1.0, max(0.0, expected + math.copysign(8 / 100, line["V.sign"] - 0.2)))
            shown.append(line["ada.p"])
            assert shown[-1] == pytest.approx(expected, abs=1e-5)
    assert len(shown) == 24 and max(shown) > 0.2 and 0.0 in shown
    assert newest(tmp_path / "whole")[0].tensors()["ada"]["p"] == pytest.approx(expected, abs=1e-5)


def test_a_target_without_anything_to_adapt_is_refused():
    for settings in ({"diffaugment": ""}, {"vision_weight": 0.0}):
        with pytest.raises(WorkbenchError, match=r"ada_target is 0\.6, and there is nothing to adapt"):
            TrainConfig(ada_target=0.6, **settings)
