"""A picture that the model drew is found again; limits hold; mistakes are refused in words."""

import json
import math
import time
from pathlib import Path

import pytest
import torch
from tiny_world_model import tiny_world_model

from workbench import cli
from workbench.datasets.world import draw_factors, render
from workbench.datasets.world.captions import named_factors
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, load_judge
from workbench.images import read_recipe, save_png
from workbench.latents import inversion
from workbench.latents.inversion import guess_prompt, invert, psnr, schedule, verdict
from workbench.latents.points import draw, points
from workbench.latents.recovery import measure_recovery
from workbench.latents.supervised import draw_sample, fit_factors
from workbench.pipeline import Pipeline

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "models" / "shepherd-64"
PROMPT = "a black shepherd sitting in the snow at night"
OTHER = "a white shepherd lying on the beach"  # told to the inversion, so that there is something to find


@pytest.fixture(scope="module")
def pipeline():
    return tiny_world_model()


@pytest.fixture(scope="module")
def picture(pipeline):
    return draw(pipeline, points(pipeline, PROMPT, 5))


@pytest.fixture(scope="module")
def found(pipeline, picture):
    return invert(pipeline, picture, prompt=OTHER, steps=60)


def test_psnr_of_known_differences():
    zero = torch.zeros(2, 3, 4, 4)
    apart = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 2.0)])
    assert psnr(zero, apart).tolist() == pytest.approx([20.0, 0.0], abs=1e-5)  # 10 log10(2² / 0.2²)
    assert psnr(zero, zero)[0] == math.inf


def test_a_picture_of_the_model_is_found_again(pipeline, picture, found):
    assert found.psnr > 28
    assert found.steps == 60 and found.prompt == OTHER and "Found" in found.verdict
    assert found.psnr == pytest.approx(psnr(found.image, picture).item())
    assert torch.equal(found.image, draw(pipeline, found.at))
    assert found.distance_name == "mini-clip feature distance"


def test_the_words_are_part_of_what_is_found(pipeline, found):
    """All sizes share one caption, t_global and the padding stay."""
    text, before = found.at.texts[0], pipeline.text(OTHER)
    assert all(other is text for other in found.at.texts)
    changed = (text.t_local != before.t_local).any(-1)
    assert torch.equal(changed, before.mask)
    assert torch.equal(text.t_global, before.t_global)


def test_the_same_input_gives_the_same_point(pipeline, picture):
    one, two = (invert(pipeline, picture, prompt=PROMPT, steps=4) for _ in range(2))
    assert torch.equal(one.at.ws, two.at.ws) and torch.equal(one.image, two.image)


def test_more_steps_come_nearer_and_nothing_is_left_on_the_weights(pipeline, picture, found):
    few = invert(pipeline, picture, prompt=OTHER, steps=10)
    assert few.psnr < found.psnr
    assert all(p.grad is None and p.requires_grad for p in pipeline.G.parameters())
    assert not found.at.ws.requires_grad and not found.at.texts[0].t_local.requires_grad


def test_the_time_ends_it_with_the_best_so_far(pipeline, picture):
    began = time.monotonic()
    stopped = invert(pipeline, picture, prompt=PROMPT, steps=1_000_000, seconds=0.5)
    assert stopped.steps < 1_000_000 and time.monotonic() - began < 30
    assert stopped.psnr > 10


def test_progress_is_told_each_step_and_can_stop_it(pipeline, picture):
    told = []

    def progress(done, total, what):
        told.append((done, total, what))
        return done < 3

    stopped = invert(pipeline, picture, prompt=PROMPT, steps=50, progress=progress)
    assert stopped.steps == 3
    assert [done for done, _, _ in told] == [0, 1, 2, 3] and told[0][1] == 50 and "dB" in told[0][2]


class Told:
    """An encoder that says a given w, and how far off it may be."""

    def __init__(self, w, reach=0.0):
        self.w, self.spread = w, reach * torch.eye(w.shape[1])

    def __call__(self, x, w_mean):
        return self.w


def test_an_encoder_gives_the_start(pipeline, picture):
    """With the very w of the picture the first look is the picture itself, and draws around take nothing."""
    w = points(pipeline, PROMPT, 5).ws[:, 0]
    for reach in (0.0, 1.0):
        exact = invert(pipeline, picture, prompt=PROMPT, steps=1, encoder=Told(w, reach))
        assert exact.start_psnr > 80 and exact.psnr > 80


def test_draws_around_an_encoder_that_errs_come_nearer(pipeline, picture):
    wrong = points(pipeline, PROMPT, 5).ws[:, 0] + 0.5
    alone, around = (
        invert(pipeline, picture, prompt=PROMPT, steps=1, encoder=Told(wrong, reach)) for reach in (0.0, 0.5)
    )
    assert around.start_psnr > alone.start_psnr + 0.5


def test_a_model_without_text_is_inverted_by_w_alone():
    unconditional = tiny_world_model(text_dim=None, cross_attention={})
    picture = unconditional("", seed=3).images
    found = invert(unconditional, picture, steps=60)
    assert found.psnr > 25 and found.prompt == "" and found.at.texts == ()


def test_the_prompt_is_guessed_for_a_model_of_the_world(pipeline):
    factors = [draw_factors(77_003, i) for i in range(6)]
    right = 0
    for one, picture in zip(factors, render(factors, 64), strict=True):
        named = named_factors(guess_prompt(pipeline, picture[None]))
        right += sum(named.get(name) == getattr(one, name) for name in FACTOR_CLASSES)
    assert right >= 22


def test_another_models_prompt_is_asked_for(picture):
    other = tiny_world_model(words=("cat", "house"))
    with pytest.raises(WorkbenchError, match="say what the picture shows"):
        invert(other, picture)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps are 0"),
        ({"steps": 2.5}, "steps are 2.5"),
        ({"seconds": 0}, "above 0"),
        ({"seconds": float("nan")}, "above 0"),
        ({"prompt": "  "}, "prompt is empty"),
    ],
)
def test_wrong_requests_are_refused_before_any_work(pipeline, picture, wrong, message):
    with pytest.raises(WorkbenchError, match=message):
        invert(pipeline, picture, **wrong)


def test_a_model_that_draws_no_numbers_is_refused(picture):
    diverged = tiny_world_model()
    with torch.no_grad():
        next(iter(diverged.G.to_rgb.values())).weight.fill_(math.nan)
    with pytest.raises(WorkbenchError, match="tiny-0 draws a picture that is not finite"):
        invert(diverged, picture, prompt="a white dog", steps=2)


def test_the_schedule_warms_up_and_ends_at_nothing():
    assert schedule(0, 100) == pytest.approx(0.1)
    assert schedule(50, 100) == pytest.approx(0.5)
    assert schedule(100, 100) == pytest.approx(0.0)


def test_verdicts_speak_by_decibels():
    assert "no difference" in verdict(34.1) and "34.1 dB" in verdict(34.1)
    assert "details" in verdict(25.0)
    assert "not learnt" in verdict(19.0)


def test_recovery_states_pictures_and_renders(pipeline):
    result = measure_recovery(pipeline, n=1, steps=3)
    assert {"generated_psnr", "renders_psnr", "generated_share_30", "renders_seconds"} <= set(result)
    assert result["generated_start_psnr"] <= result["generated_psnr"] and result["encoder"] is False
    assert result["n"] == 1 and result["generated_steps"] == 3
    with pytest.raises(WorkbenchError, match="n is 0"):
        measure_recovery(pipeline, n=0)


def test_the_command_writes_both_pictures(pipeline, picture, tmp_path, capsys):
    model, given, out = pipeline.save_pretrained(tmp_path / "model"), tmp_path / "a.png", tmp_path / "out"
    save_png(picture, given)
    words = ["invert", str(given), "--model", str(model), "--out", str(out), "--steps", "2", "--json"]
    assert cli.main([*words, "--prompt", PROMPT]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 2 and said["prompt"] == PROMPT and said["psnr"] > 0
    assert (out / "original.png").read_bytes() and read_recipe(out / "inverted.png") is None
    given.write_text("no picture")
    assert cli.main(words) == 2
    assert "no picture" in capsys.readouterr().err


def test_directions_work_on_what_was_found():
    """The shipped model: one of its pictures, found without its prompt, moves to another scene and light."""
    model = Pipeline.from_pretrained(SHIPPED, device="cpu")
    judge = load_judge(device="cpu")
    picture = draw(model, points(model, "a black shepherd sitting on the beach in daylight", 4))
    found = invert(model, picture, steps=20)
    assert found.psnr > 26
    before = judge.predict(found.image)
    sample = draw_sample(model, 150)
    moves = {one.name: one for one in fit_factors(model, sample, sample)}
    for name, others in (("scene: snow", ("coat", "pose")), ("light: night", ("coat", "pose", "scene"))):
        after = judge.predict(draw(model, moves[name].at(found.at, 1.0)))
        factor, value = name.split(": ")
        wanted = FACTOR_CLASSES[factor].index(value)
        assert before[factor] != wanted and after[factor] == wanted
        assert all(after[other] == before[other] for other in others)


def test_captions_are_read_once():
    assert inversion._reader() is inversion._reader()
