"""The upsampler: sizes in levels, parts that are exact, windows as their own pictures, the paper's totals."""

import json
import math
from dataclasses import replace

import pytest
import tiny_run
import torch
import torch.nn.functional as F

from workbench.errors import WorkbenchError
from workbench.models import params
from workbench.models.attention import SelfAttention
from workbench.models.discriminator import Discriminator, DiscriminatorConfig, pyramid_for
from workbench.models.mapping import Text
from workbench.models.ops import box_pyramid, upsample
from workbench.models.presets import preset
from workbench.models.upsampler import Upsampler, UpsamplerConfig, WindowAttention

TEXT = 128


def build(**changes: object) -> Upsampler:
    torch.manual_seed(1)
    U = Upsampler(tiny_run.tiny_upsampler(**changes)).double().eval()
    U.compute_dtype = torch.float64
    with torch.no_grad():
        for name, value in U.named_parameters():
            if name.endswith(("bias0", "bias1")) or name == "rgb_bias":
                value.normal_()
    return U.requires_grad_(False)


def caption(n: int = 1) -> Text:
    generator = torch.Generator().manual_seed(2)
    return Text(
        torch.randn(n, 5, TEXT, generator=generator).double(),
        torch.randn(n, TEXT, generator=generator).double(),
        torch.ones(n, 5, dtype=torch.bool),
    )


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def style(U: Upsampler, n: int = 1, text: Text | None = None) -> torch.Tensor:
    text = caption(n) if text is None else text
    return U.mapping(noise(n, U.config.z_dim).float(), text.t_global.float()).double()


@pytest.mark.parametrize("size", [(16, 16), (8, 24), (13, 7), (1, 1), (20, 9)])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_any_picture_becomes_a_pyramid_down_to_its_own_size(size, factor):
    levels = range(-2, factor.bit_length())
    table = dict.fromkeys(levels, 8)
    U = build(
        factor=factor, channels=table, kernels=dict.fromkeys(levels, 1), blocks=dict.fromkeys(levels, 1)
    )
    pyramid = U.synthesis(style(U), caption(), noise(1, 3, *size))
    expected = [tuple(side << level for side in size) for level in reversed(range(factor.bit_length()))]
    assert [tuple(x.shape[-2:]) for x in pyramid] == expected


def test_without_increments_the_pyramid_is_the_input_enlarged():
    """The input enters the sum of RGB itself: what the network adds is what the filter cannot know."""
    U = build()
    for layer in U.to_rgb.values():
        layer.weight.zero_()
    U.rgb_bias.zero_()
    low = noise(2, 3, 8, 12)
    large, same = U.synthesis(style(U, 2), caption(2), low)
    torch.testing.assert_close(same, low.float().double())
    torch.testing.assert_close(large, upsample(low.float().double()))


def test_a_part_with_its_halo_is_drawn_as_in_the_whole():
    levels = range(-2, 3)
    U = build(
        factor=4, channels=dict.fromkeys(levels, 8), kernels=dict.fromkeys(levels, 2),
        blocks={**dict.fromkeys(levels, 1), 2: 2},
    )  # fmt: skip
    low, w, halo = noise(1, 3, 40, 32), style(U), U.config.halo
    x, rgb = U.trunk(low, w, caption())
    whole = U.grow(x, rgb, w)[0]
    a, b, c, d = 14, 22, 12, 20
    cut = (..., slice(a - halo, b + halo), slice(c - halo, d + halo))
    part = U.grow(x[cut], rgb[cut], w)[0][..., 4 * halo : -4 * halo, 4 * halo : -4 * halo]
    torch.testing.assert_close(part, whole[..., 4 * a : 4 * b, 4 * c : 4 * d], rtol=0, atol=1e-6)
    near = (..., slice(a - 2, b + 2), slice(c - 2, d + 2))
    part = U.grow(x[near], rgb[near], w)[0][..., 8:-8, 8:-8]
    assert (part - whole[..., 4 * a : 4 * b, 4 * c : 4 * d]).abs().max() > 1e-3  # so the halo is needed


def test_attention_in_windows_is_self_attention_of_each_window():
    torch.manual_seed(0)
    windowed = WindowAttention(8, w_dim=16, mlp_ratio=1, side=4).double()
    plain = SelfAttention(8, w_dim=16, mlp_ratio=1).double()
    plain.load_state_dict(windowed.state_dict())
    x, w = noise(2, 8, 6, 8), noise(2, 16)  # 2 x 2 windows of 3 x 4
    expected = torch.empty_like(x)
    for top in (0, 3):
        for left in (0, 4):
            part = (..., slice(top, top + 3), slice(left, left + 4))
            expected[part] = plain(x[part], w)
    torch.testing.assert_close(windowed(x, w), expected)
    torch.testing.assert_close(windowed(x[..., :4, :4], w), plain(x[..., :4, :4], w))
    with pytest.raises(WorkbenchError, match="equal windows of at most 4 px"):
        windowed(noise(1, 8, 5, 4), noise(1, 16))


def test_padding_leaves_no_trace_where_nothing_is_missing_and_windows_are_equal():
    U = build()
    assert [U._missing(side) for side in (8, 4, 16, 9, 17, 1)] == [0, 0, 0, 7, 7, 3]
    for side in range(1, 70):
        padded = side + U._missing(side)
        windows = -(-padded // U.config.window)
        assert padded % (windows * 4) == 0 and padded // windows <= U.config.window


def test_z_words_and_noise_level_each_change_the_picture():
    U, low, text = build(), noise(1, 3, 8, 8), caption()
    z = noise(1, 8).float()

    def draw(z, text, level) -> torch.Tensor:
        w = U.mapping(z, text.t_global.float(), torch.tensor([level])).double()
        return U.synthesis(w, text, low)[0]

    first = draw(z, text, 0.0)
    torch.testing.assert_close(first, draw(z, text, 0.0))
    other = replace(text, t_local=text.t_local.roll(1, dims=2))
    for changed in (draw(-z, text, 0.0), draw(z, other, 0.0), draw(z, text, 0.2)):
        assert (changed - first).abs().max() > 1e-4
    assert torch.equal(
        U.mapping(z, text.t_global.float()), U.mapping(z, text.t_global.float(), torch.zeros(1))
    )


def test_a_batch_equals_its_pictures_one_by_one():
    U, low, text = build(), noise(3, 3, 8, 20), caption(3)
    w = style(U, 3)
    together = U.synthesis(w, text, low)[0]
    for row in range(3):
        one = U.synthesis(w[row : row + 1], text.index_select(slice(row, row + 1)), low[row : row + 1])[0]
        torch.testing.assert_close(one, together[row : row + 1], rtol=1e-5, atol=1e-5)


def test_ws_of_each_layer_may_differ_and_one_w_is_all_alike():
    U, low, text, w = build(), noise(1, 3, 8, 8), caption(), None
    w = style(U)
    spread = w[:, None].expand(-1, U.num_ws, -1)
    assert U.num_ws == 2 * 4 + 2 + 2  # two convolutions a block, two attentions, two RGB outputs
    torch.testing.assert_close(U.synthesis(spread, text, low)[0], U.synthesis(w, text, low)[0])
    for layer in range(U.num_ws):
        other = spread.clone()
        other[:, layer] += 0.5
        assert not torch.equal(U.synthesis(other, text, low)[0], U.synthesis(w, text, low)[0])


@pytest.mark.parametrize("again", [False, True])
def test_every_parameter_learns(again):
    torch.manual_seed(0)
    U = Upsampler(tiny_run.tiny_upsampler())
    U.checkpointing = again
    text, low = caption(2), noise(2, 3, 8, 8).float()
    text = Text(text.t_local.float().requires_grad_(), text.t_global.float(), text.mask)
    w = U.mapping(noise(2, 8).float(), text.t_global, torch.tensor([0.1, 0.3]))
    sum(x.square().mean() for x in U.synthesis(w, text, low)).backward()
    still = [name for name, p in U.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(name.startswith("text.") for name in still)  # T is passed by here


@pytest.mark.parametrize("name", ["upsampler-64-512", "upsampler-128-1024"])
def test_the_papers_upsamplers_have_its_number_of_parameters(name):
    counted = params.count(preset(name))
    assert abs(counted.deviation("G")) < 0.01
    config = preset(name).generator
    assert config.factor == 8 and config.down == 3 and sum(level > -3 for level in config.levels) == 6
    assert name == f"upsampler-{config.window}-{8 * config.window}"


def test_its_config_comes_back_from_json():
    for name in ("shepherd-up4", "upsampler-64-512"):
        config = preset(name).generator
        assert UpsamplerConfig(**json.loads(json.dumps(config.to_json()))) == config
        assert "glu" not in config.to_json()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factor": 3}, "factor is 3"),
        ({"factor": True}, "factor is True"),
        ({"down": 0}, "down is 0"),
        ({"window": 6}, "window is 6"),
        ({"noise_max": 0}, "noise_max is 0"),
        ({"attention": {1: 1}}, r"attention is on at the levels \[1\]"),
        ({"blocks": {-1: 1, 0: 1}}, "blocks lacks"),
        ({"channels": {-2: 8}}, "channels lacks"),
        ({"text_dim": None}, "cross_attention is on"),
    ],
)
def test_refuses_what_does_not_fit(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        tiny_run.tiny_upsampler(**changes)


def test_wrong_inputs_are_refused_at_the_door():
    U = build()
    with pytest.raises(WorkbenchError, match=r"expected \[N, 3, H, W\]"):
        U.synthesis(style(U), caption(), noise(1, 4, 8, 8))
    with pytest.raises(WorkbenchError, match="was given no text"):
        U.synthesis(style(U), None, noise(1, 3, 8, 8))
    with pytest.raises(WorkbenchError, match="was given no caption"):
        U.mapping(noise(1, 8))
    silent = build(text_dim=None, cross_attention={})
    with pytest.raises(WorkbenchError, match="expects none"):
        silent.mapping(noise(1, 8), noise(1, TEXT))


def judge(**changes: object) -> Discriminator:
    torch.manual_seed(4)
    sizes = (32, 16, 8, 4)
    fields = {
        "resolution": 32, "channels": dict.fromkeys(sizes, 8), "entries": (32, 8), "exits": (8, 1),
        "attention": {}, "text_dim": None, "group": 0, "collapse": "mean",
    }  # fmt: skip
    return Discriminator(DiscriminatorConfig(**{**fields, **changes})).double()


def test_a_d_that_ends_in_a_mean_judges_oblong_crops():
    D = judge()
    D.compute_dtype = torch.float64
    x = noise(2, 3, 24, 40)
    levels = box_pyramid(x, D.config.entries, D.config.resolution)
    assert [tuple(level.shape[-2:]) for level in levels] == [(24, 40), (6, 10)]
    torch.testing.assert_close(levels[1], F.avg_pool2d(x, 4))
    assert all(a is b for a, b in zip(pyramid_for(levels, D.config.entries), levels, strict=True))
    (logits,) = D(levels, None)
    assert len(logits) == len(D.config.predictions) and all(math.isfinite(v) for v in logits[0].tolist())
    with pytest.raises(WorkbenchError, match="24 x 40 px: expected squares"):
        judge(collapse="dense")(levels, None)
    with pytest.raises(WorkbenchError, match="expected squares"):
        D([noise(2, 3, 24, 36), noise(2, 3, 6, 9)], None)
    with pytest.raises(WorkbenchError, match="expected squares"):
        D([x, noise(2, 3, 6, 9)], None)
