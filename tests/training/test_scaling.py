"""The loss scale of float16: what it lifts it puts back, an overflow halves it, and a checkpoint holds it."""

import pytest
import tiny_run
import torch
from torch import nn

from workbench.errors import WorkbenchError
from workbench.hardware import Machine
from workbench.training import scaling, setup, steps
from workbench.training.checkpoint import load_module, module_tensors
from workbench.training.config import TrainConfig
from workbench.training.penalties import wide_enough
from workbench.training.players import NormGuard, Players
from workbench.training.scaling import LossScale


def one_parameter(scale: LossScale | None) -> tuple[Players, nn.Parameter]:
    """Players of which D is a single weight of 1, at a rate of 1 without momentum."""
    D = nn.Linear(1, 1, bias=False)
    nn.init.ones_(D.weight)
    optimizer = torch.optim.SGD(D.parameters(), lr=1.0)
    rest = dict.fromkeys(("G", "heads", "tower", "text_encoder", "captions", "clip", "opt_G"))
    return Players(D=D, opt_D=optimizer, guard=NormGuard(), scale=scale, **rest), D.weight


def update(players: Players, loss: torch.Tensor) -> bool:
    players.backward("D", loss)
    return steps.update(players, "D", players.opt_D, None, TrainConfig(clip_norm=1e9))[1]


def test_a_scaled_update_is_the_plain_one():
    (plain, a), (scaled, b) = one_parameter(None), one_parameter(LossScale())
    for players, weight in ((plain, a), (scaled, b)):
        assert update(players, (weight * 0.125).sum())
    assert a.item() == b.item() == 0.875


def test_the_scale_saves_gradients_that_float16_would_lose():
    weight = torch.tensor(1.0, requires_grad=True)

    def gradient(scale: float) -> float:
        (found,) = torch.autograd.grad(weight.half().float() * 1e-9 * scale, weight)
        return found.item() / scale

    assert gradient(1.0) == 0.0 and gradient(scaling.START) == pytest.approx(1e-9, rel=0.01)


@pytest.mark.parametrize("poison", [float("inf"), float("nan")])
def test_a_poisoned_gradient_halves_the_scale_and_applies_nothing(poison):
    scale = LossScale()
    players, weight = one_parameter(scale)
    assert update(players, (weight * 0.5).sum()) and weight.item() == 0.5
    weight.register_hook(lambda gradient: gradient * poison)
    assert update(players, (weight * 0.5).sum())  # the scale's to mend: no reason to go back
    assert (weight.item(), scale.D.item(), scale.good_D.item()) == (0.5, scaling.START / 2, 0)
    assert (scale.G.item(), players.guard.D.isfinite()) == (scaling.START, True)
    for _ in range(15):
        assert update(players, (weight * 0.5).sum())
    assert scale.D.item() == scaling.LOWEST
    assert not update(players, (weight * 0.5).sum())  # no scale is to blame any more
    assert weight.item() == 0.5


def test_it_grows_after_many_good_updates_up_to_its_highest():
    scale = LossScale()
    for _ in range(scaling.GROWTH_STEPS - 1):
        scale.settle("G", True)
    assert scale.G.item() == scaling.START
    scale.settle("G", True)
    assert (scale.G.item(), scale.D.item()) == (2 * scaling.START, scaling.START)
    for _ in range(20 * scaling.GROWTH_STEPS):
        scale.settle("G", True)
    assert scale.G.item() == scaling.HIGHEST


def test_a_checkpoint_holds_it_only_where_there_is_one():
    scale, fresh = LossScale(), LossScale()
    scale.settle("D", False)
    scale.settle("G", True)
    players, _ = one_parameter(scale)
    assert "scale" in players.modules() and "scale" not in one_parameter(None)[0].modules()
    load_module(fresh, module_tensors(scale), "scale")
    assert (fresh.D.item(), fresh.good_G.item()) == (scaling.START / 2, 1)


def test_penalties_are_taken_in_float32():
    D = nn.Linear(1, 1)
    for dtype, inside in ((torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)):
        D.compute_dtype = dtype
        with wide_enough(D):
            assert D.compute_dtype == inside
        assert D.compute_dtype == dtype


def test_fp16_is_refused_without_a_cuda_gpu(inputs, tmp_path):
    with pytest.raises(WorkbenchError, match="precision is 'fp16' on cpu: expected a CUDA GPU"):
        tiny_run.run_tiny(inputs, tmp_path / "run", precision="fp16", images=16)
    assert not (tmp_path / "run" / "config.json").exists()
    gpu = Machine(device="cuda:0", precision="fp32", cores=1, memory_gib=1.0, cpu="")
    assert setup._precision(TrainConfig(precision="fp16"), gpu, None, print) == "fp16"
