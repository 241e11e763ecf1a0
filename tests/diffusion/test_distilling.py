"""The student's losses by hand, what learns and what does not, and its run."""

import json
from pathlib import Path

import killing
import pytest
import tiny_run
import torch
from tiny_diffusion import tiny_diffusion
from tiny_diffusion_run import run_student, tiny_judge

from workbench.datasets.sources import open_table
from workbench.diffusion import lora, losses, schedule
from workbench.diffusion.conditioning import guided, predict
from workbench.diffusion.config import DistillConfig
from workbench.diffusion.distilling import Distilling, judge_for
from workbench.diffusion.lora import LoraConfig
from workbench.diffusion.model import DiffusionModel
from workbench.errors import WorkbenchError
from workbench.models.critics import load_discriminator, save_critics
from workbench.models.discriminator import Discriminator, DiscriminatorConfig
from workbench.models.vision_aided import VisionAided, VisionAidedConfig
from workbench.training import checkpoint
from workbench.training.history import read_history

pytestmark = pytest.mark.usefixtures("one_thread")


def made(rank: int = 2):
    """A student whose adapters say something, and inputs."""
    model = tiny_diffusion()
    own = lora.attach(model.unet, LoraConfig(rank=rank, alpha=rank))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in own.values():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    x0 = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    eps = torch.randn(2, 3, 16, 16, generator=generator)
    told = model.condition("a dog").repeated(2)
    return model, own, x0, eps, told, model.condition("")


def test_pseudo_huber_by_hand():
    x = torch.zeros(2, 3, 2, 2)
    y = x.clone()
    y[1] = 0.5
    root = 12**0.5
    c = 0.00054 * root
    wanted = (((12 * 0.25) + c**2) ** 0.5 - c) / root
    assert losses.pseudo_huber(x, y).tolist() == pytest.approx([0.0, wanted], abs=1e-7)


def test_rungs_of_a_ladder():
    t, to = losses.rungs(4, torch.tensor([0.0, 0.26, 0.99]))
    assert t.tolist() == [999, 749, 249] and to.tolist() == [749, 499, -1]


def test_consistency_is_the_distance_of_two_sights_from_one_path():
    model, _, x0, eps, told, nothing = made()
    t, to = torch.tensor([999, 99]), torch.tensor([899, -1])
    with torch.no_grad():
        found = losses.consistency(model.unet, x0, eps, t, to, told, nothing, guidance=2.0)
        x = schedule.noised(x0, eps, t)
        with lora.teacher(model.unet):
            lower = schedule.ddim_step(x, guided(model.unet, x, t, told, nothing, 2.0), t, to)
        sight = schedule.x0_of(x, predict(model.unet, x, t, told), t)
        target = schedule.x0_of(lower, predict(model.unet, lower, to.clamp_min(0), told), to)
        assert torch.equal(target[1], lower[1])  # the boundary: at t = -1 a picture is its own estimate
        assert found.item() == pytest.approx(losses.pseudo_huber(sight, target).mean().item(), rel=1e-6)


def test_a_fresh_student_without_guidance_is_consistent_where_its_teacher_is_done():
    """From the last rung, the unguided teacher's x_0 is what the student that equals it sees."""
    model = tiny_diffusion()
    lora.attach(model.unet, LoraConfig(rank=2))
    _, _, x0, eps, told, nothing = made()
    t, to = torch.full((2,), 19), torch.full((2,), -1)
    with torch.no_grad():
        x = schedule.noised(x0, eps, t)
        inside = schedule.x0_of(x, predict(model.unet, x, t, told), t).abs().max() <= 1
        found = losses.consistency(model.unet, x0, eps, t, to, told, nothing, guidance=1.0)
    assert not inside or found.item() == pytest.approx(0, abs=1e-5)


def test_score_by_hand():
    model, _, drawn, eps, told, nothing = made()
    t = torch.tensor([200, 800])
    with torch.no_grad():
        found = losses.score(model.unet, drawn, eps, t, told, nothing, guidance=1.5)
        x = schedule.noised(drawn, eps, t)
        with lora.teacher(model.unet):
            v = guided(model.unet, x, t, told, nothing, 1.5)
        wanted = schedule.x0_of(x, v, t).clamp(-1, 1)
    alpha = schedule.alphas_sigmas()[0][t]
    by_row = (drawn - wanted).double().square().mean((1, 2, 3))
    assert found.item() == pytest.approx((alpha * by_row).mean().item(), rel=1e-5)


@pytest.mark.parametrize("which", ["consistency", "score"])
def test_the_gradient_reaches_the_adapters_alone(which):
    model, own, x0, eps, told, nothing = made()
    t = torch.tensor([999, 499])
    if which == "consistency":
        loss = losses.consistency(model.unet, x0, eps, t, t - 100, told, nothing, guidance=2.0)
    else:
        x = schedule.noised(x0, eps, t)
        drawn = schedule.x0_of(x, predict(model.unet, x, t, told), t)
        loss = losses.score(model.unet, drawn, eps, t, told, nothing, guidance=2.0)
    loss.backward()
    reached = {name for name, p in model.unet.named_parameters() if p.grad is not None}
    assert reached and all(".lora_" in name for name in reached)
    assert len(reached) == len(own)
    assert sum(p.grad.abs().sum() for p in own.values()) > 0


def test_a_step_moves_adapters_their_average_and_d_but_no_weight_of_the_teacher(inputs, teacher):
    model = DiffusionModel.from_pretrained(teacher, device="cpu")
    config = DistillConfig(images=8, batch_size=4, rank=2, flip=False)
    table = open_table(inputs[0], 16, progress=False)
    task = Distilling(config, model, tiny_judge(), table, torch.device("cpu"), "fp32", facts={}, say=print)
    names = {"adapter", "adapter_ema", "guard", "D"}
    assert set(task.modules()) == names and set(task.optimizers()) == {"opt", "opt_D"}
    base = {name: p.detach().clone() for name, p in model.unet.named_parameters() if ".lora_" not in name}
    before = {part: {k: v.clone() for k, v in m.state_dict().items()} for part, m in task.modules().items()}
    for step in range(2):
        assert task.step(step, 4 * step)["finite"]
    after = dict(model.unet.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in base.items())
    assert all(p.grad is None for name, p in after.items() if ".lora_" not in name)
    for part, module in task.modules().items():
        assert any(not torch.equal(v, before[part][k]) for k, v in module.state_dict().items()), part


@pytest.mark.parametrize(("consistency", "every"), [(1.0, 3), (0.0, 1)])
def test_d_and_its_loss_have_their_turns(inputs, teacher, consistency, every):
    model = DiffusionModel.from_pretrained(teacher, device="cpu")
    config = DistillConfig(
        images=8, batch_size=4, rank=2, consistency_weight=consistency, adversarial_every=3
    )
    table = open_table(inputs[0], 16, progress=False)
    task = Distilling(config, model, tiny_judge(), table, torch.device("cpu"), "fp32", facts={}, say=print)
    for step in range(4):
        before = [p.detach().clone() for p in task.D.parameters()]
        said = task.step(step, 4 * step)
        moved = not all(torch.equal(a, b) for a, b in zip(before, task.D.parameters(), strict=True))
        assert moved == ("adversarial" in said) == (step % every == 0)
        assert ("consistency" in said) == (consistency > 0)


def season(folder: Path, resolution: int = 16) -> Path:
    """A folder of critics whose D has the tiny judge's shape, at this size."""
    D = Discriminator(tiny_run.tiny_preset(resolution).discriminator)
    heads = VisionAided(VisionAidedConfig(proj=8, width=8), [32, 32, 32, 32])
    return save_critics(folder, D, heads, {})


def test_d_begins_as_the_critics_given_and_learns_on(inputs, teacher, tmp_path):
    critics = season(tmp_path / "critics")
    seasoned = load_discriminator(critics)
    result = run_student(inputs, teacher, tmp_path / "run", images=8, lr_D=1e-9, critics=critics)
    newest, _ = checkpoint.newest(tmp_path / "run")
    for name, value in seasoned.state_dict().items():
        assert torch.allclose(newest.tensors()["D"][name], value, atol=1e-6), name
    assert result.cur_nimg == 8
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["critics"] == str(critics)
    assert DiscriminatorConfig(**facts["discriminator"]) == seasoned.config
    fresh = run_student(inputs, teacher, tmp_path / "fresh", images=8)
    told = json.loads((fresh.model.parent / "config.json").read_text())
    assert told["critics"] is None
    with pytest.raises(WorkbenchError, match="judges 32 pixels, and this teacher has 16"):
        run_student(inputs, teacher, tmp_path / "no", critics=season(tmp_path / "large", 32))
    assert not (tmp_path / "no").exists()


def test_paused_and_resumed_is_the_uninterrupted_run(inputs, teacher, tmp_path):
    run_student(inputs, teacher, tmp_path / "whole", images=64)
    run_student(inputs, teacher, tmp_path / "run", images=64, stop_after_nimg=40)
    run_student(inputs, teacher, tmp_path / "run", images=64)
    assert killing.differences(tmp_path / "whole", tmp_path / "run") == []
    lines = read_history(tmp_path / "whole", "step")
    assert {"consistency", "adversarial", "score", "D.loss", "D.r1"} <= lines[0].keys()


def test_what_is_kept_of_a_student(inputs, teacher, tmp_path):
    result = run_student(inputs, teacher, tmp_path / "run", images=16)
    facts = json.loads((result.model / "config.json").read_text())
    card = facts["card"]
    told = json.loads((teacher / "config.json").read_text())["card"]
    assert card["seconds"] > 0 and card["teacher_seconds"] == told["seconds"]
    assert card["guidance_folded_in"] == 1.5 and card["losses"]["consistency"] == 1.0
    assert sum(p.stat().st_size for p in result.model.iterdir()) < 200_000
    student = DiffusionModel.from_pretrained(result.model, device="cpu")
    assert student("a dog", steps=1).images.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("options", "there", "gone"),
    [
        ({"adversarial_weight": 0}, "consistency", "D.loss"),
        ({"consistency_weight": 0}, "adversarial", "consistency"),
        ({"score_weight": 0}, "adversarial", "score"),
    ],
)
def test_losses_that_are_off_are_not_computed(inputs, teacher, tmp_path, options, there, gone):
    run_student(inputs, teacher, tmp_path / "run", images=24, **options)
    (line,) = read_history(tmp_path / "run", "step")
    assert there in line and gone not in line


def test_consistency_falls_where_the_student_is_taught():
    """On one batch of one rung, by Adam: nearer to the teacher's path than its own start was."""
    model, own, x0, eps, told, nothing = made(rank=8)
    optimizer = torch.optim.Adam(own.values(), lr=1e-2)
    t, to = torch.tensor([999, 99]), torch.tensor([899, -1])
    values = []
    for _ in range(25):
        loss = losses.consistency(model.unet, x0, eps, t, to, told, nothing, guidance=2.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_a_student_is_no_teacher(inputs, teacher, tmp_path):
    result = run_student(inputs, teacher, tmp_path / "run", images=8)
    with pytest.raises(WorkbenchError, match="is a student itself"):
        run_student(inputs, result.model, tmp_path / "other")


def test_the_judge_of_the_demo_is_the_demos_own():
    assert judge_for(64).resolution == 64
    with pytest.raises(WorkbenchError, match="resolution is 16"):
        judge_for(16)
