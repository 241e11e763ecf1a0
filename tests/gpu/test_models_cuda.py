"""The networks on a CUDA device: both convolutions, second derivatives, the same pictures as on the CPU."""

import copy

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config, features, generator_config

from workbench.models import ops
from workbench.models.attention import SelfAttention
from workbench.models.discriminator import Discriminator, pyramid_for
from workbench.models.generator import Generator
from workbench.models.ops import box_pyramid

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def full_float32():
    """TF32 has ten bits: off while CPU and GPU are compared."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def on_cuda(text):
    text.eps_txt, text.eot = text.eps_txt.cuda(), text.eot.cuda()
    return text


@pytest.mark.parametrize("kernels", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_both_convolutions_agree(kernels, size, demodulate):
    x = torch.randn(3, 5, 6, 6, dtype=torch.float64, device="cuda", requires_grad=True)
    bank = torch.randn(kernels, 7, 5, size, size, dtype=torch.float64, device="cuda", requires_grad=True)
    style = torch.randn(3, 5, dtype=torch.float64, device="cuda")
    selection = None
    if kernels > 1:
        selection = torch.randn(3, kernels, dtype=torch.float64, device="cuda").softmax(1)
    weight = torch.randn(3, 7, 6, 6, dtype=torch.float64, device="cuda")
    found = []
    for form in (ops.adaptive_conv_shared, ops.adaptive_conv_grouped):
        y = form(x, bank, style, selection, demodulate=demodulate)
        found.append([y, *torch.autograd.grad((weight * y).sum(), (x, bank))])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() < 1e-12 * max(1.0, b.abs().max().item())


def test_resampling_is_the_cpus():
    x = torch.randn(2, 3, 16, 16)
    for resample in (ops.upsample, ops.downsample):
        assert torch.allclose(resample(x.cuda()).cpu(), resample(x), atol=1e-5)


def test_self_attention_has_second_derivatives():
    layer = SelfAttention(16, w_dim=None, head_dim=8).cuda()
    x = torch.randn(2, 16, 8, 8, device="cuda", requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert layer.query.weight.grad.isfinite().all() and layer.query.weight.grad.any()


def r1_gradients(D: Discriminator, x: torch.Tensor, t: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The penalty and its gradient with respect to one kernel of the trunk."""
    x = x.detach().requires_grad_()
    (logits,) = D(box_pyramid(x, D.config.entries), t)
    (gradient,) = torch.autograd.grad(torch.stack(logits).sum(), x, create_graph=True)
    penalty = gradient.square().sum((1, 2, 3)).mean()
    (second,) = torch.autograd.grad(penalty, D.stages["16"].conv0.weight)
    return penalty.item(), second.cpu()


def test_r1_differentiates_through_d_as_on_the_cpu():
    D = Discriminator(discriminator_config(blocks={16: 2, 4: 2}, collapse="mean", reconstruction=True))
    x, t = torch.randn(4, 3, 16, 16), torch.randn(4, TEXT_DIM)
    penalty, second = r1_gradients(D, x, t)
    on_gpu, second_on_gpu = r1_gradients(D.cuda(), x.cuda(), t.cuda())
    assert on_gpu == pytest.approx(penalty, rel=1e-3)
    assert (second_on_gpu - second).abs().max() < 1e-2 * second.abs().max()


@pytest.mark.parametrize("options", [{}, {"excitation": {4: 16}, "glu": True}], ids=["plain", "options"])
def test_pictures_and_logits_are_the_cpus(options):
    G, D = Generator(generator_config(**options)), Discriminator(discriminator_config())
    z = torch.randn(4, 8)
    with torch.no_grad():
        pictures = G(z, features(4))
        logits = D(pyramid_for(pictures, D.config.entries), D.encode_text(features(4)))[0]
        there = copy.deepcopy(G).cuda()(z.cuda(), on_cuda(features(4)))
        D.cuda()
        judged = D(pyramid_for(there, D.config.entries), D.encode_text(on_cuda(features(4))))[0]
    for a, b in zip([*pictures, *logits], [*there, *judged], strict=True):
        assert torch.allclose(a, b.cpu(), atol=1e-3, rtol=1e-3)


def test_bfloat16_stays_close_to_float32():
    G = Generator(generator_config()).cuda().to(memory_format=torch.channels_last)
    z = torch.randn(4, 8, device="cuda")
    with torch.no_grad():
        exact = G(z, on_cuda(features(4)))[0]
        G.compute_dtype = torch.bfloat16
        rough = G(z, on_cuda(features(4)))[0]
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()
