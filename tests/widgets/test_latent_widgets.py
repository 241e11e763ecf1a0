"""Parts of the notebook on the latent space: by what the shipped model shows, by identities, by refusals."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.evaluation.features import load_judge
from workbench.images import open_picture, read_recipe, to_uint8
from workbench.latents.captions import read
from workbench.latents.directions import Direction, Effect, Move
from workbench.latents.edits import Edit, of_recipe
from workbench.latents.layers import RANGES, layers
from workbench.latents.paths import Key
from workbench.latents.points import draw, points
from workbench.latents.store import save_directions
from workbench.pipeline import Pipeline
from workbench.widgets import latents, steering
from workbench.widgets.latent_exercises import ask, check
from workbench.widgets.pictures import Picture
from workbench.widgets.profile import ASSETS
from workbench.widgets.sliders import Sliders

BLACK, WHITE = (f"a {coat} shepherd lying in the snow by day" for coat in ("black", "white"))


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained(ASSETS / "models" / "shepherd-64", device="cpu")


@pytest.fixture(scope="module")
def judge():
    return load_judge()


def step(pipe: Pipeline, name: str = "up", **kw) -> Direction:
    """A direction of w that adds a little to every number."""
    vector = torch.full((pipe.G.config.w_dim,), 0.05)
    every = tuple(range(pipe.G.num_ws))
    return Direction(name=name, source="supervised", layers=every, w=Move(vector=vector), **kw)


# --- reading ---


def test_the_judge_names_what_a_prompt_says(pipe, judge):
    pictures = draw(pipe, points(pipe, BLACK, range(4)))
    assert latents.named(judge, pictures, coat="black", scene="snow") >= 0.75
    assert latents.named(judge, pictures, coat="white") == 0
    assert latents.seen(judge, pictures).startswith("black lying in the snow by day (")


def test_the_difference_is_on_the_scale_of_pixels():
    black, white = -torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert latents.difference(black, white) == 255
    assert latents.difference(white, white) == 0


def test_figures_are_stated_by_their_ids_and_missing_ones_are_said():
    figures = {"edit.coat.target": {"value": 0.981, "unit": "share", "n": 200, "goal": ">= 0.9"}}
    assert latents.stated(figures, "edit.") == "edit.coat.target: 0.981 share, n = 200, goal >= 0.9"
    assert latents.stated(figures, "path.") == "figures.json states nothing yet under 'path.'"


# --- points ---


def test_a_swap_takes_one_way_of_the_prompt_at_a_time(pipe, judge):
    ways = latents.swapped(pipe, BLACK, WHITE, range(2))
    old, new = points(pipe, BLACK, range(2)), points(pipe, WHITE, range(2))
    assert torch.equal(ways["w alone"].ws, new.ws)
    assert torch.equal(ways["w alone"].texts[0].t_local, old.texts[0].t_local)
    assert torch.equal(ways["words alone"].ws, old.ws)
    assert torch.equal(ways["words alone"].texts[0].t_local, new.texts[0].t_local)
    shares = {way: latents.named(judge, draw(pipe, at), coat="white") for way, at in ways.items()}
    assert shares == {"before": 0, "w alone": 0, "words alone": 1, "both": 1}


def test_a_prompt_without_marks_is_the_plain_one(pipe):
    spoken, plain = latents.spoken(pipe, BLACK, [3, 4]), points(pipe, BLACK, [3, 4])
    assert torch.equal(spoken.ws, plain.ws)
    assert torch.equal(draw(pipe, spoken, batch_size=1), draw(pipe, plain, batch_size=1))


def test_covered_rows_are_those_of_the_word_or_of_all_after_it(pipe):
    length = int(read(pipe, BLACK).mask.sum())
    word, after = (latents.covered(pipe, BLACK, "black", [0], what=what) for what in latents.COVERS)
    silent = [(at.texts[0].prior[0, :length] == 0).nonzero()[:, 0].tolist() for at in (word, after)]
    assert silent == [[2], list(range(2, length))]
    with pytest.raises(WorkbenchError, match="has no word 'purple'"):
        latents.covered(pipe, BLACK, "purple", [0])


def test_every_layer_stands_in_the_table(pipe):
    page = latents.layer_table(pipe.G).markdown
    assert sum(page.count(role) for role in ("conv", "rgb", "attention")) == len(layers(pipe.G))
    assert f"to {pipe.G.num_ws - 1} |" in page


def test_places_are_spread_from_first_to_last():
    assert latents.spread_out(60, 3) == [0, 30, 59]
    assert latents.spread_out(2, 7) == [0, 1]


# --- pictures ---


@pytest.mark.parametrize("which", RANGES)
def test_a_mixing_table_has_room_for_both_heads(pipe, which):
    sources, styles = points(pipe, BLACK, [1, 2]), points(pipe, WHITE, [1, 2, 3])
    shown = latents.mixing_table(pipe, sources, styles, which, "two sources, three styles")
    cell = 30 + 2
    assert shown.image.size == (4 * cell - 2, 3 * cell - 2)
    assert shown.image.getpixel((5, 5)) == (255, 255, 255)


def test_a_strip_stands_still_at_zero(pipe):
    at = points(pipe, BLACK, 1)
    shown = latents.strength_strips(pipe, {"up": (step(pipe), at)}, (0, 0), "one dog twice over")
    left = shown.image.width - 2 * latents.SIDE - 2
    top = shown.image.height - latents.SIDE
    twice = [shown.image.crop((x, top, x + latents.SIDE, top + latents.SIDE))
             for x in (left, left + latents.SIDE + 2)]  # fmt: skip
    assert twice[0].tobytes() == twice[1].tobytes()


def test_plots_are_drawn_and_small():
    steps = {"before": torch.tensor([1.0, 5.0]), "after": torch.tensor([3.0, 3.0])}
    assert len(latents.speed_plot(steps, "steps before and after").data()) < 15_000
    assert (
        len(latents.share_plot((0, 1), {"a": (0, 1), "b": (1, 0)}, "two crossing lines", x="k").data())
        < 15_000
    )


# --- directions ---


def test_directions_ship_or_are_fitted_and_it_is_said_which(pipe, tmp_path):
    fitted, said = steering.directions_of(tmp_path, pipe, n=60)
    assert "fitted here to 60 captions" in said
    assert steering.by_name(fitted, "coat: white").target == "coat"
    save_directions(tmp_path, fitted[:2], pipe)
    shipped, said = steering.directions_of(tmp_path, pipe)
    assert said == "2 directions, as they ship with the model"
    assert [d.name for d in shipped] == [d.name for d in fitted[:2]]


def test_a_name_that_no_direction_has_is_refused_with_those_there_are(pipe):
    with pytest.raises(WorkbenchError, match="There is no direction 'down': up"):
        steering.by_name([step(pipe)], "down")


def test_the_table_of_effects_shows_measured_directions_alone(pipe):
    effect = Effect(n=40, strength=1.0, reached=0.925, leaked=0.05, drift={"azimuth_deg": 7.4})
    page = steering.effects_table([step(pipe), step(pipe, "down").with_effect(effect)]).markdown
    assert "| down | supervised | 92% | 5% | 7° | 40 |" in page
    assert "| up |" not in page
    assert steering.effects_table([step(pipe)]).plain == "None of these directions was measured yet."


def test_the_surest_directions_come_first(pipe):
    sure, unsure = (Effect(n=4, strength=1.0, reached=share, leaked=0.0) for share in (0.9, 0.2))
    found = [step(pipe, "a"), step(pipe, "b").with_effect(unsure), step(pipe, "c").with_effect(sure)]
    assert steering.sliding(found) == ["c", "b", "a"]
    assert steering.ranges(found, ["a"]) == {"a": (-3.0, 3.0, 0.0)}


def test_sliders_move_one_point_along_several_directions_while_they_are_dragged(pipe, tmp_path):
    at, found = points(pipe, BLACK, 1), [step(pipe, "a: b"), step(pipe, "c")]
    mixer, keep = steering.mixer(pipe, found, ["a: b", "c"], at), steering.Keeper(tmp_path / "kept", pipe)
    edit = Edit(first=Key(BLACK, 1), second=Key(BLACK, 1))
    save = {"Save picture": lambda **strengths: keep.picture(edit, found, **strengths)}
    ranges = steering.ranges(found, ["a: b", "c"])
    sliders = Sliders(
        mixer, Picture(Image.new("RGB", (8, 8)), "a still square"), live=True, buttons=save, **ranges
    )
    assert all(control.continuous_update for control in sliders.controls.values())
    before = sliders.picture.value
    sliders.controls["a: b"].value = 3.0
    assert sliders.picture.value != before
    for _ in range(2):
        sliders.buttons["Save picture"].click()
    assert sliders.problem.value == f"saved: {tmp_path / 'kept' / 'picture-002.png'}"
    kept = tmp_path / "kept" / "picture-001.png"
    again = of_recipe(read_recipe(kept))
    assert again.directions == (("a: b", 3.0), ("c", 0.0))
    with open_picture(kept) as picture:
        drawn = to_uint8(draw(pipe, found[0].at(at, 3.0), batch_size=1))[0]
        assert (np.asarray(picture.convert("RGB")) == drawn).all()


def test_a_walk_is_kept_as_a_film_and_a_refusal_is_said(pipe, tmp_path):
    keep = steering.Keeper(tmp_path, pipe)
    assert keep.film(torch.rand(3, 3, 8, 8) * 2 - 1).name == "picture-001.gif"
    still = Picture(Image.new("RGB", (8, 8)), "a still square")
    save = {"Save GIF": lambda t: keep.film(torch.zeros(1, 3, 8, 8))}
    sliders = Sliders(lambda t: still, still, buttons=save, t=(0.0, 1.0, 0.5))
    sliders.buttons["Save GIF"].click()
    assert "A film needs two frames" in sliders.problem.value
    assert not sliders.controls["t"].continuous_update


# --- exercises ---

ON_PAPER = {"l1": "black", "l2": math.sqrt(0.5), "l3": 2 / 3, "l4": 7, "l5": 1}


@pytest.mark.parametrize("key", ON_PAPER)
def test_the_answer_on_paper_is_right_and_dots_are_not(key):
    assert ask(key).endswith("?")
    assert check(key, ON_PAPER[key]).word == "right"
    assert check(key, ...).word == "not yet"


@pytest.mark.parametrize(
    ("key", "answer", "reason"),
    [
        ("l1", "white", "w alone changes no coat"),
        ("l2", 1.0, "slerp keeps"),
        ("l2", 0.5, "each of its two numbers"),
        ("l3", 1 / 3, "in equal times"),
        ("l3", 5 / 6, "third frame"),
        ("l4", 2, "sizes"),
        ("l5", 3, "how many terms"),
        ("l5", 0, "first term has a plus"),
    ],
)
def test_a_near_miss_is_told_what_went_astray(key, answer, reason):
    verdict = check(key, answer)
    assert (verdict.word, reason in verdict.text) == ("nearly", True)
