"""Settings of a run: JSON round trip, schedules by hand, refusals by message."""

import json
import math

import pytest

from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig, crossed, differences, read_settings, sample_due


def test_json_round_trip():
    config = TrainConfig(betas=(0.5, 0.9), images=1234, diffaugment="")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_option_that_is_off_leaves_no_trace():
    plain = TrainConfig().to_json()
    assert not {"ema_rampup", "grid", "conditioning", "gradient_checkpointing", "compile"} & set(plain)
    changed = TrainConfig(grid="3x2", conditioning="none", ema_rampup=0.1)
    told = changed.to_json()
    assert (told["grid"], told["conditioning"], told["ema_rampup"]) == ([3, 2], "none", 0.1)
    assert TrainConfig.from_json(json.loads(json.dumps(told))) == changed
    assert differences(TrainConfig(), changed)["grid"] == ([6, 6], [3, 2])


def test_a_runs_record_is_that_run_again_whatever_the_preset_brings(tmp_path):
    """What a record leaves out stands at its default, not where a preset has it."""
    ran = TrainConfig.for_preset("shepherd-up4", adversarial_weight=1.0, perceptual_weight=0.0, grid=(6, 6))
    (tmp_path / "config.json").write_text(json.dumps({"config": ran.to_json()}))
    told = read_settings(tmp_path / "config.json")
    assert differences(TrainConfig.for_preset(**{"name": told.pop("preset"), **told}), ran) == {}


def test_epochs_become_images_with_the_data_set():
    config = TrainConfig(images="100epochs", checkpoint_every_nimg="5 epochs", log_every_nimg="2kimg")
    assert (config.images, config.checkpoint_every_nimg, config.log_every_nimg) == (
        "100epochs",
        "5epochs",
        2000,
    )
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    known = config.for_epoch(5000)
    assert (known.images, known.checkpoint_every_nimg) == (500_000, 25_000)
    assert known.for_epoch(1) == known and known.lr_scale(500_000) == known.lr_floor


def test_learning_rate_by_hand():
    config = TrainConfig(images=1000, constant_share=0.3, lr_floor=0.1)
    assert [config.lr_scale(n) for n in (0, 150, 300)] == [1.0, 1.0, 1.0]
    assert config.lr_scale(650) == pytest.approx(0.1 + 0.9 * 0.5)  # half way down the cosine
    assert config.lr_scale(475) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5)))
    assert config.lr_scale(1000) == pytest.approx(0.1) == config.lr_scale(5000)
    assert TrainConfig(images=10, constant_share=1.0).lr_scale(10) == 1.0


def test_intervals_count_images_whatever_the_batch_size():
    for batch in (2, 8, 30, 64):
        hits = sum(crossed(100, n, n + batch) for n in range(0, 3000, batch))
        assert hits == (3000 // batch + (3000 % batch > 0)) * batch // 100
    assert not crossed(0, 0, 10**9)


def test_samples_come_four_times_as_often_at_first():
    due = [n for n in range(10, 2001, 10) if sample_due(200, n - 10, n)]
    assert due == [*range(50, 801, 50), *range(1000, 2001, 200)]


def test_differences_are_named():
    assert differences(TrainConfig(), TrainConfig(lr_G=1e-3)) == {"lr_G": (6e-4, 1e-3)}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("batch_size", 7, "batch_size is 7: expected an even number"),
        ("images", 0, "images is 0: expected a whole number of at least 1"),
        ("images", 1.5, "images is 1.5"),
        ("seed", -1, "The seed -1 is negative"),
        ("seed", 2**63, "The seed .* is too large"),
        ("seed", 1.5, "The seed is 1.5, not a whole number"),
        ("lr_G", float("nan"), "lr_G is nan: expected a number from 0 on"),
        ("lr_D", 0.0, "lr_D is 0.0"),
        ("constant_share", 1.2, "constant_share is 1.2: expected a number from 0 to 1"),
        ("betas", (0.0, 1.0), "betas are"),
        ("precision", "fp8", "precision is 'fp8'"),
        ("conditioning", "labels", "conditioning is 'labels': expected auto, none, class or text"),
        ("compile", 1, "compile is 1: expected true or false"),
        ("ema_rampup", 1.5, "ema_rampup is 1.5: expected a number from 0 to 1"),
        ("grid", "3", "grid is '3': expected columns x rows"),
        ("adversarial", "wasserstein", "adversarial is 'wasserstein'"),
        ("matching_weight", -1.0, "matching_weight is -1.0"),
    ],
)
def test_refusals(field, value, said):
    with pytest.raises(WorkbenchError, match=said):
        TrainConfig(**{field: value})


def test_a_run_in_which_nobody_learns_is_refused():
    assert not TrainConfig(lr_G=0).G_learns and TrainConfig().G_learns
    with pytest.raises(WorkbenchError, match="neither G nor D would learn"):
        TrainConfig(lr_G=0, adversarial_weight=0, vision_weight=0)


def test_an_unknown_setting_is_named():
    with pytest.raises(WorkbenchError, match="'learning_rate', which is not known"):
        TrainConfig.from_json({"learning_rate": 1.0})
