"""Shape, identities and refusals of G."""

import pytest
import torch
from tiny_models import features, generator_config

from workbench.errors import WorkbenchError
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.ops import upsample
from workbench.models.presets import PRESETS, preset


def test_pyramid_has_every_size_and_the_largest_first():
    G = Generator(generator_config())
    pyramid = G(torch.randn(2, 8), features(2))
    assert [tuple(x.shape) for x in pyramid] == [(2, 3, 16, 16), (2, 3, 8, 8), (2, 3, 4, 4)]
    assert all(x.dtype == torch.float32 for x in pyramid)


def test_levels_are_running_sums_of_rgb():
    G = Generator(generator_config())
    increments = []
    for layer in G.to_rgb.values():
        layer.register_forward_hook(lambda module, args, out: increments.append(out))
    x0, x1, x2 = G(torch.randn(2, 8), features(2))
    assert torch.allclose(x2, increments[0], atol=1e-6)
    assert torch.allclose(x1, upsample(x2) + increments[1], atol=1e-6)
    assert torch.allclose(x0, upsample(x1) + increments[2], atol=1e-6)


def test_a_batch_equals_its_samples_one_by_one():
    G = Generator(generator_config()).eval()
    z, text = torch.randn(3, 8), features(3)
    together = G(z, text)[0]
    for n in range(3):
        one = features(3)
        one.eps_txt, one.eot = one.eps_txt[n : n + 1], one.eot[n : n + 1]
        assert torch.allclose(G(z[n : n + 1], one)[0], together[n : n + 1], atol=1e-5)


def test_picture_depends_on_z_and_on_the_caption():
    G = Generator(generator_config())
    z, text = torch.randn(2, 8), features(2)
    picture = G(z, text)[0]
    assert (G(z.flip(0), text)[0] - picture).abs().mean() > 1e-3
    assert (G(z, features(2, seed=1))[0] - picture).abs().mean() > 1e-3


def test_one_w_everywhere_equals_the_same_w_for_every_layer():
    G = Generator(generator_config())
    text = G.encode_text(features(2))
    w = G.mapping(torch.randn(2, 8), text.t_global)
    ws = w[:, None].expand(-1, G.num_ws, -1)
    assert torch.equal(G.synthesis(w, text)[0], G.synthesis(ws, text)[0])


def test_every_style_input_moves_the_picture():
    G = Generator(generator_config())
    text = G.encode_text(features(1))
    ws = G.mapping(torch.randn(1, 8), text.t_global)[:, None].repeat(1, G.num_ws, 1).detach().requires_grad_()
    G.synthesis(ws, text)[0].square().sum().backward()
    assert (ws.grad.abs().sum(-1) > 0).all()


def test_unconditional_is_the_same_class_with_text_off():
    G = Generator(generator_config(text_dim=None, cross_attention={}))
    assert G.text is None and G(torch.randn(2, 8))[0].shape == (2, 3, 16, 16)


def test_bfloat16_stays_close_to_float32():
    G = Generator(generator_config()).to(memory_format=torch.channels_last)
    z, text = torch.randn(2, 8), features(2)
    exact = G(z, text)[0]
    G.compute_dtype = torch.bfloat16
    assert (G(z, text)[0] - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_config_round_trips_through_json():
    import json

    config = generator_config()
    assert GeneratorConfig(**json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 20}, "power of two"),
        ({"resolution": 4}, "at least 8"),
        ({"kernels": {4: 1, 8: 2}}, "kernels lacks"),
        ({"kernels": {4: 1, 8: 2, 16: 2, 32: 4}}, r"kernels speaks of sizes \[32\]"),
        ({"text_dim": None}, "cross_attention is on"),
    ],
)
def test_refuses_what_does_not_fit(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        generator_config(**changes)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_keep_widths_in_multiples_of_32(name):
    chosen = preset(name)
    assert all(c % 32 == 0 for c in chosen.generator.channels.values())
    assert name.rpartition("-")[2].removeprefix("up") in (
        str(chosen.side), str(chosen.generator.factor) if chosen.upsamples else ""
    )  # fmt: skip


def test_unknown_preset_names_those_there_are():
    with pytest.raises(WorkbenchError, match="shepherd-64"):
        preset("shepherd-65")


def test_no_layout_is_common_to_all_pictures():
    """Pictures of different z and captions correlate little over space: nothing carries the constant past the
    styles.
    """
    G = Generator(generator_config())
    text = features(7)
    x = G(torch.randn(7, 8), text)[0].mean(1).flatten(1)
    x = x - x.mean(1, keepdim=True)
    x = x / x.norm(dim=1, keepdim=True)
    similarity = (x @ x.T)[~torch.eye(7, dtype=torch.bool)]
    assert similarity.mean() < 0.7  # 0.76 on average when the constant had a path of its own
