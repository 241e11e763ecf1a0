"""Parts of the notebook on GAN and diffusion: who is found, what is drawn, tables by hand; its exercises."""

import json

import pytest
import torch
from tiny_diffusion import tiny_diffusion, tiny_student
from tiny_world_model import tiny_world_model

from workbench.diffusion.cost import Cost
from workbench.diffusion.entrants import RESULTS
from workbench.evaluation.perceptual import FeatureDistance
from workbench.models.glossary import PUBLISHED
from workbench.widgets import racing, racing_plots
from workbench.widgets.pictures import Picture
from workbench.widgets.racing_exercises import ask, check, fits, passes

PROMPT = "a white shepherd standing in a park by day"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project in which a baseline and its student were trained."""
    root = tmp_path_factory.mktemp("project")
    teacher = tiny_diffusion()
    teacher.card |= {"images": 1000, "seconds": 120.0}
    teacher.save_pretrained(root / "runs" / "base" / "model")
    student = tiny_student(teacher, root / "runs" / "base" / "model")
    student.card |= {"images": 500, "seconds": 60.0, "teacher_seconds": 120.0}
    student.save_pretrained(root / "runs" / "few" / "model")
    lines = [{"kind": "step", "cur_nimg": n, "loss": 1 / n, "seconds": n / 10} for n in (10, 20, 30, 40)]
    (root / "runs" / "base" / "history.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return root


@pytest.fixture(scope="module")
def gan_folder(tmp_path_factory):
    return tiny_world_model().save_pretrained(tmp_path_factory.mktemp("gan") / "tiny")


@pytest.fixture
def racers(root, gan_folder, monkeypatch):
    monkeypatch.setattr(racing, "GAN", gan_folder)
    return racing.at_the_start(root)


def row(name, kind, steps=1, **more):
    common = {"ms": 10.0 * steps, "ms_low": 9.0 * steps, "ms_high": 12.0 * steps, "ratio": 2.0, "all": 0.9}
    return {
        "name": name, "kind": kind, "steps": steps, "calls": steps, "diversity": 0.8, "weights": "x",
        "settings": {}, "walk": {"step": 0.1, "largest": 1.5, "detour": 2.0},
        "edit": {"reached": 0.5, "kept": 1.0, "both": 0.5}, **common, **more,
    }  # fmt: skip


def result(*rows, **more):
    about = {"n": 100, "edits": 100, "paths": 2, "date": "2020-01-02", "machine": "a machine"}
    return {**about, "lanes": list(rows), **more}


def test_who_is_there_and_how_the_others_are_made(racers, gan_folder, tmp_path, monkeypatch):
    said = str(racers).splitlines()
    assert [line.partition(":")[0] for line in said] == ["GAN", "diffusion model", "few-step student"]
    assert "/" not in said[0] and racers.student.is_student and not racers.diffusion.is_student
    assert [lane.name for lane in racers.lanes((1, 2), (1,))] == [
        "GAN", "Diffusion, 1 step", "Diffusion, 2 steps", "Student, 1 step",
    ]  # fmt: skip
    names = [lane.name for lane in racers.lanes((2,), (), (1.5, 1.0))]
    assert names == ["GAN", "Diffusion, 2 steps", "Diffusion, 2 steps, unguided"]
    alone = racing.at_the_start(tmp_path)
    assert alone.diffusion is None and [lane.kind for lane in alone.lanes((1,), (1,))] == ["gan"]
    assert "workbench diffusion train" in str(alone) and "workbench diffusion distill" in str(alone)
    assert alone.weights == {"gan": racers.weights["gan"]}
    assert "workbench diffusion distill" in racing.if_here(alone, "student", lambda model: 1 / 0).markdown
    assert racing.if_here(racers, "student", lambda model: model) is racers.student


def test_the_race_of_these_models_or_the_command_for_it(racers, root):
    assert racing.measured(racers, root) == (None, racing.measured(racers, root)[1])
    assert "workbench compare" in racing.measured(racers, root)[1]
    path = root / RESULTS[0]
    path.parent.mkdir(parents=True)
    lanes = [row(kind, kind, weights=weights) for kind, weights in racers.weights.items()]
    path.write_text(json.dumps(result(*lanes)))
    found, said = racing.measured(racers, root)
    assert len(found["lanes"]) == 3
    assert said == f"{RESULTS[0]}: 100 pictures of each lane, 2020-01-02, a machine"
    path.unlink()


def test_histories_lie_beside_the_run_or_among_what_ships(racers):
    found = racing.histories(racers)
    assert list(found) == ["diffusion"]  # the student and the tiny GAN have none
    assert racing_plots.curve(found["diffusion"], "loss") == ([10, 20, 30, 40], [0.1, 0.05, 1 / 30, 0.025])
    shipped = racing.Racers(
        gan=racers.gan, diffusion=None, student=None, places={"gan": racing.ASSETS / "models" / "shepherd-64"}
    )
    assert racing.histories(shipped)["gan"][-1]["cur_nimg"] > 1000


def test_pictures_of_how_each_draws(racers):
    start = racers.gan(PROMPT, seed=1).images
    drawn = [
        racing.forward_strip(start, "a picture under noise", count=4),
        racing.denoising_sheet(racers.diffusion, PROMPT, "steps of diffusion", steps=5, columns=3),
        racing.denoising_sheet(racers.student, PROMPT, "steps of a student", steps=2),
        racing.one_pass_sheet(racers.gan, PROMPT, "sizes of one pass"),
        racing.lanes_sheet(racers.lanes((1,), (1,)), [PROMPT] * 2, [1, 2], "lanes by prompts"),
        racing.swap_sheet(racers.lanes((1,), ()), PROMPT, "a black dog", [1, 2], "a word swapped"),
    ]
    for one in drawn:
        assert isinstance(one, Picture) and len(one.data()) < 40_000


def test_walks_are_those_of_the_lanes(racers):
    lanes = racers.lanes((1,), (1,))
    walks = {lane.name: racing.walk(lane, PROMPT, (1, 2), 3) for lane in lanes}
    assert all(frames.shape == (3, 3, 16, 16) for frames in walks.values())
    assert (walks["GAN"][0] - racers.gan(PROMPT, seed=1).images[0]).abs().max() < 2e-2
    far = FeatureDistance()
    shown = [
        racing.walks_sheet(walks, "three walks"),
        racing_plots.steps_plot({name: far.steps(x) for name, x in walks.items()}, "steps of walks"),
    ]
    assert all(isinstance(one, Picture) for one in shown)


def test_prompts_are_different_and_name_what_they_show():
    prompts = racing.prompts_of(4)
    assert len(set(prompts)) == 4 and prompts[:2] == racing.prompts_of(2)


def test_times_on_one_core_replace_the_others_and_leave_the_threads(racers, monkeypatch):
    seen = []

    def times(lanes, *, rounds):
        seen.append((torch.get_num_threads(), rounds))
        return {lane.name: {"ms": 7.0, "ms_low": 6.0, "ms_high": 8.0} for lane in lanes}

    monkeypatch.setattr(racing, "interleaved_times", times)
    before = torch.get_num_threads()
    told = result(row("GAN", "gan"))
    again = racing.on_one_core(told, racers.lanes((), ())[:1], rounds=3)
    assert seen == [(1, 3)] and torch.get_num_threads() == before
    assert again["lanes"] == [{**told["lanes"][0], "ms": 7.0, "ms_low": 6.0, "ms_high": 8.0}]
    assert told["lanes"][0]["ms"] == 10.0


def test_training_rates_are_those_recorded_or_the_command_for_them(tmp_path):
    assert racing.training_rates(tmp_path) is None
    assert "benchmarks/training_rates.py" in racing_plots.rates_table(None).markdown
    file = tmp_path / racing.RATES
    file.parent.mkdir(parents=True)
    stage = {"name": "lap 1", "images": 210_000, "images_per_s": 20.0, "minutes": 175.0}
    alone = {"name": "lap 2, D alone", "images": 30_000, "images_per_s": 50.0, "minutes": 10.0}
    whole = {"name": "the whole", "images": 210_000, "images_per_s": 17.5, "minutes": 200.0}
    found = {
        "gan": {"images": 240_000, "minutes": 185.0, "stages": [stage, alone]},
        "diffusion": {"images": 210_000, "minutes": 200.0, "stages": [whole]},
    }
    file.write_text(json.dumps(found))
    lines = racing_plots.rates_table(racing.training_rates(tmp_path)).markdown.splitlines()
    assert lines[2:] == [
        "| GAN, lap 1 | 210,000 | 20.0 | 175 |",
        "| GAN, lap 2, D alone | 30,000 | 50.0 | 10 |",
        "| **GAN** | **240,000** | **21.6** | **185** |",
        "| diffusion model | 210,000 | 17.5 | 200 |",
    ]


def test_costs_are_counted_afresh_each_time(racers):
    lanes = racers.lanes((1, 2), (1,))
    first, again = (racing.costs(racers, lanes) for _ in range(2))
    assert list(first) == ["GAN", "Diffusion, 1 step", "Diffusion, 2 steps", "Student, 1 step"]
    assert first["GAN"] == again["GAN"]
    assert first["Diffusion, 2 steps"].operations > first["Diffusion, 1 step"].operations
    counts = [*racers.gan.G.parameters(), *racers.gan.text_encoder.parameters()]
    assert first["GAN"].parameters == sum(p.numel() for p in counts)
    two = Cost(parameters=2**20, operations=4 * 10**9, working_bytes=2**21)
    one = Cost(parameters=2**20, operations=10**9, working_bytes=2**20)
    table = racing_plots.cost_table({"a": two, "b": one})
    assert table.markdown.splitlines()[2] == "| a | 1.05 M | 2.0 | 4.00 | 4.0 | 2.0 |"


def test_tables_by_hand():
    told = result(row("GAN", "gan"), row("Diffusion, 4 steps", "diffusion", 4, edit=None))
    lines = racing_plots.times_table(told).markdown.splitlines()
    assert lines[3] == "| Diffusion, 4 steps | 4 | 40 | 36 – 48 | 4.0 |"
    edits = racing_plots.shares_table(told, "edit", {"reached": "there", "kept": "kept"}, "edits")
    assert edits.markdown.splitlines()[2:] == ["| GAN | 50% ± 10% | 100% ± 2% | 100 |"]
    walks = racing_plots.shares_table(told, "walk", {"largest": "largest"}, "paths").markdown
    assert "| GAN | 1.50 | 2 |" in walks
    assert "| GAN | 0.80 | 90.0% |" in racing_plots.variety_table(told).markdown
    assert "n = 100 pictures" in racing_plots.race_table(told).markdown
    published = racing_plots.published_table().markdown.splitlines()
    assert len(published) == 2 + len(PUBLISHED) and published[2].endswith("| 1 |")


def test_plots_of_a_race_are_pictures(racers):
    told = result(
        row("GAN", "gan"), row("D1", "diffusion", 1), row("D8", "diffusion", 8), row("S", "student", 2)
    )
    for one in (racing_plots.times_plot(told, "time by steps"), racing_plots.quality_plot(told, "quality")):
        assert isinstance(one, Picture) and len(one.data()) < 40_000
    alone = result(row("GAN", "gan"))
    assert isinstance(racing_plots.times_plot(alone, "time of one pass"), Picture)


def test_losses_and_what_they_follow(racers):
    steps = [
        {"kind": "step", "cur_nimg": n, "G.loss": (n % 3) + n / 100, "D.loss": 1 / n} for n in range(1, 41)
    ]
    evals = [{"kind": "eval", "cur_nimg": n, "ratio": 50 / n} for n in (10, 20, 30, 40)]
    told = {"gan": steps + evals, **racing.histories(racers)}
    table = racing_plots.losses_table(told).markdown.splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "GAN: D's loss", "GAN: G's loss", "diffusion model: loss",
    ]  # fmt: skip
    falling = table[2].split("|")
    assert [cell.strip() for cell in falling[4:6]] == ["-1.00", "+1.00"]
    assert "not measured" in table[4]
    assert isinstance(racing_plots.losses_plot(told, "losses of both trainings"), Picture)
    assert isinstance(racing_plots.losses_plot(racing.histories(racers), "losses of one"), Picture)


def test_a_thinned_curve_is_the_means_of_neighbours():
    assert racing_plots.thinned([1, 2, 3, 4, 5], [1, 3, 5, 7, 9], 3) == ([1.5, 3.5, 5], [2, 6, 9])
    assert racing_plots.thinned([1, 2], [3, 4], 3) == ([1, 2], [3, 4]) and racing_plots.thinned([], []) == (
        [],
        [],
    )


def test_rank_correlation_is_of_orders():
    assert racing_plots.rank_correlation([1, 2, 30], [4, 5, 6]) == pytest.approx(1)
    assert racing_plots.rank_correlation([3, 2, 1, 0], [1, 10, 11, 12]) == pytest.approx(-1)
    assert racing_plots.rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)
    assert racing_plots.rank_correlation([1, 2], [1, 2]) is None


def test_what_training_cost(racers):
    rows = racing_plots.training_table(racers, racing.histories(racers)).markdown.splitlines()[2:]
    count = sum(p.numel() for p in racers.gan.G.parameters())
    assert rows[0] == f"| GAN | {count / 1e6:.2f} M | 0 | not recorded |"
    assert rows[1].endswith("| 1,000 | 2 |") and rows[2].endswith("| 500 | 1, after its teacher's 2 |")


@pytest.mark.parametrize(
    ("key", "right", "near", "wrong"),
    [
        ("r1", 16, 8, 3),
        ("r2", 1, 12, 5),
        ("r3", "minus the picture", "the picture", "v"),
        ("r4", "nobody", "gan", "x"),
    ],
)
def test_exercises_know_their_answers(key, right, near, wrong):
    assert ask(key).strip()
    assert check(key, right).word == "right" and check(key, near).word == "nearly"
    assert check(key, wrong).word == "not yet" and check(key, ...).word == "not yet"


def test_passes_are_those_of_the_lanes(racers):
    one, two = racers.lanes((3,), (3,))[1:]
    assert (one.calls, two.calls) == (passes(3, 2.0), passes(3, 1.0)) and fits(100, 200, 10) == 5


def test_a_small_race_here_is_the_race_of_the_command(racers):
    from workbench.evaluation.features import load_judge

    told = racing.race_here(
        racers.lanes((1,), (1,)), load_judge(), FeatureDistance(), n=4, edits=4, rounds=1, spread=(1, 2)
    )
    assert [row["name"] for row in told["lanes"]] == ["GAN", "Diffusion, 1 step", "Student, 1 step"]
    assert "told by 4 pictures of each lane, computed in fp32, too few" in told["paragraph"]
    assert racing.told_by(told).startswith("4 pictures of each lane")
    assert torch.isfinite(torch.tensor([row["ratio"] for row in told["lanes"]])).all()
