"""The pipeline: one seed, one picture; truncation; refusals before any work."""

import hashlib

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models.generator import Generator
from workbench.models.presets import preset
from workbench.noise import MAX_SEED, draw_z
from workbench.pipeline import Pipeline, check_count, check_truncation

PROMPTS = [
    "a white dog in snow",
    "black shepherd sitting",
    "a dog at night",
    "white shepherd standing on the beach",
]


# --- one seed, one picture ---


def test_the_pipeline_is_the_generator(pipe):
    """At truncation 1 it draws G(z, c) and nothing else."""
    with torch.no_grad():
        expected = pipe.G(draw_z([5], pipe.G.config.z_dim), pipe.text_encoder([PROMPTS[0]]))[0].clamp(-1, 1)
    samples = pipe(PROMPTS[0], seed=5)
    assert torch.equal(samples.images, expected)
    assert samples.images.shape == (1, 3, 16, 16) and samples.images.dtype == torch.float32
    assert samples.images.std() > 0.05  # a picture, not a plain surface


@pytest.mark.parametrize("truncation", [1.0, 0.7])
def test_identical_bits_alone_or_among_fifty(pipe, truncation):
    prompts = [PROMPTS[k % 4] for k in range(50)]
    crowd = pipe(prompts, seed=100, truncation=truncation)
    for k in (0, 1, 17, 49):
        alone = pipe(prompts[k], seed=100 + k, truncation=truncation)
        assert torch.equal(alone.images[0], crowd.images[k]), k
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = pipe([prompts[k] for k in order], seed=[100 + k for k in order], truncation=truncation)
    assert torch.equal(shuffled.images, crowd.images[order])


def test_identical_bits_at_the_shipped_size(text_encoder):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipe = Pipeline(Generator(preset("shepherd-64").generator).eval(), text_encoder)
    crowd = pipe(PROMPTS[0], seed=3, count=5, truncation=0.8)
    assert torch.equal(pipe(PROMPTS[0], seed=6, truncation=0.8).images[0], crowd.images[3])
    close = pipe(PROMPTS[0], seed=3, count=5, truncation=0.8, batch_size=4)
    assert (close.images - crowd.images).abs().max() < 1e-3
    assert {r["promise"] for r in crowd.recipes} == {"identical"}
    assert {r["promise"] for r in close.recipes} == {"close"}


def test_bigger_batches_are_close(pipe):
    prompts = [PROMPTS[k % 4] for k in range(10)]
    one, four = pipe(prompts, truncation=0.6), pipe(prompts, truncation=0.6, batch_size=4)
    assert (one.images - four.images).abs().max() < 1e-4


def test_picture_k_has_seed_plus_k_and_prompts_come_in_order(pipe):
    samples = pipe(PROMPTS[:2], seed=10, count=3)
    assert samples.seeds == [10, 11, 12, 13, 14, 15] and len(samples) == 6
    assert samples.prompts == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
    assert torch.equal(pipe(PROMPTS[1], seed=14).images[0], samples.images[4])


def test_a_list_of_seeds(pipe):
    same_noise = pipe(PROMPTS[:2], seed=[7, 7])
    assert same_noise.seeds == [7, 7] and not torch.equal(same_noise.images[0], same_noise.images[1])
    one_prompt = pipe(PROMPTS[0], seed=[9, 7, 9])
    assert one_prompt.prompts == [PROMPTS[0]] * 3
    assert torch.equal(one_prompt.images[0], one_prompt.images[2])
    assert torch.equal(one_prompt.images[1], same_noise.images[0])


def test_pictures_can_be_differentiated_through_and_leave_no_trace(pipe):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    images = pipe(PROMPTS[0]).images
    assert torch.equal(torch.random.get_rng_state(), before)
    scale = torch.ones(1, requires_grad=True)
    (images * scale).sum().backward()  # an inference tensor would refuse this
    assert torch.isfinite(scale.grad).all()
    assert all(p.grad is None for p in pipe.G.parameters())


# --- truncation ---


def test_truncation_is_a_lerp_towards_the_prompts_mean(pipe):
    z = draw_z([4], pipe.G.config.z_dim)
    with torch.no_grad():
        text = pipe.G.encode_text(pipe.text_encoder([PROMPTS[0]]))
        w = pipe.G.mapping(z, text.t_global)
        sixteen = draw_z(range(16), pipe.G.config.z_dim, stream=1)
        mean = pipe.G.mapping(sixteen, text.t_global.expand(16, -1)).mean(0, keepdim=True)
        expected = pipe.G.synthesis(mean + 0.7 * (w - mean), text)[0].clamp(-1, 1)
    assert torch.allclose(pipe(PROMPTS[0], seed=4, truncation=0.7).images, expected, atol=1e-5)
    assert torch.allclose(pipe.w_mean(PROMPTS[0]), mean)


def test_truncation_zero_forgets_the_seed_but_not_the_prompt(pipe):
    typical = pipe(PROMPTS[:2], seed=[1, 1], truncation=0)
    other = pipe(PROMPTS[:2], seed=[2, 2], truncation=0)
    assert torch.equal(typical.images, other.images)
    assert not torch.equal(typical.images[0], typical.images[1])


def test_less_truncation_less_variety(pipe):
    spread = [
        pipe(PROMPTS[0], count=12, truncation=t).images.std(0).mean().item() for t in (0, 0.4, 0.8, 1.2)
    ]
    assert spread[0] == 0 and spread == sorted(spread)


# --- the cache ---


def test_a_trained_generator_never_gets_a_stale_prompt(pipe, text_encoder):
    first = pipe(PROMPTS[0], truncation=0.5)
    with torch.no_grad():
        for parameter in pipe.G.parameters():
            parameter.mul_(1.1)
    fresh = Pipeline(pipe.G, text_encoder, pipe.card)(PROMPTS[0], truncation=0.5)
    again = pipe(PROMPTS[0], truncation=0.5)
    assert torch.equal(again.images, fresh.images) and not torch.equal(again.images, first.images)
    assert (
        again.recipes[0]["weight_hash"] == fresh.recipes[0]["weight_hash"] != first.recipes[0]["weight_hash"]
    )


def test_weights_written_through_data_are_told_by_hash_and_picture(pipe, text_encoder):
    """An EMA loop over `p.data` leaves torch's count of writes as it is."""
    before = pipe(PROMPTS[0], truncation=0.5)
    for parameter in pipe.G.parameters():
        parameter.data.lerp_(torch.ones_like(parameter), 0.1)
    after = pipe(PROMPTS[0], truncation=0.5)
    fresh = Pipeline(pipe.G, text_encoder, pipe.card)(PROMPTS[0], truncation=0.5)
    assert torch.equal(after.images, fresh.images) and not torch.equal(after.images, before.images)
    hashes = [samples.recipes[0]["weight_hash"] for samples in (before, after, fresh)]
    assert hashes[0] != hashes[1] == hashes[2]


def test_a_pipeline_made_in_inference_mode_draws_the_same(folder):
    expected = Pipeline.from_pretrained(folder, device="cpu")(PROMPTS[0], truncation=0.5)
    with torch.inference_mode():
        made = Pipeline.from_pretrained(folder, device="cpu")
        inside = made(PROMPTS[0], truncation=0.5)
    for samples in (inside, made(PROMPTS[0], truncation=0.5)):
        assert torch.equal(samples.images, expected.images)
        assert samples.recipes[0]["weight_hash"] == expected.recipes[0]["weight_hash"]


def test_many_prompts_stay_within_the_cache(pipe):
    prompts = [f"white dog {'very ' * k}" for k in range(15)] + [f"black dog {k}" for k in range(130)]
    first = pipe(prompts[0]).images
    for prompt in prompts:
        pipe.text(prompt)
    assert len(pipe._cache) == 128
    assert torch.equal(pipe(prompts[0]).images, first)


# --- recipes ---


def test_recipes_say_what_made_each_picture(pipe):
    samples = pipe(PROMPTS[:2], seed=3, truncation=0.8)
    first, second = samples.recipes
    assert (first["prompt"], first["seed"], first["index"]) == (PROMPTS[0], 3, 0)
    assert (second["prompt"], second["seed"], second["index"]) == (PROMPTS[1], 4, 1)
    assert first["truncation"] == 0.8 and first["size"] == [16, 16] and first["model"] == "tiny"
    noise = draw_z([4], pipe.G.config.z_dim).numpy()
    assert second["noise_hash"] == hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest()
    assert first["versions"]["torch"] and first["promise"] == "identical" and first["device"] == "cpu"


def test_the_recorded_prompt_is_the_one_that_was_read(pipe):
    samples = pipe("  white\n🐕 dog zebra ")
    assert samples.recipes[0]["prompt"] == samples.prompts[0] == "white dog zebra"
    assert len(samples.warnings) == 2
    assert torch.equal(pipe("white dog zebra").images, samples.images)


def test_warnings_come_once(pipe):
    assert len(pipe(["a zebra", "a zebra", "zebra dog"], count=4).warnings) == 1


# --- refusals ---


@pytest.mark.parametrize("count", [0, -1, 1001, 10_000, 1.0, True, "3", None, float("nan")])
def test_counts_are_refused(pipe, count):
    with pytest.raises(WorkbenchError, match=r"The count is .*: expected a whole number from 1 to 1,000"):
        pipe(PROMPTS[0], count=count)


def test_the_app_sets_its_own_limit():
    assert check_count(64, limit=64) == 64
    with pytest.raises(WorkbenchError, match="The count is 65: expected a whole number from 1 to 64"):
        check_count(65, limit=64)


@pytest.mark.parametrize("truncation", [-0.01, 1.51, float("nan"), float("inf"), "1", None, True, 10**400])
def test_truncations_are_refused(pipe, truncation):
    with pytest.raises(WorkbenchError, match="The truncation is") as caught:
        pipe(PROMPTS[0], truncation=truncation)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("truncation", [0, 1, 1.5, np.float64(0.5)])
def test_truncations_are_accepted(truncation):
    assert check_truncation(truncation) == float(truncation)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.5, float("nan"), "7", None, True, [1.5], [-1]])
def test_seeds_are_refused(pipe, seed):
    with pytest.raises(WorkbenchError, match="The seed"):
        pipe(PROMPTS[0], seed=seed)


def test_seeds_that_run_over_are_refused(pipe):
    assert pipe(PROMPTS[0], seed=MAX_SEED).seeds == [MAX_SEED]
    with pytest.raises(WorkbenchError, match="go beyond the largest seed"):
        pipe(PROMPTS[0], seed=MAX_SEED, count=2)


@pytest.mark.parametrize(("seeds", "count"), [([1, 2, 3], 1), ([1, 2], 2), ([], 1)])
def test_seed_lists_of_the_wrong_length_are_refused(pipe, seeds, count):
    with pytest.raises(WorkbenchError, match="give one seed for each picture"):
        pipe(PROMPTS[:2], seed=seeds, count=count)


@pytest.mark.parametrize("prompts", ["", [], [""], ["dog", ""], None, 5, [["dog"]], ["dog", None]])
def test_prompts_are_refused(pipe, prompts):
    with pytest.raises(WorkbenchError, match="prompt"):
        pipe(prompts)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None])
def test_batch_sizes_are_refused(pipe, batch_size):
    with pytest.raises(WorkbenchError, match="batch_size"):
        pipe(PROMPTS[0], batch_size=batch_size)


def test_parts_of_different_models_are_refused(text_encoder, make_generator):
    with pytest.raises(WorkbenchError, match="width 64, the text encoder gives 128"):
        Pipeline(make_generator(text_dim=64), text_encoder)


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99", "cpu:x"])
def test_unusable_devices_are_refused(folder, device):
    with pytest.raises(WorkbenchError, match="device"):
        Pipeline.from_pretrained(folder, device=device)
