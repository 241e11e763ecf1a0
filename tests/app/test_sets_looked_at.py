"""The Dataset tab when something is wrong: damage is told, a name stays free, Cancel is of one part."""

import shutil
import zipfile
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from workbench.app import dataset, sets
from workbench.app.long_work import Wish
from workbench.app.server import build
from workbench.app.sets import Job, Sets
from workbench.datasets.rows import read_folder
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A whole set of six pictures."""
    folder = tmp_path_factory.mktemp("world") / "whole"
    return write_world(folder, count=6, seed=2, resolution=16, workers=1, progress=False)


def tear(folder):
    picture = sorted((folder / "images").iterdir())[3]
    picture.write_bytes(picture.read_bytes()[:60])


DAMAGE = {
    "a torn picture": (tear, "Check it"),
    "a line that is no JSON": (lambda folder: (folder / "metadata.jsonl").write_text("{nothing\n"), "JSON"),
    "no line": (lambda folder: (folder / "metadata.jsonl").write_text(""), "names no picture"),
    "bytes": (lambda folder: (folder / "metadata.jsonl").write_bytes(b"\xff\xfe"), "metadata.jsonl"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_set_is_told_beside_the_list_of_all(world, tmp_path, kind):
    shutil.copytree(world, tmp_path / "whole")
    damaged = shutil.copytree(world, tmp_path / "damaged")
    damage, words = DAMAGE[kind]
    damage(damaged)
    look_again = _looking(tmp_path)
    listed, summary, sheet, status, report = look_again("damaged")
    assert set(listed["choices"]) == {"damaged", "whole"} and listed["value"] == "damaged"
    assert words in status and sheet == [] and report == "" and bool(summary) == (kind == "a torn picture")
    assert [len(part) for part in look_again("whole")[2:4]] == [6, 0]


def test_a_set_that_went_away_is_told_in_place_of_its_state(world, tmp_path):
    shutil.copytree(world, tmp_path / "whole")
    assert "press Refresh" in sets.seen(Sets(tmp_path), "gone")[2]


def _looking(root):
    """What Refresh runs, on the sets of a folder."""
    with gr.Blocks() as page, gr.Tab("Data") as tab:
        dataset.dataset_tab(root, tab)
    return _pressed(page, "set-refresh").fn


def _pressed(page, elem_id):
    """What a click on a button runs first."""
    return next(
        fn for fn in page.fns.values()
        if any(event == "click" and page.blocks[id].elem_id == elem_id for id, event in fn.targets)
    )  # fmt: skip


def _after(page, event):
    """What is chained to an event."""
    return next(fn for fn in page.fns.values() if fn.trigger_after == event._id)


# --- a first drop that is refused ---


def take(files, folder, upscale=False):
    return dataset._take(list(map(str, files)), folder, 64, "crop", "filename", upscale, Job())


@pytest.fixture
def dropped(tmp_path):
    """Files that people drop: one that can be taken, and three that cannot."""
    room = tmp_path / "dropped"
    room.mkdir()
    Image.new("RGB", (64, 64), "red").save(room / "a red dog.png")
    Image.new("RGB", (20, 20), "red").save(room / "a small dog.png")
    (room / "notes.txt").write_text("a dog")
    (room / "a photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"x" * 500)
    return room


@pytest.mark.parametrize("first", ["notes.txt", "a small dog.png", "a photo.heic"])
def test_a_first_drop_of_nothing_leaves_the_name_free(tmp_path, dropped, first):
    folder = tmp_path / "datasets" / "my-pictures"
    with pytest.raises(WorkbenchError, match="No picture could be taken"):
        take([dropped / first], folder)
    assert not folder.exists()
    assert take([dropped / "a red dog.png"], folder).pictures == 1


def test_the_refusal_names_the_controls_of_the_page(tmp_path, dropped):
    small, folder = dropped / "a small dog.png", tmp_path / "set"
    with pytest.raises(WorkbenchError, match="tick “Enlarge pictures that are too small”") as caught:
        take([small], folder)
    assert "--" not in str(caught.value)
    assert take([small], folder, upscale=True).pictures == 1


def test_a_set_that_holds_nothing_keeps_no_name(tmp_path, dropped):
    """As earlier versions left one behind."""
    folder = tmp_path / "set"
    assert take([dropped / "a red dog.png"], folder).pictures == 1
    (folder / "metadata.jsonl").write_text("")
    other = dropped / "x" / "a white dog.png"
    other.parent.mkdir()
    Image.new("RGB", (64, 64), "white").save(other)
    assert take([other], folder).pictures == 1
    assert [row.text for row in read_folder(folder)] == ["a white dog"]


def test_an_archive_of_folders_alone_is_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("dogs/", "")
    with pytest.raises(WorkbenchError, match="holds no files"):
        take([tmp_path / "empty.zip"], tmp_path / "set")
    assert not (tmp_path / "set").exists()


# --- cancel ---


def test_cancel_of_one_part_leaves_the_job_of_another(tmp_path, monkeypatch):
    """One visitor draws a set, and presses Cancel beside the check."""
    monkeypatch.chdir(tmp_path)
    page, me = build(tmp_path / "model", None, "none"), SimpleNamespace(session_hash="me")
    wish = Wish()
    wish.ask("mine", 2000, 64, 0)
    shown = _after(page, _pressed(page, "draw-go")).fn(wish, me)
    while "Drawing: " not in (said := next(shown)[0]):
        pass
    assert "nothing is running" in _pressed(page, "set-stop").fn(Wish(), me)[0]
    while next(shown)[0] == said:  # it goes on
        pass
    assert "Stopping" in _pressed(page, "draw-stop").fn(wish, me)[0]
    assert "Stopped: nothing is running" in list(shown)[-1][0]
    assert 0 < len(list((tmp_path / "runs" / "datasets" / "mine" / "images").iterdir())) < 2000
