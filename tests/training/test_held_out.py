"""D asked about held-out pictures: what is written, and that training is not touched by it."""

import json

import pytest
import tiny_run
import torch

from workbench.datasets.world.folder import write_world
from workbench.training import checkpoint
from workbench.training.history import read_history


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "data"
    write_world(folder, count=16, seed=9, resolution=16, workers=1, progress=False)
    return folder


def test_it_is_written_with_each_grid_and_changes_no_bit(inputs, held, tmp_path):
    options = {"images": 48, "sample_every_nimg": 16}
    tiny_run.run_tiny(inputs, tmp_path / "plain", **options)
    tiny_run.run_tiny(inputs, tmp_path / "asked", held_out=held, **options)
    found = read_history(tmp_path / "asked", "held-out")
    grids = [line["cur_nimg"] for line in read_history(tmp_path / "asked", "sample")]
    assert [line["cur_nimg"] for line in found] == grids[1:]  # the first grid is of no training
    assert all(abs(line["D.train"]) < 20 and abs(line["D.held_out"]) < 20 for line in found)
    assert found[-1]["D.train"] != found[-1]["D.held_out"]
    a, b = (checkpoint.newest(tmp_path / name)[0].tensors() for name in ("plain", "asked"))
    assert all(torch.equal(value, b[part][name]) for part, own in a.items() for name, value in own.items())


def test_the_same_pictures_held_out_get_the_same_logits(inputs, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", held_out=inputs[0], images=16)
    for line in read_history(tmp_path / "run", "held-out"):
        assert line["D.train"] == pytest.approx(line["D.held_out"], abs=1e-6), json.dumps(line)
