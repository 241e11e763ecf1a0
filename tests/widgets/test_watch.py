"""A run in a process of its own under a notebook's eye: it is watched, stopped by its button, and goes on."""

import json
import time

import pytest
from tiny_run import make_inputs

from workbench.errors import WorkbenchError
from workbench.training import background
from workbench.training.background import Job, Trainer
from workbench.training.config import TrainConfig
from workbench.training.history import History
from workbench.widgets.watch import LiveRun

PATIENCE_S = 600  # a machine that trains at the same time is slow


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    data, clip = make_inputs(tmp_path_factory.mktemp("inputs"))
    often = {"log_every_nimg": 4, "sample_every_nimg": 16, "checkpoint_every_nimg": 32, "eval_every_nimg": 0}
    config = TrainConfig.for_preset("shepherd-32", images=64, batch_size=4, precision="fp32", **often)
    return Job(config=config.to_json(), data=str(data), clip=str(clip), device="cpu")


def test_the_button_stops_it_and_starting_again_goes_on_to_the_end(job, tmp_path):
    live = LiveRun(tmp_path / "run", job, every_s=0.05).start()
    try:
        end = time.monotonic() + PATIENCE_S
        while live.bar.value < 4 and time.monotonic() < end:
            time.sleep(0.05)
        live.button.click()
        stopped = live.wait()
        assert stopped.reason == "stopped" and 4 <= stopped.cur_nimg < 64
        assert live.button.disabled and not live.thread.is_alive()
        assert live.label.value == f"{stopped.cur_nimg:,} of 64 images"
        assert "images a second" in live.words.value and bytes(live.picture.value).startswith(b"\x89PNG")
        assert live.start().wait().reason == "done"
        assert (tmp_path / "run" / "model" / "config.json").is_file()
    finally:
        live.stop()
        background.wait(tmp_path / "run", PATIENCE_S)


def test_a_run_that_was_stopped_before_its_first_line_is_no_error(job, tmp_path):
    """While it gets ready there is no history yet."""
    live = LiveRun(tmp_path / "run", job).start()
    try:
        live.stop()
        stopped = live.wait()
        assert (stopped.reason, stopped.cur_nimg) == ("stopped", 0)
        assert not (tmp_path / "run" / "history.jsonl").exists()
    finally:
        background.wait(tmp_path / "run", PATIENCE_S)


def test_only_the_button_pressed_twice_leaves_at_once(job, tmp_path, monkeypatch):
    live, asked = LiveRun(tmp_path / "run", job), []
    monkeypatch.setattr(background, "look", lambda run: Trainer(kind="ours"))
    monkeypatch.setattr(background, "ask", lambda run, for_what, at_once: asked.append(at_once))
    live.button.click()
    live._ask()  # as the end of the kernel does
    live.button.click()
    assert asked == [False, False, True]


def test_a_mistake_reaches_the_cell_that_waits(job, tmp_path):
    wrong = Job(**{**vars(job), "data": str(tmp_path / "nowhere")})
    with pytest.raises(WorkbenchError, match="There is no data set folder"):
        LiveRun(tmp_path / "run", wrong).start().wait()


def test_remarks_are_shown_as_text(job, tmp_path):
    live = LiveRun(tmp_path, job)
    History(tmp_path).append({"kind": "event", "cur_nimg": 8, "event": "e", "text": "Look <here>."})
    live.look()
    assert live.words.value == "Look &lt;here&gt;."
    assert json.loads((tmp_path / "history.jsonl").read_text())["cur_nimg"] == live.bar.value
