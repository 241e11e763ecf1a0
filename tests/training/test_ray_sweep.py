"""A real sweep with Ray Tune on this machine, stopped, killed, and run to its end."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny_run

from workbench.training import checkpoint
from workbench.training.config import TrainConfig, read_settings
from workbench.training.history import read_history
from workbench.training.runs import read_run
from workbench.training.sweeps import read_sweep
from workbench.training.sweeps_trial import RUNGS
from workbench.training.trials import ROW

SCRIPT = Path(tiny_run.__file__).with_name("ray_run.py")
SWEEP = {
    "preset": "shepherd-32",
    "images": 64,
    "n": 8,
    "samples": 2,
    "train": {"batch_size": 8, "precision": "fp32", "vision_weight": 0.0},
    "space": {"lr_G": {"loguniform": [0.001, 0.03]}, "r1_gamma": {"grid": [0.5, 2.0]}},
    "halving": {"first": 16, "reduction": 2},
}


def start(inputs, out: Path) -> subprocess.Popen:
    file = out.parent / "sweep.json"
    file.write_text(json.dumps(SWEEP))
    line = [str(word) for word in (sys.executable, SCRIPT, "sweep", *inputs, out, file)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(process: subprocess.Popen, out: Path, name: str, count: int) -> list[Path]:
    """The files `name` of trials, once there are `count`."""
    end = time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        if len(found := sorted(out.glob(f"trials/*/{name}"))) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {count} {name}: {process.poll()}")


def said_of(process: subprocess.Popen) -> str:
    return process.communicate(timeout=900)[1]


@pytest.mark.long
@pytest.mark.skipif(find_spec("ray") is None, reason="no ray here; to run it: pip install workbench[cluster]")
def test_a_sweep_that_is_stopped_and_killed_trains_no_trial_twice(inputs, tmp_path):
    out = tmp_path / "sweep"
    process = start(inputs, out)
    wait_for(process, out, "history.jsonl", 1)
    os.killpg(process.pid, signal.SIGINT)
    said = said_of(process)
    assert process.returncode == 130 and "Finishing this step" in said, said
    assert all(checkpoint.newest(run)[0] is not None for run in (out / "trials").iterdir())

    process = start(inputs, out)
    ended = wait_for(process, out, ROW, 1)
    os.kill(process.pid, signal.SIGKILL)
    said_of(process)
    before = {file: file.stat().st_mtime_ns for row in ended for file in row.parent.rglob("*")}

    process = start(inputs, out)
    said = said_of(process)
    assert process.returncode == 0, said
    # Reading a run leaves it as it was, its lock apart.
    assert before == {file: file.stat().st_mtime_ns for file in before}

    rows, sweep = json.loads((out / "table.json").read_text()), read_sweep(tmp_path / "sweep.json")
    assert sorted(row["name"] for row in rows) == ["000", "001", "002", "003"]
    assert rows[0]["end"] == "done" and {row["end"] for row in rows} <= {"done", "given up"}
    for row in rows:
        run = out / "trials" / row["name"]
        assert read_run(run)["config"]["lr_G"] == row["settings"]["lr_G"]
        assert [one["rung"] for one in json.loads((run / RUNGS).read_text())] == [
            rung for rung in (16, 32, 64) if rung <= row["rung"]
        ]
        assert checkpoint.newest_nimg(run) == row["rung"]  # given up at a rung: not a step further
        counts = [line["cur_nimg"] for line in read_history(run, "step")]
        assert counts == sorted(set(counts))
        assert (row["rung"] == 64) == (row["end"] == "done")
    settings = read_settings(out / "best.json")
    assert TrainConfig.for_preset(settings.pop("preset"), **settings).lr_G == rows[0]["settings"]["lr_G"]
    assert sweep.rungs() == [16, 32, 64] and not (out / ".ray").exists()
