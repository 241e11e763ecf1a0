"""Enough of everything: pictures for a preset, values of a column, and the pictures unlike all others."""

import numpy as np
import pytest

from workbench.datasets.check.balance import NEEDS, kinds, need_of, of_balance, of_count
from workbench.datasets.check.looks import Look
from workbench.datasets.check.pictures import of_outliers, robust_scores
from workbench.datasets.rows import Row
from workbench.errors import WorkbenchError
from workbench.models.presets import PRESETS, preset


def test_each_preset_has_its_need_at_its_size():
    assert set(NEEDS) == set(PRESETS)
    for name, need in NEEDS.items():
        assert need.side == preset(name).side and need.least < need.good
    with pytest.raises(WorkbenchError, match="no preset 'huge': choose one of shepherd-32"):
        need_of("huge")


@pytest.mark.parametrize(
    ("count", "level"),
    [(0, "problem"), (199, "problem"), (200, "warning"), (1999, "warning"), (2000, "note"), (9999, "note")],
)
def test_too_few_pictures_for_a_preset_weigh_more_the_fewer_they_are(count, level):
    (found,) = of_count(count, need_of("shepherd-64"))
    assert found.level == level and f"{count:,}" in found.what and "2,000" in found.suggestion
    assert of_count(10_000, need_of("shepherd-64")) == []


def column(**counts: int) -> list[Row]:
    names = [value for value, count in counts.items() for _ in range(count)]
    return [
        Row(f"{k}.png", "a dog", {"coat": value, "azimuth": k / 7, "source": f"{k}.jpg"})
        for k, value in enumerate(names)
    ]


def test_a_value_below_a_third_of_its_share_is_named():
    rows = column(black=60, white=50, red=11)  # a fair share is 40.3
    (found,) = of_balance(rows)
    assert found.kind == "balance" and found.names == ("red (11)",) and "'coat'" in found.what
    assert kinds(rows) == {"coat": {"black": 60, "white": 50, "red": 11}}
    assert of_balance(column(black=60, white=50, red=19)) == []


def test_chance_alone_raises_no_finding():
    assert of_balance(column(black=20, white=3)) == []  # a share of 11.5 is too small to say
    draw = np.random.default_rng(0)
    raised = 0
    for _ in range(200):
        names = draw.choice(["a", "b", "c", "d"], 48)
        raised += bool(of_balance([Row(f"{k}.png", "x", {"kind": str(n)}) for k, n in enumerate(names)]))
    assert raised <= 8


def features_of(count: int) -> list[Look]:
    draw = np.random.default_rng(0)
    spread = np.array([20, 10, 15, 5, 5, 0.4])
    means = np.array([120, 50, 40, 0, 0, 2])
    return [
        Look(f"{k}.png", features=(means + spread * draw.normal(size=6)).astype(np.float32))
        for k in range(count)
    ]


def test_pictures_unlike_the_others_are_named_the_farthest_first():
    looks = features_of(300)
    assert of_outliers(looks) == []
    looks[7].features[0] += 200
    looks[9].features[5] -= 20
    (found,) = of_outliers(looks)
    assert found.names == ("9.png (less detail)", "7.png (more brightness)") and found.files == (
        "9.png",
        "7.png",
    )
    assert of_outliers(looks[:20]) == []


def test_robust_scores_are_standard_deviations_that_outliers_do_not_move():
    x = np.random.default_rng(1).normal(100, 30, (10_000, 6)).astype(np.float32)
    x[:2000] += 1e6
    scores = robust_scores(x)[2000:]
    assert (
        np.abs(scores.std(axis=0) - 30 / 38).max() < 0.1
    )  # a fifth of outliers widens the scale by a quarter
    assert (robust_scores(np.full((50, 6), 7.0)) == 0).all()
