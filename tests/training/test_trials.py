"""The experiment bench: a trial changes what it names alone and is trained once; the table outlives it."""

import json
import shutil
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.models.presets import preset
from workbench.training.config import TrainConfig, differences
from workbench.training.trials import Trial, markdown, read_plan, recipe_of, run_trials, write_report

JUDGE = Path(__file__).resolve().parents[2] / "assets/models/judge"
NARROW = {"channels": {"4": 8, "8": 8, "16": 8, "32": 8}, "attention": {}}
SMALL = {
    "G": NARROW | {"cross_attention": {"8": 1}, "mapping_layers": 1, "w_dim": 16},
    "D": NARROW,
    "vision": None,
}


def plan_file(folder: Path, trials: list[dict], **shared) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps({"preset": "shepherd-32", "images": 16, "n": 8, "trials": trials} | shared))
    return path


def test_the_shipped_plan_reads_and_each_trial_changes_what_it_names():
    plan = read_plan("benchmarks/recipe.json")
    base_networks, base = recipe_of(plan, Trial(name="nothing", change="nothing"))
    assert base_networks == preset(plan.preset)
    for trial in plan.trials:
        if trial.preset not in (None, plan.preset):
            continue
        networks, config = recipe_of(plan, trial)
        intervals = set() if trial.images in (None, plan.images) else {
            "images", "log_every_nimg", "sample_every_nimg", "checkpoint_every_nimg",
        }  # fmt: skip
        assert set(differences(base, config)) - intervals == set(trial.train), trial.name
        for part, changes in (("generator", trial.G), ("discriminator", trial.D)):
            now, before = vars(getattr(networks, part)), vars(getattr(base_networks, part))
            assert {k for k in now if now[k] != before[k]} == set(changes), trial.name


def test_a_trial_overrides_the_preset_and_the_plan_the_intervals(tmp_path):
    kernels = {"4": 1, "8": 1, "16": 1, "32": 4}
    trial = {"name": "a", "change": "c", "images": 4000, "train": {"seed": 3}, "G": {"kernels": kernels}}
    plan = read_plan(plan_file(tmp_path, [trial]))
    networks, config = recipe_of(plan, plan.trials[0])
    assert networks.generator.kernels == {4: 1, 8: 1, 16: 1, 32: 4}
    assert (config.images, config.seed, config.checkpoint_every_nimg) == (4000, 3, 1000)
    assert config.lr_G == preset("shepherd-32").train["lr_G"] != TrainConfig().lr_G


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "does not hold a plan"),
        ('{"preset": "shepherd-32", "images": 16, "n": 8}', "'trials'"),
        ('{"preset": "x", "images": 1, "n": 8, "trials": [{"name": "a", "chnage": "b"}]}', "chnage"),
        (
            json.dumps({"preset": "x", "images": 1, "n": 8, "trials": [{"name": "a", "change": ""}] * 2}),
            "'a'",
        ),
    ],
)
def test_bad_plans_are_refused_by_name(tmp_path, content, said):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(WorkbenchError, match=said):
        read_plan(path)
    with pytest.raises(
        WorkbenchError, match=r"There is no file .*nowhere\.json: give a JSON file with a plan"
    ):
        read_plan(tmp_path / "nowhere.json")
    with pytest.raises(WorkbenchError, match="is a folder: give a JSON file with a plan of trials"):
        read_plan(tmp_path)


@pytest.mark.usefixtures("few_prompts")
def test_trials_are_trained_once_measured_and_told(tmp_path, inputs):
    data, clip = inputs
    first = {"name": "base", "change": "the base", **SMALL}
    second = {"name": "other", "change": "no penalty", "train": {"r1_gamma": 0.0, "r2_gamma": 0.0}, **SMALL}
    plan = read_plan(plan_file(tmp_path, [first, second]))
    models = {"clip": clip, "judge": JUDGE, "device": "cpu", "cache": tmp_path / "cache"}
    with pytest.raises(WorkbenchError, match="third"):
        run_trials(plan, data, tmp_path / "runs", only=["third"], **models)
    (row,) = run_trials(plan, data, tmp_path / "runs", only=["base"], **models)
    assert row["images"] == 32 and row["n"] == 8 and 0 <= row["recall"] <= 1 and row["kept"] is None
    page = write_report([row], tmp_path / "report")
    first |= {"eye": "grey blobs", "kept": False}
    plan = read_plan(plan_file(tmp_path, [first, second]))
    rows = run_trials(plan, data, tmp_path / "runs", **models)
    assert [r["name"] for r in rows] == ["base", "other"]
    assert rows[0] == row | {"eye": "grey blobs", "kept": False}  # measured once, the words renewed
    write_report(rows, tmp_path / "report")
    assert page.read_text().count("grey blobs | no |") == 1
    # a report outlives the runs that it was made of
    write_report([rows[1]], tmp_path / "report")
    assert json.loads((tmp_path / "report" / "recipe.json").read_text()) == rows
    assert markdown(rows) == page.read_text()
    # the table keeps rows together that can be compared: of one preset and, but for a batch, one budget
    spread = [
        rows[0] | {"change": name, "images": n} for name, n in (("a", 25_024), ("b", 12_512), ("c", 25_000))
    ]
    table = markdown(spread).splitlines()[-3:]
    assert [line.split(" | ")[0] for line in table] == ["| b", "| a", "| c"]


@pytest.mark.usefixtures("few_prompts")
def test_a_trial_goes_on_from_the_weights_of_one_before_it(tmp_path, inputs):
    data, clip = inputs
    still = {"name": "still", "change": "D alone", "train": {"lr_G": 0.0}, **SMALL}
    on = {"name": "on", "change": "both", "start_from": "still", **SMALL}
    plan = read_plan(plan_file(tmp_path, [still, on]))
    out = tmp_path / "runs"
    run_trials(plan, data, out, clip=clip, judge=JUDGE, device="cpu", cache=tmp_path / "cache")
    started = json.loads((out / "on" / "config.json").read_text())["started_from"]
    assert started["source"] == str(out / "still") and started["shares"] == {"G": 1.0, "D": 1.0}


@pytest.mark.usefixtures("few_prompts")
def test_a_trial_learns_from_the_set_that_it_names(tmp_path, inputs):
    data, clip = inputs
    other = shutil.copytree(data, tmp_path / "other")
    same = {"name": "same", "change": "the command's set", **SMALL}
    own = {"name": "own", "change": "a set of its own", "data": str(other), **SMALL}
    lost = {"name": "lost", "change": "a set that is not there", "data": str(tmp_path / "nowhere"), **SMALL}
    plan, out = read_plan(plan_file(tmp_path, [same, own, lost])), tmp_path / "runs"
    models = {"clip": clip, "judge": JUDGE, "device": "cpu", "cache": tmp_path / "cache"}
    run_trials(plan, data, out, only=["same", "own"], **models)
    told = [json.loads((out / name / "config.json").read_text())["data"]["path"] for name in ("same", "own")]
    assert told == [str(data), str(other)]
    with pytest.raises(WorkbenchError, match="nowhere"):
        run_trials(plan, data, out, only=["lost"], **models)


def test_names_of_a_trial_are_checked():
    with pytest.raises(TypeError, match="lr"):
        Trial(name="a", change="b", lr=1.0)
