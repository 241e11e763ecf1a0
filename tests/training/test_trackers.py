"""Trackers: what they hold equals the history, they stay on this machine, and say what they need."""

import json
import os
import sqlite3
import subprocess
import sys

import pytest
import tiny_run

from workbench.errors import WorkbenchError
from workbench.training import trackers
from workbench.training.history import read_history

LINE = {
    "kind": "step", "cur_nimg": 32, "step": 4, "D.loss": 1.5, "G.loss": None, "not_applied": 0, "lr": 0.01,
}  # fmt: skip


def test_curves_are_the_numbers_of_a_line_grouped_by_their_first_word():
    assert trackers.curves(LINE) == {"D/loss": 1.5, "not_applied": 0.0, "lr": 0.01}
    measured = {"kind": "eval", "cur_nimg": 9, "n": 5, "frechet": 2.0, "judge": "abc"}
    assert trackers.curves(measured) == {"eval/frechet": 2.0}
    assert trackers.curves({"kind": "event", "cur_nimg": 3, "event": "stalled", "at_step": 4}) == {}


def test_an_unknown_tracker_and_a_missing_package_are_said_before_anything_is_made(
    inputs, tmp_path, monkeypatch
):
    with pytest.raises(WorkbenchError, match="tracker is 'wandb': expected tensorboard or trackio"):
        tiny_run.run_tiny(inputs, tmp_path / "run", tracker="wandb")
    for name in trackers.NAMES:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(WorkbenchError, match=f"needs the package {name}.*pip install {name}"):
            tiny_run.run_tiny(inputs, tmp_path / "run", tracker=name)
    assert not (tmp_path / "run").exists()


def test_trackio_is_refused_where_it_would_send(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="trackio is not installed")
    for setting in trackers.SENDING:
        with monkeypatch.context() as patch:
            patch.setenv(setting, "somewhere")
            with pytest.raises(WorkbenchError, match=f"{setting} is set.*on this machine only"):
                trackers.opener("trackio", tmp_path)


def read_board(run) -> tuple[dict[str, list[tuple[int, float]]], list[int], int]:
    """(curves, images at which there is a grid, number of texts)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    board.Reload()
    tags = board.Tags()
    curves = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags["scalars"]}
    return curves, [e.step for e in board.Images("grid")], sum(len(board.Tensors(t)) for t in tags["tensors"])


def test_tensorboard_holds_the_history_once_also_after_a_resume(inputs, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run = tmp_path / "run"
    tiny_run.run_tiny(inputs, run, images=96, stop_after_nimg=64, tracker="tensorboard")
    newest = sorted((run / "checkpoints").iterdir())[-1]  # as if killed after the one before
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    tiny_run.run_tiny(inputs, run, images=96, tracker="tensorboard")
    curves, grids, texts = read_board(run)
    steps = read_history(run, "step")
    for name in ("D.loss", "G.loss", "lr", "spread.fake"):
        drawn = dict(curves[name.replace(".", "/")])
        assert sorted(drawn) == [line["cur_nimg"] for line in steps]
        assert all(drawn[line["cur_nimg"]] == pytest.approx(line[name], rel=1e-6) for line in steps)
        assert len(drawn) == len(curves[name.replace(".", "/")]), "a point is there twice"
    assert grids == [line["cur_nimg"] for line in read_history(run, "sample")] and texts == 0


# In a process of its own: Trackio reads its folder once, and every connection is watched.
TRACKED = """
import socket, sys
from pathlib import Path
from PIL import Image
from workbench.training import trackers

def refused(self, address, *rest):
    raise SystemExit(f"connects to {address}")

socket.socket.connect = refused
run = Path(sys.argv[1])
(run / "samples").mkdir(parents=True)
Image.new("RGB", (24, 24), "red").save(run / "samples" / "grid.png")
board = trackers.opener("trackio", run)(0)
board.take({"kind": "sample", "cur_nimg": 0, "file": "samples/grid.png"})
for k in (1, 2):
    board.take({"kind": "step", "cur_nimg": 8 * k, "D.loss": k / 4, "not_applied": 0})
board.take({"kind": "event", "cur_nimg": 16, "event": "stalled", "text": "It stands still."})
board.close()
"""


def test_trackio_holds_the_lines_and_calls_nobody(tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed")
    mine = {k: v for k, v in os.environ.items() if not k.startswith("TRACKIO_")}
    line = [sys.executable, "-c", TRACKED, str(tmp_path / "run")]
    done = subprocess.run(line, env=mine, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with sqlite3.connect(tmp_path / "trackio" / "workbench.db") as file:
        rows = file.execute("select step, metrics from metrics where run_name = 'run' order by id").fetchall()
    found = [(step, json.loads(text)) for step, text in rows]
    assert [step for step, _ in found] == [0, 8, 16, 16]
    assert found[1][1] == {"D/loss": 0.25, "not_applied": 0.0} and "grid" in found[0][1]
    assert "It stands still." in json.dumps(found[3][1])
    assert len(list((tmp_path / "trackio").rglob("*.png"))) == 1
