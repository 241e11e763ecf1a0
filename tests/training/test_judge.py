"""Training of the judge: mirroring agrees with the world, augmentation keeps labels, resume gives the same
bits.
"""

import math
import os
import signal

import pytest
import torch

from workbench import hardware
from workbench.datasets.world import draw_factors, mirrored, render
from workbench.errors import WorkbenchError
from workbench.evaluation.features import JudgeConfig, load_judge, to_targets
from workbench.training import judge as training_judge
from workbench.training.judge import (
    JudgeTraining,
    augment,
    batch_at,
    learning_rate,
    mirror,
    read_pictures,
    train_judge,
)

CONFIG = JudgeConfig(resolution=16, channels=(8, 16, 16), place_channels=2)
TINY = JudgeTraining(images=24, held_out=6, world_seed=9_000_000, epochs=3, batch_size=8, lr=3e-3)
FP32 = hardware.Machine(device="cpu", precision="fp32", cores=1, memory_gib=1.0, cpu="any")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A rendered folder that all trainings here share; writing it once is part of what is tested."""
    folder = tmp_path_factory.mktemp("judge") / "world"
    base = folder.parent
    train_judge(
        base / "first",
        training=TINY,
        config=CONFIG,
        data=folder,
        work=base / "work",
        workers=1,
        machine=FP32,
        progress=False,
    )
    return folder


def test_mirroring_follows_the_world():
    """A studio dog, lit from the other side and mirrored, is the flipped picture, and its targets are the
    flipped targets.
    """
    config = JudgeConfig()
    factors = draw_factors(
        5,
        1,
        scene="studio",
        light="day",
        coat="red",
        pose="standing",
        azimuth_deg=60.0,
        head_yaw_deg=30.0,
        x=0.1,
    )
    picture, flipped = render([factors]), render([mirrored(factors)])
    images, targets = mirror(picture, to_targets([factors], config), torch.tensor([True]), config)
    torch.testing.assert_close(targets, to_targets([mirrored(factors)], config))
    near, far = (images - flipped).abs().mean(), (picture - flipped).abs().mean()
    assert near < 0.5 * far
    same, unchanged = mirror(picture, targets, torch.tensor([False]), config)
    assert torch.equal(same, picture) and torch.equal(unchanged, targets)


def test_augmentation_is_mild_and_repeatable():
    x = render([draw_factors(6, i) for i in range(8)])
    a, b = (augment(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b) and a.abs().max() <= 1 and not torch.equal(a, x)
    assert (a - x).abs().mean() < 0.12
    colours = (a.mean(dim=(2, 3)) - x.mean(dim=(2, 3))).abs().max()
    assert colours < 0.25


def test_batches_are_a_function_of_seed_and_step(data):
    pictures = read_pictures(data, CONFIG).rows(slice(24))
    one, two = batch_at(pictures, TINY, CONFIG, 4), batch_at(pictures, TINY, CONFIG, 4)
    assert torch.equal(one.images, two.images) and torch.equal(one.targets, two.targets)
    assert not torch.equal(one.images, batch_at(pictures, TINY, CONFIG, 5).images)
    coats = torch.cat([batch_at(pictures, TINY, CONFIG, s).classes["coat"] for s in range(3)])
    assert torch.equal(
        coats.sort().values, pictures.classes["coat"].sort().values
    )  # an epoch sees each picture once


def test_the_rate_warms_up_and_ends_near_zero():
    training = JudgeTraining(images=1000, batch_size=10, epochs=1, lr=1.0)
    assert learning_rate(training, 0) == 0.2 and learning_rate(training, 4) == 1.0
    assert math.isclose(learning_rate(training, 5), 1.0) and learning_rate(training, 99) < 1e-3
    assert math.isclose(learning_rate(training, 5 + 95 // 2), 0.5, abs_tol=0.02)


def test_an_interrupted_training_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    common = {
        "training": TINY,
        "config": CONFIG,
        "data": data,
        "workers": 1,
        "machine": FP32,
        "progress": False,
    }
    assert train_judge(tmp_path / "b", work=tmp_path / "work", stop_at=2, **common) is None
    assert not (tmp_path / "b").exists()
    real, calls = training_judge.judge_loss, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args)

    monkeypatch.setattr(training_judge, "judge_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_judge(tmp_path / "b", work=tmp_path / "work", **common)
    monkeypatch.setattr(training_judge, "judge_loss", real)
    results = train_judge(tmp_path / "b", work=tmp_path / "work", **common)
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "b" / name).read_bytes() == (data.parent / "first" / name).read_bytes(), name
    assert set(results) == {"n", "coat", "pose", "scene", "light", "errors"} and results["n"] == 6
    card = (tmp_path / "b" / "README.md").read_text()
    assert f"coat {results['coat']:.4f}" in card and "24 renders" in card and "{" not in card
    assert load_judge(tmp_path / "b").config == CONFIG


def test_training_learns(data):
    """The light of 16 px pictures is learnt in some steps: loss falls well below guessing."""
    pictures = read_pictures(data, CONFIG)
    torch.manual_seed(0)
    judge = training_judge.Judge(CONFIG).train()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        batch = batch_at(pictures, JudgeTraining(images=30, batch_size=15, held_out=1), CONFIG, step)
        logits, numbers, _ = judge(batch.images)
        loss = training_judge.judge_loss(logits, numbers, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_a_place_that_cannot_be_written_is_refused_before_an_hour_of_training(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for out in (tmp_path / "thesis.tex", tmp_path / "thesis.tex" / "judge"):
        with pytest.raises(WorkbenchError, match=r"thesis\.tex is a file; choose another folder"):
            train_judge(out, training=TINY, config=CONFIG, data=tmp_path / "d", machine=FP32, progress=False)
    assert os.listdir(tmp_path) == ["thesis.tex"] and (tmp_path / "thesis.tex").read_text() == "years"


def test_refusals(data, tmp_path):
    with pytest.raises(WorkbenchError, match="holds a judge already"):
        train_judge(data.parent / "first", training=TINY, config=CONFIG, data=data)
    with pytest.raises(WorkbenchError, match=r"another training \(lr differ"):
        train_judge(
            tmp_path / "c",
            training=JudgeTraining(**(vars(TINY) | {"lr": 1e-3})),
            config=CONFIG,
            data=data,
            work=data.parent / "work",
            workers=1,
            machine=FP32,
            progress=False,
        )
    for changes, message in (
        ({"images": 4}, "images is 4"),
        ({"batch_size": 99}, "at most the 24 images"),
        ({"lr": 0.0}, "lr is 0.0"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            JudgeTraining(**(vars(TINY) | changes))
