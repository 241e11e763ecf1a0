"""L2 attention against the pairwise-distance formula, its symmetries, and derivatives of second order."""

import torch

from workbench.models import attention


def test_l2_attention_equals_the_pairwise_distance_formula():
    torch.manual_seed(0)
    q, v = torch.randn(2, 3, 7, 4, dtype=torch.float64), torch.randn(2, 3, 7, 4, dtype=torch.float64)
    distance = (q[:, :, :, None] - q[:, :, None]).square().sum(-1)
    weights = (-0.3 * distance).softmax(-1)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64))
    # softmax runs in float32 by design, hence the tolerance
    assert (attention.l2_attention(q, v, 0.3) - weights @ v).abs().max() < 1e-5


def test_l2_attention_ignores_a_translation_and_follows_a_permutation():
    torch.manual_seed(0)
    q, v = torch.randn(1, 2, 9, 4), torch.randn(1, 2, 9, 4)
    out = attention.l2_attention(q, v, 0.2)
    assert torch.allclose(attention.l2_attention(q + 1.5, v, 0.2), out, atol=1e-4)
    order = torch.randperm(9)
    assert torch.allclose(
        attention.l2_attention(q[:, :, order], v[:, :, order], 0.2), out[:, :, order], atol=1e-5
    )


def test_self_attention_has_second_derivatives():
    torch.manual_seed(0)
    layer = attention.SelfAttention(8, w_dim=None, head_dim=4).double()
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for p in layer.parameters()
        if p.shape != layer.mlp_out.bias.shape
    )


def test_logits_start_with_about_unit_deviation():
    torch.manual_seed(0)
    layer = attention.SelfAttention(64, w_dim=None)
    q = layer.query(layer.norm(torch.randn(1, 256, 64)))[0]
    logits = -layer.scale * torch.cdist(q, q).square()
    off_diagonal = logits[~torch.eye(256, dtype=torch.bool)]
    assert 0.7 < off_diagonal.std().item() < 1.4


def test_w_reaches_the_pixels_as_a_token():
    torch.manual_seed(0)
    layer = attention.SelfAttention(32, w_dim=16)
    x = torch.randn(2, 32, 4, 4)
    assert layer(x, torch.randn(2, 16)).shape == x.shape
    assert not torch.allclose(layer(x, torch.ones(2, 16)), layer(x, -torch.ones(2, 16)))


def test_cross_attention_sees_no_masked_word():
    torch.manual_seed(0)
    layer = attention.CrossAttention(32, text_dim=16)
    x, words = torch.randn(2, 32, 4, 4), torch.randn(2, 5, 16)
    mask = torch.tensor([[True, True, False, False, False], [True, True, True, True, False]])
    out = layer(x, words, mask)
    changed = words.clone()
    changed[0, 2:] += 10
    changed[1, 4:] += 10
    assert torch.allclose(layer(x, changed, mask), out)
    changed[1, 3] += 10
    assert not torch.allclose(layer(x, changed, mask)[1], out[1])


def test_tokens_and_pictures_round_trip():
    x = torch.randn(2, 6, 4, 4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(attention.picture_of(attention.tokens_of(x), x), x)


def test_the_gradient_of_small_features_stays_finite_in_fp16():
    """1 / sigma^2 alone leaves the range of fp16 where sigma is 1e-3; the gradient itself does not."""
    torch.manual_seed(0)
    x, g = 1e-3 * torch.randn(5, 16), torch.randn(5, 16)
    x[0] = 0  # sigma is that of the epsilon
    half, exact = x.half().requires_grad_(), x.half().double().requires_grad_()
    (own,) = torch.autograd.grad(attention.PixelNorm()(half), half, g.half())
    (expected,) = torch.autograd.grad(attention.PixelNorm()(exact), exact, g.half().double())
    assert (own.double() - expected).abs().max() < 4e-3 * expected.abs().max()
