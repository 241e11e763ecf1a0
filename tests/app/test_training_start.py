"""Runs are started with what is there, one at a time, and a mistake is told before anything is begun."""

import json
import shlex
from types import SimpleNamespace

import pytest

from workbench import cli
from workbench.app import launching
from workbench.app.launching import Desk, check_budget, free_name, job, settings, shell_line
from workbench.app.runs import Shelf
from workbench.app.sets import Sets
from workbench.commands import make
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError
from workbench.models import presets
from workbench.training import runs
from workbench.training.config import TrainConfig


@pytest.fixture
def desk(tmp_path):
    """A desk over an empty folder of runs with one data set."""
    root = tmp_path / "runs"
    data = root / "datasets" / "dogs"
    data.mkdir(parents=True)
    (data / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a dog"}\n')
    return Desk(Shelf(shipped=tmp_path / "none", runs=root), Sets(root))


def write_run(folder, preset="shepherd-32", cpu="a processor", rates=(40.0, 50.0, 60.0)):
    folder.mkdir(parents=True)
    facts = {"config": {"preset": preset, "images": 100}, "machine": {"cpu": cpu}}
    (folder / "config.json").write_text(json.dumps(facts))
    lines = [{"kind": "step", "cur_nimg": k, "images_per_s": rate} for k, rate in enumerate(rates)]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_the_presets_of_the_page_are_those_that_the_shipped_encoder_fits(name):
    fits = presets.preset(name).generator.text_dim == presets.preset("shepherd-64").generator.text_dim
    draws = name.startswith("shepherd") and not presets.preset(name).upsamples
    assert (name in launching.PRESETS) == (fits and draws)


@pytest.mark.parametrize(
    ("name", "data", "preset", "images", "words"),
    [
        ("../up", "datasets/dogs", "shepherd-32", 1000, "expected letters, digits"),
        ("mine", None, "shepherd-32", 1000, "no data set to train on"),
        ("mine", "gone", "shepherd-32", 1000, "'gone' is gone"),
        ("mine", "datasets/dogs", "gigagan-1b", 1000, "choose shepherd-32 or shepherd-64"),
        ("mine", "datasets/dogs", "shepherd-32", 3, "expected a whole number of images from 64"),
        ("taken", "datasets/dogs", "shepherd-32", 1000, "choose another name"),
    ],
)
def test_a_mistake_in_the_form_is_told_and_nothing_is_begun(desk, name, data, preset, images, words):
    write_run(desk.shelf.runs / "taken")
    before = sorted(desk.shelf.runs.rglob("*"))
    with pytest.raises(WorkbenchError, match=words):
        desk.start(name, data, preset, images)
    assert sorted(desk.shelf.runs.rglob("*")) == before


def test_two_runs_at_once_are_refused_whoever_started_the_first(desk):
    folder = write_run(desk.shelf.runs / "first")
    assert desk.busy() is None
    with runs.held(folder):
        assert desk.busy().name == "first"
        for act in (
            lambda: desk.start("second", "datasets/dogs", "shepherd-32", 1000),
            lambda: desk.resume("first"),
        ):
            with pytest.raises(
                WorkbenchError, match=r"first is training now .* in a terminal: press Ctrl-C there"
            ):
                act()
        with pytest.raises(WorkbenchError, match="press Ctrl-C there"):
            desk.pause("first")
    assert not (desk.shelf.runs / "second").exists()
    with pytest.raises(WorkbenchError, match="Nothing is training"):
        desk.stop("first")
    with pytest.raises(WorkbenchError, match="no checkpoints"):
        desk.resume("first")


def test_a_name_that_never_got_under_way_may_be_tried_again(desk):
    room = desk.shelf.runs / "again" / ".process"
    room.mkdir(parents=True)
    (room / "start.json").write_text("{}")
    assert desk.place("again") == desk.shelf.runs / "again"
    assert "again" in desk.shelf.list()


@pytest.mark.parametrize("images", [True, None, "100", 63, 100.5, float("nan"), float("inf"), 10**9])
def test_a_budget_that_no_run_can_have_is_refused(images):
    with pytest.raises(WorkbenchError, match="The budget is"):
        check_budget(images)
    assert check_budget(20_000.0) == 20_000


def test_the_estimate_is_the_median_speed_of_this_computer_or_names_the_other(desk, monkeypatch):
    monkeypatch.setattr(launching, "this_cpu", lambda: "this one")
    assert "no run of this preset was timed yet" in desk.estimate("shepherd-32", 1000)
    write_run(desk.shelf.runs / "elsewhere", cpu="that one")
    assert desk.estimate("shepherd-32", 6000).startswith("About 2 min (50 images a second, on that one;")
    write_run(desk.shelf.runs / "here", cpu="this one", rates=(9.0, 10.0, 11.0))
    write_run(desk.shelf.runs / "other-preset", preset="shepherd-64", cpu="this one", rates=(1.0,))
    assert (
        desk.estimate("shepherd-32", 6000)
        == "About 10 min (10 images a second, by earlier runs on this computer)."
    )
    assert "The budget is 1" in desk.estimate("shepherd-32", 1)


def test_a_short_run_is_watched_closely_and_a_long_one_as_its_preset_says():
    short, long = settings("shepherd-32", 1000, judged=True), settings("shepherd-32", 10**6, judged=True)
    assert (short.log_every_nimg, short.sample_every_nimg, short.checkpoint_every_nimg) == (10, 33, 125)
    assert short.eval_every_nimg == 0  # there is nothing to measure yet
    usual = TrainConfig.for_preset("shepherd-32", images=10**6)
    assert long == usual
    assert (
        settings("shepherd-32", 10**6, judged=False).eval_every_nimg == 0
    )  # the judge knows one world alone


def drawn(folder):
    """A small set of the world."""
    return write_world(folder, count=4, seed=0, resolution=16, workers=1, progress=False)


def other(folder):
    """A set that is none of the world's."""
    folder.mkdir(exist_ok=True)
    (folder / "a.png").touch()
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a dog"}\n')
    return folder


def test_the_judge_looks_at_the_drawn_world_alone(desk, tmp_path):
    for data, judged in ((other(desk.sets.get("datasets/dogs")), False), (drawn(tmp_path / "drawn"), True)):
        assert (job(data, "shepherd-32", 100_000).config["eval_every_nimg"] > 0) == judged


def test_the_line_for_a_terminal_is_one_that_the_command_reads(tmp_path):
    line = shell_line(tmp_path / "my run", other(tmp_path / "data"), "shepherd-32", 1000)
    words = shlex.split(line)
    assert words[:2] == ["workbench", "train"] and words[words.index("--out") + 1] == str(tmp_path / "my run")
    assert words[words.index("--sample-every") + 1] == "33" and words[words.index("--images") + 1] == "1000"


@pytest.mark.parametrize("world", [True, False])
@pytest.mark.parametrize(
    ("preset", "images"), [("shepherd-32", 1000), ("shepherd-64", 20_000), ("shepherd-64", 10**6)]
)
def test_the_line_for_a_terminal_trains_the_same(tmp_path, monkeypatch, preset, images, world):
    data, asked = (drawn if world else other)(tmp_path / "data"), []

    def train(config, *_, **__):
        asked.append(config)
        return SimpleNamespace(reason="done")

    monkeypatch.setattr(make, "starter", lambda cluster: train)
    assert cli.main(shlex.split(shell_line(tmp_path / "run", data, preset, images))[1:]) == 0
    assert asked == [settings(preset, images, judged=world)]


def test_a_free_name_is_the_next_of_its_kind(desk):
    assert free_name(desk.shelf, "dogs-7") == "dogs-7"
    for name in ("my-run", "my-run-2"):
        write_run(desk.shelf.runs / name)
    assert free_name(desk.shelf) == "my-run-3"
    write_run(desk.shelf.runs / "my-dogs")
    assert free_name(desk.shelf, "my dogs") == "my-dogs-2"  # they would lie in one folder
    assert free_name(desk.shelf, "your dogs") == "your dogs"
    assert free_name(desk.shelf, "../up") == "../up"  # told beside it
