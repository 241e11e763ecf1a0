"""Sweeps without Ray: what is drawn, when trials are judged, what is refused, what the report says."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from workbench.commands.scale import Cluster, starter
from workbench.errors import WorkbenchError
from workbench.models.presets import preset
from workbench.training import sweeps_trial
from workbench.training.checkpoint import newest_nimg
from workbench.training.config import TrainConfig, read_settings
from workbench.training.history import read_history
from workbench.training.sweeps import parse_sweep, read_sweep, shown
from workbench.training.sweeps_report import settings, table, write_report
from workbench.training.sweeps_run import SWEEP, run_sweep
from workbench.training.sweeps_trial import RUNGS, Job, climb, end_trial
from workbench.training.trials import recipe_of

JUDGE = Path(__file__).resolve().parents[2] / "assets/models/judge"


def a_sweep(**changes):
    base = {"preset": "shepherd-32", "images": 640, "space": {"lr_G": {"loguniform": [1e-3, 1e-2]}}}
    return parse_sweep(base | changes)


# ---------------------------------------------------------------- drawing


def test_values_stay_in_their_ranges_and_fill_them():
    space = {
        "lr_G": {"loguniform": [1e-4, 1e-2]},
        "constant_share": {"uniform": [0.2, 0.8]},
        "r1_every": {"uniform": [4, 7]},
        "adversarial": {"choice": ["nonsaturating", "relativistic"]},
    }
    draws = a_sweep(space=space, samples=400).draws()
    logs = [math.log10(draw["lr_G"]) for draw in draws]
    assert all(-4 <= value <= -2 for value in logs)
    # uniform on [-4, -2] has mean -3 and deviation 2/√12; 400 draws: four standard errors
    assert abs(sum(logs) / 400 + 3) < 4 * (2 / math.sqrt(12)) / 20
    shares = [draw["constant_share"] for draw in draws]
    assert min(shares) >= 0.2 and max(shares) <= 0.8 and abs(sum(shares) / 400 - 0.5) < 0.04
    assert {draw["r1_every"] for draw in draws} == {4, 5, 6, 7}
    assert all(type(draw["r1_every"]) is int for draw in draws)
    chosen = [draw["adversarial"] for draw in draws].count("relativistic")
    assert abs(chosen - 200) < 4 * 10  # binomial: deviation √(400 · ¼) = 10


def test_grids_are_combined_and_taken_samples_times():
    space = {"batch_size": {"grid": [8, 16]}, "r1_every": {"grid": [4, 8, 16]}}
    draws = a_sweep(space=space, samples=2).draws()
    pairs = [(draw["batch_size"], draw["r1_every"]) for draw in draws]
    assert pairs == [(b, r) for _ in range(2) for b in (8, 16) for r in (4, 8, 16)]


def test_a_trial_is_the_same_whatever_stands_beside_it():
    alone = a_sweep(samples=3).draws()
    more = a_sweep(
        samples=5, space={"lr_G": {"loguniform": [1e-3, 1e-2]}, "seed": {"uniform": [0, 9]}}
    ).draws()
    assert [draw["lr_G"] for draw in alone] == [draw["lr_G"] for draw in more[:3]]
    assert a_sweep(samples=3, seed=1).draws() != alone
    assert len({draw["lr_G"] for draw in more}) == 5


def test_trials_set_what_was_drawn_on_top_of_the_preset():
    sweep = a_sweep(samples=2, train={"r1_gamma": 7.0}, space={"betas": {"choice": [[0.0, 0.9]]}})
    plan = sweep.plan()
    networks, config = recipe_of(plan, plan.trials[1])
    assert networks == preset("shepherd-32") and plan.trials[1].name == "001"
    assert (config.betas, config.r1_gamma, config.images) == ((0.0, 0.9), 7.0, 640)
    assert config.eval_every_nimg == 0  # the sweep measures, not the run


def test_presets_may_be_searched_too():
    plan = a_sweep(space={"preset": {"grid": ["shepherd-32", "shepherd-64"]}}).plan()
    assert [recipe_of(plan, trial)[0].name for trial in plan.trials] == ["shepherd-32", "shepherd-64"]


# ---------------------------------------------------------------- ASHA


def test_rungs_are_powers_of_the_reduction_below_the_budget():
    halving = {"first": 64, "reduction": 3}
    assert a_sweep(images=640, halving=halving).rungs() == [64, 192, 576, 640]
    assert a_sweep(images=576, halving=halving).rungs() == [64, 192, 576]
    assert a_sweep(images=64, halving=halving).rungs() == [64]
    assert a_sweep().rungs() == [640]


def test_asha_gives_up_what_lies_beyond_the_quantile_of_those_before(tmp_path):
    """At a rung a trial goes on unless it is worse than the (1 - 1/3) quantile of what was recorded there."""
    pytest.importorskip("ray.tune", reason="no ray here; to run it: pip install workbench[cluster]")
    from workbench.training.sweeps_tune import scheduler

    sweep = a_sweep(samples=6, halving={"first": 64, "reduction": 3})
    job = Job(sweep=sweep, data="", out=tmp_path, clip="", judge="", cache=None, device="cpu")
    # Three trials of an earlier call, 1, 2 and 4 at the first rung: of distances the best third lies below
    # 1 + (2 - 1) · 2/3, the quantile 2/3 of (-4, -2, -1).
    for name, value in (("000", 1.0), ("001", 2.0), ("002", 4.0)):
        run = tmp_path / "trials" / name
        run.mkdir(parents=True)
        (run / RUNGS).write_text(json.dumps([{"rung": 64, "frechet_ratio": value}]))
        end_trial(run, "given up")
    said = []
    asha = scheduler(job, said.append)
    cut = 1.0 + 2 / 3
    for name, value, verdict in (("003", cut - 1e-9, "CONTINUE"), ("004", 3.0, "STOP")):
        (tmp_path / "trials" / name).mkdir()
        trial = SimpleNamespace(trial_id=name)
        asha.on_trial_add(object(), trial)
        result = {"trial": name, "rung": 64, "objective": value}
        assert asha.on_trial_result(object(), trial, result) == verdict
    assert said == ["Trial 004 is given up at 64 images."]
    assert json.loads((tmp_path / "trials/004/trial.json").read_text()) == {"end": "given up"}


# ---------------------------------------------------------------- a trial


@pytest.mark.long
def test_a_trial_climbs_its_rungs_once_and_tells_them_again(inputs, tmp_path, monkeypatch):
    sweep = a_sweep(
        images=16,
        n=8,
        halving={"first": 8},
        train={"batch_size": 8, "precision": "fp32", "vision_weight": 0.0},
    )
    models = {"clip": str(inputs[1]), "judge": str(JUDGE), "cache": tmp_path / "cache", "device": "cpu"}
    job = Job(sweep=sweep, data=str(inputs[0]), out=tmp_path, **models)
    told: list[dict] = []

    def give_up(result: dict) -> None:  # as Ray Tune ends a trial: at its report
        told.append(result)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        climb(job, "000", give_up)
    assert newest_nimg(job.run("000")) == 8 and not (job.run("000") / "trial.json").exists()
    climb(job, "000", told.append)
    assert [result["rung"] for result in told] == [8, 8, 16] and told[0] == told[1]
    assert newest_nimg(job.run("000")) == 16
    assert [line["cur_nimg"] for line in read_history(job.run("000"), "step")] == [8, 16]
    (row,) = table(sweep, tmp_path)
    assert (row["end"], row["rung"], row["frechet_ratio"]) == ("done", 16, told[2]["objective"])
    monkeypatch.setattr(sweeps_trial, "train", None)  # nothing is trained any more
    climb(job, "000", told.append)
    assert told[3:] == told[1:3]


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {}}, "space is empty"),
        ({"space": {"lr": {"choice": [1]}}}, "no setting 'lr': choose from preset"),
        ({"space": {"images": {"choice": [64]}}}, "images cannot be drawn"),
        ({"space": {"lr_G": {"normal": [0, 1]}}}, 'lr_G is drawn by {"normal": .*: expected one of uniform'),
        ({"space": {"lr_G": {"choice": []}}}, "lr_G is drawn by"),
        ({"space": {"lr_G": {"uniform": [0.2, 0.1]}}}, "range of lr_G .* the lower first"),
        ({"space": {"lr_G": {"loguniform": [0, 0.1]}}}, "lr_G is drawn loguniform from 0"),
        ({"space": {"lr_G": {"uniform": [-0.1, 0.1]}}}, "lr_G is -0.1: expected a number from 0 on"),
        ({"space": {"r1_every": {"uniform": [0.2, 9]}}}, "r1_every is 0: expected a whole number"),
        ({"space": {"batch_size": {"uniform": [8, 32]}}}, "batch_size takes even numbers"),
        ({"space": {"flip": {"uniform": [0, 1]}}}, "flip takes values such as true"),
        ({"space": {"adversarial": {"choice": ["wgan"]}}}, "adversarial is 'wgan'"),
        ({"space": {"preset": {"choice": ["none"]}}}, "none"),
        ({"objective": "fid"}, "objective is 'fid': expected frechet_ratio .* or all"),
        ({"images": 30}, "budget is 30 images, less than the batch of 32"),
        ({"halving": {"first": 16}}, "halving.first is 16 images, less than the batch of 32"),
        ({"halving": {"first": 9999}}, "halving.first is 9999, beyond the budget of 640"),
        ({"halving": {"first": 64, "reduction": 1}}, "halving.reduction is 1: .* at least 2"),
        ({"halving": {"last": 64}}, "expected an object with first and reduction"),
        ({"samples": 0}, "samples is 0"),
        ({"images": "640"}, "images is '640'"),
        ({"train": {"lr_G": 0.1}}, "train sets lr_G, which the sweep sets itself"),
        ({"train": {"nonsense": 1}}, "nonsense"),
        ({"nonsense": 1}, "A sweep has no 'nonsense'"),
    ],
)
def test_a_wrong_sweep_is_refused_in_a_sentence(changes, said):
    with pytest.raises(WorkbenchError, match=said):
        a_sweep(**changes)


def test_a_file_is_named_with_its_mistake(tmp_path):
    path = tmp_path / "sweep.json"
    for text, said in (
        ("{", "does not hold a sweep"),
        ("[]", "not list"),
        ('{"images": 8}', "has no 'preset'"),
    ):
        path.write_text(text)
        with pytest.raises(WorkbenchError, match=said) as told:
            read_sweep(path)
        assert str(path) in str(told.value)


def test_another_sweep_or_other_files_are_not_overwritten(inputs, tmp_path):
    rest = {"clip": "", "judge": tmp_path / "none", "device": "cpu"}
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("")
    with pytest.raises(WorkbenchError, match="holds other files and no sweep"):
        run_sweep(a_sweep(), "", tmp_path / "full", **rest)
    for again, said in ((a_sweep(seed=1), "another sweep: seed differs"), (a_sweep(samples=3), "judge")):
        with pytest.raises(WorkbenchError, match="judge"):
            run_sweep(a_sweep(), inputs[0], tmp_path / "out", **rest)
        with pytest.raises(WorkbenchError, match=said):
            run_sweep(again, inputs[0], tmp_path / "out", **rest)
        (tmp_path / "out" / SWEEP).unlink()


def test_options_of_a_cluster_want_ray():
    with pytest.raises(WorkbenchError, match="--ray-workers goes with --ray"):
        starter(Cluster(ray_workers=2))


# ---------------------------------------------------------------- the report


@pytest.fixture
def swept(tmp_path):
    """(sweep, folder) of six trials: two done, one given up at each rung, one failed, one under way."""
    space = {"lr_G": {"loguniform": [1e-3, 1e-2]}, "batch_size": {"choice": [16, 32]}}
    sweep = a_sweep(space=space, samples=6, halving={"first": 64, "reduction": 3})
    ends = [(640, 9.0, "done"), (64, 50.0, "given up"), (640, 7.5, "done"), (192, 20.0, "given up"),
            (64, 30.0, None), (None, None, "failed")]  # fmt: skip
    for number, (rung, value, end) in enumerate(ends):
        run = tmp_path / "trials" / f"{number:03d}"
        run.mkdir(parents=True)
        if rung is not None:
            row = {"rung": rung, "frechet_ratio": value, "all": 1 / value, "diversity": 0.5, "recall": 0.25}
            (run / RUNGS).write_text(json.dumps([row]))
        if end is not None:
            end_trial(run, end)
    return sweep, tmp_path


def test_the_table_puts_the_best_to_the_end_first(swept):
    sweep, out = swept
    assert [row["name"] for row in table(sweep, out)] == ["002", "000", "003", "001", "004", "005"]
    page = write_report(sweep, out).read_text()
    first = next(line for line in page.splitlines() if line.startswith("| 002"))
    drawn = sweep.draws()[2]
    assert first == (
        f"| 002 | {shown(drawn['lr_G'])} | {drawn['batch_size']} | 640 | done "
        "| 7.500 | 0.133 | 0.500 | 0.250 |"
    )
    assert "ASHA judges at 64, 192, 576 images" in page
    assert json.loads((out / "table.json").read_text())[0]["name"] == "002"
    with Image.open(out / "sweep.png") as plot:
        assert plot.width > plot.height > 400


def test_the_best_settings_are_a_file_that_train_takes(swept):
    sweep, out = swept
    write_report(sweep, out)
    chosen = read_settings(out / "best.json")
    assert chosen == settings(sweep, table(sweep, out)[0]) == {
        "preset": "shepherd-32", **sweep.draws()[2], "images": 640
    }  # fmt: skip
    config = TrainConfig.for_preset(chosen.pop("preset"), **chosen)
    assert (config.lr_G, config.images) == (sweep.draws()[2]["lr_G"], 640)


def test_settings_come_from_a_run_too_and_nothing_else(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"kind": "gigagan-run", "config": TrainConfig(seed=3).to_json()}))
    assert TrainConfig.from_json(read_settings(path)) == TrainConfig(seed=3)
    for text, said in (("[]", "list"), ('{"lr": 1}', "'lr'"), ("", "does not hold training settings")):
        path.write_text(text)
        with pytest.raises(WorkbenchError, match=said):
            read_settings(path)


def test_nothing_measured_is_no_report(tmp_path):
    assert write_report(a_sweep(), tmp_path) is None and not list(tmp_path.iterdir())
