"""Scores of edits on the shipped model: what is counted, and that prompt edits do what they say."""

import pytest
import torch

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, Measured, load_judge
from workbench.latents import effects, scores
from workbench.latents.finding import MEASURE_SEED, TUNE_SEED
from workbench.latents.supervised import FIT_SEED, draw_sample


def measured(coat, pose, azimuth) -> Measured:
    n = len(coat)
    classes = {"coat": torch.tensor(coat), "pose": torch.tensor(pose)}
    classes |= {name: torch.zeros(n, dtype=torch.long) for name in ("scene", "light")}
    regression = {name: torch.zeros(n) for name in effects.DRIFTS} | {"azimuth_deg": torch.tensor(azimuth)}
    return Measured(classes=classes, regression=regression, mid=torch.zeros(n, 1), last=torch.zeros(n, 1))


class Judge:
    """Says what was prepared, call by call."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def measure(self, images):
        return self.answers.pop(0)


def test_reached_leaked_and_the_short_way_round_are_counted_by_hand(tiny, monkeypatch):
    from workbench.latents.points import points

    judge = Judge(
        measured([0, 0, 0, 0], [0, 0, 1, 1], [170.0, 0.0, 0.0, 0.0]),
        measured([1, 1, 0, 2], [0, 2, 1, 1], [-170.0, 5.0, -5.0, 0.0]),
    )
    at = points(tiny, "a white dog", range(4))
    wanted = torch.tensor([1, 1, 1, 2])
    found = effects.measure_edit(tiny, judge, at, lambda p: p, target="coat", wanted=wanted)
    assert found.reached == 0.75 and found.leaked == 0.25 and found.n == 4
    assert found.drift["azimuth_deg"] == 5.0  # median of 20, 5, 5, 0 (the lower middle)
    assert found.moved["azimuth_deg"] == 5.0  # (20 + 5 - 5 + 0) / 4


def test_wanted_classes_are_never_the_own_one_and_all_occur(shipped):
    sample = draw_sample(shipped, 200)
    for factor, wanted in scores.other_classes(sample, 1).items():
        assert (wanted != sample.ids[factor]).all()
        assert set(wanted.tolist()) == set(range(len(FACTOR_CLASSES[factor])))


def test_samples_are_held_out_by_captions_and_share_their_z_with_the_fit():
    """As the texts say; were z held out too, every figure of the directions would have to be made anew."""
    fit = {FIT_SEED + i for i in range(1500)}
    said = {full_caption(draw_factors(FIT_SEED, i), FIT_SEED, i) for i in range(1500)}
    for seed, n in ((scores.HELD_OUT_SEED, 200), (MEASURE_SEED, 200), (TUNE_SEED, 50)):
        assert {seed + i for i in range(n)} <= fit
        assert not said & {full_caption(draw_factors(seed, i), seed, i) for i in range(n)}


def test_a_prompt_edit_changes_one_factor_and_keeps_the_others(shipped):
    sample = draw_sample(shipped, 24, seed=5)
    wanted = scores.other_classes(sample, 5)["coat"]
    judge = load_judge()
    edited = scores.by_prompt(shipped, sample, "coat", wanted, 5)
    found = effects.measure_edit(shipped, judge, sample.at, lambda p: edited, target="coat", wanted=wanted)
    assert found.reached > 0.9 and found.leaked < 0.2
    same = scores.by_prompt(shipped, sample, "coat", sample.ids["coat"], 5)
    assert torch.equal(same.ws, sample.at.ws)


def test_a_class_without_direction_is_named(shipped):
    sample = draw_sample(shipped, 3)
    with pytest.raises(WorkbenchError, match="no supervised direction to coat black-and-tan"):
        scores.by_directions([], "coat", torch.zeros(3, dtype=torch.long), sample.at)


def test_a_slider_is_timed(tiny):
    found = scores.time_edit(tiny, [], count=6)
    assert 0 < found["ms"] <= found["ms_90"] and found["n"] == 6
