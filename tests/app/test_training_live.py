"""How a run goes is told from its folder: the state, the numbers, and sentences for a person."""

import json
import platform

import pytest

from workbench.app import live
from workbench.app.live import duration, live_html, look
from workbench.app.run_view import run_html
from workbench.app.runs import Run
from workbench.training import runs


def write(folder, *lines, images=1000, **process):
    """A run folder with these history lines; process: facts of its start, with `ended` those of its end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": {"preset": "shepherd-32", "images": images}}))
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if process:
        ended = process.pop("ended", None)
        room = folder / ".process"
        room.mkdir(exist_ok=True)
        facts = {
            "pid": 2**22 + 7,
            "began": 1.0,
            "run": str(folder.resolve()),
            "host": platform.node(),
            "asked": None,
        }
        (room / "start.json").write_text(json.dumps({**facts, **process}))
        if ended:
            (room / "end.json").write_text(json.dumps({"pid": facts["pid"], **ended}))
    return folder


def step(nimg, rate=50.0, **values):
    return {"kind": "step", "cur_nimg": nimg, "G.loss": 1.5, "D.loss": 0.75, "images_per_s": rate, **values}


def said(folder):
    return live_html(Run(name="r", folder=folder), look(folder))


def test_a_run_of_a_terminal_is_seen_to_train_by_its_lock(tmp_path):
    rates = (1.0, 40.0, 50.0, 60.0, 50.0, 50.0)
    folder = write(tmp_path / "r", *(step(100 * k, rate) for k, rate in enumerate(rates, start=1)))
    with runs.held(folder):
        seen, text = look(folder), said(folder)
    assert (seen.state, seen.ours, seen.alive) == ("running", False, True)
    assert (seen.seen, seen.budget, seen.rate, seen.left_s) == (
        600,
        1000,
        50.0,
        8.0,
    )  # the median of the last five
    assert "Training: 600 of 1,000 images." in text and "50 images a second, about 8 s left" in text
    assert "Ctrl-C there saves and ends it" in text and 'aria-valuenow="0.6000"' in text
    assert "nothing to remark" in text
    assert look(folder).state == "still" and "Not training: 600 of 1,000" in said(folder)


def test_what_the_monitor_says_stands_beside_the_progress_newest_first(tmp_path):
    events = [
        {"kind": "event", "cur_nimg": n, "event": "e", "text": f"Sentence <{n}>."} for n in (10, 20, 30, 40)
    ]
    folder = write(tmp_path / "r", step(10), *events, step(50))
    with runs.held(folder):
        text = said(folder)
    assert (
        text.index("Sentence &lt;40&gt;.") < text.index("Sentence &lt;20&gt;.") and "&lt;10&gt;" not in text
    )


@pytest.mark.parametrize(
    ("process", "state", "words"),
    [
        (
            {"asked": "pause", "ended": {"reason": "stopped", "text": ""}},
            "paused",
            "Paused at 400 of 1,000 images.",
        ),
        (
            {"asked": "stop", "ended": {"reason": "stopped", "text": ""}},
            "stopped",
            "Stopped at 400 of 1,000 images.",
        ),
        (
            {"ended": {"reason": "error", "text": "The disk <is> full."}},
            "failed",
            "The disk &lt;is&gt; full.",
        ),
        ({}, "still", "Not training"),
        ({"asked": None}, "failed", "ended without a word"),
    ],
)
def test_how_a_training_ended_is_told(tmp_path, process, state, words):
    folder = write(tmp_path / "r", step(400), **process)
    assert look(folder).state == state
    assert words in said(folder)


def test_it_can_be_gone_on_with_only_where_there_is_a_checkpoint(tmp_path):
    folder = write(tmp_path / "r", step(400), asked="pause")
    assert not look(folder).resumable and "Resume" not in said(folder)
    (folder / "checkpoints" / "step-000000400").mkdir(parents=True)
    assert look(folder).resumable and "Resume goes on from there" in said(folder)


@pytest.mark.parametrize(
    ("ended", "saved", "words"),
    [
        ("stopped", 400, "Everything is saved. Resume goes on"),
        ("interrupted", 200, "It left at once: what came after image 200 is lost. Resume goes on from there"),
        (None, 200, "what came after image 200 is lost."),  # killed while it saved
        ("interrupted", 400, "Everything is saved. Resume"),
        ("interrupted", None, "It left at once: what it had learnt is lost."),
    ],
)
def test_what_was_lost_by_leaving_at_once_is_told(tmp_path, ended, saved, words):
    more = {"ended": {"reason": ended, "text": ""}} if ended else {}
    folder = write(tmp_path / "r", step(400), asked="pause", **more)
    if saved:
        (folder / "checkpoints" / f"step-{saved:09d}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{saved:09d}" / "state.json").write_text("{}")
    assert look(folder).state == "paused" and words in said(folder)
    assert ("Everything" in said(folder)) == ("Everything" in words)


def test_a_run_that_was_ended_while_it_got_ready_has_nothing_to_lose(tmp_path):
    assert "Nothing was trained yet." in said(write(tmp_path / "r", asked="stop"))


def test_a_run_at_the_end_of_its_budget_is_done(tmp_path):
    folder = write(tmp_path / "r", step(1000), asked=None, ended={"reason": "done", "text": ""})
    assert look(folder).state == "done" and "Done: 1,000 of 1,000 images." in said(folder)


def test_durations_are_said_as_people_do():
    said = {
        12: "12 s",
        89: "89 s",
        100: "2 min",
        3600: "60 min",
        9000: "2.5 h",
        40_000: "11 h",
        400_000: "4.6 days",
    }
    assert {seconds: duration(seconds) for seconds in said} == said


def test_a_view_is_drawn_anew_only_when_something_worth_it_was_added(run_folder, tmp_path):
    folder = write(tmp_path / "r", *(step(8 * k) for k in range(1, 101)))
    run = Run(name="r", folder=folder)
    first = run_html(run, alive=True)
    with (folder / "history.jsonl").open("a") as handle:
        handle.write(json.dumps(step(808)) + "\n")
    assert run_html(run, alive=True) is first  # one line of a hundred
    assert "808" in run_html(run)  # at its end every line counts
    with (folder / "history.jsonl").open("a") as handle:
        handle.write(
            json.dumps({"kind": "event", "cur_nimg": 808, "event": "e", "text": "Look here."}) + "\n"
        )
    assert "Look here." in run_html(run, alive=True)


def test_a_run_that_only_just_began_is_getting_ready(tmp_path):
    folder = tmp_path / "r"
    with runs.held(folder):
        assert look(folder).state == "starting"
        assert "Getting ready." in said(folder)
    assert live.look(folder).seen == 0
