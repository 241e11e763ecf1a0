"""Oracles of the building blocks: explicit loops in float64, closed forms, identities."""

import math

import pytest
import torch
import torch.nn.functional as F

from workbench.models import ops


def explicit_adaptive_conv(x, bank, style, selection, demodulate):
    """Eq. 2-3 sample by sample: mix the kernel, modulate its inputs, demodulate its outputs, convolve."""
    rows = []
    for n in range(x.shape[0]):
        kernel = bank[0] if selection is None else sum(a * k for a, k in zip(selection[n], bank, strict=True))
        kernel = kernel * style[n][None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + ops.DEMODULATION_EPS).sqrt()
        rows.append(F.conv2d(x[n : n + 1], kernel, padding=kernel.shape[-1] // 2))
    return torch.cat(rows)


@pytest.mark.parametrize("kernels", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("form", [ops.adaptive_conv_shared, ops.adaptive_conv_grouped, ops.adaptive_conv])
def test_adaptive_conv_equals_the_explicit_loop(kernels, size, demodulate, form):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 6, 6, dtype=torch.float64)
    bank = torch.randn(kernels, 7, 5, size, size, dtype=torch.float64, requires_grad=True)
    style = torch.randn(3, 5, dtype=torch.float64)
    selection = torch.randn(3, kernels, dtype=torch.float64).softmax(1) if kernels > 1 else None
    expected = explicit_adaptive_conv(x, bank, style, selection, demodulate)
    found = form(x, bank, style, selection, demodulate=demodulate)
    assert (found - expected).abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(expected.square().sum(), bank)
    (own,) = torch.autograd.grad(found.square().sum(), bank)
    assert (own - gradient).abs().max() < 1e-10


@pytest.mark.parametrize("kernels", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_both_ways_agree_with_each_other_and_in_all_gradients(kernels, size, demodulate):
    x = torch.randn(3, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    bank = torch.randn(kernels, 7, 5, size, size, dtype=torch.float64, requires_grad=True)
    style = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(3, kernels, dtype=torch.float64, requires_grad=True)
    selection = logits.softmax(1) if kernels > 1 else None
    into = [x, bank, style] + ([logits] if kernels > 1 else [])
    weight = torch.randn(3, 7, 6, 6, dtype=torch.float64)  # a loss that no symmetry makes blind
    found = []
    for form in (ops.adaptive_conv_shared, ops.adaptive_conv_grouped):
        y = form(x, bank, style, selection, demodulate=demodulate, gain=1.3)
        found.append([y, *torch.autograd.grad((weight * y).sum(), into, retain_graph=True)])
    for name, a, b in zip(("y", "x", "bank", "style", "selection"), *found, strict=False):
        assert (a - b).abs().max() < 1e-12 * max(1.0, b.abs().max().item()), name


@pytest.mark.parametrize("kernels", [1, 2, 4])
@pytest.mark.parametrize("form", [ops.adaptive_conv_shared, ops.adaptive_conv_grouped])
def test_a_bias_is_added_after_all_scaling(kernels, form):
    x, bank = torch.randn(3, 5, 6, 6, dtype=torch.float64), torch.randn(kernels, 7, 5, 3, 3).double()
    style, bias = torch.randn(3, 5).double(), torch.randn(7, dtype=torch.float64, requires_grad=True)
    selection = torch.randn(3, kernels).double().softmax(1) if kernels > 1 else None
    plain = form(x, bank, style, selection, gain=1.3)
    found = form(x, bank, style, selection, gain=1.3, bias=bias)
    assert (found - plain - bias.view(1, -1, 1, 1)).abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(found.sum(), bias)
    assert torch.equal(gradient, torch.full_like(bias, 3 * 36))


def test_gram_holds_the_products_of_every_pair_of_kernels():
    bank = torch.randn(3, 4, 5, 3, 3, dtype=torch.float64)
    found = iter(ops.gram(bank))
    for n in range(3):
        for m in range(n, 3):
            product = next(found)
            for o in range(4):
                for i in range(5):
                    explicit = sum(
                        bank[n, o, i, r, c] * bank[m, o, i, r, c] for r in range(3) for c in range(3)
                    )
                    assert abs(product[o, i] - explicit) < 1e-12


def test_demodulated_output_ignores_the_scale_of_the_style():
    torch.manual_seed(0)
    x, bank = torch.randn(2, 8, 5, 5, dtype=torch.float64), torch.randn(2, 8, 8, 3, 3, dtype=torch.float64)
    style, selection = (
        torch.rand(2, 8, dtype=torch.float64) + 0.5,
        torch.tensor([[0.3, 0.7], [0.9, 0.1]], dtype=torch.float64),
    )
    a = ops.adaptive_conv(x, bank, style, selection)
    b = ops.adaptive_conv(x, bank, 17 * style, selection)
    assert torch.allclose(a, b, atol=1e-7)


def test_demodulated_conv_keeps_unit_variance():
    torch.manual_seed(0)
    x = torch.randn(4, 128, 16, 16)
    y = ops.adaptive_conv(x, torch.randn(1, 128, 128, 3, 3), torch.ones(4, 128))[..., 1:-1, 1:-1]
    assert abs(y.var().item() - 1) < 0.05


def test_one_hot_selection_is_a_plain_modulated_convolution():
    torch.manual_seed(0)
    x, bank, style = torch.randn(2, 4, 8, 8), torch.randn(3, 4, 4, 3, 3), torch.rand(2, 4) + 0.5
    chosen = ops.adaptive_conv_shared(x, bank, style, torch.tensor([[0.0, 1.0, 0.0]]).expand(2, -1))
    plain = ops.adaptive_conv_shared(x, bank[1:2], style, None)
    assert torch.allclose(chosen, plain, atol=1e-5)


def test_equal_layers_keep_unit_variance_and_apply_lr_mul_to_speed_alone():
    torch.manual_seed(0)
    x = torch.randn(4096, 64)
    for lr_mul in (1.0, 0.01):
        layer = ops.EqualLinear(64, 64, lr_mul=lr_mul)
        assert abs(layer(x).var().item() - 1) < 0.1
    conv = ops.EqualConv2d(32, 32, 3)
    assert abs(conv(torch.randn(8, 32, 16, 16))[..., 1:-1, 1:-1].var().item() - 1) < 0.15


def test_upsample_has_the_taps_of_the_binomial_filter():
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[0, 0, 4, 4] = 1
    y = ops.upsample(x)[0, 0]
    taps = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 4
    assert torch.allclose(y[7:11, 7:11], taps[:, None] * taps)
    assert math.isclose(y.sum().item(), 4.0)


def test_downsample_is_the_strided_binomial_filter_inside():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    taps = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    kernel = (taps[:, None] * taps).expand(3, 1, 4, 4)
    expected = F.conv2d(x, kernel, stride=2, padding=1, groups=3)
    assert torch.allclose(ops.downsample(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_resampling_keeps_a_constant_and_up_then_down_a_gentle_slope():
    constant = torch.full((1, 2, 8, 8), 0.7, dtype=torch.float64)
    assert torch.allclose(ops.upsample(constant), torch.full((1, 2, 16, 16), 0.7, dtype=torch.float64))
    assert torch.allclose(ops.downsample(constant), torch.full((1, 2, 4, 4), 0.7, dtype=torch.float64))
    slope = torch.arange(16, dtype=torch.float64).expand(1, 1, 16, 16)
    assert torch.allclose(ops.downsample(ops.upsample(slope))[..., 2:-2], slope[..., 2:-2])


def test_widen_lifts_half_precision_and_leaves_float64_alone():
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    assert [ops.widen(torch.ones(1, dtype=d)).dtype for d in dtypes] == [torch.float32] * 3 + [torch.float64]


def test_box_pyramid_is_the_exact_mean():
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    levels = ops.box_pyramid(x, (16, 4))
    assert levels[0] is x
    assert torch.allclose(levels[1][0, 0, 1, 2], x[0, 0, 4:8, 8:12].mean())


def test_kept_products_follow_the_weights():
    layer = ops.AdaptiveConv2d(4, 4, 3, w_dim=8, kernels=2)
    x, w = torch.randn(2, 4, 6, 6), torch.randn(2, 8)
    exact = layer(x, w).detach()
    with torch.no_grad():
        assert torch.equal(layer(x, w), exact) and torch.equal(layer(x, w), exact)
        layer.weight.mul_(torch.rand(8, 1, 1, 1) + 0.5)
        changed = layer(x, w)
    assert not torch.allclose(changed, exact)
    assert torch.equal(changed, layer(x, w).detach())


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5,), (4, 3, 2, 2)])
def test_the_state_of_a_tensor_tells_writes_that_torch_does_not_count(shape):
    t = torch.nn.Parameter(torch.ones(shape))
    states = [ops.state_of(t), ops.state_of(t)]
    assert states[0] == states[1] and t._version == 0
    t.data.mul_(1.5)
    assert t._version == 0 and ops.state_of(t) != states[0]


def test_kept_products_follow_writes_through_data():
    layer = ops.AdaptiveConv2d(4, 4, 3, w_dim=8, kernels=2).to(memory_format=torch.channels_last)
    x, w = torch.randn(2, 4, 6, 6), torch.randn(2, 8)
    with torch.no_grad():
        exact = layer(x, w)
        layer.weight.data.mul_(3)  # demodulation takes a scale away again
        torch.testing.assert_close(layer(x, w), exact)


def test_a_layer_made_in_inference_mode_works_and_keeps_nothing():
    with torch.inference_mode():
        layer = ops.AdaptiveConv2d(4, 4, 3, w_dim=8, kernels=2)
        x, w = torch.randn(2, 4, 6, 6), torch.randn(2, 8)
        exact = layer(x, w)
        layer.weight[0, 0, 1, 1] += 1  # neither counted nor looked at
        changed = layer(x, w)
    fresh = ops.AdaptiveConv2d(4, 4, 3, w_dim=8, kernels=2)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x.clone(), w.clone()), changed) and not torch.equal(changed, exact)
