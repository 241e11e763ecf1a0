"""What the monitor says, by what evidence, and when it sends the run back."""

import json

from workbench.training.config import TrainConfig
from workbench.training.monitor import Monitor

HEALTHY = {"spread.fake": 0.2, "spread.real": 0.22, "D.real": 1.0, "D.fake": -1.0, "G.loss": 1.0}


def monitor() -> Monitor:
    return Monitor(TrainConfig(images=200_000))


def events(remarks) -> list[str]:
    return [remark.event for remark in remarks]


def test_nothing_is_said_of_a_healthy_run():
    watch = monitor()
    for n in range(1000, 100_000, 1000):
        assert watch.steps(n, [True] * 31, HEALTHY) == []


def test_three_in_a_row_send_the_run_back_also_across_log_lines():
    watch = monitor()
    assert [r.rollback for r in watch.steps(1000, [True, False, False], HEALTHY)] == [False]
    (remark,) = watch.steps(2000, [False, True, True], HEALTHY)
    assert remark.rollback and "3 of them came in a row" in remark.text
    watch = monitor()
    for n in range(1, 6):  # single ones, however many
        assert [r.rollback for r in watch.steps(n, [False, True, False, True], HEALTHY)] == [False]


def test_collapse_names_its_evidence_once_in_a_while():
    watch = monitor()
    (remark,) = watch.steps(12_000, [True], {**HEALTHY, "spread.fake": 0.02})
    assert (
        remark.event == "collapse"
        and "0.020" in remark.text
        and "0.220" in remark.text
        and "mode_seeking_weight" in remark.text
    )
    assert watch.steps(13_000, [True], {**HEALTHY, "spread.fake": 0.02}) == []
    assert events(watch.steps(22_000, [True], {**HEALTHY, "spread.fake": 0.02})) == ["collapse"]
    assert monitor().steps(3_000, [True], {**HEALTHY, "spread.fake": 0.0}) == []  # too early to tell


def test_overpowering_discriminator():
    (remark,) = monitor().steps(20_000, [True], {**HEALTHY, "D.real": 7.0, "D.fake": -6.0})
    assert remark.event == "overpowering" and "7.0 and -6.0" in remark.text and not remark.rollback


def test_a_jump_of_the_loss():
    watch = monitor()
    for n in range(25):
        watch.steps(n * 1000, [True], HEALTHY)
    (remark,) = watch.steps(26_000, [True], {**HEALTHY, "G.loss": 35.0})
    assert remark.event == "loss-jump" and "35.0; 1.0 was usual" in remark.text


def test_a_jump_of_the_distance_is_said_first_and_acted_on_second():
    watch = monitor()
    assert watch.evaluation(20_000, 10.0, 0.7) == []
    assert watch.evaluation(40_000, 5.0, 0.7) == []
    (first,) = watch.evaluation(60_000, 12.0, 0.7)
    assert first.event == "frechet-jump" and not first.rollback and "best so far was 5.0" in first.text
    (second,) = watch.evaluation(80_000, 30.0, 0.7)
    assert second.rollback
    watch.rolled_back()
    assert watch.evaluation(60_000, 4.0, 0.7) == []


def test_low_diversity():
    assert events(monitor().evaluation(20_000, 10.0, 0.2)) == ["low-diversity"]


def test_its_memory_is_json():
    one, other = monitor(), monitor()
    for n in range(30):
        one.steps(n * 1000, [n % 7 > 0, True], {**HEALTHY, "spread.fake": 0.01})
    other.state = json.loads(json.dumps(one.state))
    late = (50_000, [False, False], {**HEALTHY, "G.loss": 50.0})
    assert one.steps(*late) == other.steps(*late) and one.state == other.state
