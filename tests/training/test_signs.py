"""The monitor on recorded histories: each broken run is told apart, and nothing is said of healthy ones.

histories/<name>.jsonl are of tiny runs broken on purpose (tests/support/broken_runs.py), ablation-*.jsonl of
32 px runs of the paper's chain, each thinned to what the monitor reads; the demo's is the shipped one.
"""

from pathlib import Path

import broken_runs
import pytest

from workbench.training import signs
from workbench.training.config import TrainConfig
from workbench.training.history import read_history
from workbench.training.monitor import Monitor, replay

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "training" / "shepherd-64" / "history.jsonl"
BROKEN = {name: run for name, run in broken_runs.RUNS.items() if run.says}
HEALTHY = [broken_runs.HISTORIES / "healthy.jsonl", *sorted(broken_runs.HISTORIES.glob("ablation-*.jsonl"))]


def said(path: Path, images: int | None = None) -> dict[str, tuple[int, signs.Remark]]:
    """The first remark of each kind, with its images."""
    lines = read_history(path)
    told = replay(TrainConfig(images=images or lines[-1]["cur_nimg"]), lines)
    return {remark.event: (at, remark) for at, remark in reversed(told)}


@pytest.mark.parametrize("name", BROKEN)
def test_a_run_broken_on_purpose_is_told_in_words(name):
    found = said(broken_runs.HISTORIES / f"{name}.jsonl")
    event = BROKEN[name].says
    assert event in found, sorted(found)
    at, remark = found[event]
    assert 0 < at <= broken_runs.IMAGES and not remark.rollback
    numbers, advice = remark.text.split(". ", 1)
    assert any(letter.isdigit() for letter in numbers) and remark.facts["shows"], remark.text
    assert any(word in remark.text for word in ("Raise", "Lower", "Check", "Add", "go back")), advice


@pytest.mark.parametrize("path", HEALTHY, ids=lambda path: path.stem)
def test_a_healthy_run_is_left_in_peace(path):
    assert said(path) == {}


@pytest.mark.parametrize("images", [95_008, 210_016])
def test_no_false_alarm_on_the_shipped_demo(images):
    """The demo was trained for 95,000 images and then extended."""
    lines = [line for line in read_history(DEMO) if line["cur_nimg"] <= images]
    assert len(lines) > 100 and replay(TrainConfig(images=images), lines) == []


@pytest.mark.parametrize("event", ["collapse", "overpowering", "overfitting", "stalled"])
def test_a_sign_is_seen_in_its_own_run_alone(event):
    """One that fires on everything would pass the first test; a G that cannot learn ignores prompts too."""
    seen = {name for name in broken_runs.RUNS if event in said(broken_runs.HISTORIES / f"{name}.jsonl")}
    assert seen == {name for name, run in BROKEN.items() if run.says == event}


def lines_of(count: int, **values: float) -> list[dict[str, float]]:
    return [{name.replace("_", ".", 1): value for name, value in values.items()} for _ in range(count)]


def test_each_sign_needs_what_it_reads():
    for sign in (signs.collapse, signs.overpowering, signs.ignored_prompt):
        assert sign([{}] * signs.LASTING) is None


def test_pinned_accuracy_has_to_last_and_to_be_far():
    pinned = {"D_real": 2.5, "D_fake": -2.5, "D_sign": 1.0, "D_sign_fake": -1.0}
    remark = signs.overpowering(lines_of(signs.LASTING, **pinned))
    assert "100% of real and 100% of generated" in remark.text
    assert signs.overpowering(lines_of(signs.LASTING - 1, **pinned)) is None
    assert signs.overpowering(lines_of(signs.LASTING, **{**pinned, "D_fake": -1.0})) is None
    assert signs.overpowering(lines_of(signs.LASTING, **{**pinned, "D_sign_fake": -0.9})) is None


def test_an_ignored_prompt_is_g_s_fault_only_where_d_can_read():
    deaf = signs.ignored_prompt(lines_of(signs.LASTING, D_gap_real=1.5, D_gap_fake=0.02))
    assert "so G ignores the prompt. Raise clip_weight" in deaf.text
    blind = signs.ignored_prompt(lines_of(signs.LASTING, D_gap_real=0.01, D_gap_fake=0.02))
    assert "Check that captions and pictures belong together" in blind.text
    assert signs.ignored_prompt(lines_of(signs.LASTING, D_gap_real=1.5, D_gap_fake=0.5)) is None


def test_pictures_at_chance_are_no_answer_to_a_prompt():
    chance = {"coat": 0.22, "pose": 0.35, "scene": 0.19, "light": 0.3}
    assert "no more often than by chance (coat 22%" in signs.at_chance(chance).text
    assert signs.at_chance({**chance, "scene": 0.6}) is None and signs.at_chance({"all": 0.1}) is None


def test_overfitting_is_a_share_of_the_way_to_generated_ones_twice():
    def check(held_out: float) -> dict[str, float]:
        return {"D.train": 2.0, "D.held_out": held_out, "D.fake": -2.0}

    assert (
        "training pictures by heart: their mean logit is 2.00"
        in signs.overfitting([check(-1), check(0)]).text
    )
    assert signs.overfitting([check(1), check(-1)]) is None and signs.overfitting([check(-1)]) is None
    same = {"D.train": 0.1, "D.held_out": -5.0, "D.fake": 0.0}
    assert signs.overfitting([same, same]) is None  # D tells nothing apart yet


def test_a_stall_is_counted_from_the_best_and_forgotten_when_it_ends():
    watch = Monitor(TrainConfig(images=100_000))
    ratios = [9.0, 6.0, 6.1, 6.0, 6.2, 5.95, 6.1, 5.0, 5.1]
    told = [watch.evaluation(5_000 * (k + 1), ratio, None) for k, ratio in enumerate(ratios)]
    assert [len(remarks) for remarks in told] == [0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert "best at 10000 images (6.0 times its floor; now 6.1)" in told[6][0].text


def test_diversity_that_falls_is_a_collapse():
    watch = Monitor(TrainConfig(images=100_000))
    assert watch.evaluation(20_000, 9.0, 0.9) == []
    (remark,) = watch.evaluation(40_000, 8.0, 0.5)
    assert remark.event == "collapse" and "fell to 0.50 of the renders'; it was 0.90" in remark.text
