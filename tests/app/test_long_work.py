"""Work that waits, runs and ends: the newest wish counts, Stop takes back what waits, the model is shared."""

import threading
import time
from copy import deepcopy
from types import SimpleNamespace

import pytest

from workbench.app.edit_desk import Sheet
from workbench.app.jobs import Studio, in_words
from workbench.app.long_work import Wish
from workbench.app.server import build

STOPS = [  # what is pressed, what stops it, how many values are asked for
    ("make", "stop", 4), ("race-go", "race-stop", 7), ("up-go", "up-stop", 7), ("up-both", "up-both-stop", 7),
    ("eval-go", "eval-stop", 4), ("edit-gif", "edit-stop", 2), ("edit-mp4", "edit-stop", 2),
    ("edit-find", "edit-find-stop", 3), ("draw-go", "draw-stop", 4), ("own-go", "own-stop", 6),
    ("set-check", "set-stop", 1),
]  # fmt: skip

UNQUEUED = ("workbench.app.dataset", "workbench.app.training", "workbench.app.turning")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The app without any model: nothing can be drawn, so what begins all the same is told by an error."""
    return build(tmp_path_factory.mktemp("none") / "model", None, "none")


def pressed(page, elem_id):
    """Events of a button, in their order."""
    return [
        fn for fn in page.fns.values()
        if any(page.blocks[id].elem_id == elem_id for id, event in fn.targets if event == "click")
    ]  # fmt: skip


def after(page, event):
    """What is chained to an event; None where nothing is."""
    return next((fn for fn in page.fns.values() if fn.trigger_after == event._id), None)


def values(event, wish):
    """Inputs of an event as the page opens with them, and this wish in the place of its own."""
    return [wish if isinstance(block.value, Wish) else block.value for block in event.inputs]


@pytest.mark.parametrize(("press", "stop", "asked"), STOPS, ids=[press for press, _, _ in STOPS])
def test_stop_takes_back_what_waits_in_the_queue(page, press, stop, asked):
    wish, me = Wish(), SimpleNamespace(session_hash="me")
    ask = next(fn for fn in pressed(page, press) if after(page, fn))
    run = after(page, ask)
    ask.fn(*values(ask, wish))
    first = stop.startswith("edit")  # there the request comes before any number of wishes
    given = [(fn.fn, values(fn, wish)) for fn in pressed(page, stop)]
    told = [act(me, *inputs) if first else act(*inputs, me) for act, inputs in given]
    assert any("Stopped before" in str(said) for said in told)
    shown = list(run.fn(*values(run, wish), me))
    assert "".join(str(step) for step in shown).count("update") == len(run.outputs)  # it only skips
    assert len(ask.inputs) >= asked and wish.stopped


def test_whoever_may_refuse_waits_in_the_queue(page):
    """Gradio shows the refusal of a queued event alone: another tells it in one of its outputs."""
    refusing = [in_words(lambda: None).__code__, in_words(lambda: (yield)).__code__]
    hidden = [
        (fn.name, fn.fn.__module__) for fn in page.fns.values()
        if not fn.queue and getattr(fn.fn, "__code__", None) in refusing
        and fn.fn.__module__ not in UNQUEUED
    ]  # fmt: skip
    assert hidden == []


def test_the_newest_wish_counts_and_is_granted_once():
    wish = Wish()
    assert wish.take() is None and not wish.drop() and wish.stopped
    wish.ask("a red dog")
    wish.ask("a white dog")
    assert not wish.stopped and wish.take() == ("a white dog",) and wish.take() is None
    wish.ask("a black dog")
    assert wish.drop() and wish.take() is None
    assert deepcopy(wish).take() is None  # as Gradio copies it for each visitor


def test_long_work_gives_way_to_whoever_waits(tmp_path):
    """A lock alone would be taken again by whoever has just let it go."""
    studio, steps, seen = Studio("none", tmp_path), [], []
    begun = threading.Event()

    def long():
        with studio.alone():
            for step in range(200):
                steps.append(step)
                begun.set()
                time.sleep(0.005)
                studio.give_way()

    worker = threading.Thread(target=long)
    worker.start()
    begun.wait()
    for _ in range(3):
        asked = len(steps)
        with studio.alone():
            seen.append(len(steps) - asked)
    worker.join()
    assert max(seen) <= 2 and len(steps) == 200


def test_each_visitor_has_a_sheet_and_each_act_sees_the_one_before():
    first = Sheet()
    first.keep("mine")
    assert first.history == "mine" and deepcopy(first) is not first
    with first.lock:
        late = threading.Thread(target=lambda: first.keep(first.history + " and later"))
        late.start()
        first.keep("changed")
    late.join()
    assert first.history == "changed and later"
