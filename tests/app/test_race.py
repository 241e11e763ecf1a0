"""The Race without the page: lanes, clocks that count the model alone, blind votes, true sentences."""

import json
import random
from dataclasses import replace

import pytest
import torch
from tiny_diffusion import tiny_diffusion, tiny_student

from workbench.app import race_run, race_view, race_votes
from workbench.app.jobs import Studio
from workbench.app.race_lanes import Track
from workbench.app.race_run import Lane, Race, asked
from workbench.diffusion.model import DiffusionModel
from workbench.diffusion.sampling import GUIDANCE
from workbench.errors import WorkbenchError
from workbench.pipeline import Pipeline

PROMPT = "a red shepherd sitting in the snow"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a tiny diffusion model and of its student."""
    folder = tmp_path_factory.mktemp("racers")
    teacher = tiny_diffusion()
    teacher.card["images"], teacher.card["seconds"] = 1000, 120.0
    teacher.save_pretrained(folder / "teacher")
    tiny_student(teacher, folder / "teacher").save_pretrained(folder / "student")
    return folder / "teacher", folder / "student"


@pytest.fixture
def track(model_folder, models, tmp_path):
    return Track(Studio(str(model_folder), tmp_path), *map(str, models))


def ask(**changes):
    return asked(
        **{"prompt": PROMPT, "seed": "3", "steps": 5, "student_steps": 2, "sampler": "ddim", "guidance": 2.0}
        | changes
    )


def test_every_lane_draws_what_its_model_draws(track, model_folder, models):
    told = []
    done = race_run.race(track, ask(), told.append)
    assert done.done and [lane.kind for lane in done.lanes] == ["gan", "student", "diffusion"]
    gan, student, diffusion = done.lanes
    assert torch.equal(gan.picture, Pipeline.from_pretrained(model_folder)(PROMPT, seed=3).images)
    teacher, few = (DiffusionModel.from_pretrained(folder) for folder in models)
    alone = teacher(PROMPT, seed=3, steps=5, sampler="ddim", guidance=2.0).images
    assert torch.equal(diffusion.picture, alone)
    assert torch.equal(student.picture, few(PROMPT, seed=3, steps=2).images)
    assert [lane.calls for lane in done.lanes] == [1, 2, 5] and len(diffusion.strip) == 5
    # the pages that were told: diffusion's steps one by one, nobody's clock ever going back
    steps = [race.lane("diffusion").calls for race in told]
    assert steps == sorted(steps) and set(steps) == {0, 1, 2, 3, 4, 5}
    clocks = [race.lane("diffusion").ms for race in told]
    assert clocks == sorted(clocks)
    assert diffusion.trained == "1,000 images, 2 minutes in all"


def test_a_clock_does_not_count_what_the_page_does(track):
    import time

    def timed(tell):
        """Twice: other work on the machine may lengthen one of them."""
        return [race_run.race(track, ask(steps=8), tell).lane("diffusion").ms for _ in range(2)]

    quick, slow = timed(lambda race: None), timed(lambda race: time.sleep(0.2))
    assert min(slow) < max(quick) + 8 * 200 / 2


def test_a_race_can_be_stopped_at_any_step(track):
    class Enough(Exception):
        pass

    def tell(race):
        if race.lane("diffusion").calls == 2:
            raise Enough

    with pytest.raises(Enough):
        race_run.race(track, ask(), tell)
    assert race_run.race(track, ask(), lambda race: None).done  # and the model is free again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps are 0"),
        ({"steps": 51}, "from 1 to 50"),
        ({"steps": float("nan")}, "nan"),
        ({"student_steps": 5}, "from 1 to 4"),
        ({"seed": "dog"}, "seed"),
        ({"sampler": "magic"}, "sampler"),
        ({"guidance": float("nan")}, "guidance"),
        ({"prompt": " "}, "prompt"),
    ],
)
def test_what_cannot_be_raced_for_is_told(track, change, message):
    with pytest.raises(WorkbenchError, match=message):
        race_run.race(track, ask(**change), lambda race: None)


def test_without_other_models_the_gan_runs_alone(model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.diffusion.entrants.ROOT", tmp_path)  # what ships is not here
    track = Track(Studio(str(model_folder), tmp_path))
    assert track.lanes() == ("gan",)
    done = race_run.race(track, ask(), lambda race: None)
    assert "alone on the track" in race_view.verdict_html(done)
    with pytest.raises(WorkbenchError, match="workbench diffusion train"):
        track.runner("diffusion")
    assert "workbench diffusion distill" in race_view.missing_html(["student"])


def test_a_finished_run_is_found(model_folder, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.diffusion.entrants.ROOT", tmp_path)  # what ships is not here
    DiffusionModel.from_pretrained(models[0]).save_pretrained(tmp_path / "runs" / "my-run" / "model")
    track = Track(Studio(str(model_folder), tmp_path))
    assert track.lanes() == ("gan", "diffusion")
    assert track.runner("diffusion").model.weight_hash == tiny_diffusion().weight_hash


def raced(**ms):
    lanes = tuple(
        Lane(kind=kind, name=kind, parameters=1, trained="", calls=calls, of=calls, ms=ms[kind], done=True)
        for kind, calls in (("gan", 1), ("student", 2), ("diffusion", 10))
        if kind in ms
    )
    return Race(ask=ask(), lanes=lanes)


def test_the_verdict_is_true_whoever_was_first():
    said = race_view.verdict_html(raced(gan=20, student=10, diffusion=400))
    assert "diffusion took 20.0 times the GAN" in said and "student took less than the GAN: 2.0 times" in said
    assert "not even one of its steps of 40 ms" in said
    said = race_view.verdict_html(raced(gan=100, diffusion=101))
    assert "as long as the GAN" in said and "time for 9 of its steps" in said
    running = replace(raced(gan=20, diffusion=40))
    unfinished = replace(running, lanes=(running.lanes[0], replace(running.lanes[1], done=False)))
    assert race_view.verdict_html(unfinished) == ""


def test_the_page_begins_with_the_models_own_guidance():
    assert race_run.Ask.__dataclass_fields__["guidance"].default == GUIDANCE


def test_equal_time_is_counted_in_whole_steps():
    assert race_run.steps_in(raced(gan=100, diffusion=200)) == 5  # 20 ms a step
    assert race_run.steps_in(raced(gan=1, diffusion=200)) == 0  # the page sets one, and says so
    assert race_run.steps_in(raced(gan=100)) is None


def test_votes_are_counted_and_kept(tmp_path):
    path = tmp_path / "runs" / "votes.json"
    ballot = race_votes.Ballot(order=("diffusion", "gan"))
    tally, right = race_votes.vote(ballot, "A", {"gan": "B"}, path)
    assert right and tally == {"best": {"diffusion": 1}, "guesses": {"right": 1, "wrong": 0}}
    tally, right = race_votes.vote(ballot, "B", {"gan": "A"}, path)
    assert not right and race_votes.read(path) == tally
    assert json.loads(path.read_text()) == {
        "best": {"diffusion": 1, "gan": 1},
        "guesses": {"right": 1, "wrong": 1},
    }
    said = race_view.tally_html(tally)
    assert "2 votes" in said and "GAN 1, diffusion model 1" in said and "1 of 2" in said
    with pytest.raises(WorkbenchError, match="Choose a letter"):
        race_votes.vote(ballot, None, {"gan": "A"}, path)
    path.write_text("[]")
    with pytest.raises(WorkbenchError, match="no tally"):
        race_votes.vote(ballot, "A", {"gan": "A"}, path)


@pytest.mark.parametrize(("guess", "right"), [("CA", True), ("CB", False), ("AC", False)])
def test_of_three_lanes_each_has_to_be_told(tmp_path, guess, right):
    ballot = race_votes.Ballot(order=("student", "diffusion", "gan"))
    taken = dict(zip(("gan", "student"), guess, strict=True))
    assert race_votes.vote(ballot, "B", taken, tmp_path / "votes.json")[1] == right
    with pytest.raises(WorkbenchError, match="for each question"):
        race_votes.vote(ballot, "B", {"gan": "A", "student": None}, tmp_path / "votes.json")


def test_every_order_of_the_ballot_comes_up():
    kinds = ("gan", "student", "diffusion")
    orders = {race_votes.shuffled(kinds, random.Random(seed)).order for seed in range(100)}
    assert len(orders) == 6 and all(set(order) == set(kinds) for order in orders)


def test_behind_the_curtain_nothing_tells_who_is_who(track):
    ballot = race_votes.Ballot(order=("diffusion", "gan", "student"))
    told = []
    done = race_run.race(track, ask(), lambda race: told.append(race_view.lanes_html(race, ballot)))
    for page in [*told, race_view.lanes_html(done, ballot)]:
        for word in ("GAN", "diffusion", "student", " ms", "call", "step"):
            assert word not in page
    assert race_view.lanes_html(done, ballot).count("<img") == 3


def test_a_strip_shows_the_first_and_the_last_of_many_steps():
    assert race_view._spread(4) == [0, 1, 2, 3]
    assert race_view._spread(50)[0] == 0 and race_view._spread(50)[-1] == 49
    assert len(race_view._spread(50)) == len(set(race_view._spread(50))) == 10


def test_a_later_lap_says_what_it_began_from():
    from workbench.app.race_lanes import _trained

    card = {"images": 2_000, "seconds": 300.0, "began_from": "dog-64 after 1,000 images"}
    assert _trained(card) == "2,000 images, 5 minutes, begun from dog-64 after 1,000 images"
