"""What ships of a run: few grids as WebP close to the trainer's, a history that names them, a small film."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.training.grids import find_grids
from workbench.training.history import read_history
from workbench.training.shipping import FILM_BYTES, ship_history, ship_run, to_webp

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "training" / "shepherd-64"
COUNTS = tuple(range(0, 2_500, 100))  # 25 grids


def sheet(shade: int) -> Image.Image:
    """96 x 96 with a gradient that moves with `shade`."""
    row = np.linspace(0, 200, 96)[:, None] + np.linspace(0, 40, 96)[None]
    return Image.fromarray(np.stack([(row + shade) % 256, row, row[::-1]], -1).astype(np.uint8))


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    lines = []
    for k, nimg in enumerate(COUNTS):
        name = f"samples/grid_{nimg:09d}.png"
        sheet(k).save(folder / name)
        loss = {"loss": 1 / 3 + 1e-10 * k, "parts": [2 / 3, 7], "none": None}
        lines += [
            {"kind": "sample", "cur_nimg": nimg, "file": name},
            {"kind": "step", "cur_nimg": nimg, **loss},
        ]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.json").write_text('{"preset": "shepherd-64"}')
    return folder


def test_first_last_and_evenly_between_ship_as_webp(run, tmp_path):
    out = ship_run(run, tmp_path / "out", grids=9)
    assert list(find_grids(out)) == list(range(0, 2_401, 300))  # 24 steps in 8 parts: every third
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "history.jsonl",
        "samples",
        "training.gif",
    ]
    assert {path.suffix for path in (out / "samples").iterdir()} == {".webp"}
    assert (
        len(find_grids(run)) == 25
        and (out / "config.json").read_bytes() == (run / "config.json").read_bytes()
    )
    with Image.open(out / "training.gif") as film:
        assert film.n_frames == 25  # drawn from all grids, not from those that ship


def test_the_history_names_what_ships_and_is_else_the_same(run, tmp_path):
    out = ship_run(run, tmp_path / "out", grids=3)
    before, after = (
        [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        for folder in (run, out)
    )
    renamed = [
        new["file"] for old, new in zip(before, after, strict=True) if old.get("file") != new.get("file")
    ]
    assert renamed == [f"samples/grid_{nimg:09d}.webp" for nimg in (0, 1_200, 2_400)]
    assert all((out / name).is_file() for name in renamed)
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys() and old["cur_nimg"] == new["cur_nimg"]
        if old["kind"] == "step":
            assert (new["loss"], new["parts"], new["none"]) == (0.33333, [0.66667, 7], None)


def test_neighbouring_steps_of_a_long_history_are_told_as_one(run, tmp_path):
    def step(k, **more):
        return {"kind": "step", "cur_nimg": 10 * k, "seconds": 0.5 * k, "D.loss": float(k), **more}

    lines = [step(k, **({"G.loss": 1.0} if k > 600 else {})) for k in range(1, 1201)]
    lines.insert(7, {"kind": "event", "cur_nimg": 70, "event": "lap", "text": "so"})
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = ship_run(run, tmp_path / "out")
    steps = read_history(out, "step")
    assert len(steps) == 400  # three of 1,200 in one
    assert steps[0] == {"kind": "step", "cur_nimg": 30, "seconds": 1.5, "D.loss": 2.0}
    assert [line["cur_nimg"] for line in read_history(out, "event")] == [70]
    assert ["G.loss" in line for line in steps] == [False] * 200 + [True] * 200
    again = ship_run(out, tmp_path / "again")
    assert (again / "history.jsonl").read_bytes() == (out / "history.jsonl").read_bytes()


def test_a_history_alone_names_no_grid(run, tmp_path):
    shipped = read_history(ship_history([run], tmp_path / "out").parent)
    assert [line["cur_nimg"] for line in shipped] == list(COUNTS)
    assert all(line["kind"] == "step" and line["loss"] == 0.33333 for line in shipped)


def test_histories_of_laps_go_on(run, tmp_path):
    once = ship_history([run], tmp_path / "once").parent
    laps = read_history(ship_history([once, run], tmp_path / "out").parent)
    steps = [line for line in laps if line["kind"] == "step"]
    assert [line["cur_nimg"] for line in steps] == [*COUNTS, *(max(COUNTS) + n for n in COUNTS)]
    (event,) = (line for line in laps if line["kind"] == "event")
    assert event["cur_nimg"] == max(COUNTS) and "goes on from these weights" in event["text"]
    with pytest.raises(WorkbenchError, match=r"There is no history\.jsonl"):
        ship_history([run, tmp_path / "nowhere"], tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_webp_is_close_to_the_picture_and_made_once(run, tmp_path):
    first = to_webp(run / "samples" / "grid_000000500.png", tmp_path)
    with Image.open(first) as image:
        assert image.format == "WEBP"
        error = np.asarray(image.convert("RGB"), float) - np.asarray(sheet(5), float)
    assert 10 * np.log10(255**2 / (error**2).mean()) > 34
    (tmp_path / "again").mkdir()
    assert to_webp(first, tmp_path / "again").read_bytes() == first.read_bytes()


def test_a_shipped_run_ships_again_to_the_bit(run, tmp_path):
    once = ship_run(run, tmp_path / "once", grids=5)
    again = ship_run(once, tmp_path / "again", grids=5)
    for name in ("history.jsonl", *(f"samples/{path.name}" for path in find_grids(once).values())):
        assert (once / name).read_bytes() == (again / name).read_bytes()


def test_refusals(run, tmp_path):
    with pytest.raises(WorkbenchError, match="already there"):
        ship_run(run, run)
    with pytest.raises(WorkbenchError, match="grids is 1: expected at least 2"):
        ship_run(run, tmp_path / "out", grids=1)
    with pytest.raises(WorkbenchError, match=r"has no config\.json and history\.jsonl"):
        ship_run(tmp_path, tmp_path / "out")
    for path in find_grids(run).values():
        path.unlink()
    with pytest.raises(WorkbenchError, match=r"has no grids \(samples/grid_\*\.png or \.webp\)"):
        ship_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="assets/training/shepherd-64 is not here")
def test_the_run_in_assets_is_as_this_ships_it():
    named = {line["cur_nimg"]: line["file"] for line in read_history(SHIPPED, "sample")}
    grids = find_grids(SHIPPED)
    assert grids and all(named[nimg] == f"samples/{path.name}" for nimg, path in grids.items())
    assert {path.suffix for path in grids.values()} == {".webp"}
    assert (SHIPPED / "training.gif").stat().st_size <= FILM_BYTES
