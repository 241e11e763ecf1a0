"""The encoder: learns from the model, goes on where it was broken off, comes back from disk, and is refused
for another model.
"""

import json

import pytest
import torch
from tiny_world_model import tiny_world_model

from workbench.errors import WorkbenchError
from workbench.latents import encoder as room
from workbench.latents.encoder import (
    Encoder,
    EncoderConfig,
    draw_pairs,
    encoder_of,
    held_out_error,
    load_encoder,
    save_encoder,
    train_encoder,
)
from workbench.latents.inversion import invert

SMALL = EncoderConfig(resolution=16, w_dim=24, channels=(16, 16), squeeze=8, parts=8)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_world_model()


@pytest.fixture(scope="module")
def trained(pipeline, tmp_path_factory):
    told = []
    out = tmp_path_factory.mktemp("encoder")
    encoder = train_encoder(
        pipeline, out, images=256, config=SMALL, progress=lambda *facts: told.append(facts)
    )
    return encoder, out, told


def test_the_shipped_size_is_small():
    encoder = Encoder(EncoderConfig())
    assert sum(p.numel() for p in encoder.parameters()) <= 400_000
    assert sum(v.numel() for v in encoder.state_dict().values()) * 2 <= 300 * 1024


def test_untrained_it_says_the_mean_of_the_caption():
    encoder, w_mean = Encoder(SMALL), torch.randn(2, 24)
    assert torch.equal(encoder(torch.randn(2, 3, 16, 16), w_mean), w_mean)


def test_it_learns_what_the_caption_does_not_say(pipeline, trained):
    encoder, _, told = trained
    held_out = draw_pairs(pipeline, 128, 99)
    assert held_out_error(encoder, held_out) < 0.92
    assert told[-1][:2] == (256, 256) and "held-out error" in told[-1][2] and len(told) == 2


def test_pairs_are_a_function_of_their_numbers(pipeline):
    whole, part = draw_pairs(pipeline, 8, 7), draw_pairs(pipeline, 4, 7, first=4)
    assert torch.allclose(whole.images[4:], part.images, atol=1e-4)
    assert torch.allclose(whole.w[4:], part.w, atol=1e-5)
    assert torch.equal(whole.w_mean[0], whole.w_mean[1])  # two z of one caption
    assert not torch.equal(whole.w[0], whole.w[1])


def test_broken_off_it_goes_on_to_the_same_end(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "ROUND", 32)
    monkeypatch.setattr(room, "EVERY_S", 0.0)
    whole = train_encoder(pipeline, tmp_path / "whole", images=64, config=SMALL)
    keep = room._keep

    def cut(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "_keep", cut)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(pipeline, tmp_path / "cut", images=64, config=SMALL)
    monkeypatch.setattr(room, "_keep", keep)
    rounds = []
    again = train_encoder(
        pipeline, tmp_path / "cut", images=64, config=SMALL, progress=lambda done, *_: rounds.append(done)
    )
    assert rounds == [64]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["encoder.json", "encoder.safetensors"]


def test_round_trip_and_place_beside_the_model(pipeline, trained, tmp_path):
    encoder, _, _ = trained
    save_encoder(tmp_path / "latents", encoder, pipeline)
    again = encoder_of(pipeline, tmp_path)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert encoder_of(pipeline, tmp_path / "elsewhere") is None


def test_it_starts_an_inversion(pipeline, trained):
    pairs = draw_pairs(pipeline, 2, 5)
    found = invert(pipeline, pairs.images[:1], steps=5, encoder=trained[0])
    assert found.steps == 5 and found.psnr > 10


def test_another_models_encoder_is_refused(trained):
    other = tiny_world_model(seed=1)
    with pytest.raises(WorkbenchError, match=r"trained for the model 'tiny-0' .* this one is 'tiny-1'"):
        load_encoder(trained[1], other)


def test_damaged_and_missing_ones_are_refused(pipeline, trained, tmp_path):
    with pytest.raises(WorkbenchError, match="holds no encoder"):
        load_encoder(tmp_path, pipeline)
    save_encoder(tmp_path, trained[0], pipeline)
    page = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps({**page, "schema": 9}))
    with pytest.raises(WorkbenchError, match="no encoder that this version reads"):
        load_encoder(tmp_path, pipeline)
    (tmp_path / "encoder.json").write_text(json.dumps({**page, "config": {**page["config"], "parts": 7}}))
    with pytest.raises(WorkbenchError, match="damaged"):
        load_encoder(tmp_path, pipeline)
    (tmp_path / "encoder.json").write_text(json.dumps(page))
    (tmp_path / "encoder.safetensors").write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match="damaged"):
        load_encoder(tmp_path, pipeline)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": (16,)}, "halving"),
        ({"channels": (16, 12)}, "eights"),
        ({"parts": 25}, "principal parts"),
        ({"squeeze": 0}, "above 0"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong, message):
    good = {"resolution": 16, "w_dim": 24, "channels": (16, 16), "squeeze": 8, "parts": 8}
    with pytest.raises(WorkbenchError, match=message):
        EncoderConfig(**{**good, **wrong})


def test_too_few_images_and_models_without_text_are_refused(pipeline, tmp_path):
    with pytest.raises(WorkbenchError, match="at least 128"):
        train_encoder(pipeline, tmp_path, images=100)
    with pytest.raises(WorkbenchError, match="reads no text"):
        train_encoder(tiny_world_model(text_dim=None, cross_attention={}), tmp_path)
