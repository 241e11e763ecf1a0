"""Writing a data set folder: whole or not there, of one recipe, by one writer, and what people are told."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from workbench.datasets import writing
from workbench.datasets.rows import read_folder
from workbench.errors import WorkbenchError

RECIPE = {"schema": 1, "kind": "made-up", "seed": 5}
NAME = "a made-up set"


def make(folder, count, recipe=RECIPE):
    """A whole set of one-coloured pictures."""
    folder.mkdir(exist_ok=True)
    writing.refuse_other_contents(folder, recipe, count, name=NAME)
    with writing.only_writer(folder):
        writing.open_set(folder, recipe, "card")
        for k in range(count):
            writing.write_picture(folder / writing.picture_name(k), Image.new("RGB", (4, 4), (k, 0, 0)))
        rows = ({"file_name": writing.picture_name(k), "text": f"no. {k}"} for k in range(count))
        writing.close_set(folder, recipe, rows, count)
    return folder


def test_a_set_is_read_back_and_grows(tmp_path):
    make(tmp_path / "set", 2)
    rows = read_folder(make(tmp_path / "set", 3))
    assert [(row.file_name, row.text) for row in rows] == [
        (f"images/00000{k}.png", f"no. {k}") for k in range(3)
    ]
    assert json.loads((tmp_path / "set/dataset.json").read_text()) == RECIPE | {"count": 3}
    assert Image.open(tmp_path / "set/images/000002.png").getpixel((0, 0)) == (2, 0, 0)


def test_names_hold_six_digits_and_more():
    assert writing.picture_name(7) == "images/000007.png"
    assert writing.picture_name(12_345_678, ".jpg") == "images/12345678.jpg"


def test_rows_keep_any_letters_and_odd_bytes(tmp_path):
    rows = [
        {"file_name": "a.png", "text": "Schäferhund 🐕\n"},
        {"file_name": os.fsdecode(b"\xff.png"), "text": "x"},
    ]
    writing.write_rows(tmp_path, iter(rows))
    lines = (tmp_path / "metadata.jsonl").read_bytes().decode("utf-8").split("\n")
    assert "Schäferhund 🐕" in lines[0] and lines[-1] == ""
    assert [json.loads(line) for line in lines[:-1]] == rows


def test_a_picture_is_the_same_from_an_array_and_from_pillow(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    writing.write_picture(tmp_path / "a.png", array)
    writing.write_picture(tmp_path / "b.png", Image.fromarray(array))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (np.asarray(Image.open(tmp_path / "a.png")) == array).all()
    assert writing.is_whole(tmp_path / "a.png", (7, 5)) and not writing.is_whole(tmp_path / "a.png", (5, 7))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    assert not writing.is_whole(tmp_path / "a.png", (7, 5))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, largest_file):
    file = tmp_path / "a.png"
    file.write_bytes(b"old")
    with largest_file(100), pytest.raises(OSError, match=r"Cannot write .*a\.png: the file would be larger"):
        writing.write_bytes(file, b"x" * 200)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"] and file.read_bytes() == b"old"
    message = r"nowhere/a\.png: its folder does not exist.*All is well\."
    with pytest.raises(WorkbenchError, match=message), writing.clear_errors("All is well."):
        writing.write_bytes(tmp_path / "nowhere/a.png", b"x")


def test_only_the_same_recipe_goes_on(tmp_path):
    folder = make(tmp_path / "set", 3)
    for recipe, count, message in (
        (RECIPE | {"seed": 6}, 3, "a set with seed 5, not 6"),
        (RECIPE | {"revision": "abc"}, 3, "a set with revision None, not 'abc'"),
        (RECIPE, 2, "3 pictures already, more than the 2"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            writing.refuse_other_contents(folder, recipe, count, name=NAME)
    for extra in ("cache-64.safetensors", "captions", ".hidden"):
        (folder / extra).mkdir()
    writing.refuse_other_contents(folder, RECIPE, 3, name=NAME)
    (folder / "thesis.tex").touch()
    with pytest.raises(WorkbenchError, match=r"also holds thesis\.tex"):
        writing.refuse_other_contents(folder, RECIPE, 3, name=NAME)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(WorkbenchError, match=r"dataset\.json cannot be read"):
        writing.refuse_other_contents(folder, RECIPE, 3, name=NAME)


def test_leftovers_of_a_killed_writer_go(tmp_path):
    folder = make(tmp_path / "set", 1)
    left = [folder / "metadata.jsonl.tmp-0a1b2c3d", folder / "images/000001.png.tmp-77"]
    for file in left:
        file.write_bytes(b"half")
    make(folder, 2)
    assert not any(file.exists() for file in left)


def test_two_writers_are_kept_apart(tmp_path):
    pytest.importorskip("fcntl")
    with (
        writing.only_writer(tmp_path),
        pytest.raises(WorkbenchError, match="Another process is writing"),
        writing.only_writer(tmp_path),
    ):
        pass
    with writing.only_writer(tmp_path):
        pass


def test_a_disk_too_small_is_refused_before(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    assert writing.check_disk(tmp_path / "not/yet/there", 1000) > 0
    with pytest.raises(WorkbenchError, match=r"needs about .* more and its disk has .* free\. Make room"):
        writing.check_disk(tmp_path / "not/yet/there", free)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "1 s"), (42.4, "42 s"), (600, "10 min"), (7200, "2.0 h"), (1e6, "12 days"), (1e9, "11,574 days")],
)
def test_times_in_words(seconds, text):
    assert writing.time_text(seconds) == text


def test_sizes_in_words():
    assert [writing.size_text(size) for size in (5, 3.1e8, 1.25e9)] == ["1 MB", "310 MB", "1.2 GB"]


def test_a_function_is_told_what_is_done():
    told = []
    with writing.reporter(lambda *state: told.append(state), 10, 4) as report:
        report(3)
        report(3)
    assert told == [(4, 10), (7, 10), (10, 10)]


def test_a_card_is_yaml_and_a_list_of_its_own_lines():
    text = writing.data_card(
        title='Dogs: "real" ones',
        tags=["dogs", "yes"],
        licence="cc0-1.0",
        licence_note="Asked the owners.",
        about="Dogs of our street.",
        source="Our phones.",
        limits="Few cats.",
        language="de",
    )
    _, head, body = text.split("---\n")
    assert yaml.safe_load(head) == {
        "license": "cc0-1.0",
        "task_categories": ["text-to-image"],
        "language": ["de"],
        "tags": ["dogs", "yes"],
        "pretty_name": 'Dogs: "real" ones',
    }
    items = [line for line in body.splitlines() if line.startswith("- **")]
    assert [item.split("**")[1] for item in items] == ["Source", "Licence", "Layout", "Limits"]
    assert items[1] == "- **Licence**: cc0-1.0. Asked the owners." and "**" not in items[3][14:]
