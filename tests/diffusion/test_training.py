"""The baseline's training: its loss by hand, exact resume whatever interrupts it, budgets, refusals."""

import json
import os
import signal
import time

import killing
import pytest
import torch
from tiny_diffusion import tiny_config, tiny_diffusion
from tiny_diffusion_run import run_baseline, start_baseline

from workbench.diffusion import schedule
from workbench.diffusion.config import DiffusionConfig, DistillConfig
from workbench.diffusion.model import DiffusionModel
from workbench.diffusion.training import by_noise, denoising_errors, descend
from workbench.errors import WorkbenchError
from workbench.training import checkpoint
from workbench.training.history import read_history
from workbench.training.loop import stopped_by
from workbench.training.players import NormGuard

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_loss_is_the_mean_squared_error_in_v():
    model = tiny_diffusion()
    generator = torch.Generator().manual_seed(2)
    x0 = torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1
    eps = torch.randn(2, 3, 16, 16, generator=generator)
    t, told = torch.tensor([150, 999]), model.condition("a dog").repeated(2)
    found = denoising_errors(model.unet, x0, eps, t, told)
    alpha, sigma = schedule.alphas_sigmas()
    for row in range(2):
        a, s = float(alpha[t[row]]), float(sigma[t[row]])
        x = (a * x0[row].double() + s * eps[row].double()).float()[None]
        one = told[row : row + 1]
        said = (
            model.unet(x, t[row], one.tokens, class_labels=one.embedding, encoder_attention_mask=one.mask)
            .sample[0]
            .double()
        )
        total, count = 0.0, 0
        wanted = a * eps[row].double() - s * x0[row].double()
        for difference in (said - wanted).flatten().tolist():
            total, count = total + difference**2, count + 1
        assert found[row].item() == pytest.approx(total / count, rel=1e-4)


def test_errors_by_noise_are_means_over_thirds():
    errors, t = torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0, 333, 999])
    assert by_noise(errors, t) == {"loss.little": 2.0, "loss.much": 10.0}


def test_a_loss_that_is_not_finite_changes_nothing():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer, guard = torch.optim.Adam([p], lr=0.1), NormGuard()
    assert descend((p * float("nan")).sum(), optimizer, [p], guard, "G", 2.0, lr=0.1)[1] is False
    assert descend((p * float("inf")).sum(), optimizer, [p], guard, "G", 2.0, lr=0.1)[1] is False
    assert torch.equal(p.data, torch.ones(3)) and not optimizer.state
    norm, done = descend((2 * p).sum(), optimizer, [p], guard, "G", 2.0, lr=0.1)
    assert done and norm.item() == pytest.approx(12**0.5)
    assert torch.allclose(p.data, torch.full((3,), 0.9))


def test_paused_and_resumed_is_the_uninterrupted_run(inputs, whole, tmp_path):
    for images in (40, 56):
        assert run_baseline(inputs, tmp_path / "run", stop_after_nimg=images).reason == "paused"
    assert run_baseline(inputs, tmp_path / "run").reason == "done"
    assert killing.differences(whole, tmp_path / "run") == []


def test_killed_and_resumed_is_the_uninterrupted_run(inputs, whole, tmp_path):
    run = tmp_path / "run"
    process = start_baseline(inputs, run)
    end = time.monotonic() + 120
    while (checkpoint.newest_nimg(run) or 0) < 32 and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    run_baseline(inputs, run)
    assert killing.differences(whole, run) == []


def test_the_run_tells_what_it_did(whole):
    lines = read_history(whole)
    assert [line["cur_nimg"] for line in lines if line["kind"] == "step"] == [24, 48, 72, 96]
    assert {"loss", "norm", "seconds", "images_per_s"} <= lines[1].keys() | lines[2].keys()
    card = json.loads((whole / "model" / "config.json").read_text())["card"]
    assert card["images"] == 96 and card["seconds"] > 0 and card["preset"] == "shepherd-32"
    model = DiffusionModel.from_pretrained(whole / "model", device="cpu")
    assert model("a dog", steps=2).images.shape == (1, 3, 16, 16)


def test_the_model_is_the_average(whole):
    parts = checkpoint.newest(whole)[0].tensors()
    saved = DiffusionModel.from_pretrained(whole / "model", device="cpu").unet.state_dict()
    average = parts["unet_ema"]["conv_in.weight"]
    assert torch.equal(saved["conv_in.weight"], average.half().float())
    assert not torch.equal(average, parts["unet"]["conv_in.weight"])


def test_minutes_end_a_run_and_more_minutes_go_on(inputs, tmp_path):
    run = tmp_path / "run"
    first = run_baseline(inputs, run, images=None, minutes=1e-4)
    assert first.reason == "done" and first.cur_nimg == 8
    seconds = checkpoint.newest(run)[0].state["seconds"]
    assert seconds >= 60e-4
    again = run_baseline(inputs, run, images=None, minutes=1e-4)  # the time of the first call counts
    assert again.cur_nimg == first.cur_nimg
    more = run_baseline(inputs, run, images=None, minutes=(seconds + 0.01) / 60)
    assert more.cur_nimg > first.cur_nimg
    assert checkpoint.newest(run)[0].state["seconds"] > seconds


def test_a_stop_is_heard_between_steps(inputs, tmp_path):
    import threading

    stop = threading.Event()
    stop.set()
    result = {}

    def work():
        with stopped_by(stop):
            result["run"] = run_baseline(inputs, tmp_path / "run")

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(120)
    assert result["run"].reason == "stopped" and result["run"].cur_nimg == 0


def test_a_weight_that_is_lost_sends_the_run_back(inputs, tmp_path, monkeypatch):
    """NaN in the losses of a few steps: said, not applied, and gone back from with half the rate."""
    from workbench.diffusion import training

    real, calls = training.denoising_errors, []

    def spoilt(*args):
        calls.append(0)
        return real(*args) * (float("nan") if 5 <= len(calls) <= 9 else 1.0)

    monkeypatch.setattr(training, "denoising_errors", spoilt)
    result = run_baseline(inputs, tmp_path / "run")
    assert result.reason == "done" and result.cur_nimg == 96
    events = [line["event"] for line in read_history(tmp_path / "run", "event", undone=True)]
    assert "rollback" in events
    assert checkpoint.newest(tmp_path / "run")[0].state["lr_multiplier"] == 0.5


@pytest.mark.parametrize(
    ("changes", "match"), [({"lr": 5e-4}, "lr was 0.001, now 0.0005"), ({"seed": 3}, "seed was 0, now 3")]
)
def test_another_run_is_not_gone_on_with(inputs, whole, changes, match):
    with pytest.raises(WorkbenchError, match=match):
        run_baseline(inputs, whole, **changes)


def test_a_folder_of_something_else_is_refused(inputs, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(WorkbenchError, match="holds other files"):
        run_baseline(inputs, tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "gigagan-run", "schema": 1}')
    with pytest.raises(WorkbenchError, match="of the kind 'gigagan-run'"):
        run_baseline(inputs, tmp_path)


# ---------------------------------------------------------------- on from another


# ---------------------------------------------------------------- settings


def test_rates_by_hand():
    config = DiffusionConfig(images=1, batch_size=10, warmup_nimg=100, decay_nimg=400)
    assert [config.lr_scale(n) for n in (0, 40, 90, 400)] == [0.1, 0.5, 1.0, 1.0]
    assert config.lr_scale(1600) == 0.5 and config.lr_scale(40_000) == pytest.approx(0.1)
    on = DiffusionConfig(images=1, batch_size=10, warmup_nimg=100, decay_nimg=400, earlier_nimg=1600)
    assert on.lr_scale(40) == pytest.approx(0.5 / (1640 / 400) ** 0.5)  # warms up anew, falls on


def test_settings_come_back_from_json():
    on = DiffusionConfig(images=1, earlier_nimg=7)
    for config in (DiffusionConfig(minutes=3.5, grid="3x2"), on, DistillConfig(images="2kimg")):
        assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(WorkbenchError, match="'speed'"):
        DiffusionConfig.from_json({"images": 1, "speed": 2})
    assert DiffusionConfig(images="2epochs").for_epoch(40).images == 80


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        (DiffusionConfig, {"images": None}, "has no end: give images or minutes"),
        (DiffusionConfig, {"minutes": 0}, "minutes is 0"),
        (DiffusionConfig, {"batch_size": 1}, "batch_size is 1"),
        (DiffusionConfig, {"caption_dropout": 1.0}, "caption_dropout"),
        (DiffusionConfig, {"snr_gamma": 0}, "snr_gamma"),
        (DiffusionConfig, {"precision": "fp8"}, "precision is 'fp8'"),
        (DiffusionConfig, {"lr": float("nan")}, "lr is nan"),
        (DistillConfig, {"batch_size": 7}, "an even number"),
        (DistillConfig, {"rank": 0}, "rank is 0"),
        (DistillConfig, {"consistency_weight": 0, "adversarial_weight": 0}, "nothing teaches the student"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, changes, match):
    with pytest.raises(WorkbenchError, match=match):
        kind(**{"images": 100, **changes})


def test_the_default_network_matches_the_preset(inputs, tmp_path):
    result = run_baseline(inputs, tmp_path / "run", network=None, images=8, batch_size=2, stop_after_nimg=1)
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["network"]["resolution"] == 32 and result.reason == "paused"
    assert facts["network"]["widths"] != list(tiny_config().widths)
