"""Own pictures as a data set: what is taken, how it is captioned, that it goes on, that nothing is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bad_files import coded, picture
from folders import contents
from PIL import Image

from workbench.datasets.check.running import check_folder
from workbench.datasets.loading import PictureTable
from workbench.datasets.own.importing import import_folder
from workbench.datasets.own.taking import TakeConfig
from workbench.datasets.rows import read_folder
from workbench.errors import WorkbenchError

CONFIG = TakeConfig(resolution=32)
JOURNAL = ("import.jsonl",)  # in the order in which threads were through


def test_a_wrong_number_of_threads_and_an_empty_folder_are_told_with_what_to_do(tmp_path):
    (tmp_path / "own").mkdir()
    for workers in (-1, 0):
        with pytest.raises(WorkbenchError, match=f"workers is {workers}: expected a whole number from 1"):
            import_folder(tmp_path / "own", tmp_path / "set", config=CONFIG, workers=workers, progress=False)
    done = import_folder(tmp_path / "own", tmp_path / "set", config=CONFIG, progress=False)
    assert done.pictures == 0 and done.text().startswith("No picture was taken")
    assert "Check the path of the source" in done.text()
    source_of(tmp_path / "own", {"notes.md": "no picture"})
    told = import_folder(tmp_path / "own", tmp_path / "set", config=CONFIG, progress=False).text()
    assert "Check the path" not in told and "not a picture: it is text" in told


def source_of(folder: Path, names: dict[str, Image.Image | str | bytes]) -> Path:
    """A folder with a picture, a text or bytes under each name."""
    for name, content in names.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            content.save(file)
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def take(source: Path, out: Path, config: TakeConfig = CONFIG, **options):
    return import_folder(source, out, config=config, progress=False, **options)


def rows_of(folder: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    return {row["source"]: row for row in lines}


def test_auto_takes_the_first_caption_there_is_and_keeps_the_class(tmp_path):
    source = source_of(tmp_path / "src", {
        "metadata.jsonl": '{"file_name": "named.png", "text": "from the list", "who": "Rex", "width": 7}\n',
        "named.png": picture(1), "named.txt": "never read",
        "dogs/IMG_0001.png": picture(2), "dogs/IMG_0001.txt": " a dog\n&amp; its tail ",
        "dogs/a-black-dog_02.png": picture(3), "dogs/IMG_0002.png": picture(4), "DSC_9.png": picture(5),
    })  # fmt: skip
    done = take(source, tmp_path / "set")
    rows = rows_of(done.folder)
    assert {name: (row["text"], row["caption_from"]) for name, row in rows.items()} == {
        "named.png": ("from the list", "metadata"),
        "dogs/IMG_0001.png": ("a dog & its tail", "txt"),
        "dogs/a-black-dog_02.png": ("a black dog", "filename"),
        "dogs/IMG_0002.png": ("dogs", "folders"),
    }
    assert rows["named.png"]["who"] == "Rex" and "class" not in rows["named.png"]
    assert (rows["named.png"]["width"], rows["named.png"]["width_before"]) == (40, 7)
    assert {row["class"] for name, row in rows.items() if name.startswith("dogs")} == {"dogs"}
    assert {each.source for each in done.skipped} == {"DSC_9.png", "named.txt"}
    assert done.captions_from == {"metadata": 1, "txt": 1, "filename": 1, "folders": 1}


@pytest.mark.parametrize(
    ("how", "texts"),
    [
        ("metadata", {"one", "two"}),
        ("txt", {"three"}),
        ("filename", {"big dog"}),
        ("folders", {"brown bear"}),
    ],
)
def test_one_way_alone_is_kept_to(tmp_path, how, texts):
    source = source_of(tmp_path / "src", {
        "metadata.csv": "file_name,text\nbrown_bear/1.png,one\nbrown_bear/1.png,two\n",
        "brown_bear/1.png": picture(1), "2.png": picture(2), "2.txt": "three", "big-dog.png": picture(3),
    })  # fmt: skip
    done = take(source, tmp_path / "set", captions=how)
    assert {row.text for row in read_folder(done.folder)} == texts


def test_what_comes_out_is_a_set_that_training_takes(tmp_path):
    source = source_of(tmp_path / "src", {f"a dog {'abcdef'[k]}.jpg": picture(k, 60, 50) for k in range(6)})
    done = take(source, tmp_path / "set")
    table = PictureTable.from_folder(done.folder, 32)
    assert len(table) == 6 and table.images.shape == (6, 3, 32, 32)
    assert check_folder(done.folder).ok
    facts = json.loads((done.folder / "dataset.json").read_text())
    assert (facts["kind"], facts["count"], facts["resolution"]) == ("own-pictures", 6, 32)
    assert str(tmp_path) not in (done.folder / "dataset.json").read_text()
    assert (done.folder / "README.md").read_text().startswith("---\nlicense: ")


def test_nothing_is_enlarged_unless_asked(tmp_path):
    source = source_of(
        tmp_path / "src", {"small dog.png": picture(1, 40, 20), "big dog.png": picture(2, 40, 33)}
    )
    done = take(source, tmp_path / "kept")
    assert set(rows_of(done.folder)) == {"big dog.png"}
    (left,) = done.skipped
    assert left.source == "small dog.png" and "40 × 20 px" in left.reason and "--upscale" in left.do
    asked = take(source, tmp_path / "asked", TakeConfig(resolution=32, upscale=True))
    rows = rows_of(asked.folder)
    assert rows["small dog.png"]["upscaled"] == 1.6 and "upscaled" not in rows["big dog.png"]
    assert asked.upscaled == 1 and not asked.skipped


def test_buckets_are_folders_and_a_column(tmp_path):
    source = source_of(
        tmp_path / "src", {"wide dog.png": picture(1, 160, 90), "tall dog.png": picture(2, 60, 80)}
    )
    rows = rows_of(take(source, tmp_path / "set", TakeConfig(resolution=32, fit="bucket")).folder)
    for name, bucket in (("wide dog.png", "42x24"), ("tall dog.png", "28x36")):
        assert rows[name]["bucket"] == bucket and rows[name]["file_name"].startswith(f"images/{bucket}/")
        with Image.open(tmp_path / "set" / rows[name]["file_name"]) as written:
            assert written.size == tuple(map(int, bucket.split("x")))


def test_frames_of_an_animation_are_spread_and_told(tmp_path):
    frames = [Image.new("RGB", (32, 32), (20 * k, 0, 0)) for k in range(10)]
    moving = coded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    source = source_of(tmp_path / "src", {"a running dog.webp": moving})
    assert take(source, tmp_path / "one").frames_left == 1
    done = take(source, tmp_path / "three", TakeConfig(resolution=32, frames=3))
    lines = [json.loads(line) for line in (done.folder / "metadata.jsonl").read_text().splitlines()]
    assert [(row["frame"], row["frames_in_file"]) for row in lines] == [(0, 10), (3, 10), (6, 10)]
    reds = [int(np.asarray(Image.open(done.folder / row["file_name"]))[0, 0, 0]) for row in lines]
    assert reds == [0, 60, 120]


def test_two_pictures_of_one_name_stay_apart_and_order_is_the_sources(tmp_path):
    source = source_of(
        tmp_path / "src", {"b/dog.png": picture(1), "a/dog.png": picture(2), "dog.png": picture(3)}
    )
    rows = rows_of(take(source, tmp_path / "set").folder)
    assert list(rows) == ["dog.png", "a/dog.png", "b/dog.png"]
    assert len({row["file_name"] for row in rows.values()}) == 3


def test_texts_in_utf16_are_read_and_other_bytes_are_named(tmp_path):
    source = source_of(tmp_path / "src", {
        "1.png": picture(1), "1.txt": "ein Rüde".encode("utf-16"), "2.png": picture(2), "2.txt": b"R\xfcde",
        "3.png": picture(3), "3.txt": "\ufeff  ", "4.png": picture(4), "4.txt": "dog " * 10_000,
    })  # fmt: skip
    done = take(source, tmp_path / "set", captions="txt")
    assert {name: len(row["text"].split()) for name, row in rows_of(done.folder).items()} == {
        "1.png": 2,
        "4.png": 10_000,
    }
    assert {each.source for each in done.skipped} == {"2.png", "2.txt", "3.png", "3.txt"}


def many(folder: Path, count: int = 200) -> Path:
    return source_of(folder, {f"a dog called x{k}y.png": picture(k) for k in range(count)})


def test_a_stopped_import_goes_on_to_the_same_files(tmp_path):
    source = many(tmp_path / "src")
    whole = take(source, tmp_path / "whole")
    asked, event = [], threading.Event()

    def after_one_look() -> bool:
        asked.append(1)
        return len(asked) > 1

    half = take(source, tmp_path / "half", stop=after_one_look)
    assert half.stopped and half.pictures == 64 and "64 pictures are kept" in half.text()
    assert not (half.folder / "metadata.jsonl").exists()
    event.set()
    assert take(source, tmp_path / "half", stop=event).pictures == 64
    told = []
    done = import_folder(source, tmp_path / "half", config=CONFIG, progress=lambda *seen: told.append(seen))
    assert (done.fresh, done.pictures, done.stopped) == (136, 200, False)
    assert told[0] == (64, 200) and told[-1] == (200, 200)
    assert contents(done.folder, without=JOURNAL) == contents(whole.folder, without=JOURNAL)
    assert take(source, tmp_path / "half").fresh == 0


def test_a_killed_import_goes_on_to_the_same_files(tmp_path):
    source = many(tmp_path / "src", 400)
    script = (
        "import sys; from workbench.datasets.own.importing import import_folder, TakeConfig\n"
        "import_folder(sys.argv[1], sys.argv[2], config=TakeConfig(resolution=32), progress=False)"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(source), str(out)])
    until = time.monotonic() + 120
    while len(list(out.glob("images/*.png"))) < 70 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (out / "metadata.jsonl").exists()
    done = take(source, out)
    assert 0 < done.fresh < 400
    assert contents(done.folder, without=JOURNAL) == contents(
        take(source, tmp_path / "whole").folder, without=JOURNAL
    )


def test_what_a_killed_import_left_half_written_is_cleared_away(tmp_path):
    source, out = many(tmp_path / "src", 3), tmp_path / "set"
    out.mkdir()
    (out / "dataset.json.tmp-0badcafe").write_text("{")
    take(source, out)
    (out / "images" / "a-dog.png.tmp-12345678").write_bytes(b"half")
    (out / "metadata.jsonl").rename(out / "metadata.jsonl.tmp-87654321")
    take(source, out)
    assert contents(out, without=JOURNAL) == contents(
        take(source, tmp_path / "whole").folder, without=JOURNAL
    )


def test_a_source_that_changed_is_followed(tmp_path):
    source = source_of(
        tmp_path / "src", {f"{name} dog.png": picture(k) for k, name in enumerate(("red", "big", "old"))}
    )
    out = tmp_path / "set"
    before = rows_of(take(source, out).folder)
    (source / "red dog.png").unlink()
    picture(9).save(source / "big dog.png")
    os.utime(source / "big dog.png", ns=(1, 1))
    source_of(source, {"new dog.png": picture(7), "old dog.txt": "an old dog in words"})
    done = take(source, out)
    assert done.fresh == 2 and contents(out, without=JOURNAL) == contents(
        take(source, tmp_path / "again").folder, without=JOURNAL
    )
    assert not (out / before["red dog.png"]["file_name"]).exists()
    assert rows_of(out)["old dog.png"]["text"] == "an old dog in words"


def test_the_source_is_only_read(tmp_path):
    source = many(tmp_path / "src", 5)
    before = {
        name: (content, (source / name).stat().st_mtime_ns) for name, content in contents(source).items()
    }
    take(source, tmp_path / "set")
    assert {n: (c, (source / n).stat().st_mtime_ns) for n, c in contents(source).items()} == before


@pytest.mark.parametrize(
    ("place", "message"),
    [("src", "lie in each other"), ("src/set", "lie in each other"), (".", "lie in each other")],
)
def test_the_set_must_lie_outside_the_source(tmp_path, place, message):
    many(tmp_path / "src", 2)
    with pytest.raises(WorkbenchError, match=message):
        take(tmp_path / "src", tmp_path / place)


def test_wrong_requests_are_refused_before_anything_is_written(tmp_path):
    source = many(tmp_path / "src", 2)
    with pytest.raises(WorkbenchError, match="not there"):
        take(tmp_path / "nowhere", tmp_path / "set")
    with pytest.raises(WorkbenchError, match="expected one of auto"):
        take(source, tmp_path / "set", captions="guess")
    with pytest.raises(WorkbenchError, match="blip"):
        take(source, tmp_path / "set", captions="blip")
    with pytest.raises(WorkbenchError, match="resolution is 8"):
        TakeConfig(resolution=8)
    with pytest.raises(WorkbenchError, match="fit is 'stretch'"):
        TakeConfig(resolution=64, fit="stretch")
    other = source_of(tmp_path / "other", {"letter.txt": "dear"})
    with pytest.raises(WorkbenchError, match="holds something else"):
        take(source, other)
    take(source, tmp_path / "set")
    with pytest.raises(WorkbenchError, match="resolution 32, not 64"):
        take(source, tmp_path / "set", TakeConfig(resolution=64))
    assert not (tmp_path / "nowhere").exists() and [file.name for file in other.iterdir()] == ["letter.txt"]


def test_an_import_stopped_on_a_source_that_changed_is_an_interrupted_set(tmp_path):
    source = source_of(tmp_path / "src", {f"a {c} dog.png": picture(k) for k, c in enumerate(("red", "tan"))})
    take(source, tmp_path / "set")
    picture(99).save(source / "a red dog.png")
    stopped = take(source, tmp_path / "set", stop=lambda: True)
    assert stopped.stopped and not (tmp_path / "set" / "metadata.jsonl").exists()
    with pytest.raises(WorkbenchError, match="interrupted"):
        read_folder(tmp_path / "set")
    assert take(source, tmp_path / "set").pictures == 2 and len(read_folder(tmp_path / "set")) == 2


def test_texts_with_a_large_suffix_are_captions(tmp_path):
    source = source_of(tmp_path / "src", {
        "IMG_1.png": picture(1), "IMG_1.TXT": "a white dog",
        "IMG_2.png": picture(2), "IMG_2.txt": "a tan dog", "IMG_2.TXT": "never read",
    })  # fmt: skip
    done = take(source, tmp_path / "set")
    assert [row.text for row in read_folder(done.folder)] == ["a white dog", "a tan dog"]
    assert [skipped.source for skipped in done.skipped] == ["IMG_2.TXT"]


def test_a_full_disk_is_one_sentence_and_keeps_what_is_done(tmp_path, largest_file):
    source = source_of(tmp_path / "src", {f"a dog {k}{'xyz'[k]}z.png": picture(k) for k in range(3)})
    take(source, tmp_path / "set")
    picture(99).save(source / "a large dog.png")
    shutil.rmtree(tmp_path / "set" / "images")
    with largest_file(600), pytest.raises(WorkbenchError, match=r"Cannot write .*the same command goes on"):
        take(source, tmp_path / "set")
    assert take(source, tmp_path / "set").pictures == 4
