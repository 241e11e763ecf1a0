"""The Dataset tab's functions: dogs of chosen factors, sets found and made, jobs that stop, uploads."""

import shutil
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.app import dataset, sets, turning, uploads
from workbench.app.sets import Job, Jobs, Sets
from workbench.datasets.own import importing
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


def packed(path, **members):
    """A ZIP of members: name with __ for / and a dot for the last _ -> bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(".".join(name.replace("__", "/").rsplit("_", 1)), data)
    return str(path)


def test_archives_of_like_names_keep_all_pictures_captions_and_classes(tmp_path):
    shots = [red(tmp_path / f"{k}.png", (40 * k, 9, 9)) for k in range(4)]
    first, second, third, fourth = ((tmp_path / f"{k}.png").read_bytes() for k in range(4))
    one = packed(tmp_path / "one.zip", IMG_1_png=first, IMG_1_txt=b"a first dog", red__IMG_2_png=second)
    two = packed(tmp_path / "two.zip", IMG_1_png=third, IMG_1_txt=b"a third dog", red__IMG_2_png=fourth)
    done = dataset._take([one, two, shots[0]], tmp_path / "set", 16, "crop", "auto", False, Job())
    assert [each.source for each in done.skipped] == ["0.png"]  # of a name that says nothing
    rows = {row.factors["source"]: row.text for row in read_folder(tmp_path / "set")}
    assert rows == {
        "1/IMG_1.png": "a first dog", "1/red/IMG_2.png": "red",
        "2/IMG_1.png": "a third dog", "2/red/IMG_2.png": "red",
    }  # fmt: skip


@pytest.mark.parametrize("zip_first", [True, False])
def test_an_archive_is_never_unpacked_into_an_uploaded_file(tmp_path, zip_first):
    alone = tmp_path / "cache" / "1.png"
    before = Path(red(alone)).read_bytes()
    files = [packed(tmp_path / "dogs.zip", **{"1_png": b"of the archive"}), str(alone)]
    room = uploads.gathered(files if zip_first else files[::-1], tmp_path / "room")
    assert alone.read_bytes() == before
    assert {path.name: path.read_bytes() for path in room.iterdir()} == {
        "1.png": b"of the archive", "1-2.png": before,
    }  # fmt: skip


# --- a name that is taken ---


def take(files, folder, job=None):
    return dataset._take(files, folder, 16, "crop", "filename", False, job or Job())


def test_other_pictures_never_take_the_place_of_a_finished_set(tmp_path):
    folder = tmp_path / "my-pictures"
    dogs = [red(tmp_path / "first" / name) for name in ("brown dog.png", "white dog.png")]
    others = [red(tmp_path / "then" / name, (9, 9, 99)) for name in ("brown dog.png", "white dog.png")]
    assert take(dogs, folder).pictures == 2

    def held():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = held()
    for files in (others, dogs[:1]):
        with pytest.raises(WorkbenchError, match=r"set called my-pictures already.*choose another name"):
            take(files, folder)
        assert held() == before
    grown = take([*dogs, red(tmp_path / "first" / "black cat.png")], folder)  # the same files and one more
    assert (grown.pictures, grown.fresh) == (3, 1)
    (folder / "import.jsonl").unlink()  # nobody knows any more whose they are
    with pytest.raises(WorkbenchError, match="choose another name"):
        take(dogs, folder)


def test_a_stopped_import_goes_on_with_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_CHUNK", 2)
    dogs = tmp_path / "dogs"
    for name in ("brown dog", "white dog", "black dog"):
        red(dogs / f"{name}.png")
    archive, folder, job = shutil.make_archive(str(dogs), "zip", dogs), tmp_path / "set", Job()
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_counting", lambda job: lambda done, total: done and job.stop.set())
        assert take([archive], folder, job) is None
    assert len(list(folder.glob("images/*"))) == 2 and not (folder / "metadata.jsonl").exists()
    done = take([archive], folder)
    assert (done.pictures, done.fresh) == (3, 1)  # unpacked anew, and known all the same


@pytest.mark.parametrize("name", ["../up.png", "/etc/up.png", "a/../../up.png", "C:/up.png", "..\\up.png"])
def test_an_archive_leads_nowhere_else(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(WorkbenchError, match="leads out"):
        uploads.gathered([str(tmp_path / "bad.zip")], tmp_path / "room")
    assert not (tmp_path / "up.png").exists()


@pytest.mark.parametrize("name", ["Screenshot from 2014-01-01 12:30:00.png", "a/12:30 dog.png"])
def test_a_time_of_day_in_a_name_leads_nowhere(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        archive.writestr(name, b"x")
    room = uploads.gathered([str(tmp_path / "good.zip")], tmp_path / "room")
    assert (room / name).read_bytes() == b"x"


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


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_is_torn_in_an_archive_it_is_one_sentence(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "good.zip", "w", method) as archive:
        archive.writestr("a.png", bytes(range(256)) * 40)
    good = (tmp_path / "good.zip").read_bytes()
    for at in range(30, len(good)):
        (tmp_path / "torn.zip").write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
        try:
            uploads.gathered([str(tmp_path / "torn.zip")], tmp_path / "room")
        except WorkbenchError as error:
            assert str(error).startswith("torn.zip ") and str(tmp_path) not in str(error)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["."], "odd.zip holds a file without a name"),
        ([""], "odd.zip holds a file without a name"),
        (["a", "a/b.png"], "odd.zip holds 'a' as a file and as a folder"),
        (["a/b.png", "./a"], "odd.zip holds 'a' as a file and as a folder"),
        (["x" * 300 + ".png"], "odd.zip holds a file of a name too long, 'xxx"),
        (["x/" * 3000 + "a.png"], "odd.zip cannot be unpacked"),
    ],
)
def test_names_that_cannot_be_are_said(tmp_path, names, message):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for name in names:
            with archive.open(zipfile.ZipInfo(name), "w") as member:
                member.write(b"x")
    with pytest.raises(WorkbenchError, match=message) as caught:
        uploads.gathered([str(tmp_path / "odd.zip")], tmp_path / "room")
    assert str(tmp_path) not in str(caught.value)


def test_no_files_and_no_pictures_are_said(tmp_path):
    with pytest.raises(WorkbenchError, match="drop pictures"):
        dataset._take([], tmp_path / "set", 16, "crop", "auto", False, Job())
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    with pytest.raises(WorkbenchError, match=r"No picture could be taken, notes\.png for one: it is text"):
        dataset._take([str(text)], tmp_path / "set", 16, "crop", "filename", False, Job())
