"""The check of a data set folder finds each planted fault, and nothing in a sound one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.datasets.check.running import check_folder, difference_hash, need_of
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError


def noise(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    """A smooth picture of its own."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def own_folder(path: Path, pictures: dict[str, Image.Image], texts: dict[str, str] | None = None) -> Path:
    path.mkdir()
    rows = []
    for name, picture in pictures.items():
        picture.save(path / name)
        rows.append({"file_name": name, "text": (texts or {}).get(name, f"picture {Path(name).stem}")})
    (path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def finding(report, words: str):
    found = [each for each in report.findings if words in each.what]
    assert len(found) == 1, report.text()
    assert found[0].suggestion and "\n" not in found[0].suggestion
    assert found[0].what in report.text() and found[0].suggestion in report.text()
    return found[0]


def test_a_sound_set_has_nothing_to_mend(tmp_path):
    path = own_folder(tmp_path / "own", {f"{k}.png": noise(k) for k in range(500)})
    report = check_folder(path)
    assert report.ok and report.findings == () and report.verdict == "Fit for training: nothing to mend."
    assert (report.count, report.captions) == (500, 500)
    assert report.sizes == {(64, 64): 500} and report.modes == {"RGB": 500}


def test_a_rendered_set_is_sound_but_small(tmp_path):
    path = write_world(tmp_path / "set", count=12, seed=0, resolution=16, workers=1, progress=False)
    report = check_folder(path)
    assert report.ok and report.count == 12
    finding(report, "few pictures for training from nothing: 12")
    finding(report, "below 64 px")
    assert not [each for each in report.findings if "nearly the same" in each.what]


def test_broken_missing_and_nameless_files_are_listed(tmp_path):
    path = own_folder(tmp_path / "own", {f"{k}.png": noise(k) for k in range(6)})
    (path / "1.png").write_bytes((path / "1.png").read_bytes()[:100])
    (path / "2.png").unlink()
    noise(9).save(path / "stray.jpg")
    report = check_folder(path)
    assert not report.ok and report.count == 4
    assert finding(report, "broken pictures: 1").names == ("1.png",)
    assert finding(report, "missing pictures: 1").names == ("2.png",)
    assert finding(report, "without a line in the metadata: 1").names == ("stray.jpg",)
    assert [each.level for each in report.findings] == sorted(
        (each.level for each in report.findings), key=("problem", "warning", "note").index
    )


def test_rows_without_captions_and_captions_that_say_nothing(tmp_path):
    pictures = {f"{k}.png": noise(k) for k in range(12)}
    path = own_folder(tmp_path / "own", pictures, dict.fromkeys(list(pictures)[:9], "a photo"))
    with (path / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "3.png", "text": ""}\n{"file_name": "4.png"}\n')
        file.write('{"file_name": "5.png", "text": "a photo"}\n')
    report = check_folder(path)
    assert not report.ok
    assert finding(report, "rows without a file name or a caption: 2").names == (
        "metadata.jsonl line 13",
        "metadata.jsonl line 14",
    )
    assert "'a photo'" in finding(report, "captions are the same").what
    finding(report, "rows that stand twice: 1")


def test_captions_that_repeat_are_a_note(tmp_path):
    pictures = {f"{k}.png": noise(k) for k in range(12)}
    report = check_folder(own_folder(tmp_path / "own", pictures, {"0.png": "a dog", "1.png": "a dog"}))
    assert report.ok and finding(report, "captions that repeat another picture's: 1").level == "note"


def test_sizes_and_colour_modes_are_counted(tmp_path):
    pictures = {
        "wide.png": noise(0, 300, 100),
        "small.png": noise(1, 20, 20),
        "grey.png": noise(2).convert("L"),
        "clear.png": noise(3).convert("RGBA"),
        "plain.png": noise(4),
    }
    report = check_folder(own_folder(tmp_path / "own", pictures))
    assert report.sizes == {(300, 100): 1, (20, 20): 1, (64, 64): 3}
    assert report.modes == {"RGB": 3, "L": 1, "RGBA": 1}
    assert finding(report, "twice as long").names == ("wide.png",)
    assert finding(report, "below 64 px").names == ("small.png",)
    assert "in L, RGBA" in finding(report, "not in RGB").what


def test_copies_are_found_and_likeness_is_not_a_copy(tmp_path):
    # The same picture smaller and stored with loss is a copy; one plain ground with another colour is not.
    plain = {f"plain{k}.png": Image.new("RGB", (64, 64), colour) for k, colour in enumerate(("red", "blue"))}
    path = own_folder(tmp_path / "own", {f"{k}.png": noise(k) for k in range(20)} | plain)
    noise(7).resize((96, 96)).save(path / "copy.jpg", quality=80)
    with (path / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "copy.jpg", "text": "again"}\n')
    assert finding(check_folder(path), "nearly the same").names == ("copy.jpg = 7.png",)


def test_the_difference_hash_follows_the_slope():
    ramp = np.tile(np.linspace(0, 255, 90).astype(np.uint8), (80, 1))
    assert difference_hash(Image.fromarray(ramp)) == 0  # brighter to the right everywhere
    assert difference_hash(Image.fromarray(ramp[:, ::-1].copy())) == 2**64 - 1
    assert difference_hash(Image.new("RGB", (50, 50), "red")) == 0


def test_what_cannot_be_checked_at_all_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="There is no folder"):
        check_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="is empty"):
        check_folder(tmp_path / "empty")
    (tmp_path / "empty/metadata.jsonl").write_text("")
    report = check_folder(tmp_path / "empty")
    assert not report.ok and report.count == 0 and "from nothing: 0" in report.text()


def test_pictures_without_metadata_are_looked_at_all_the_same(tmp_path):
    path = own_folder(tmp_path / "own", {f"{k}.png": noise(k) for k in range(3)})
    (path / "metadata.jsonl").unlink()
    report = check_folder(path)
    assert not report.ok and report.count == 3 and report.sizes == {(64, 64): 3}
    assert "workbench dataset folder" in finding(report, "no picture has a caption").suggestion
    (path / "dataset.json").write_text("{}")
    assert "it goes on where it was" in finding(check_folder(path), "no picture has a caption").suggestion


def test_a_preset_says_how_many_and_how_large(tmp_path):
    path = own_folder(
        tmp_path / "own", {f"{k}.png": noise(k) for k in range(30)} | {"small.png": noise(99, 40, 40)}
    )
    report = check_folder(path, need=need_of("shepherd-32"))
    assert finding(report, "few pictures for shepherd-32: 31").level == "problem"
    assert not [each for each in report.findings if each.kind == "small"]
    assert finding(check_folder(path, need=need_of("seed-128")), "below 128 px")


def test_the_verdict_is_one_sentence_for_each_outcome(tmp_path):
    path = own_folder(tmp_path / "own", {f"{k}.png": noise(k) for k in range(12)})
    assert check_folder(path).verdict == "Fit for training: no problem and no warning, 1 note."
    (path / "11.png").write_bytes((path / "10.png").read_bytes())
    assert check_folder(path).verdict == "Fit for training with care: 1 warning, 1 note."
    (path / "3.png").unlink()
    assert (
        check_folder(path).verdict == "Not fit for training yet: 1 problem; begin with “missing pictures: 1”."
    )
    assert check_folder(path).text().splitlines()[-1] == check_folder(path).verdict


def test_a_check_tells_progress_and_can_be_stopped(tmp_path):
    path = own_folder(tmp_path / "own", {f"{k}.png": noise(k, 8, 8) for k in range(300)})
    told = []
    check_folder(path, progress=lambda *seen: told.append(seen))
    assert told == [(0, 300), (256, 300), (300, 300)]
    looks = iter([False, True])
    with pytest.raises(WorkbenchError, match=r"stopped after 256 of 300 pictures\. Nothing was changed"):
        check_folder(path, stop=lambda: next(looks))
