"""The loader's speed: measured on real batches, nothing left behind."""

import tempfile

import pytest
import shard_sets

from workbench.datasets.shards.packing import pack
from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError
from workbench.training import bench_loader


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_loader, "_PASS_S", 0.05)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return shard_sets.folder(tmp_path / "set", 12)


def test_folders_and_shards_are_measured_and_left_as_they_were(data, tmp_path):
    shards = pack(data, tmp_path / "shards", per_shard=5, progress=False)
    for place in (data, shards):
        before = sorted(place.rglob("*"))
        speeds = bench_loader.delivery(place, resolution=8, batch_size=4, passes=3)
        assert speeds["resolution"] == 8 and speeds["batch_size"] == 4
        # A cached batch needs no decoding: many times the speed, however busy the machine.
        assert 0 < speeds["cold_images_per_s"] < speeds["images_per_s"] and 0 < speeds["open_s"] < 5
        assert sorted(place.rglob("*")) == before
    assert not list((tmp_path / "temporary").iterdir())


def test_speeds_are_of_whole_batches(data):
    table = PictureTable.from_folder(data, 8, cache=False)
    speeds = bench_loader.warm_speeds(table, 6, passes=4)
    assert len(speeds) == 4 and min(speeds) > 6 / 0.05 / 100
    with pytest.raises(WorkbenchError, match="expected an even number"):
        bench_loader.warm_speeds(table, 5, passes=1)
