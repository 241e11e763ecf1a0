"""The answers of the training exercises are those that a person works out on paper."""

import math

import pytest

from workbench.widgets.training_exercises import ask, check

ON_PAPER = {
    "t1": 2 * math.log(2),
    "t2": "up",
    "t3": 1 / (1 + math.exp(-6)),
    "t4": 5_000 * 100 / 16,
    "t5": 5_000 / 32,
    "t6": "overpowering",
}


@pytest.mark.parametrize("key", ON_PAPER)
def test_the_answer_on_paper_is_right_and_dots_are_not(key):
    assert ask(key).endswith("?")
    assert check(key, ON_PAPER[key]).word == "right"
    assert check(key, ...).word == "not yet"


@pytest.mark.parametrize(
    ("key", "answer", "reason"),
    [
        ("t1", math.log(2), "one half"),
        ("t2", "down", "D's loss"),
        ("t3", 1 / (1 + math.exp(6)), "hardly pulls where G is bad"),
        ("t4", 500_000, "images that D sees"),
        ("t5", 5_000, "That is images"),
        ("t6", "collapse", "no collapse"),
    ],
)
def test_a_near_miss_is_told_what_went_astray(key, answer, reason):
    verdict = check(key, answer)
    assert (verdict.word, reason in verdict.text) == ("nearly", True)
