"""A whole race of tiny models, its lanes and trials on pictures whose answers are known."""

import json
from dataclasses import asdict

import pytest
import torch
from matplotlib.figure import Figure
from tiny_diffusers import tiny_diffusers
from tiny_diffusion import tiny_diffusion, tiny_student
from tiny_world_model import tiny_world_model

from workbench.datasets.world import draw_factors, render
from workbench.diffusion import race as races
from workbench.diffusion import race_plot, trials
from workbench.diffusion.lanes import Lane, diffusion_lane, gan_lane, lanes_of, pretrained_lane
from workbench.diffusion.pretrained import Pretrained
from workbench.diffusion.schedule import start_noise
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, load_judge
from workbench.evaluation.perceptual import FeatureDistance
from workbench.images import COLOURS, open_picture

PROMPT = "a white shepherd standing in a park by day"


@pytest.fixture(scope="module")
def judge():
    return load_judge()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders: a GAN, a diffusion model, its student."""
    root = tmp_path_factory.mktemp("models")
    tiny_world_model().save_pretrained(root / "gan")
    teacher = tiny_diffusion()
    teacher.save_pretrained(root / "teacher")
    tiny_student(teacher, root / "teacher").save_pretrained(root / "student")
    plain = {"attention": {}, "cross_attention": {}, "text_layers": 0}  # as the ablation's StyleGAN2 row
    tiny_world_model(3, **plain).save_pretrained(root / "plain")
    return root


def made_up(name: str, draw, along=None, **facts) -> Lane:
    return Lane(
        **{"name": name, "kind": "other", "side": 64, "parameters": 1, "weights": name, **facts},
        draw=draw,
        along=along,
    )


# ---------------------------------------------------------------- lanes


def test_lanes_of_folders(folders):
    lanes = lanes_of(
        gan=folders / "gan", diffusion=folders / "teacher", student=folders / "student",
        also=[folders / "gan"], steps=(1, 2), student_steps=(1,), guidances=(1.5,), device="cpu",
    )  # fmt: skip
    assert [(lane.name, lane.kind, lane.calls) for lane in lanes] == [
        ("GAN", "gan", 1), ("tiny-0", "other", 1), ("Diffusion, 1 step", "diffusion", 2),
        ("Diffusion, 2 steps", "diffusion", 4), ("Student, 1 step", "student", 1),
    ]  # fmt: skip
    assert len({lane.weights for lane in lanes}) == 3  # GAN twice, teacher twice, student
    assert [lane.settings for lane in lanes[2:]] == [
        {"sampler": "ddim", "guidance": 1.5}, {"sampler": "dpm++", "guidance": 1.5},
        {"sampler": "consistency", "guidance": None},
    ]  # fmt: skip
    assert {lane.side for lane in lanes} == {16}
    for lane in lanes:
        assert lane.draw([PROMPT] * 2, [1, 2]).shape == (2, 3, 16, 16)
    json.dumps([lane.facts() for lane in lanes])


def test_every_guidance_takes_all_steps_and_none_is_half_as_many_passes(folders):
    settings = {"diffusion": folders / "teacher", "steps": (1, 4), "device": "cpu"}
    lanes = lanes_of(**settings)
    assert [(lane.name, lane.settings["guidance"], lane.calls) for lane in lanes] == [
        ("Diffusion, 1 step", 1.5, 2), ("Diffusion, 4 steps", 1.5, 8),
        ("Diffusion, 1 step, unguided", 1.0, 1), ("Diffusion, 4 steps, unguided", 1.0, 4),
    ]  # fmt: skip
    (strong,) = lanes_of(**settings | {"steps": (2,), "guidances": (3.0,)})
    assert strong.name == "Diffusion, 2 steps, guidance 3.0"


@pytest.mark.parametrize("which", ["gan", "diffusion", "student"])
def test_a_lane_computes_in_its_precision_and_leaves_its_model_as_it_was(folders, which):
    where = {"gan": folders / "gan", "diffusion": folders / "teacher", "student": folders / "student"}[which]
    options = {which: where, "steps": (1,), "student_steps": (1,), "guidances": (1.5,), "device": "cpu"}
    (exact,) = lanes_of(**options)
    (half,) = lanes_of(**options, precision="bf16")
    assert (exact.precision, half.precision) == ("fp32", "bf16") and half.facts()["precision"] == "bf16"
    a, b = (lane.draw([PROMPT], [3]) for lane in (exact, half))
    assert a.dtype == b.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.3 and (a - b).abs().mean() < 0.02
    ends = torch.tensor([0.0, 1.0])
    assert (half.along(PROMPT, (3, 4), ends)[0] - b[0]).abs().max() < 0.1
    if which == "gan":
        model = tiny_world_model()
        gan_lane(model, precision="bf16").draw([PROMPT], [3])
        assert model.G.compute_dtype == torch.float32


@pytest.mark.parametrize(
    ("which", "match"),
    [
        ({}, "No model was given"),
        ({"diffusion": "student"}, "is a student: give it as the student"),
        ({"student": "teacher"}, "is no student"),
        ({"also": ["gan", "gan"]}, "Two lanes are called 'tiny-0'"),
        ({"gan": "gan", "steps": (0,)}, "steps is 0"),
    ],
)
def test_lanes_that_cannot_race(folders, which, match):
    where = {
        name: [folders / each for each in value]
        if isinstance(value, list)
        else folders / value
        if isinstance(value, str)
        else value
        for name, value in which.items()
    }
    with pytest.raises(WorkbenchError, match=match):
        lanes_of(**where, device="cpu")


@pytest.mark.parametrize("which", ["gan", "teacher", "student"])
def test_a_walk_begins_and_ends_in_its_seeds_pictures(folders, which):
    if which == "gan":
        lane = gan_lane(tiny_world_model())
    else:
        option = {"teacher": "diffusion", "student": "student"}[which]
        few = {"steps": (2,), "student_steps": (1,), "guidances": (1.5,)}
        (lane,) = lanes_of(**{option: folders / which}, **few, device="cpu")
    frames = lane.along(PROMPT, (7, 8), torch.linspace(0, 1, 5))
    assert (frames[0] - lane.draw([PROMPT], [7])[0]).abs().max() < 2e-2
    assert (frames[-1] - lane.draw([PROMPT], [8])[0]).abs().max() < 2e-2
    assert (frames[2] - frames[0]).abs().max() > 1e-3


def test_noise_of_another_shape_is_refused():
    with pytest.raises(WorkbenchError, match=r"expected \[1, 3, 16, 16\]"):
        tiny_diffusion()(PROMPT, noise=start_noise([1], 8))


def test_a_pretrained_pipeline_is_a_lane(tmp_path):
    model = Pretrained.from_pretrained(tiny_diffusers(tmp_path / "sd"), device="cpu", height=32, width=32)
    lane = pretrained_lane(model, 2, side=8)
    pictures = lane.draw([PROMPT, PROMPT], [3, 4])
    assert pictures.shape == (2, 3, 8, 8) and lane.along is None and lane.parameters > 0
    assert torch.equal(lane.draw([PROMPT], [4])[0], pictures[1])
    assert lane.name == "sd, 2 steps"
    (found,) = lanes_of(pretrained=tmp_path / "sd", student_steps=(2,), side=8, device="cpu")
    assert (found.name, found.weights) == (lane.name, lane.weights)
    with torch.no_grad():
        next(model.source.pipe.unet.parameters()).add_(1)
    assert model.weight_hash != lane.weights  # another network of the same name is another lane
    steps = []
    made = model(PROMPT, seed=3, steps=2, guidance=1.0, on_step=lambda done, of: steps.append((done, of)))
    assert steps == [(1, 2), (2, 2)] and made.recipes[0]["steps"] == 2
    with pytest.raises(WorkbenchError, match="2 seeds for 3 prompts"):
        model([PROMPT] * 3, seed=[1, 2])
    with pytest.raises(WorkbenchError, match="steps is 0"):
        model(PROMPT, steps=0)


# ---------------------------------------------------------------- trials


def test_times_are_taken_in_turns():
    order = []

    def draw(name):
        def drawn(prompts, seeds):
            order.append((name, prompts[0], seeds[0]))
            return torch.zeros(1, 3, 4, 4)

        return drawn

    lanes = [made_up(name, draw(name)) for name in "ab"]
    found = trials.interleaved_times(lanes, rounds=3)
    assert [name for name, *_ in order] == list("abababab")
    assert order[0][2] == order[1][2] and order[2][2] != order[0][2]  # one seed a round, for both
    assert len({prompt for _, prompt, _ in order}) == len(order)  # no lane finds its words read already
    assert found["a"]["ms_low"] <= found["a"]["ms"] <= found["a"]["ms_high"] and found["a"]["rounds"] == 3
    with pytest.raises(WorkbenchError, match="rounds is 0"):
        trials.interleaved_times(lanes, rounds=0)


def test_smoothness_of_a_straight_walk_a_jump_and_none():
    """A picture that stands still and then jumps once has one step, and the largest is all of them."""
    ends = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    jump = made_up("jump", None, lambda prompt, seeds, t: ends[(t > 0.6).long()])
    far = FeatureDistance()
    found = trials.smoothness(jump, far, paths=2, frames=11)
    step = far(ends[:1], ends[1:]).item()
    assert found == pytest.approx({"step": step / 10, "largest": 10.0, "detour": 1.0}, rel=1e-4)
    back = made_up("back", None, lambda prompt, seeds, t: ends[torch.arange(len(t)) % 2])
    assert trials.smoothness(back, far, paths=1, frames=4)["detour"] == pytest.approx(3.0, rel=1e-4)
    assert trials.smoothness(made_up("none", None), far) is None
    with pytest.raises(WorkbenchError, match="0 paths of 17 frames"):
        trials.smoothness(jump, far, paths=0)


def test_edits_of_a_lane_that_does_as_told_of_one_that_is_deaf_and_of_one_that_forgets(judge):
    """Renders of what the caption says; of what a seed's first caption said; of something else each time."""
    n = 16

    def told(prompts, seeds, spin=0):
        from workbench.datasets.world.captions import named_factors

        return render(
            [
                draw_factors(5, s % 1000 + spin, **named_factors(p))
                for p, s in zip(prompts, seeds, strict=True)
            ],
            64,
        )

    first = {}

    def deaf(prompts, seeds):
        for prompt, seed in zip(prompts, seeds, strict=True):
            first.setdefault(seed, prompt)
        return told([first[seed] for seed in seeds], seeds)

    good = trials.edit_consistency(made_up("good", told), judge, n=n)
    assert good["reached"] > 0.9 and good["kept"] > 0.8
    never = trials.edit_consistency(made_up("deaf", deaf), judge, n=n)
    assert never["reached"] < 0.1 and never["kept"] > 0.8 and never["both"] == pytest.approx(0, abs=0.1)
    fresh = iter(range(1000))

    def forgets(prompts, seeds):
        return render([draw_factors(9, next(fresh)) for _ in prompts], 64)

    assert trials.edit_consistency(made_up("forgets", forgets), judge, n=n)["kept"] < 0.4
    with pytest.raises(WorkbenchError, match="n is 2"):
        trials.edit_consistency(made_up("good", told), judge, n=2)


def test_a_swapped_word_changes_one_factor_alone():
    for index, factor in enumerate([*FACTOR_CLASSES, *FACTOR_CLASSES]):
        text, factors = trials._prompt(0, index)
        swapped = trials._swapped(factors, factor, index)
        changed = {name for name, value in asdict(factors).items() if asdict(swapped)[name] != value}
        assert changed == {factor}
        assert factors.coat and text


# ---------------------------------------------------------------- the race


def test_a_whole_race_writes_its_report_and_goes_on(folders, judge, tmp_path, monkeypatch):
    out = tmp_path / "race"
    settings = {"n": 6, "rounds": 1, "edits": 4, "paths": 1, "spread": (2, 2), "cache": tmp_path / "cache"}
    lanes = lanes_of(
        gan=folders / "gan", also=[folders / "plain"], diffusion=folders / "teacher",
        student=folders / "student", steps=(1, 2), student_steps=(1,), guidances=(1.5,), device="cpu",
    )  # fmt: skip
    races.race(lanes[:1], judge, out, **settings)
    counted = []
    monkeypatch.setattr(
        races,
        "edit_consistency",
        lambda lane, *a, **k: counted.append(lane.name) or dict.fromkeys(("reached", "kept", "both"), 0.5),
    )
    found = races.race(lanes, judge, out, **settings)
    assert counted == [lane.name for lane in lanes[1:]]  # the first was kept
    assert json.loads((out / "race.json").read_text()) == json.loads(json.dumps(found))
    assert [row["name"] for row in found["lanes"]] == [lane.name for lane in lanes]
    (out / "before.json").write_text(json.dumps(found))
    guided = lanes_of(diffusion=folders / "teacher", steps=(1,), guidances=(3.0,), device="cpu")
    races.race(guided, judge, out, **settings)
    assert counted[-1] == "Diffusion, 1 step, guidance 3.0"  # another lane: nothing kept serves
    again = races.race(lanes, judge, tmp_path / "again", earlier=out / "before.json", **settings)
    assert len(counted) == len(lanes)  # none of them anew
    same = [{k: v for k, v in row.items() if not k.startswith("ms")} for row in found["lanes"]]
    assert [{k: v for k, v in row.items() if not k.startswith("ms")} for row in again["lanes"]] == same
    assert [row["ms"] for row in again["lanes"]] != [row["ms"] for row in found["lanes"]]  # but the clock
    races.race(lanes[:1], judge, tmp_path / "other", earlier=out / "before.json", **settings | {"n": 7})
    assert counted[-1] == lanes[0].name  # of other settings nothing serves
    assert {"ms", "ratio", "all", "diversity", "walk", "edit", "parameters"} <= found["lanes"][0].keys()
    assert found["race"]["speed_ratio"] > 0 and found["n"] == 6
    races.write_report(found, out)  # of the race before the guided one
    page = (out / "race.md").read_text()
    assert found["paragraph"] in page and "| GAN | 1 |" in page
    assert page.splitlines()[3].startswith("| tiny-3 | 1 |") and "Beside them tiny-3 takes" in page
    with open_picture(out / "race.png") as picture:
        assert picture.width > 1000
    with pytest.raises(WorkbenchError, match="no report of a race"):
        races.race(lanes, judge, tmp_path / "no", earlier=out / "measured.json", **settings)
    (out / "measured.json").write_text("{")
    with pytest.raises(WorkbenchError, match="is damaged"):
        races.race(lanes, judge, out, **settings)


def test_a_further_gan_has_its_own_colour_mark_and_name_in_the_plot():
    rows = [
        {"name": name, "kind": kind, "steps": steps, "ms": ms, "ratio": 2.0 + steps, "all": 0.5}
        for name, kind, steps, ms in (
            ("GAN", "gan", 1, 9.0), ("plain", "other", 1, 4.0), ("a", "diffusion", 1, 8.0),
            ("b", "diffusion", 8, 64.0),
        )
    ]  # fmt: skip
    axis = Figure().subplots()
    race_plot.distances(axis, {"lanes": rows})
    gan, diffusion, other = axis.get_lines()[:3]
    assert other.get_xydata().tolist() == [[4.0, 3.0]] and diffusion.get_xydata().tolist() == [
        [8, 3],
        [64, 10],
    ]
    looks = {(line.get_color(), line.get_marker()) for line in (gan, diffusion, other)}
    assert len(looks) == 3 and other.get_color() not in (COLOURS["gan"], COLOURS["diffusion"])
    words = [text.get_text() for text in axis.texts]
    assert words == ["1", "8", "plain", "renders against renders"]
    assert axis.get_legend_handles_labels()[1] == ["GAN", "diffusion, by steps", "others"]


def test_two_guidances_are_two_lines_that_can_be_told_apart():
    rows = [
        {"name": f"{steps} {guidance}", "kind": "diffusion", "steps": steps, "ms": steps * ms,
         "ratio": 2.0, "all": 0.5, "settings": {"guidance": guidance}}
        for guidance, ms in ((1.0, 5.0), (1.5, 9.0)) for steps in (8, 1)
    ]  # fmt: skip
    guided, plain = race_plot.series({"lanes": rows})
    assert (guided.words, plain.words) == ("diffusion, guidance 1.5", "diffusion, without guidance")
    assert [row["ms"] for row in guided.rows] == [9.0, 72.0] and [row["ms"] for row in plain.rows] == [
        5.0,
        40.0,
    ]
    assert guided.look != plain.look and guided.look["color"] == plain.look["color"]


@pytest.mark.parametrize(
    ("sides", "options", "match"),
    [
        ((), {}, "nothing to race"),
        ((64,), {"rounds": 0}, "rounds is 0"),
        ((64,), {"edits": 2}, "edits is 2: expected 4 or more"),
        ((64,), {"paths": 0}, "paths is 0"),
        ((64, 32), {}, r"several sizes \(lane 0 64 px, lane 1 32 px\)"),
    ],
)
def test_what_cannot_be_raced_is_refused_before_any_picture(judge, tmp_path, sides, options, match):
    def never(prompts, seeds):
        raise AssertionError("drawn")

    lanes = [made_up(f"lane {k}", never, kind="diffusion", side=side) for k, side in enumerate(sides)]
    with pytest.raises(WorkbenchError, match=match):
        races.race(lanes, judge, tmp_path / "race", **options)
    assert not (tmp_path / "race").exists()


def test_a_lane_that_draws_no_numbers_is_named(judge, tmp_path):
    broken = made_up("broken", lambda prompts, seeds: torch.full((len(seeds), 3, 64, 64), float("nan")))
    with pytest.raises(WorkbenchError, match=r"The lane 'broken' cannot be measured: .*not finite"):
        races.race([broken], judge, tmp_path / "race", n=4, cache=tmp_path / "cache")
    assert not (tmp_path / "race" / "race.json").exists()


def test_diffusion_lane_takes_ddim_for_one_step_and_dpm_for_more():
    model, calls = tiny_diffusion(), []
    own = type(model).__call__

    class Watched(type(model)):
        def __call__(self, *args, **options):
            calls.append((options["steps"], options["sampler"]))
            return own(self, *args, **options)

    model.__class__ = Watched
    for steps in (1, 3):
        diffusion_lane(model, steps).draw([PROMPT], [0])
    assert calls == [(1, "ddim"), (3, "dpm++")]
