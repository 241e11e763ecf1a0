"""The Dataset tab's functions: dogs of chosen factors, sets found and made, jobs that stop, uploads."""

import shutil
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from workbench.app import dataset, sets, turning, uploads
from workbench.app.sets import Job, Jobs, Sets
from workbench.datasets.rows import read_folder
from workbench.datasets.world import Factors, draw_factors, render
from workbench.datasets.world.captions import named_factors
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError
from workbench.images import to_uint8

START = list(turning.START.values())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of runs with two data sets, of which the second is the newer."""
    root = tmp_path_factory.mktemp("root")
    write_world(root / "old", count=4, seed=1, resolution=16, workers=1, progress=False)
    time.sleep(0.02)
    write_world(root / "datasets" / "new", count=6, seed=2, resolution=16, workers=1, progress=False)
    return root


# --- turning ---


def test_the_picture_is_the_worlds_and_its_captions_are_true(monkeypatch):
    monkeypatch.setattr(turning, "SIDE", 24)
    picture, words = turning.draw(*START)
    expected = Factors(**turning.START)
    np.testing.assert_array_equal(picture, to_uint8(render([expected], 24))[0])
    said = [part.split("</li>")[0].split(" <small>")[0] for part in words.split("<li>")[1:]]
    assert len(said) == 3
    for text in said:
        claims = named_factors(text)
        assert claims and all(getattr(expected, name) == value for name, value in claims.items())


@pytest.mark.parametrize("index", range(4))
def test_a_drawn_dog_stands_on_the_sliders(index):
    values, factors = turning.drawn(0, index), draw_factors(0, index)
    assert values[:4] == [factors.coat, factors.pose, factors.scene, factors.light]
    for (name, _, low, high, step), value in zip(turning.NUMBERS, values[4:], strict=True):
        assert low <= value <= high
        assert abs(value - getattr(factors, name)) <= step / 2 + 1e-6


def test_a_coat_that_no_dog_has_is_refused():
    with pytest.raises(WorkbenchError, match="purple"):
        turning.draw("purple", *START[1:])


# --- sets ---


def test_sets_are_found_newest_first(root):
    shelf = Sets(root)
    assert list(shelf.list()) == ["datasets/new", "old"]
    assert shelf.get("old") == root / "old"
    assert Sets(root / "nowhere").list() == {}
    with pytest.raises(WorkbenchError, match="Refresh"):
        shelf.get("gone")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 80, "dogs.", "C:\\dogs"])
def test_a_name_leads_nowhere_else(root, name):
    with pytest.raises(WorkbenchError, match="my-dogs"):
        Sets(root).place(name)


def test_the_summary_counts_what_the_folder_holds(root):
    said = sets.summary_html(root / "old")
    rows = read_folder(root / "old")
    coats = [row.factors["coat"] for row in rows]
    assert "<dd>4</dd><dt>pictures" in said and f"--data {root / 'old'}" in said
    for coat in set(coats):
        assert f"<dt>{coat}</dt>" in said or len(set(coats)) == 1


def test_the_sheet_is_spread_over_the_set(root):
    shown = sets.pictures(root / "datasets" / "new", count=3)
    rows = read_folder(root / "datasets" / "new")
    assert [text for _, text in shown] == [rows[0].text, rows[2].text, rows[4].text]
    assert all(picture.size == (16, 16) for picture, _ in shown)


def test_the_report_is_a_page_that_runs_nothing(root):
    page = sets.report_html(root / "old", None, Job())
    assert page.startswith("<iframe") and " sandbox " in page and "allow-" not in page.split("srcdoc")[0]
    assert "Data set check: old" in page


# --- jobs ---


def test_a_job_reports_and_returns():
    def work(job):
        for k in range(3):
            job.tell(k + 1, 3)
        return "made"

    last = list(Jobs().run(work, "me"))[-1]
    assert (last.result, last.done, last.total) == ("made", 3, 3)


def test_stop_ends_the_job_of_that_visitor_alone():
    jobs, ended = Jobs(), {"me": threading.Event(), "you": threading.Event()}

    def work(who, job):
        try:
            for k in range(10_000):
                job.tell(k, 10_000)
                time.sleep(0.005)
        finally:
            ended[who].set()

    mine, yours = (jobs.run(lambda job, who=who: work(who, job), who) for who in ("me", "you"))
    next(mine), next(yours)
    assert jobs.stop("me") and not jobs.stop("stranger")
    assert list(mine)[-1].result is None and ended["me"].is_set()
    assert not ended["you"].is_set()
    yours.close()  # the page was left
    assert ended["you"].wait(5)


def test_what_a_job_raises_is_raised_to_the_page():
    def work(job):
        raise WorkbenchError("The disk is full.")

    with pytest.raises(WorkbenchError, match="full"):
        list(Jobs().run(work, "me"))


def test_a_stopped_drawing_keeps_whole_pictures_and_goes_on(tmp_path):
    jobs, folder = Jobs(), tmp_path / "set"

    def work(job):
        return write_world(folder, count=40, seed=5, resolution=16, workers=1, batch=4, progress=job.tell)

    seen = []
    for job in jobs.run(work, "me"):
        seen.append(job)
        if job.done >= 4:
            jobs.stop("me")
    assert seen[-1].result is None
    kept = sorted(folder.glob("images/*.png"))
    assert 4 <= len(kept) < 40
    times = {file: file.stat().st_mtime_ns for file in kept}
    assert list(jobs.run(work, "me"))[-1].result == folder
    assert len(read_folder(folder)) == 40 and {file: file.stat().st_mtime_ns for file in kept} == times


# --- uploads ---


def red(path, colour=(200, 30, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return str(path)


def test_a_zip_keeps_its_folders_and_names_what_is_broken(tmp_path):
    for name in ("red/a.png", "red/b.png", "blue/c.png"):
        red(tmp_path / "dogs" / name)
    (tmp_path / "dogs" / "blue" / "broken.png").write_bytes(b"no picture")
    archive = shutil.make_archive(str(tmp_path / "dogs"), "zip", tmp_path / "dogs")
    job = Job()
    done = dataset._take([archive], tmp_path / "set", 16, "crop", "folders", False, job)
    assert done.pictures == 3 and [one.source for one in done.skipped] == ["blue/broken.png"]
    assert sorted(row.text for row in read_folder(tmp_path / "set")) == ["blue", "red", "red"]
    assert (job.done, job.total) == (4, 4)


def test_single_files_of_one_name_are_two_files(tmp_path):
    files = [red(tmp_path / "x" / "a.png"), red(tmp_path / "y" / "a.png", (1, 2, 3))]
    text = tmp_path / "x" / "a.txt"
    text.write_text("a red square")
    room = uploads.gathered([*files, str(text)], tmp_path / "room")
    assert {path.name for path in room.iterdir()} == {"a.png", "a-2.png", "a.txt"}
    assert (room / "a-2.png").read_bytes() == (tmp_path / "y" / "a.png").read_bytes()


@pytest.mark.parametrize("name", ["../up.png", "/etc/up.png", "a/../../up.png", "C:/up.png", "..\\up.png"])
def test_an_archive_leads_nowhere_else(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(WorkbenchError, match="leads out"):
        uploads.gathered([str(tmp_path / "bad.zip")], tmp_path / "room")
    assert not (tmp_path / "up.png").exists()


def test_a_broken_and_a_huge_archive_are_said(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000))
    data = bytearray((tmp_path / "good.zip").read_bytes())
    data[60] ^= 255
    (tmp_path / "torn.zip").write_bytes(data)
    with pytest.raises(WorkbenchError, match=r"torn\.zip is broken"):
        uploads.gathered([str(tmp_path / "torn.zip")], tmp_path / "room")
    monkeypatch.setattr(uploads, "MOST_BYTES", 99_999)
    with pytest.raises(WorkbenchError, match="dataset folder"):
        uploads.gathered([str(tmp_path / "good.zip")], tmp_path / "room2")


def test_no_files_and_no_pictures_are_said(tmp_path):
    with pytest.raises(WorkbenchError, match="drop pictures"):
        dataset._take([], tmp_path / "set", 16, "crop", "auto", False, Job())
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    with pytest.raises(WorkbenchError, match=r"None of the 1 files.*notes\.png.*it is text"):
        dataset._take([str(text)], tmp_path / "set", 16, "crop", "filename", False, Job())
