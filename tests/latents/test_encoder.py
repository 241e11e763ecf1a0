"""The encoder: learns from the model in one solution, comes back from disk to the same bits, and is refused
for another model or another tower. The shipped one starts nearer than many draws do.
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_world_model import tiny_world_model

from workbench import cli
from workbench.errors import WorkbenchError
from workbench.latents import encoder_fit
from workbench.latents.encoder import (
    Encoder,
    EncoderConfig,
    encoder_of,
    features,
    load_encoder,
    open_eyes,
    save_encoder,
    the_eyes,
)
from workbench.latents.encoder_fit import draw_pairs, principal_channels, train_encoder, unexplained
from workbench.latents.inversion import guess_prompt, invert, psnr
from workbench.latents.points import draw, texts_of
from workbench.latents.starts import best_around, best_of_many
from workbench.pipeline import Pipeline

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "models" / "shepherd-64"
SMALL = EncoderConfig(channels=8, parts=8, draws=8)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_world_model()


@pytest.fixture(scope="module")
def trained(pipeline, tmp_path_factory):
    told, out = [], tmp_path_factory.mktemp("encoder")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoder_fit, "HELD_OUT", 128)
        encoder = train_encoder(
            pipeline, out, images=512, config=SMALL, progress=lambda *facts: told.append(facts)
        )
    return encoder, out, told


@pytest.fixture(scope="module")
def shipped():
    model = Pipeline.from_pretrained(SHIPPED, device="cpu")
    return model, encoder_of(model, SHIPPED)


def test_unfitted_it_says_the_mean_of_the_caption():
    encoder, w_mean = Encoder(SMALL, 24, the_eyes()), torch.randn(2, 24)
    assert torch.equal(encoder(torch.rand(2, 3, 16, 16), w_mean), w_mean)


def test_it_learns_what_the_caption_does_not_say(pipeline, trained):
    encoder, out, told = trained
    fresh = draw_pairs(pipeline, 128, 99)
    error = unexplained(encoder(fresh.images, fresh.w_mean) - fresh.w_mean, fresh.move)
    assert error < 0.8
    facts = json.loads((out / "encoder.json").read_text())["training"]
    assert facts["images"] == 512 and facts["held_out_error"] == pytest.approx(error, abs=0.2)
    assert [done for done, _, _ in told] == [256, 512, 512] and "held-out error" in told[-1][2]


def test_the_spread_is_that_of_what_it_leaves(pipeline, trained):
    """With as many draws as w has numbers, spread' spread is the covariance of the held-out residuals."""
    config = EncoderConfig(channels=8, parts=8, draws=24)
    pairs, encoder = draw_pairs(pipeline, 256, 99), Encoder(config, 24, the_eyes())
    encoder.fill(channels=trained[0].channels)
    sums = encoder_fit.Sums(len(encoder.mean), 24)
    sums.add(features(the_eyes(), pairs.images, encoder.channels), pairs.move)
    encoder_fit._solve(encoder, sums, pairs)
    left = torch.cov((pairs.w - encoder(pairs.images, pairs.w_mean)).t())
    found = encoder.spread.t() @ encoder.spread
    assert torch.allclose(found, left, atol=2e-3 * left.diagonal().max())
    lengths = encoder.spread.norm(dim=1)
    assert (lengths.diff() <= 1e-3).all()  # the widest first: fewer draws keep those


def test_pairs_are_a_function_of_their_numbers(pipeline):
    whole, part = draw_pairs(pipeline, 8, 7), draw_pairs(pipeline, 4, 7, first=4)
    assert torch.allclose(whole.images[4:], part.images, atol=1 / 127)  # a level of 8 bits
    assert torch.allclose(whole.w[4:], part.w, atol=1e-5)
    assert torch.equal(whole.w_mean[0], whole.w_mean[1])  # two z of one caption
    assert not torch.equal(whole.w[0], whole.w[1])


def test_principal_channels_are_at_right_angles_and_the_widest_first(pipeline):
    images = draw_pairs(pipeline, 16, 7).images
    channels = principal_channels(the_eyes(), images, 8).float()
    assert torch.allclose(channels @ channels.t(), torch.eye(8), atol=1e-5)
    seen = (channels @ the_eyes()(images)[0]).transpose(0, 1).flatten(1)
    assert (seen.var(dim=1).diff() <= 1e-4).all()


def test_the_same_call_gives_the_same_bits(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_fit, "ROUND", 32)
    monkeypatch.setattr(encoder_fit, "HELD_OUT", 32)
    one, two = (train_encoder(pipeline, tmp_path / k, images=64, config=SMALL) for k in "ab")
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_round_trip_and_place_beside_the_model(pipeline, trained, tmp_path):
    encoder, _, _ = trained
    save_encoder(tmp_path / "latents", encoder, pipeline)
    again = encoder_of(pipeline, tmp_path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert encoder_of(pipeline, tmp_path / "elsewhere") is None


def test_it_starts_an_inversion(pipeline, trained):
    picture = draw_pairs(pipeline, 2, 5).images[:1]
    found = invert(pipeline, picture, steps=5, encoder=trained[0])
    assert found.steps == 5 and found.psnr >= found.start_psnr > 10 and found.start_seconds > 0


# --- the shipped one ---


def test_the_shipped_one_is_small():
    files = [SHIPPED / "latents" / f"encoder.{kind}" for kind in ("json", "safetensors")]
    assert sum(path.stat().st_size for path in files) <= 300_000


def test_the_shipped_one_explains_nearly_half_of_what_the_caption_leaves_open(shipped):
    model, encoder = shipped
    fresh = draw_pairs(model, 64, 99)
    assert unexplained(encoder(fresh.images, fresh.w_mean) - fresh.w_mean, fresh.move) < 0.6
    stated = json.loads((SHIPPED / "latents" / "encoder.json").read_text())["training"]
    assert stated["held_out_error"] < 0.55


def test_the_shipped_one_starts_nearer_than_the_best_of_many_draws(shipped):
    model, encoder = shipped
    starts: dict[str, list[float]] = {"around": [], "many": []}
    for picture in draw_pairs(model, 8, 99).images.split(1):
        prompt = guess_prompt(model, picture)
        text = texts_of(model, [prompt])
        around = best_around(model, picture, text, model.w_mean(prompt), encoder)
        many = best_of_many(model, picture, text)
        for name, at in (("around", around), ("many", many)):
            starts[name].append(psnr(draw(model, at), picture).item())
    assert median(starts["around"]) > median(starts["many"]) + 1
    assert sum(a > b for a, b in zip(*starts.values(), strict=True)) >= 6


# --- refusals ---


def test_another_models_encoder_is_refused(trained):
    with pytest.raises(WorkbenchError, match=r"trained for the model 'tiny-0' .* this one is 'tiny-1'"):
        load_encoder(trained[1], tiny_world_model(seed=1))


def test_an_encoder_that_saw_by_another_tower_is_refused(pipeline, trained):
    other = replace(the_eyes(), weight_hash="0" * 64)
    with pytest.raises(WorkbenchError, match=r"sees by the image tower of .* the one here is .*0000000000"):
        load_encoder(trained[1], pipeline, eyes=other)


def test_the_hash_of_a_tower_is_that_of_its_weights(tmp_path):
    from workbench.evaluation.perceptual import CLIP_FOLDER
    from workbench.models.text import load_clip, save_clip

    clip = load_clip(CLIP_FOLDER)
    save_clip(clip, tmp_path / "same")
    assert open_eyes(tmp_path / "same").weight_hash == the_eyes().weight_hash
    with torch.no_grad():
        clip.model.visual.conv1.weight[0, 0, 0, 0] += 1
    save_clip(clip, tmp_path / "other")
    assert open_eyes(tmp_path / "other").weight_hash != the_eyes().weight_hash


def test_damaged_and_missing_ones_are_refused(pipeline, trained, tmp_path):
    with pytest.raises(WorkbenchError, match="holds no encoder"):
        load_encoder(tmp_path, pipeline)
    save_encoder(tmp_path, trained[0], pipeline)
    facts, numbers = tmp_path / "encoder.json", tmp_path / "encoder.safetensors"
    page = json.loads(facts.read_text())
    wrong = [
        ({**page, "schema": 1}, "no encoder that this version reads"),
        ({**page, "config": {**page["config"], "parts": 7}}, r"damaged at weight: expected \[\d+, 7\]"),
        ({**page, "config": {**page["config"], "spare": 7}}, "damaged"),
    ]
    for other, message in wrong:
        facts.write_text(json.dumps(other))
        with pytest.raises(WorkbenchError, match=message):
            load_encoder(tmp_path, pipeline)
    facts.write_text(json.dumps(page))
    tensors = load_file(numbers)
    for change, message in (
        ({"spare": torch.zeros(1).half()}, "spare: expected nothing, found"),
        ({"offset": tensors["offset"].float()}, "offset: expected finite fp16"),
        ({"offset": tensors["offset"] * torch.nan}, "offset: expected finite fp16"),
    ):
        save_file({**tensors, **change}, numbers)
        with pytest.raises(WorkbenchError, match=message):
            load_encoder(tmp_path, pipeline)
    numbers.write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match="damaged"):
        load_encoder(tmp_path, pipeline)


@pytest.mark.parametrize("name", ["channels", "parts", "draws"])
def test_sizes_that_do_not_fit_are_refused(name):
    with pytest.raises(WorkbenchError, match=f"{name} is 0: expected a whole number above 0"):
        EncoderConfig(**{name: 0})
    with pytest.raises(WorkbenchError, match="ask for less"):
        Encoder(replace(SMALL, **{name: 1000}), 24, the_eyes())


def test_too_few_images_and_models_without_text_are_refused(pipeline, tmp_path):
    with pytest.raises(WorkbenchError, match="at least 256"):
        train_encoder(pipeline, tmp_path, images=100)
    with pytest.raises(WorkbenchError, match="reads no text"):
        train_encoder(tiny_world_model(text_dim=None, cross_attention={}), tmp_path)


def test_the_command_writes_it_beside_the_model(pipeline, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encoder_fit, "HELD_OUT", 32)
    model = pipeline.save_pretrained(tmp_path / "model")
    assert cli.main(["train-encoder", "--model", str(model), "--images", "256", "--device", "cpu"]) == 0
    assert str(model / "latents") in capsys.readouterr().out
    assert encoder_of(Pipeline.from_pretrained(model, device="cpu"), model) is not None
