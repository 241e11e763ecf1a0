"""Before a run begins: a mistake in the line is told, and leaves no run behind that blocks the right line."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_run

from workbench.errors import WorkbenchError
from workbench.training import ablation
from workbench.training.history import read_history
from workbench.training.sweeps import parse_sweep
from workbench.training.sweeps_run import run_sweep
from workbench.training.trials import Plan, Trial, run_trials

JUDGE = Path(__file__).resolve().parents[2] / "assets/models/judge"


def test_what_is_named_and_nowhere_is_told_first(inputs, tmp_path):
    data, clip = inputs
    for names, said in (
        ({"start_from": "nowhere"}, "There is no model folder nowhere"),
        ({"start_from": clip, "start_critics": "nobody"}, "There is no model folder nobody"),
        ({"vision_clip": "neither"}, "'neither' is neither a folder nor a model of open_clip"),
    ):
        with pytest.raises(WorkbenchError, match=said):  # before the data, which is not there either
            tiny_run.run_tiny((tmp_path / "gone", clip), tmp_path / "run", images=16, **names)
    tiny_run.run_tiny(inputs, tmp_path / "run", images=16)
    with pytest.raises(WorkbenchError, match="neither a folder nor a model of open_clip"):
        tiny_run.run_tiny((data, tmp_path / "nowhere"), tmp_path / "run", images=32)


def test_a_finished_run_says_that_it_is(inputs, tmp_path, capsys):
    tiny_run.run_tiny(inputs, tmp_path / "run", images=16)
    again = tiny_run.run_tiny(inputs, tmp_path / "run", images=16, progress=True)
    told = capsys.readouterr().out
    assert "Finished already: nothing is trained; 16 of 16 images." in told and "Going on" not in told
    assert again.reason == "done"


@pytest.fixture(scope="module")
def own(inputs, tmp_path_factory) -> Path:
    """The set of `inputs` as a person's own: pictures and captions, nothing of what they show."""
    folder = shutil.copytree(inputs[0], tmp_path_factory.mktemp("own") / "my dogs")
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    kept = [{"file_name": line["file_name"], "text": line["text"]} for line in lines]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    return folder


def test_own_pictures_are_trained_without_the_judge_and_that_is_said_once(inputs, own, tmp_path, capsys):
    measured = {"judge": JUDGE, "eval_every_nimg": 8, "eval_n": 4, "images": 16}
    tiny_run.run_tiny((own, inputs[1]), tmp_path / "run", progress=True, **measured)
    told = capsys.readouterr().out
    assert told.count("The judge knows Shepherd World alone") == 1
    line = f"evaluate report --model {tmp_path}/run/model --data '{own}' --out {tmp_path}/run/report` does"
    assert line in told
    assert not read_history(tmp_path / "run", "eval")
    states = [json.loads(file.read_text()) for file in (tmp_path / "run").glob("checkpoints/*/state.json")]
    assert states and all(state["frechet_ratio"] is None for state in states)


def test_what_compares_by_the_judge_refuses_own_pictures_before_it_trains(inputs, own, tmp_path):
    models = {"clip": inputs[1], "judge": JUDGE, "device": "cpu"}
    plan = Plan(preset="shepherd-32", images=32, n=8, trials=(Trial(name="one", change="nothing"),))
    sweep = parse_sweep({"preset": "shepherd-32", "images": 64, "space": {"lr_G": {"choice": [0.01]}}})
    for data, said in (
        (own, "is not Shepherd World alone"),
        (tmp_path / "gone", "There is no data set fold"),
    ):
        for compare in (
            lambda data: ablation.ablate(data, tmp_path / "out", **models),
            lambda data: run_trials(plan, data, tmp_path / "out", **models),
            lambda data: run_sweep(sweep, data, tmp_path / "out", **models),
        ):
            with pytest.raises(WorkbenchError, match=said):
                compare(data)
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_the_line_claims_no_folder(inputs, tmp_path):
    data, clip = inputs
    out, broken = tmp_path / "run", tmp_path / "broken"
    broken.mkdir()
    for files, judge, message in (
        ((data, tmp_path / "nowhere"), None, "neither a folder nor a model of open_clip"),
        ((tmp_path / "nowhere", clip), None, "There is no data set folder .*nowhere: make one with"),
        ((broken, clip), None, "is empty: no metadata.jsonl and no picture in it"),
        (inputs, broken, r"config\.json is missing: expected a judge's folder"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            tiny_run.run_tiny(files, out, judge=judge, eval_every_nimg=8, images=16)
        assert not (out / "config.json").exists()
    assert tiny_run.run_tiny(inputs, out, images=16).reason == "done"
