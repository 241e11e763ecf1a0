"""A training run and the bad days of its machine: disk full, folder taken away. (Kills: test_kills.py.)"""

import os
import resource
import shutil
import subprocess

import killing
import pytest
import tiny_run
import torch

from workbench.training import checkpoint
from workbench.training.history import read_history


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


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 MiB, with room for a tiny run."""
    place = tmp_path / "disk"
    place.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if os.name != "posix" or shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    if (done := subprocess.run(line, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full_costs_no_good_checkpoint(inputs, small_disk, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "whole")
    ballast = small_disk / "ballast"
    run = small_disk / "run"
    tiny_run.run_tiny(inputs, run, stop_after_nimg=56)
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(max(0, free - 600_000)))  # no room for another checkpoint
    with pytest.raises(OSError, match=r"Cannot write .*the disk is full; free some space"):
        tiny_run.run_tiny(inputs, run)
    good = checkpoint.newest(run)[0]
    assert good.cur_nimg == 56 and not list((run / "checkpoints").glob("tmp-*"))
    ballast.unlink()
    assert tiny_run.run_tiny(inputs, run).reason == "done"
    assert [
        name for name in killing.differences(tmp_path / "whole", run) if name.startswith(("G", "D", "opt"))
    ] == []


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
