"""The mended copy: what is safe is done and listed, the original stays, and nothing half-written remains."""

import json
from pathlib import Path

import numpy as np
import pytest
from bad_files import coded, picture, write_pictures
from PIL import Image

from workbench.datasets.check.fix import fix_folder
from workbench.datasets.check.running import check_folder
from workbench.datasets.rows import read_folder, read_picture
from workbench.errors import WorkbenchError


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every name with what it is: size, time and kind; no link is followed."""
    return {
        str(file.relative_to(folder)): (file.lstat().st_size, file.lstat().st_mtime_ns, file.lstat().st_mode)
        for file in folder.rglob("*")
        if "loop/" not in str(file)
    }


def changes_of(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (folder / "fixed.jsonl").read_text().splitlines():
        change = json.loads(line)
        found.setdefault(change["done"], []).append(change["name"])
    return found


def a_set(folder: Path) -> Path:
    """One picture of each kind that is mended, and two that are left alone."""
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    (folder / "fine.png").write_bytes(coded(picture(1), "PNG"))
    (folder / "fine.jpg").write_bytes(coded(picture(2), "JPEG"))
    (folder / "copy.png").write_bytes(coded(picture(1), "PNG"))
    (folder / "wrong.jpg").write_bytes(coded(picture(3), "PNG"))
    (folder / "turned.jpg").write_bytes(coded(picture(4, 60, 40), "JPEG", exif=turned))
    (folder / "inks.jpg").write_bytes(coded(picture(5).convert("CMYK"), "JPEG"))
    (folder / "broken.png").write_bytes(coded(picture(6), "PNG")[:300])
    rows = [(name, f"dog {k}") for k, name in enumerate(sorted(file.name for file in folder.iterdir()))]
    rows += [("gone.png", "x"), ("fine.jpg", "  a &amp; b\n"), ("copy.png", "dog 3")]
    lines = [json.dumps({"file_name": name, "text": text, "score": float("nan")}) for name, text in rows]
    (folder / "metadata.jsonl").write_text("\n".join([*lines, "{", '{"file_name": "fine.png"}']))
    (folder / "README.md").write_text("# Mine\n")
    return folder


def test_what_is_safe_is_done_and_listed(tmp_path):
    folder = a_set(tmp_path / "set")
    before = snapshot(folder)
    done = fix_folder(check_folder(folder), tmp_path / "out")
    assert snapshot(folder) == before
    assert changes_of(done.folder) == {
        "line left out": ["metadata.jsonl line 12", "metadata.jsonl line 11"],
        "picture left out": ["broken.png", "gone.png"],
        "second copy left out": ["fine.png"],
        "caption written plainly": ["fine.jpg"],
        "written anew as PNG": ["inks.jpg", "turned.jpg", "wrong.jpg"],
    }
    assert {row.file_name: row.text for row in read_folder(done.folder)} == {
        "copy.png": "dog 3", "fine.jpg": "a & b", "inks.png": "dog 4", "turned.png": "dog 5",
        "wrong.png": "dog 6",
    }  # fmt: skip
    assert "NaN" not in (done.folder / "metadata.jsonl").read_text()
    assert (done.folder / "README.md").read_text() == "# Mine\n"
    assert (done.folder / "fine.jpg").read_bytes() == (folder / "fine.jpg").read_bytes()
    for old, new in (("inks.jpg", "inks.png"), ("turned.jpg", "turned.png"), ("wrong.jpg", "wrong.png")):
        with Image.open(done.folder / new) as written:
            assert written.format == "PNG" and written.mode == "RGB"
            assert (np.asarray(written) == np.asarray(read_picture(folder / old))).all()
    assert all(
        words in done.text() for words in ("5 pictures", "2 × picture left out", "original is untouched")
    )


def test_a_mended_set_has_none_of_the_faults_left_and_mending_it_changes_nothing(tmp_path):
    folder = write_pictures(tmp_path / "set")
    done = fix_folder(check_folder(folder), tmp_path / "out")
    again = check_folder(done.folder)
    gone = {
        "missing",
        "broken",
        "broken-lines",
        "damaged",
        "mislabelled",
        "turned",
        "animated",
        "others",
        "strays",
    }
    assert again.ok and not gone & {each.kind for each in again.findings}
    assert len(read_folder(done.folder)) == done.rows
    twice = fix_folder(again, tmp_path / "twice")
    assert {change.done for change in twice.changes} <= {
        "second copy left out"
    }  # of files equal once re-encoded


def test_places_that_would_be_overwritten_are_refused(tmp_path):
    folder = a_set(tmp_path / "set")
    report = check_folder(folder)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    for out, message in (
        (folder / "in", "lie in each other"),
        (tmp_path, "lie in each other"),
        (tmp_path / "there", "already there"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            fix_folder(report, out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set", "there"]


def test_a_full_disk_leaves_nothing_behind(tmp_path, largest_file):
    report = check_folder(a_set(tmp_path / "set"))
    with largest_file(500), pytest.raises(WorkbenchError, match="Nothing was written"):
        fix_folder(report, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


def test_nothing_to_keep_is_said(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    picture().save(folder / "a.png")
    with pytest.raises(WorkbenchError, match="no captions to mend"):
        fix_folder(check_folder(folder), tmp_path / "out")
    (folder / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "x"}')
    with pytest.raises(WorkbenchError, match=r"Nothing of .* is left"):
        fix_folder(check_folder(folder), tmp_path / "out")


def test_a_picture_written_anew_finds_a_free_name(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    frames = [picture(k, 40, 40) for k in range(2)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    for k, name in enumerate(("a.png", "a-2.png", "a-3.png")):
        picture(9 + k, 40, 40).save(folder / name)
    names = ("a.gif", "a.png", "a-2.png", "a-3.png")
    lines = [json.dumps({"file_name": name, "text": f"dog {k}"}) for k, name in enumerate(names)]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    fix_folder(check_folder(folder, progress=False), tmp_path / "mended")
    assert [row.file_name for row in read_folder(tmp_path / "mended")] == ["a-4.png", *names[1:]]
