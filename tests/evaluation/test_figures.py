"""The figures file: goals, round trips, running a command again."""

import json
import sys

import pytest
import torch
from rich.console import Console

from workbench.errors import WorkbenchError
from workbench.evaluation import figures

ISSUED = (
    "setup.first_s setup.second_s sample.cpu_ms tests.s train.shepherd64.images_per_s world.core_s_64 "
    "train.shepherd64.ratio_to_first train.shepherd64.kernel_share demo.hours "
    "clip.coat clip.pose "
    "clip.scene clip.light faithfulness.coat faithfulness.pose faithfulness.scene faithfulness.light "
    "faithfulness.all "
    "frechet.ratio_to_floor diversity.ratio judge.coat judge.pose judge.scene judge.light "
    "params.gigagan64.G params.gigagan64.D step.kernel_share notebook01.s notebook02.s notebook03.s "
    "notebook04.s notebook05.s notebook07.s loader.ratio_to_training world.minutes_5000_256 "
    "geometry.ratio_to_floor recall coverage memorised_share broken_of_100 "
    "train.ratio_to_peer train.peak_mib train.overhead resume.kills resume.identical scaling.gloo2 "
    "edit.latency_ms edit.coat.target edit.coat.leak edit.pose.target edit.pose.leak edit.scene.target "
    "edit.scene.leak edit.light.target edit.light.leak prompt_edit.coat.target prompt_edit.coat.leak "
    "prompt_edit.pose.target prompt_edit.pose.leak prompt_edit.scene.target prompt_edit.scene.leak "
    "prompt_edit.light.target prompt_edit.light.leak path.max_step_ratio inversion.generated_psnr "
    "upsample.frechet_ratio_bicubic upsample.frechet_ratio_l1 upsample.distance_ratio_bicubic "
    "upsample.distance_ratio_l1 upsample.cpu_ms chain.cpu_ms tile.max_diff gpu.512px_s gpu.1024px_s "
    "evaluate.features_per_s evaluate.minutes_5000 race.speed_ratio race.speed_ratio_both "
    "race.faithfulness.gan race.faithfulness.diffusion race.frechet.gan race.frechet.diffusion"
)


def printed(thing) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


def shown(path) -> str:
    return printed(figures.table(path))


def test_every_id_is_declared():
    assert set(figures.GOALS) == set(ISSUED.split())


@pytest.mark.parametrize(
    ("goal", "value", "answer"),
    [
        (">= 0.95", 0.95, True),
        (">= 0.95", 0.9499, False),
        ("<= 30", 30, True),
        ("<= 30", 30.1, False),
        ("> 1", 1, False),
        ("< 1e-3", 0.0009, True),
        (">=0.5", 0.6, True),
        ("<= -2", -3, True),
        ("0.9 … 1.1", 0.9, True),
        ("0.9 … 1.1", 1.11, False),
        ("0.9 … 1.1", 0.89, False),
        ("0.9…1.1", float("nan"), False),
        ("stated", 5, None),
        ("<= 30", float("nan"), False),
    ],
)
def test_goals(goal, value, answer):
    assert figures.met(value, goal) is answer


@pytest.mark.parametrize("goal", ["", "0.95", "== 3", ">= many", "about 3", "<= 30 ms"])
def test_a_goal_that_is_none_is_refused(goal):
    with pytest.raises(WorkbenchError, match="is not understood"):
        figures.parse_goal(goal)


def test_what_is_recorded_is_read_back(tmp_path):
    path = tmp_path / "reports" / "figures.json"
    entry = figures.record(
        "faithfulness.coat", 0.93, n=5000, command="workbench evaluate faithfulness --json", path=path
    )
    assert figures.read(path) == {"faithfulness.coat": entry}
    assert (
        entry["value"] == 0.93
        and entry["unit"] == "share"
        and entry["goal"] == ">= 0.99"
        and entry["n"] == 5000
    )
    assert set(entry) == {"value", "unit", "goal", "n", "command", "machine", "versions", "date", "commit"}
    assert (
        f"CPU ({torch.backends.cpu.get_cpu_capability()})" in entry["machine"]
        and entry["versions"]["torch"]
        and len(entry["date"]) == 10
    )


def test_recording_keeps_the_others_and_leaves_no_scraps(tmp_path):
    path = tmp_path / "figures.json"
    figures.record("tests.s", 500, command="make test", path=path)
    figures.record("sample.cpu_ms", 20.123456789, command="workbench speed --json", path=path)
    figures.record("tests.s", 400, command="make test", path=path)
    entries = figures.read(path)
    assert list(entries) == ["sample.cpu_ms", "tests.s"]
    assert entries["tests.s"]["value"] == 400 and entries["sample.cpu_ms"]["value"] == 20.1235
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    figures.record("tests.s", 500, command="make test", path=path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        figures.record("tests.s", 400, command="make test", path=path)
    assert path.read_bytes() == before


def test_what_cannot_be_a_figure_is_refused(tmp_path):
    path = tmp_path / "figures.json"
    with pytest.raises(WorkbenchError, match="not declared"):
        figures.record("speed.of_light", 3e8, command="true", path=path)
    for value in (float("nan"), float("inf"), True, "12"):
        with pytest.raises(WorkbenchError, match="expected a finite number"):
            figures.record("tests.s", value, command="make test", path=path)
    assert not path.exists()
    figures.record("speed.of_light", 3e8, unit="m/s", goal="stated", command="true", path=path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="not readable JSON"):
        figures.read(path)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(WorkbenchError, match="something else than figures"):
        figures.read(path)


def test_the_table_says_what_was_met(tmp_path):
    path = tmp_path / "figures.json"
    assert shown(path).count("not measured") == len(figures.GOALS)
    figures.record("tests.s", 700, command="make test", path=path)
    figures.record("sample.cpu_ms", 12.5, command="workbench speed --json", path=path)
    lines = {line.split()[1]: line for line in shown(path).splitlines() if "." in line}
    assert " no " in lines["tests.s"] and "700" in lines["tests.s"]
    assert " yes " in lines["sample.cpu_ms"] and "12.5" in lines["sample.cpu_ms"]


def test_the_shipped_file_is_in_the_schema():
    for id, entry in figures.read().items():
        assert {"value", "unit", "goal", "n", "command", "machine", "versions", "date", "commit"} <= set(
            entry
        ), id
        figures.parse_goal(entry["goal"])
        assert entry["command"].split(), id
        if id in figures.GOALS:
            assert (entry["goal"], entry["unit"]) == (figures.GOALS[id].goal, figures.GOALS[id].unit), id


def test_an_evaluation_becomes_its_figures(tmp_path):
    path = tmp_path / "figures.json"
    result = {
        "n": 20,
        "coat": 1.0,
        "pose": 0.9,
        "scene": 0.96,
        "light": 0.97,
        "all": 0.88,
        "ratio": 3.0,
        "diversity": 0.7,
        "recall": 0.5,
        "recall_renders": 0.9,
    }
    figures.record_model(result, command="workbench evaluate all --json", path=path)
    values = {k: e["value"] for k, e in json.loads(path.read_text()).items()}
    assert (
        values["frechet.ratio_to_floor"] == 3.0
        and values["diversity.ratio"] == 0.7
        and values["faithfulness.all"] == 0.88
    )
    assert values["recall"] == 0.5 and len(values) == 8 and sys.executable not in path.read_text()
