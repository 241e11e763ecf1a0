"""Joules from counters that are files, and speeds from draws that are counted."""

import sys
import types

import pytest
import torch
from tiny_world_model import tiny_world_model

from workbench.errors import WorkbenchError
from workbench.evaluation.report import energy
from workbench.evaluation.report.timing import time_model


def package(folder, number: int, microjoules: int, around: int = 1_000_000_000):
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"package-{number}\n")
    (zone / "energy_uj").write_text(str(microjoules))
    (zone / "max_energy_range_uj").write_text(str(around))
    return zone


def test_joules_are_the_difference_of_all_packages(tmp_path):
    zones = package(tmp_path, 0, 5_000_000), package(tmp_path, 1, 7_000_000)
    core = package(tmp_path, 2, 1)
    (core / "name").write_text("core")  # inside a package: counted there

    def work():
        (zones[0] / "energy_uj").write_text("6500000")
        (zones[1] / "energy_uj").write_text("9000000")

    found = energy.measure(work, rapl=tmp_path)
    assert found.joules == pytest.approx(1.5 + 2.0) and found.how == "RAPL, 2 package(s)"


def test_a_counter_that_ran_over_is_followed(tmp_path):
    zone = package(tmp_path, 0, 999_000_000)
    found = energy.measure(lambda: (zone / "energy_uj").write_text("1000000"), rapl=tmp_path)
    assert found.joules == pytest.approx(2.0)


def test_where_nothing_counts_the_reason_is_told(tmp_path):
    done = []
    found = energy.measure(lambda: done.append(1), rapl=tmp_path / "nothing")
    assert done == [1] and found.joules is None and "no RAPL counter" in found.how
    (package(tmp_path, 0, 1) / "energy_uj").write_text("no number")
    assert "cannot be read" in energy.measure(lambda: None, rapl=tmp_path).how


def test_speeds_and_joules_of_a_picture(tmp_path):
    zone, calls = package(tmp_path, 0, 0), []
    pipeline = tiny_world_model()
    draw = type(pipeline).__call__

    class Counted(type(pipeline)):
        def __call__(self, prompts, **settings):
            calls.append(list(prompts))
            (zone / "energy_uj").write_text(str(1_000_000 * sum(map(len, calls))))  # a joule a picture
            return draw(self, prompts, **settings)

    pipeline.__class__ = Counted
    found = time_model(pipeline, ["a dog", "a black dog"], batches=(1, 2), repeats=2, rapl=tmp_path)
    assert [one["batch"] for one in found["by_batch"]] == [1, 2]
    for one in found["by_batch"]:
        assert 0 < one["low"] <= one["images_per_s"] <= one["high"]
    assert found["latency_ms_10"] <= found["latency_ms"] <= found["latency_ms_90"]
    assert found["images_per_s"] == max(one["images_per_s"] for one in found["by_batch"])
    assert found["joules"] == pytest.approx(1.0) and found["energy"].startswith("RAPL")
    assert [len(texts) for texts in calls[:10]] == [1] * 7 + [2] * 3
    assert found["peak_mib"] > 0
    with pytest.raises(WorkbenchError, match="two repeats or more"):
        time_model(pipeline, ["a dog"], repeats=1)


def test_the_gpu_that_drew_is_the_one_whose_energy_is_read(monkeypatch):
    """NVML and torch number GPUs each in its own way; both know a GPU's name."""
    read, millijoules = [], iter((0, 5_000.0, 9_000.0))  # the first finds out whether it can be read

    class Counter(types.ModuleType):
        NVMLError = OSError

        def nvmlInit(self):
            pass

        def nvmlDeviceGetHandleByUUID(self, name):
            return read.append(name) or name

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):
            return next(millijoules)

    names = {"cuda": "aa", "cuda:1": "bb"}
    monkeypatch.setitem(sys.modules, "pynvml", Counter("pynvml"))
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid=names[device])
    )
    assert energy.measure(lambda: None, device="cuda:1").joules == 4.0
    assert read == ["GPU-bb"]
