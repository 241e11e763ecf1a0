"""Training processes stopped at random moments end as the run that never was: same bits, same history."""

import random
import shutil

import killing
import pytest
import tiny_run

from workbench.training import checkpoint


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """(folder of an uninterrupted run, seconds it took)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, tiny_run.run_tiny(inputs, folder).seconds


def check_stops(inputs, whole, tmp_path, count: int) -> list[killing.Stop]:
    folder, seconds = whole
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    stops = [
        killing.stop_and_resume(inputs, folder, tmp_path / f"{k}", dice, seconds, number=k)
        for k in range(count)
    ]
    assert [stop for stop in stops if stop.differs] == [], f"seed {seed}: {stops}"
    assert sum(stop.writing for stop in stops) == -(-count // 4)
    return stops


def test_four_stopped_processes_end_with_the_same_bits(inputs, whole, tmp_path):
    stops = check_stops(inputs, whole, tmp_path, 4)
    assert {stop.how for stop in stops} == {"SIGKILL", "SIGTERM", "SIGINT"}


@pytest.mark.long
def test_twenty_stopped_processes_end_with_the_same_bits(inputs, whole, tmp_path):
    check_stops(inputs, whole, tmp_path, 20)


def test_a_difference_would_be_seen(inputs, whole, tmp_path):
    """The comparison itself: another seed differs in weights, history and grids."""
    tiny_run.run_tiny(inputs, tmp_path / "other", seed=1)
    found = killing.differences(whole[0], tmp_path / "other")
    assert {"history.jsonl", "samples"} <= set(found) and any(name.startswith("G.") for name in found)


def cut_power(run, *, how: str) -> None:
    """Leave behind what a power cut may: files of which only a part reached the disk."""
    newest = checkpoint.list_checkpoints(run)[-1]
    history = run / "history.jsonl"
    if how == "a checkpoint half written":
        shutil.copytree(newest, newest.with_name(f"tmp-{newest.name}-1"))
        (newest.with_name(f"tmp-{newest.name}-1") / "state.json").unlink()
    elif how == "the newest checkpoint empty":
        (newest / "D.safetensors").write_bytes(b"")
    elif how == "its state cut":
        (newest / "state.json").write_text((newest / "state.json").read_text()[:200])
    else:
        with open(history, "a") as handle:
            handle.write('{"kind": "step", "cur_nimg": 120, "D.lo')


@pytest.mark.parametrize(
    "how", ["a checkpoint half written", "the newest checkpoint empty", "its state cut", "a line cut"]
)
def test_a_power_cut_costs_at_most_one_checkpoint(inputs, whole, tmp_path, how):
    run = tmp_path / "run"
    tiny_run.run_tiny(inputs, run, stop_after_nimg=112)
    cut_power(run, how=how)
    tiny_run.run_tiny(inputs, run)
    assert killing.differences(whole[0], run) == []
