"""The upscaler: one seed one picture, any size, prompts, noise, its model folder, and refusals in words."""

import json
import shutil
import threading

import pytest
import torch
from tiny_upsampler import smooth_pictures, tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.pipeline import Pipeline, Stopped, Upscaler
from workbench.pipeline.inputs import add_noise
from workbench.recipe import decode, encode, plain_line

PROMPT = "white shepherd sitting snow"


@pytest.fixture
def low():
    return smooth_pictures(3, 20, 28)


# --- pictures ---


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (20, 28), (33, 8)])
def test_any_size_becomes_exactly_factor_times_as_large(text_encoder, factor, size):
    up = Upscaler(tiny_upsampler(factor), text_encoder)
    made = up(smooth_pictures(1, *size), PROMPT).images
    assert made.shape == (1, 3, factor * size[0], factor * size[1])
    assert made.dtype == torch.float32 and made.abs().max() <= 1 and torch.isfinite(made).all()


def test_one_seed_one_picture_alone_or_in_company(up, low):
    together = up(low, PROMPT, seed=7, noise=0.2)
    for k in range(3):
        alone = up(low[k : k + 1], PROMPT, seed=7 + k, noise=0.2)
        assert torch.equal(alone.images[0], together.images[k])
        assert alone.recipes[0] | {"index": k} == together.recipes[k]
    assert together.seeds == [7, 8, 9]
    assert torch.equal(up(low[:1], PROMPT, seed=[8]).images, up(low[:1], PROMPT, seed=8).images)


def test_seed_prompt_and_noise_each_change_the_picture(up, low):
    first = up(low[:1], PROMPT, seed=1).images
    assert not torch.equal(first, up(low[:1], PROMPT, seed=2).images)
    assert not torch.equal(first, up(low[:1], "black dog standing beach", seed=1).images)
    assert not torch.equal(first, up(low[:1], PROMPT, seed=1, noise=0.1).images)


def test_batches_and_tiles_are_close_and_say_so(up, low):
    exact = up(low, PROMPT)
    assert {recipe["promise"] for recipe in exact.recipes} == {"identical"}
    for changed in (up(low, PROMPT, batch_size=2), up(low, PROMPT, tile=16)):
        assert (changed.images - exact.images).abs().max() < 1e-5
        assert {recipe["promise"] for recipe in changed.recipes} == {"close"}


def test_the_noise_on_the_input_is_the_seeds_own_and_as_strong_as_asked():
    low = torch.zeros(2, 3, 130, 90)
    noisy = add_noise(low, [5, 6], 0.25)
    assert abs(noisy.std().item() - 0.25) < 0.005 and abs(noisy.mean().item()) < 0.005
    assert torch.equal(noisy[1:], add_noise(low[1:], [6], 0.25))
    assert not torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0, :, :64], noisy[0, :, 64:128])
    assert add_noise(low, [5, 6], 0.0) is low


def test_large_inputs_are_tiled_and_the_recipe_says_how(up):
    low = smooth_pictures(1, 40, 100)
    whole = up(low, PROMPT)
    up.trunk_bytes = 32 * 32 * 8 * 8 * 4
    tiled = up(low, PROMPT)
    assert "tile" not in whole.recipes[0] and tiled.recipes[0]["tile"] == 32
    assert tiled.images.shape == whole.images.shape and torch.isfinite(tiled.images).all()


def test_progress_counts_every_piece_and_stop_ends_between_two(up, low):
    told = []
    up(low, PROMPT, tile=16, progress=lambda done, total: told.append((done, total)))
    assert told == [(k + 1, 12) for k in range(12)]
    event = threading.Event()

    def stop_soon(done, total):
        if done == 2:
            event.set()

    with pytest.raises(Stopped, match="after 2 of 12"):
        up(low, PROMPT, tile=16, progress=stop_soon, stop=event)
    with pytest.raises(Stopped, match="after 1 of 12"):
        up(low, PROMPT, tile=16, stop=lambda: True)
    assert len(up(low[:1], PROMPT, stop=lambda: True)) == 1  # what is whole is given


# --- prompts ---


def test_without_a_prompt_the_neutral_one_is_read_and_said(up, low):
    made = up(low, "")
    assert made.prompts == ["a dog"] * 3 and "reads “a dog”" in made.warnings[0]
    assert torch.equal(made.images, up(low, "a dog").images)
    up.card["neutral_prompt"] = "white dog"
    assert up(low[:1]).prompts == ["white dog"]


def test_unknown_words_are_named(up, low):
    made = up(low[:1], "white zebra")
    assert any("zebra" in warning for warning in made.warnings)


def test_each_picture_may_have_a_prompt_of_its_own(up, low):
    made = up(low, [PROMPT, "black dog", ""], seed=3)
    assert made.prompts == [PROMPT, "black dog", "a dog"]
    assert torch.equal(made.images[1:2], up(low[1:2], "black dog", seed=4).images)


def test_a_model_without_text_ignores_prompts_aloud(low):
    bare = Upscaler(tiny_upsampler(text_dim=None, cross_attention={}, text_layers=0), None)
    made = bare(low, PROMPT)
    assert made.prompts == [""] * 3 and "ignored" in made.warnings[0]
    assert torch.equal(made.images, bare(low).images) and bare(low).warnings == []


# --- refusals ---


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(1, 3, 0, 4), r"\[1, 3, 0, 4\]: expected a tensor"),
        (torch.zeros(0, 3, 4, 4), "expected a tensor"),
        (torch.zeros(3, 4, 4), "expected a tensor"),
        (torch.zeros(1, 4, 4, 4), "expected a tensor"),
        ("picture.png", "are str: expected a tensor"),
        (torch.full((1, 3, 4, 4), float("nan")), "NaN"),
        (
            torch.zeros(1, 3, 1, 1).expand(1, 3, 4000, 4000),
            "16000 × 16000 px at factor 4, which take 3.6 GiB",
        ),
        (torch.zeros(1, 3, 1, 1).expand(1, 3, 1, 20_000), "at most 64 million pixels and 65535 a side"),
    ],
)
def test_pictures_that_are_none_or_too_large_are_refused(up, images, words):
    with pytest.raises(WorkbenchError, match=words):
        up(images, PROMPT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"noise": 0.5}, "expected a deviation of 0"),
        ({"noise": -0.1}, "expected a deviation"),
        ({"noise": float("nan")}, "expected a deviation"),
        ({"noise": True}, "expected a deviation"),
        ({"seed": -1}, "negative"),
        ({"seed": [1, 2]}, "2 seeds for 3 pictures"),
        ({"seed": 2**63 - 1}, "go beyond the largest seed"),
        ({"prompts": ["a", "b"]}, "2 prompts for 3 pictures"),
        ({"prompts": [1, 2, 3]}, "not a text"),
        ({"tile": 3}, "at least 16"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(up, low, settings, words):
    with pytest.raises(WorkbenchError, match=words):
        up(low, **{"prompts": PROMPT, **settings})


def test_parts_of_different_models_are_refused(text_encoder):
    with pytest.raises(WorkbenchError, match="different models"):
        Upscaler(tiny_upsampler(text_dim=64), text_encoder)
    with pytest.raises(WorkbenchError, match="different models"):
        Upscaler(tiny_upsampler(), None)


# --- the model folder ---


def test_a_saved_model_draws_the_same(up, low, up_folder):
    assert sorted(entry.name for entry in up_folder.iterdir()) == [
        "README.md", "config.json", "text_encoder", "upsampler.safetensors",
    ]  # fmt: skip
    read = Upscaler.from_pretrained(up_folder, device="cpu")
    again = Upscaler.from_pretrained(read.save_pretrained(up_folder.with_name("again")), device="cpu")
    a, b = read(low, PROMPT, seed=3), again(low, PROMPT, seed=3)
    assert torch.equal(a.images, b.images)
    assert read.weight_hash == again.weight_hash and read.config_hash == up.config_hash
    assert (read.factor, read.name, read.neutral_prompt) == (4, "tiny-up4", "a dog")
    assert read.weight_hash != up.weight_hash  # float16 rounds
    assert "4 times" in (up_folder / "README.md").read_text()


def test_a_model_without_text_has_no_encoder_beside_it(tmp_path, low):
    bare = Upscaler(tiny_upsampler(text_dim=None, cross_attention={}, text_layers=0), None)
    folder = bare.save_pretrained(tmp_path / "bare")
    assert not (folder / "text_encoder").exists()
    assert Upscaler.from_pretrained(folder, device="cpu")(low[:1]).images.shape[-1] == 112


def test_a_gan_is_no_upscaler_and_an_upscaler_no_gan(folder, up_folder):
    with pytest.raises(
        WorkbenchError, match="holds a GAN, which turns prompts into pictures: expected an up"
    ):
        Upscaler.from_pretrained(folder, device="cpu")
    with pytest.raises(
        WorkbenchError, match="holds an upscaler, which makes pictures larger: expected a GAN"
    ):
        Pipeline.from_pretrained(up_folder, device="cpu")


def test_broken_folders_are_named(up_folder, tmp_path):
    def changed(name, change):
        copy = shutil.copytree(up_folder, tmp_path / name)
        change(copy)
        return copy

    def edit(**values):
        def change(copy):
            config = json.loads((copy / "config.json").read_text())
            (copy / "config.json").write_text(json.dumps({**config, **values}))

        return change

    config = json.loads((up_folder / "config.json").read_text())["upsampler"]
    for name, change, words in (
        ("no weights", lambda copy: (copy / "upsampler.safetensors").unlink(), "lacks upsampler.safetensors"),
        ("no text", lambda copy: shutil.rmtree(copy / "text_encoder"), "lacks text_encoder"),
        ("newer", edit(schema=2), "update the workbench"),
        ("factor", edit(upsampler={**config, "factor": 3}), "describes no upsampler: factor is 3"),
        ("other sizes", edit(upsampler={**config, "z_dim": 20}), "does not fit its config.json"),
        ("foreign", edit(upsampler={"resolution": 64}), "this version does not know"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            Upscaler.from_pretrained(changed(name, change), device="cpu")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "upsampler.ckpt").write_bytes(b"x")
    with pytest.raises(WorkbenchError, match="pickle"):
        Upscaler.from_pretrained(pickled, device="cpu")


def test_only_a_model_is_exchanged(up, up_folder):
    (up_folder / "sample.png").write_bytes(b"kept")
    with pytest.raises(WorkbenchError, match="is not overwritten"):
        up.save_pretrained(up_folder)
    up.save_pretrained(up_folder, overwrite=True)
    assert (up_folder / "sample.png").read_bytes() == b"kept"


def test_uploads_check_their_name_and_the_network_first(up):
    with pytest.raises(WorkbenchError, match="no Hub name: expected owner/name"):
        up.push_to_hub("upscaler")
    with pytest.raises(WorkbenchError, match="cannot be reached, me/tiny was not uploaded"):
        up.push_to_hub("me/tiny", token="hf_none")


# --- recipes ---


def test_a_recipe_states_the_model_and_what_was_enlarged(up, low):
    recipe = up(low[:1], PROMPT, seed=3, noise=0.1).recipes[0]
    assert recipe["kind"] == "upscaled" and recipe["factor"] == 4 and recipe["noise"] == 0.1
    assert recipe["weight_hash"] == up.weight_hash and recipe["size"] == [112, 80]
    assert recipe["input"]["kind"] == "picture" and recipe["input"]["size"] == [28, 20]
    assert decode(encode(recipe)) == recipe
    assert "Upscale: 4" in plain_line(recipe)
    given = up(low[:1], PROMPT, inputs=[{"kind": "gan", "prompt": "x", "seed": 1, "promise": "close"}])
    assert given.recipes[0]["input"]["kind"] == "gan" and given.recipes[0]["promise"] == "close"


def test_recipes_are_nested_a_few_times_and_checked_at_every_stage():
    recipe = {"kind": "picture"}
    for _ in range(7):
        recipe = {"kind": "upscaled", "input": recipe}
    assert decode(encode(recipe)) == recipe
    with pytest.raises(WorkbenchError, match="nests more than 8"):
        encode({"kind": "upscaled", "input": recipe})
    with pytest.raises(WorkbenchError, match="expected str"):
        encode({"kind": "upscaled", "input": {"kind": 7}})


def test_a_trained_step_changes_hash_and_text(up, low):
    before, text = up.weight_hash, up.text(PROMPT)
    assert up.text(PROMPT) is text
    with torch.no_grad():
        next(up.U.parameters()).add_(1.0)
    assert up.weight_hash != before and up.text(PROMPT) is not text
