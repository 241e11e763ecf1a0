"""The Training tab as it answers: a refusal changes nothing, one odd run stops no other, a press is heard."""

import shutil
from types import SimpleNamespace

import gradio as gr
import pytest

from workbench.app import training
from workbench.app.launching import Desk
from workbench.app.runs import Shelf
from workbench.app.sets import Sets
from workbench.app.training import _now
from workbench.training import background


@pytest.fixture
def shelf(tmp_path, run_folder):
    """A shelf with a run that is whole, and one newer that each test makes odd in its way."""
    for name in ("whole", "odd"):
        shutil.copytree(run_folder, tmp_path / "runs" / name)
    return Shelf(shipped=tmp_path / "none", runs=tmp_path / "runs")


@pytest.fixture
def page(shelf):
    """The tab over that shelf: the functions of its elements by (name, event)."""
    with gr.Blocks() as blocks, gr.Tab("Training") as tab:
        training.training_tab(shelf, tab)
    first = {}
    for fn in blocks.fns.values():
        for id, event in fn.targets:
            first.setdefault((blocks.blocks[id].elem_id if id else None, event), fn)
    return SimpleNamespace(blocks=blocks, first=first, data=shelf.runs / "datasets" / "dogs")


def chained(page, event):
    return [fn for fn in page.blocks.fns.values() if fn.trigger_after == event._id]


ODD = {
    "an empty grid": lambda run: max((run / "samples").iterdir()).write_bytes(b""),
    "no settings": lambda run: (run / "config.json").write_text('{"config": null, "machine": 3}'),
    "settings of another kind": lambda run: (run / "config.json").write_text("[1]"),
}
TOLD = {
    "a line that is a number": (lambda run: (run / "history.jsonl").write_text("5\n"), "no object"),
    "a torn line": (lambda run: (run / "history.jsonl").write_text("{\n{}\n"), "no JSON"),
    "a remark that takes back nothing": (
        lambda run: (run / "history.jsonl").write_text('{"cur_nimg": 5, "event": "rollback"}\n' * 2),
        "takes lines back",
    ),
    "a remark that shows a number": (
        lambda run: (run / "history.jsonl").write_text(
            '{"kind": "event", "cur_nimg": 5, "event": "e", "text": "t", "shows": 3}\n'
        ),
        "The run odd cannot be shown (TypeError",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_run_that_is_odd_in_part_is_shown_all_the_same(shelf, kind):
    ODD[kind](shelf.runs / "odd")
    now = _now(Desk(shelf, Sets(shelf.runs)), "odd")
    assert "Not training" in now["live"] and "wb-player" in now["view"]


@pytest.mark.parametrize("kind", TOLD)
def test_a_run_that_cannot_be_shown_is_told_in_its_place(shelf, page, kind):
    damage, words = TOLD[kind]
    damage(shelf.runs / "odd")
    (shelf.runs / "odd" / "config.json").write_text('{"config": {"preset": "shepherd-32"}}')
    listed, _, live, view, *_ = page.first["run-refresh", "click"].fn("odd")
    assert set(listed["choices"]) == {"odd", "whole"} and words in live and view == ""
    assert "no run of this preset was timed yet" in _estimate(page, "shepherd-32")
    assert "wb-player" in page.first["run", "input"].fn("whole", None)[1]


def _estimate(page, preset):
    """What stands under the form of a new run; there is a data set of this name."""
    page.data.mkdir(parents=True, exist_ok=True)
    (page.data / "a.png").touch()
    (page.data / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a dog"}\n')
    return page.first["start-preset", "change"].fn("new", "datasets/dogs", preset, 1000)


def test_a_folder_that_is_closed_to_us_keeps_no_run_back(shelf, closed):
    assert list(shelf.list()) == ["whole"]
    assert Desk(shelf, Sets(shelf.runs)).busy() is None


@pytest.fixture
def closed(shelf, monkeypatch):
    """The newer run closed to us, as its file system says it: root, whom tests may run as, sees all."""
    stat = type(shelf.runs).stat

    def refused(path, **more):
        if "odd" in path.parts and path.name != "odd":
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **more)

    monkeypatch.setattr(type(shelf.runs), "stat", refused)


# --- a start that is refused ---


def test_a_refused_start_leaves_the_run_and_the_name_that_were_chosen(page):
    begin = page.first["start-go", "click"]
    _estimate(page, "shepherd-32")
    started, _, said = begin.fn("whole", "datasets/dogs", "shepherd-32", 1000)
    assert started is None and "choose another name" in said
    for then in chained(page, begin):
        values = [None] if len(then.inputs) == 1 else [None, "whole", "datasets/dogs", "shepherd-32", 1000]
        assert all(update == gr.skip() for update in then.fn(*values))
    assert {len(then.inputs) for then in chained(page, begin)} == {1, 5}


def test_a_start_is_looked_at_at_once(page, shelf, monkeypatch):
    begun = []
    monkeypatch.setattr(background, "start", lambda run, job: begun.append(run) or _note(run))
    _estimate(page, "shepherd-32")
    begin = page.first["start-go", "click"]
    started, _, said = begin.fn("new", "datasets/dogs", "shepherd-32", 1000)
    assert (started, said, begun) == ("new", "", [shelf.runs / "new"])
    look_at = next(then for then in chained(page, begin) if len(then.inputs) == 1)
    assert look_at.fn(started)[0]["value"] == "new"


def _note(run):
    (run / ".process").mkdir(parents=True)
    (run / ".process" / "start.json").write_text("{}")


# --- pause and stop ---


def test_only_who_saw_that_it_saves_can_make_it_leave_at_once(page, shelf, monkeypatch):
    asked = []
    monkeypatch.setattr(background, "ask", lambda run, what, at_once=False: asked.append((what, at_once)))
    monkeypatch.setattr(
        background, "look", lambda run: background.Trainer(kind="ours", asked=None, began=1.0)
    )
    running = page.first["run", "input"].fn("whole", None)[0]
    monkeypatch.setattr(
        background, "look", lambda run: background.Trainer(kind="ours", asked="pause", began=1.0)
    )
    saving = page.first["run", "input"].fn("whole", None)[0]
    assert "Training:" in running and "leaves at once" in saving
    for button, seen in (("pause", running), ("stop", running), ("pause", saving), ("stop", saving)):
        page.first[f"run-{button}", "click"].fn("whole", seen)
    assert asked == [("pause", False), ("stop", False), ("pause", False), ("stop", True)]
