"""A training run and the bad days of its machine: killed at any moment, disk full, folder taken away."""

import os
import random
import resource
import time
from pathlib import Path

import pytest
import tiny_run
import torch

from workbench.training import checkpoint
from workbench.training.history import TIMES, read_history


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tiny_run.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lines(run: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_history(run, undone=True)]


def test_killed_at_random_moments_it_ends_with_the_same_bits(inputs, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "whole")
    run, dice = tmp_path / "killed", random.Random()
    for _ in range(2):
        process = tiny_run.start_process(inputs, run)
        seen = checkpoint.newest_nimg(run)
        end = time.monotonic() + 600
        while checkpoint.newest_nimg(run) in (seen, None) and process.is_alive() and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.3))
        process.kill()
        process.join()
        assert checkpoint.newest(run)[0] is not None
    assert tiny_run.run_tiny(inputs, run).reason == "done"
    whole, again = checkpoint.newest(tmp_path / "whole")[0].tensors(), checkpoint.newest(run)[0].tensors()
    for part, tensors in whole.items():
        assert all(torch.equal(value, again[part][name]) for name, value in tensors.items()), part
    assert lines(run) == lines(tmp_path / "whole")
    assert not list((run / "checkpoints").glob("tmp-*"))


@pytest.fixture
def small_files():
    """A disk that takes no file beyond so many bytes (the kernel says EFBIG where a full one says ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_refused_checkpoint_leaves_the_last_good_one_and_nothing_else(tmp_path, small_files):
    checkpoint.write(tmp_path, {"G": {"x": torch.ones(10)}}, {"cur_nimg": 1})
    small_files(50_000)
    with pytest.raises(
        OSError, match=r"Cannot write .*step-000000002: the file would be larger than allowed"
    ):
        checkpoint.write(tmp_path, {"G": {"x": torch.ones(100_000)}}, {"cur_nimg": 2})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000001"]
    assert checkpoint.newest(tmp_path)[0].cur_nimg == 1


def test_a_disk_full_for_a_while_costs_a_checkpoint_and_no_training(inputs, tmp_path, monkeypatch):
    tiny_run.run_tiny(inputs, tmp_path / "whole")
    real, full = checkpoint._write_file, {48, 96}

    def write_file(path, data):
        if any(f"step-{n:09d}" in str(path) for n in full):
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(checkpoint, "_write_file", write_file)
    assert tiny_run.run_tiny(inputs, tmp_path / "run").reason == "done"
    said = read_history(tmp_path / "run", "event")
    assert [line["cur_nimg"] for line in said] == [48, 96]
    assert "the disk is full; free some space" in said[0]["text"] and "The run goes on" in said[0]["text"]
    a, b = (
        checkpoint.newest(tmp_path / "whole")[0].tensors(),
        checkpoint.newest(tmp_path / "run")[0].tensors(),
    )
    assert all(
        torch.equal(value, b[part][name]) for part, tensors in a.items() for name, value in tensors.items()
    )


def test_a_disk_full_at_the_end_is_one_sentence_and_the_run_can_go_on(inputs, tmp_path, monkeypatch):
    real = checkpoint._write_file

    def write_file(path, data):
        if "step-000000064" in str(path):
            raise OSError(28, "No space left on device")
        return real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_file", write_file)
        with pytest.raises(
            OSError, match=r"Cannot write .*the disk is full; free some space and run it again\."
        ):
            tiny_run.run_tiny(inputs, tmp_path / "run", images=64)
    assert checkpoint.newest(tmp_path / "run")[0].cur_nimg == 48
    assert tiny_run.run_tiny(inputs, tmp_path / "run", images=64).reason == "done"


def test_history_waits_for_space_and_loses_no_line(tmp_path, small_files):
    from workbench.training.history import History

    history = History(tmp_path)
    assert history.append({"kind": "step", "cur_nimg": 1})
    small_files(60)
    assert not history.append({"kind": "step", "cur_nimg": 2, "long": "x" * 100})
    assert [line["cur_nimg"] for line in read_history(tmp_path)] == [1]
    assert history.size == (tmp_path / "history.jsonl").stat().st_size
    small_files(resource.RLIM_INFINITY)
    assert history.append({"kind": "step", "cur_nimg": 3})
    assert [line["cur_nimg"] for line in read_history(tmp_path)] == [1, 2, 3]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_sentence(inputs, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="permission is denied"):
        tiny_run.run_tiny(inputs, tmp_path / "run")
    tmp_path.chmod(0o700)
