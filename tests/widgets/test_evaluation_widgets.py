"""Parts of the notebook on evaluation: by identities, by closed forms; its exercises."""

import math

import numpy as np
import pytest
import torch
from noise_pictures import noise
from tiny_world_model import tiny_world_model

from workbench.evaluation.features import FACTOR_CLASSES
from workbench.evaluation.report import plots
from workbench.evaluation.report.pictures import neighbours, truth_of
from workbench.widgets import evaluation as lab
from workbench.widgets.evaluation_exercises import ask, check, line_distance, rank_of
from workbench.widgets.pictures import Picture
from workbench.widgets.theory import Page


@pytest.fixture(scope="module")
def renders():
    return lab.rendered(6, 16)


def test_renders_are_the_worlds_and_say_what_they_show(renders):
    assert (len(renders), renders.facts.resolution) == (6, 16)
    assert lab.all_of(renders).shape == (6, 3, 16, 16) and lab.all_of(renders).dtype == torch.uint8
    assert truth_of(renders.known).shape == (6, 4)
    assert torch.equal(lab.all_of(lab.rendered(3, 16)), lab.all_of(renders)[:3])
    assert all(one["coat"] == "red" for one in lab.rendered(4, 16, coat="red").known)
    assert renders.facts.key != lab.rendered(6, 16, seed=lab.OTHER_SEED).facts.key


def test_what_a_model_draws_is_drawn_once():
    pipeline, calls = tiny_world_model(), []
    source = lab.drawn(pipeline, 5, seed=2, truncation=0.5)
    pipeline.G.synthesis = lambda *given: calls.append(given)
    assert lab.all_of(source).shape == (5, 3, 16, 16) and not calls
    assert (source.facts.seed, source.facts.truncation, len(source.texts)) == (2, 0.5, 5)


def test_floats_and_back():
    pictures = noise(2, 8)
    assert torch.equal(((lab.as_floats(pictures) + 1) * 127.5).round().to(torch.uint8), pictures)
    assert torch.equal(lab.as_bytes(lab.as_floats(pictures)), pictures)


def test_the_faithfulness_table_counts():
    truth = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])
    named = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 2]])
    row = lab.faithfulness_table({"x": (truth, named)}).markdown.splitlines()[-1]
    assert row == "| x | 100.0% | 100.0% | 100.0% | 50.0% | 50.0% | 2 |"


def test_wrong_pictures_are_shown_or_their_absence_is_told(renders):
    truth = truth_of(renders.known)
    assert isinstance(lab.wrong_sheet(renders, truth, truth, 3, "wrong ones of all"), Page)
    named = truth.clone()
    named[2, 0] = (named[2, 0] + 1) % len(FACTOR_CLASSES["coat"])
    assert isinstance(lab.wrong_sheet(renders, truth, named, 3, "wrong ones of all"), Picture)
    assert isinstance(lab.confusion_plot(truth, named, "coat", "coats as named"), Picture)


def test_plots_are_pictures_with_words(renders):
    x, y = torch.randn(60, 5), torch.randn(50, 5) + 1
    counts, found = (10, 20, 40), np.random.rand(3, 4)
    near = neighbours(torch.rand(4, 48), torch.rand(6, 48))
    drawn = [
        lab.gaussians_plot(1.0, 2.0),
        lab.cloud_plot(x, {"a": y, "b": x}, "two clouds of points"),
        lab.bars_plot({"a": 1.0, "b": 2.0}, "two bars", floor=0.5, words="distance"),
        lab.count_plot(counts, found, found, 0.2, "distances by n"),
        lab.lines_plot(("p", "q"), {"a": [1, 2], "b": [2, 3]}, "two lines", words="place"),
        lab.pairs_sheet(noise(4), noise(6), near, [0, 2], "two pairs of pictures"),
        lab.shown(plots.nearest([0.1, 0.2], [0.2, 0.3], 0.05), "how near they come"),
        lab.picture_sheet(noise(4), 2, "four pictures"),
    ]
    for one in drawn:
        assert isinstance(one, Picture) and one.alt and len(one.data()) < 40_000


def test_the_bell_curves_have_the_distance_that_is_written_over_them():
    assert line_distance(2.0, 1.5) == pytest.approx(2.0**2 + 0.5**2)
    x = torch.randn(50_000, 1, generator=torch.Generator().manual_seed(0))
    assert lab.distance_of(x * 1.5 + 2.0, x) == pytest.approx(4.25, rel=1e-2)


def test_speed_is_told_with_and_without_joules():
    found = {"latency_ms": 12.3, "best_batch": 8, "images_per_s": 99.0, "device": "cpu", "threads": 2}
    found |= {"joules": None, "energy": "no counter"}
    assert "not measurable here (no counter)" in lab.speed_table(found).markdown
    assert "0.5 J (RAPL)" in lab.speed_table({**found, "joules": 0.5, "energy": "RAPL"}).markdown


@pytest.mark.parametrize(
    ("key", "right", "near", "wrong"),
    [("v1", 13, 9, 5), ("v2", 19, 20, 3), ("v3", "recall", None, "precision"), ("v4", 0.54, 1.0, 5)],
)
def test_exercises_know_their_answers(key, right, near, wrong):
    assert ask(key).strip()
    assert check(key, right).word == "right"
    if near is not None:
        assert check(key, near).word == "nearly"
    assert check(key, wrong).word == "not yet" and check(key, ...).word == "not yet"


@pytest.mark.parametrize(
    ("answer", "word"), [(0.5, "right"), (0.6, "right"), (0.7, "not yet"), (0.4, "not yet")]
)
def test_an_answer_may_be_as_rough_as_its_question_says(answer, word):
    assert "A tenth is near enough" in ask("v4")
    assert check("v4", answer).word == word


def test_the_rank_is_one_below_the_number_of_pictures():
    assert rank_of(10, 30) == 9 and rank_of(40, 30) == 30
    assert math.isclose(line_distance(3, 3), 13)
