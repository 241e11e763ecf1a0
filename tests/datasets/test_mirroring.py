"""Which captions may become false of a mirrored picture."""

import pytest

from workbench.datasets import world
from workbench.datasets.mirroring import names_a_side, sided
from workbench.datasets.world.captions import caption


@pytest.mark.parametrize(
    "text",
    [
        "a dog on the left",
        "Left: a dog",
        "a right-hand drive",
        "its RIGHT ear is bent",
        "the leftmost house",
        "looking rightwards, at noon",
        "turned rightward",
        "left-handed",
        "on the dog's left, a tree",
        "the left's tree",
        "a right-facing dog",
        "left/right",
        "righthand side",
    ],
)
def test_a_side_is_named(text):
    assert names_a_side(text)


@pytest.mark.parametrize(
    "text",
    ["a dog sitting upright", "a bright day", "leftovers in a bowl", "copyright", "a cleft", "fright", ""],
)
def test_no_side_is_named(text):
    assert not names_a_side(text)


def test_the_world_names_no_side():
    texts = [caption(world.draw_factors(3, index), 3, index) for index in range(2000)]
    assert not sided(texts).any()
