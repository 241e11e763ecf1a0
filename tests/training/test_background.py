"""A training in a process of its own: found again, paused, resumed, and no other process is ever touched."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from saving_slowly import saving_slowly

from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError
from workbench.training import background, checkpoint, runs
from workbench.training.background import Job
from workbench.training.config import TrainConfig
from workbench.training.history import read_history

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 600  # a machine that trains at the same time is slow


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The smallest preset for 24 steps of 4 pictures."""
    data = tmp_path_factory.mktemp("data") / "world"
    write_world(data, count=12, seed=0, resolution=32, workers=1, progress=False)
    often = {"log_every_nimg": 4, "sample_every_nimg": 96, "checkpoint_every_nimg": 24, "eval_every_nimg": 0}
    config = TrainConfig.for_preset("shepherd-32", images=96, batch_size=4, precision="fp32", **often)
    clip = str(ROOT / "assets" / "models" / "mini-clip")
    return Job(config=config.to_json(), data=str(data), clip=clip, device="cpu")


def until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def seen(run):
    return read_history(run)[-1]["cur_nimg"] if (run / "history.jsonl").is_file() else 0


@pytest.mark.long
def test_it_trains_pauses_saves_and_goes_on_to_its_end(job, tmp_path):
    run = tmp_path / "run"
    background.start(run, job)
    try:
        assert background.look(run).kind == "ours"
        with pytest.raises(WorkbenchError, match="already"):
            background.start(run, job)
        until(lambda: seen(run) >= 8, "the first steps are logged")
        background.ask(run, "pause")
        paused = background.wait(run, PATIENCE_S)
        assert (paused.kind, paused.asked, paused.trouble) == ("none", "pause", None)
        at = checkpoint.newest_nimg(run)
        assert 8 <= at < 96 and at % 4 == 0
        assert "Stopped at" in background.log_tail(run) and "%|" not in background.log_tail(run)
        with pytest.raises(WorkbenchError, match="Nothing is training"):
            background.ask(run, "stop")
        background.start(run, background.job_of(run))
        until(lambda: background.look(run).asked is None, "the new process is noted")
        ended = background.wait(run, PATIENCE_S)
        assert (ended.kind, ended.trouble, seen(run)) == ("none", None, 96)
        assert (run / "model" / "config.json").is_file()
    finally:
        end(run)


def end(run):
    """Leave no process behind, whatever failed."""
    for _ in range(2):
        if background.look(run).kind == "ours":
            background.ask(run, "stop", at_once=True)
    background.wait(run, PATIENCE_S)


def test_a_mistake_is_told_in_the_trainers_own_words(job, tmp_path):
    run = tmp_path / "run"
    background.start(run, replace(job, data=str(tmp_path / "nowhere")))
    trouble = background.wait(run, PATIENCE_S).trouble
    assert trouble.startswith("There is no data set folder") and "nowhere" in trouble


def test_a_killed_training_is_noticed(job, tmp_path):
    run = tmp_path / "run"
    background.start(run, job)
    psutil.Process(json.loads((run / ".process" / "start.json").read_text())["pid"]).kill()
    until(lambda: not background.look(run).alive, "it is gone")
    assert "without a word" in background.look(run).trouble


@pytest.fixture
def bystander():
    """A process that has nothing to do with us."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def note(folder, job, **facts):
    """start.json as `start` writes it, with these facts."""
    room = folder / ".process"
    room.mkdir(parents=True)
    usual = {"run": str(folder), "host": platform.node(), "asked": None, "job": asdict(job)}
    (room / "start.json").write_text(json.dumps({**usual, **facts}))


def test_two_people_who_press_lose_no_work(tmp_path):
    """Each of them asks it to end, and neither knows of the other."""
    with saving_slowly(tmp_path) as heard:
        for for_what in ("pause", "pause", "stop"):
            background.ask(tmp_path, for_what)
        background.ask(tmp_path, "stop", at_once=True)
        until(lambda: "SIGINT" in heard.read_text(), "it is told to leave")
        assert heard.read_text().split() == ["SIGTERM", "SIGINT"]
        assert background.look(tmp_path).asked == "stop"


def test_whoever_knows_of_no_one_before_him_never_leaves_at_once(tmp_path):
    with saving_slowly(tmp_path) as heard:
        background.ask(tmp_path, "stop", at_once=True)
        until(heard.exists, "it is told to save")
        assert heard.read_text() == "SIGTERM "


def test_the_word_of_its_end_is_handed_on(job, tmp_path):
    run = tmp_path / "run"
    note(run, job, pid=2**22 + 7, began=1.0, asked="stop")
    assert background.look(run).ended is None  # killed before it could say
    for pid, ended in (
        (2**22 + 7, "interrupted"),
        (2**22 + 8, None),
    ):  # that of an earlier process is not its
        (run / ".process" / "end.json").write_text(
            json.dumps({"pid": pid, "reason": "interrupted", "text": ""})
        )
        assert background.look(run).ended == ended


@pytest.mark.parametrize("facts", [{"pid": 7}, {"pid": 7, "run": "x"}, {}])
def test_a_note_that_lacks_facts_is_nobodys(tmp_path, facts):
    (tmp_path / ".process").mkdir()
    (tmp_path / ".process" / "start.json").write_text(json.dumps(facts))
    assert not background.look(tmp_path).alive


def test_notes_written_at_once_by_two_visitors_are_all_whole(tmp_path):
    note = tmp_path / "start.json"

    def write(asked):
        for _ in range(300):
            background._write(note, {"asked": asked})

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, asked) for asked in ("pause", "stop")]:
            done.result()
    assert json.loads(note.read_text())["asked"] in ("pause", "stop")
    assert list(tmp_path.iterdir()) == [note]


def test_a_number_that_another_process_got_is_left_alone(job, tmp_path, bystander):
    run = tmp_path / "run"
    note(run, job, pid=bystander.pid, began=bystander.create_time())
    assert background.look(run).kind == "none"
    for _ in range(2):
        with pytest.raises(WorkbenchError, match="Nothing is training"):
            background.ask(run, "stop")
    time.sleep(0.2)
    assert bystander.is_running() and bystander.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("what", ["host", "began", "run"])
def test_the_same_number_elsewhere_or_earlier_is_another_process(job, tmp_path, what):
    run = tmp_path / "run"
    own = {"pid": os.getpid(), "began": psutil.Process().create_time()}
    other = {"host": "another-computer", "began": own["began"] - 60, "run": str(tmp_path / "copied-from")}
    note(run, job, **{**own, what: other[what]})
    assert background.look(run).kind == "none"


def test_a_training_of_another_process_is_seen_by_its_lock_and_not_stopped_from_here(tmp_path):
    run = tmp_path / "run"
    with runs.held(run):
        assert background.look(run).kind == "elsewhere"
        with pytest.raises(WorkbenchError, match="press Ctrl-C there"):
            background.ask(run, "stop")
        with pytest.raises(WorkbenchError, match="Another training is writing"), runs.held(run):
            pass
    assert background.look(run).kind == "none"


def test_a_look_never_keeps_a_trainer_out(tmp_path):
    """Looking takes the lock for an instant; a trainer that meets it there tries again."""
    import fcntl

    run = tmp_path / "run"
    with runs.held(run):
        pass
    with open(run / ".lock") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        let_go = subprocess.Popen(["true"])  # anything that takes a moment
        let_go.wait()
        fcntl.flock(looker, fcntl.LOCK_UN)
        with runs.held(run):
            assert runs.is_held(run)


def test_a_run_of_ours_without_a_checkpoint_begins_again(job, tmp_path):
    """Stopped between its first grid and its first checkpoint, as the command line takes it too."""
    run = tmp_path / "run"
    background.start(run, job)
    try:
        until(lambda: seen(run) >= 8, "the first steps are logged")
        background.ask(run, "pause")
        background.wait(run, PATIENCE_S)
        shutil.rmtree(run / "checkpoints")
        assert background.job_of(run) == job
    finally:
        end(run)


def test_a_run_from_a_terminal_can_be_gone_on_with_and_a_copy_without_checkpoints_cannot(tmp_path):
    shipped = ROOT / "assets" / "training" / "shepherd-64"
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "history.jsonl"):
        shutil.copy(shipped / name, copy)
    with pytest.raises(WorkbenchError, match="no checkpoints"):
        background.job_of(copy)
    (copy / "checkpoints" / "step-000000032").mkdir(parents=True)
    (copy / "checkpoints" / "step-000000032" / "state.json").write_text("{}")
    job = background.job_of(copy)
    facts = json.loads((copy / "config.json").read_text())
    assert (job.config, job.data, job.clip) == (facts["config"], facts["data"]["path"], facts["clip"])
