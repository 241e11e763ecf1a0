"""Several processes train the model that one does, and leave in a clear way when one is lost."""

import contextlib
import os
import signal
import socket
import sys
import time

import pytest
import tiny_run
import torch
from aspect_sets import write_set

from workbench.training import checkpoint
from workbench.training.history import read_history
from workbench.training.shares import ALONE

# every loss on, both penalties due, pictures augmented; 6 steps with a checkpoint at each half
EVERYTHING = {
    "heads": True, "clip_weight": 0.3, "r1_every": 2, "diffaugment": "color,translation,cutout",
    "matching_G": "cooperative", "images": 48, "checkpoint_every_nimg": 24, "log_every_nimg": 8,
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def pair_run(inputs, out, **options) -> None:
    """A run by two gloo processes that ends well."""
    pair = tiny_run.start_pair(inputs, out, free_port(), **{**EVERYTHING, **options})
    for process in pair:
        process.join(600)
        process.kill()  # hanging, it would hold up the end of all tests
    assert [process.exitcode for process in pair] == [0, 0]


def weights(run) -> dict[str, torch.Tensor]:
    """All tensors of each part of the newest checkpoint, end to end, in float64."""
    parts = checkpoint.newest(run)[0].tensors()
    return {
        name: torch.cat([tensors[key].double().flatten() for key in sorted(tensors)])
        for name, tensors in parts.items()
    }


@pytest.fixture(scope="module")
def one_process(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    tiny_run.run_tiny(inputs, out, **EVERYTHING)
    return out


@pytest.fixture(scope="module")
def two_processes(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "run"
    pair_run(inputs, out)
    return out


def assert_same_but_for_rounding(ours, theirs):
    """Sums in another order differ by some 1e-7 of the largest term, and six steps of Adam carry that on: it
    divides a gradient by its own size, so the noise of small gradients weighs as much as that of large ones.
    What a wrong mean does is seen in `test_shares` in float64, and is a hundred times larger here too."""
    a, b = weights(ours), weights(theirs)
    assert a.keys() == b.keys()
    for name in ("G", "D", "heads", "G_ema", "guard"):
        assert (a[name] - b[name]).norm() < 1e-4 * b[name].norm(), name
    for line, other in zip(read_history(ours, "step"), read_history(theirs, "step"), strict=True):
        for name in ("D.loss", "G.loss", "D.matching", "G.clip", "G.mode_seeking", "G.norm", "spread.fake"):
            assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def test_two_processes_give_the_weights_of_one(one_process, two_processes):
    assert_same_but_for_rounding(two_processes, one_process)


def test_two_passes_give_the_weights_of_one(inputs, one_process, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", **EVERYTHING, accumulate=2)
    assert_same_but_for_rounding(tmp_path / "run", one_process)


@pytest.mark.parametrize("aspects", [False, True])
def test_two_processes_train_an_upsampler_as_one_does(inputs, tmp_path, aspects):
    options = {"upsamples": True, "heads": False, "clip_weight": 0.0, "diffaugment": "", "r1_every": 2}
    if aspects:
        inputs = write_set(tmp_path / "set", [(32, 16), (16, 16), (20, 40)] * 10), inputs[1]
        options["aspects"] = True
    tiny_run.run_tiny(inputs, tmp_path / "one", **{**EVERYTHING, **options})
    pair_run(inputs, tmp_path / "two", **options)
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in ("G", "D", "G_ema"):
        assert (a[name] - b[name]).norm() < 1e-4 * b[name].norm(), name


def test_a_run_of_two_processes_resumes_exactly(inputs, two_processes, same_run, tmp_path):
    pair_run(inputs, tmp_path / "run", stop_after_nimg=24)
    pair_run(inputs, tmp_path / "run")
    same_run(two_processes, tmp_path / "run")


def test_a_lost_process_ends_the_run_with_a_sentence(inputs, tmp_path):
    """And what it had saved goes on, in one process as well."""
    options = {**EVERYTHING, "images": 8000, "log_every_nimg": 8}
    pair = tiny_run.start_pair(inputs, tmp_path / "run", free_port(), **options)
    history = tmp_path / "run" / "history.jsonl"
    end = time.monotonic() + 600
    while not (history.is_file() and '"cur_nimg": 32' in history.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(pair[1].pid, signal.SIGKILL)
    pair[0].join(120)
    with contextlib.suppress(ProcessLookupError):
        pair[0].kill()
    assert pair[0].exitcode == 2
    said = (tmp_path / "rank0.txt").read_text()
    assert "Process 0 of 2 lost another one of this run" in said and "The same command goes on" in said
    found = checkpoint.newest(tmp_path / "run")[0]
    assert found.cur_nimg >= 24
    result = tiny_run.run_tiny(inputs, tmp_path / "run", **options, stop_after_nimg=found.cur_nimg + 8)
    assert result.cur_nimg == found.cur_nimg + 8


def test_a_process_alone_meets_nobody():
    x = torch.rand(3)
    assert ALONE.mean(x) is x and ALONE.any(True, x.device) and ALONE.of_main(2, x.device) == 2
    assert ALONE.mean_statistics({"a": x[0]}) == {"a": x[0]}


def test_nothing_on_the_path_asks_for_cuda(inputs, tmp_path, monkeypatch):
    """A TPU or a CPU has no CUDA: of torch.cuda the workbench may call the question whether there is any."""
    asked = []

    def watched(name, function):
        def call(*args, **kwargs):
            if sys._getframe(1).f_globals["__name__"].startswith("workbench"):
                asked.append(name)
            return function(*args, **kwargs)

        return call

    for name, function in vars(torch.cuda).copy().items():
        if callable(function) and not name.startswith("_") and not isinstance(function, type):
            monkeypatch.setattr(torch.cuda, name, watched(name, function))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = {**EVERYTHING, "images": 16, "device": None, "accumulate": 2}
    assert tiny_run.run_tiny(inputs, tmp_path / "run", **options).reason == "done"
    assert asked == []
