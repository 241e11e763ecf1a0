"""Runs are found where they lie, their numbers come out as written, and one door leads to their pictures."""

import json
import os

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from workbench.app import runs
from workbench.app.runs import Run, Shelf
from workbench.errors import WorkbenchError


def write_history(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_shelf_holds_the_named_run_then_the_shipped_then_the_newest(tmp_path):
    for age, place in enumerate(("runs/new", "runs/old", "shipped/same", "named/same")):
        folder = write_history(tmp_path / place, [])
        os.utime(folder, (1e9 - age, 1e9 - age))
    (tmp_path / "runs" / "empty").mkdir()
    shelf = Shelf(
        shipped=tmp_path / "shipped/same", runs=tmp_path / "runs", named=tmp_path / "named/same"
    ).list()
    assert list(shelf) == ["same", "same-2", "new", "old"]
    assert shelf["same"].folder == tmp_path / "named/same"
    assert Shelf(shipped=tmp_path / "none", runs=tmp_path / "none").list() == {}


def test_a_run_that_went_away_is_named(tmp_path):
    with pytest.raises(WorkbenchError, match="no run named gone"):
        Shelf(shipped=tmp_path, runs=tmp_path).get("gone")


def test_the_door_opens_to_grids_and_film_alone(run_folder, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    link = run_folder / "samples" / "grid_000000099.png"
    link.symlink_to(secret)
    try:
        client = TestClient(
            Starlette(routes=[Shelf(shipped=run_folder, runs=tmp_path).route()]),
            raise_server_exceptions=False,
        )
        at = f"/{runs.URL}/first-run"
        assert client.get(f"{at}/training.gif").content == (run_folder / "training.gif").read_bytes()
        assert client.get(f"{at}/samples/grid_000001000.png").headers["content-type"] == "image/png"
        for path in (
            f"{at}/history.jsonl",
            f"{at}/config.json",
            f"{at}/samples/grid_000000099.png",  # a link that leads out
            f"{at}/samples/../history.jsonl",
            f"{at}/samples/%2e%2e/%2e%2e/secret.png",
            f"{at}/samples/grid_7.png",  # not there
            f"/{runs.URL}/other/training.gif",
            f"/{runs.URL}/../training.gif",
        ):
            assert client.get(path).status_code == 404, path
    finally:
        link.unlink()


def test_a_grid_may_be_webp_and_is_sent_as_such(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "history.jsonl").touch()
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "samples" / "grid_000000005.webp")
    shelf = Shelf(shipped=tmp_path, runs=tmp_path / "none")
    run = next(iter(shelf.list().values()))
    assert run.grids() == [(5, "samples/grid_000000005.webp")]
    sent = TestClient(Starlette(routes=[shelf.route()])).get(f"/{run.url('samples/grid_000000005.webp')}")
    assert sent.status_code == 200 and sent.headers["content-type"] == "image/webp"
    assert sent.content == (tmp_path / "samples" / "grid_000000005.webp").read_bytes()


def test_grids_are_sorted_by_images_seen(tmp_path):
    (tmp_path / "samples").mkdir()
    for name in (
        "grid_000000010.png",
        "grid_000000002.png",
        "grid_x.png",
        "other.png",
        "grid_000000010.webp",
    ):
        (tmp_path / "samples" / name).write_bytes(b"")
    assert Run(name="r", folder=tmp_path).grids() == [
        (2, "samples/grid_000000002.png"),
        (10, "samples/grid_000000010.png"),
    ]
    assert Run(name="r", folder=tmp_path).film() is None


def test_series_hold_the_numbers_of_the_file(tmp_path):
    folder = write_history(
        tmp_path,
        [
            {"kind": "step", "cur_nimg": 1, "G.loss": 2.5, "D.loss": None},
            {"kind": "eval", "cur_nimg": 2, "judge": {"coat": 0.5}, "frechet": 3.0, "floor": 1.5},
            {"kind": "eval", "cur_nimg": 4, "coat": 1, "frechet": 3.0, "floor": 0.0},
        ],
    )
    with (folder / "history.jsonl").open("a") as handle:
        handle.write('{"kind": "step", "cur')  # the writer was stopped here
    records = runs.records_of(folder)
    assert runs.series(records, "coat") == [(2, 0.5), (4, 1.0)]
    assert runs.series(records, "G.loss") == [(1, 2.5)]
    assert runs.ratio_series(records, "frechet", "floor") == [(2, 2.0)]
    assert runs.loss_keys(records) == ["G.loss"]
    assert runs.at([(2, 0.5), (4, 1.0)], 3) == 0.5 and runs.at([(2, 0.5)], 1) is None


def test_thinning_keeps_the_mean_and_the_span():
    points = [(n, float(n)) for n in range(1000)]
    thin = runs.thin(points, 100)
    assert len(thin) == 100 and sum(v for _, v in thin) / 100 == pytest.approx(499.5)
    assert runs.thin(points[:100], 100) == points[:100]
