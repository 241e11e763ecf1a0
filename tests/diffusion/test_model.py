"""A diffusion model called as a Pipeline is: seeds, batches, guidance, what a step shows, refusals."""

import pytest
import torch
from tiny_diffusion import tiny_diffusion

from workbench.diffusion import schedule
from workbench.diffusion.conditioning import Condition, guided, predict
from workbench.diffusion.sampling import draw
from workbench.errors import WorkbenchError

PROMPT = "a black shepherd sitting on the beach at sunset"


@pytest.fixture(scope="module")
def model():
    return tiny_diffusion()


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_a_seed_gives_the_same_bits_alone_and_in_company(model, sampler):
    alone = model(PROMPT, seed=11, steps=3, sampler=sampler)
    among = model([PROMPT, "a dog", PROMPT], seed=[4, 5, 11], steps=3, sampler=sampler)
    assert torch.equal(among.images[2], alone.images[0])
    assert not torch.equal(among.images[0], alone.images[0])
    batched = model([PROMPT, "a dog", PROMPT], seed=[4, 5, 11], steps=3, sampler=sampler, batch_size=3)
    assert (batched.images - among.images).abs().max() < 1e-3
    assert alone.images.shape == (1, 3, 16, 16) and alone.images.abs().max() <= 1


def test_steps_are_shown_and_end_in_the_picture(model):
    seen = []
    made = model(PROMPT, seed=3, steps=4, on_step=seen.append)
    assert [(s.index, s.steps, s.t) for s in seen] == [
        (k, 4, t) for k, t in enumerate(schedule.ladder(4)[:-1])
    ]
    assert torch.equal(seen[-1].x.clamp(-1, 1), made.images)
    assert all(s.x0.abs().max() <= 1 for s in seen)


def test_watching_changes_nothing(model):
    watched = model(PROMPT, seed=3, steps=2, on_step=lambda step: None)
    assert torch.equal(watched.images, model(PROMPT, seed=3, steps=2).images)


def test_a_watcher_may_stop_it(model):
    class Enough(Exception):
        pass

    calls = []

    def stop(step):
        calls.append(step.index)
        if step.index == 1:
            raise Enough

    with pytest.raises(Enough):
        model(PROMPT, steps=10, on_step=stop)
    assert calls == [0, 1]


def test_one_ddim_step_is_the_formula(model):
    """From pure noise, x_0 = -v, guided: -(v_0 + g (v_c - v_0))."""
    x, end = schedule.start_noise([9], 16), torch.tensor([schedule.T - 1])
    told, nothing = model.condition(PROMPT), model.condition("")
    with torch.no_grad():
        with_words = predict(model.unet, x, end, told)
        without = predict(model.unet, x, end, nothing)
    wanted = -(without + 3.0 * (with_words - without)).clamp(-1, 1)
    made = model(PROMPT, seed=9, steps=1, guidance=3.0).images
    assert (made - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
@pytest.mark.parametrize("steps", [16, 50, 61, 122, 350])
def test_every_number_of_steps_is_walked_to_the_end(sampler, steps):
    """With the exact denoiser of pixels that are N(0, 0.3²), pictures have that deviation, whether or not T
    divides by the number of steps.
    """
    spread, times = 0.3, []

    def exact(x, t):
        times.append(int(t[0]))
        alpha, sigma = schedule.shares(t, x)
        x0 = alpha * spread**2 / (alpha.square() * spread**2 + sigma.square()) * x
        return (alpha * x - x0) / sigma

    made = draw(exact, range(8), 32, sampler=sampler, steps=steps)
    assert times == schedule.ladder(steps)[:-1] and len(times) == steps
    assert made.std().item() == pytest.approx(spread, abs=0.05 if steps < 50 else 0.015)


def test_guidance_one_is_the_caption_and_zero_is_none(model):
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([500, 40])
    told, nothing = model.condition(PROMPT).repeated(2), model.condition("")
    with torch.no_grad():
        assert torch.equal(guided(model.unet, x, t, told, nothing, 1.0), predict(model.unet, x, t, told))
        none = predict(model.unet, x, t, nothing.repeated(2))
        assert (guided(model.unet, x, t, told, nothing, 0.0) - none).abs().max() < 1e-5


def test_words_behind_the_end_are_not_read(model):
    told = model.condition("a dog")
    assert told.mask.sum() < told.mask.numel()
    changed = Condition(torch.where(told.mask[..., None], told.tokens, 9.0), told.mask, told.embedding)
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([300])
    with torch.no_grad():
        assert torch.equal(predict(model.unet, x, t, changed), predict(model.unet, x, t, told))


def test_captions_are_dropped_by_row(model):
    told, nothing = model.condition(PROMPT).repeated(3), model.condition("")
    kept = told.replaced(torch.tensor([False, True, False]), nothing)
    assert torch.equal(kept.tokens[1], nothing.tokens[0]) and torch.equal(kept.tokens[0], told.tokens[0])
    assert torch.equal(kept.mask[1], nothing.mask[0])


def test_the_recipe_says_how(model):
    (recipe,) = model(PROMPT, seed=5, steps=2, guidance=1.5, sampler="dpm++").recipes
    assert (recipe["kind"], recipe["steps"], recipe["guidance"], recipe["sampler"]) == (
        "diffusion",
        2,
        1.5,
        "dpm++",
    )
    assert recipe["weight_hash"] == model.weight_hash and recipe["promise"] == "identical"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"sampler": "euler"}, "expected ddim or dpm"),
        ({"sampler": "consistency"}, "expected ddim or dpm"),
        ({"guidance": -1}, "guidance is -1"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "negative"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_refusals(model, options, match):
    with pytest.raises(WorkbenchError, match=match):
        model(PROMPT, **options)


def test_an_empty_prompt_is_refused_and_an_unknown_word_named(model):
    with pytest.raises(WorkbenchError, match="is empty"):
        model(" ")
    assert "zebra" in " ".join(model("a zebra", steps=1).warnings)


def test_half_the_bits_are_near_and_come_back_as_float32(model):
    """bf16 autocast as training uses it where the machine is faster so: 8 bits of mantissa."""
    x, t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500, 40])
    told = model.condition(PROMPT).repeated(2)
    with torch.no_grad():
        exact, half = (predict(model.unet, x, t, told, precision) for precision in ("fp32", "bf16"))
    assert half.dtype == torch.float32 and not torch.equal(half, exact)
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()
