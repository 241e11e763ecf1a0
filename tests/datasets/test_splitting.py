"""The split: a function of the name alone, of about the share asked for."""

import pytest

from workbench.datasets.rows import Row, read_folder
from workbench.datasets.splitting import is_held_out, split, write_split
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError

ROWS = [Row(file_name=f"images/{k:06d}.png", text="a dog") for k in range(5000)]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.5, 1.0])
def test_about_the_share_and_nothing_lost(share):
    training, held_out = split(ROWS, share)
    assert sorted([*training, *held_out], key=lambda row: row.file_name) == ROWS
    assert len(held_out) == pytest.approx(share * 5000, abs=4 * (5000 * share * (1 - share)) ** 0.5)


def test_a_set_that_grows_or_is_shuffled_moves_no_picture():
    _, few = split(ROWS[:1000])
    _, all_of_them = split(ROWS[::-1])
    assert {row.file_name for row in few} == {
        row.file_name for row in all_of_them if int(row.file_name[7:13]) < 1000
    }
    assert all(is_held_out(name, 0.3) for name in (row.file_name for row in few))  # a larger share only adds


def test_a_share_that_is_none_is_refused():
    with pytest.raises(WorkbenchError, match="expected 0 to 1"):
        is_held_out("a.png", 1.5)


def test_two_sets_are_written_and_the_original_stays(tmp_path):
    source = write_world(tmp_path / "world", count=12, seed=3, resolution=16, workers=1, progress=False)
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    counts = write_split(source, tmp_path / "out", 0.3)
    sides = [read_folder(tmp_path / "out" / name) for name in ("training", "held-out")]
    assert counts == tuple(len(side) for side in sides) and sum(counts) == 12 and min(counts) > 0
    assert sorted([*sides[0], *sides[1]], key=lambda row: row.file_name) == read_folder(source)
    for name, rows in zip(("training", "held-out"), sides, strict=True):
        for row in rows:
            assert (tmp_path / "out" / name / row.file_name).read_bytes() == before[source / row.file_name]
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("out", "share", "said"),
    [("world/in", 0.3, "outside"), ("full", 0.3, "holds something"), ("new", 0.0, "none")],
)
def test_a_split_that_cannot_be_is_refused(tmp_path, out, share, said):
    write_world(tmp_path / "world", count=4, seed=3, resolution=16, workers=1, progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(WorkbenchError, match=said):
        write_split(tmp_path / "world", tmp_path / out, share)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "mine"


def test_linked_pictures_are_split_like_any(tmp_path):
    source = write_world(tmp_path / "world", count=8, seed=3, resolution=16, workers=1, progress=False)
    store = source / "images"
    store.rename(tmp_path / "store")
    store.mkdir()
    for file in (tmp_path / "store").iterdir():
        (store / file.name).symlink_to(f"../../store/{file.name}")
    write_split(source, tmp_path / "out", 0.3)
    for side in ("training", "held-out"):
        for row in read_folder(tmp_path / "out" / side):
            copy = tmp_path / "out" / side / row.file_name
            assert copy.read_bytes() == (source / row.file_name).read_bytes() and not copy.is_symlink()
