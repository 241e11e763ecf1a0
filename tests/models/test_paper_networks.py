"""That the networks are the paper's: who sees what, who gets a gradient, and derivatives of second order."""

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config, features, generator_config
from torch import nn

from workbench.errors import WorkbenchError
from workbench.models.attention import CrossAttention, PixelNorm, SelfAttention
from workbench.models.discriminator import Discriminator, DiscriminatorConfig, pyramid_for
from workbench.models.generator import Generator
from workbench.models.ops import box_pyramid
from workbench.models.vision_aided import VisionAided, VisionAidedConfig

SIZES = (64, 32, 16, 8, 4)
EVERY_OPTION_OF_G = {"excitation": {4: 16, 8: 16}, "glu": True, "spread_attention": True}
EVERY_OPTION_OF_D = {"blocks": {16: 2, 4: 2}, "collapse": "mean", "reconstruction": True}


@pytest.fixture(scope="module")
def paper_d() -> Discriminator:
    """The paper's D at 64 px (entries, exits, blocks, attention, four-layer heads) with eight channels."""
    torch.manual_seed(0)
    config = DiscriminatorConfig(
        resolution=64,
        channels=dict.fromkeys(SIZES, 8),
        entries=SIZES,
        exits=(32, 16, 8, 4, 1),
        attention={32: 1, 16: 1, 8: 1},
        text_dim=TEXT_DIM,
        text_layers=4,
        head_layers=4,
        group=0,
        blocks={64: 1, 32: 2, 16: 2, 8: 2, 4: 2},
        collapse="mean",
    )
    return Discriminator(config)


def silent(module: nn.Module, part: str) -> list[str]:
    """Parameters that got no gradient, or one of zeros throughout."""
    return [f"{part}.{n}" for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]


# --- fifteen predictions that never meet (Sec. 3.3) ---------------------------------------------------------


def test_a_level_reaches_its_own_predictions_and_no_other(paper_d):
    """No D_kj moves when x_i changes, k != i, and the gradient between them is exactly zero."""
    levels = [x.requires_grad_() for x in box_pyramid(torch.randn(1, 3, 64, 64), SIZES)]
    t = torch.randn(1, TEXT_DIM)
    (logits,) = paper_d(levels, t)
    assert len(logits) == len(paper_d.config.predictions) == 15
    assert paper_d.config.predictions[:3] == ((64, 32), (64, 16), (32, 16))
    for (entry, _), logit in zip(paper_d.config.predictions, logits, strict=True):
        gradients = torch.autograd.grad(
            logit, levels, torch.ones_like(logit), retain_graph=True, allow_unused=True
        )
        for size, gradient in zip(SIZES, gradients, strict=True):
            assert (gradient is not None and bool(gradient.any())) == (size == entry)
    with torch.no_grad():
        for i, size in enumerate(SIZES):
            moved = [x + 1 if k == i else x for k, x in enumerate(levels)]
            for (entry, _), a, b in zip(
                paper_d.config.predictions, logits, paper_d(moved, t)[0], strict=True
            ):
                assert torch.equal(a, b) == (entry != size)


def test_captions_move_psi_alone(paper_d):
    """D_ij(x, c) - D_ij(x, c') is psi_j's; the unconditional 1 x 1 says the same under both captions."""
    seen = {j: [] for j in paper_d.heads}
    hooks = [
        head.unconditional.register_forward_hook(
            lambda module, args, out, j=j: seen[j].append((args[0], out))
        )
        for j, head in paper_d.heads.items()
    ]
    x, t, other = (
        box_pyramid(torch.randn(1, 3, 64, 64), SIZES),
        torch.randn(1, TEXT_DIM),
        torch.randn(1, TEXT_DIM),
    )
    with torch.no_grad():
        one, two = paper_d(x, t)[0], paper_d(x, other)[0]
    for hook in hooks:
        hook.remove()
    index = 0
    for j, head in paper_d.heads.items():
        (phi, free), (same_phi, same_free) = seen[j]
        assert torch.equal(phi, same_phi) and torch.equal(free, same_free)
        rows = phi.shape[0]
        with torch.no_grad():
            apart = head.conditional(phi, t.expand(rows, -1)) - head.conditional(phi, other.expand(rows, -1))
        found = torch.cat(
            [a - b for a, b in zip(one[index : index + rows], two[index : index + rows], strict=True)]
        )
        assert torch.allclose(found, apart, atol=1e-5) and (apart.abs() > 1e-5).all()
        index += rows
    assert index == 15


def test_pyramids_agree_whichever_way_they_are_made():
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    at_once = box_pyramid(x, SIZES)
    step_by_step = [x]
    for size in SIZES[1:]:
        step_by_step.append(box_pyramid(step_by_step[-1], (size,))[0])
    for a, b in zip(at_once, step_by_step, strict=True):
        assert (a - b).abs().max() < 1e-14
    assert [a is b for a, b in zip(pyramid_for(at_once, SIZES), at_once, strict=True)] == [True] * 5


# --- a gradient reaches every parameter ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [({}, {}), (EVERY_OPTION_OF_G, EVERY_OPTION_OF_D)], ids=["plain", "every"]
)
def test_a_gradient_reaches_every_parameter_of_g_d_and_both_t(options):
    """One step of each, as in training: no parameter is left out, and the list of exceptions is empty."""
    G = Generator(generator_config(blocks={4: 1, 8: 2, 16: 2}, **options[0]))
    D = Discriminator(discriminator_config(**options[1]))
    text, z = features(4), torch.randn(4, 8)
    fakes, reals = G(z, text), box_pyramid(torch.randn(4, 3, 16, 16), (16, 8, 4))
    judged = [torch.cat([r, f.detach()]) for r, f in zip(reals, fakes, strict=True)]
    rows = 4 if D.decoder else 0
    result = D(judged, D.encode_text(text).repeat(2, 1), reconstruct=rows)
    logits, decoded = result if rows else (result, torch.zeros(()))
    (nn.functional.softplus(torch.stack(logits[0])).mean() + decoded.square().mean()).backward()
    assert silent(D, "D") == []
    D.requires_grad_(False)
    nn.functional.softplus(-torch.stack(D(fakes, D.encode_text(text))[0])).mean().backward()
    assert silent(G, "G") == []


def test_a_gradient_reaches_every_parameter_of_the_vision_aided_heads():
    heads = VisionAided(VisionAidedConfig(taps=("a", "b"), proj=16, width=16, embed_dim=8), [8, 16])
    maps = [torch.randn(4, 8, 16, 16), torch.randn(4, 16, 4, 4)]
    torch.stack(heads(maps, [torch.randn(4, 8)])[0]).square().sum().backward()
    assert silent(heads, "heads") == []


def test_without_text_the_same_classes_work_from_end_to_end():
    G = Generator(generator_config(text_dim=None, cross_attention={}))
    D = Discriminator(discriminator_config(text_dim=None))
    assert type(G) is Generator and G.encode_text(features(4)) is None and D.encode_text(features(4)) is None
    fakes = G(torch.randn(4, 8))
    (logits,) = D(fakes, None)
    assert len(logits) == 6
    torch.stack(logits).sum().backward()
    assert silent(G, "G") + silent(D, "D") == []
    assert not [n for n, _ in [*G.named_parameters(), *D.named_parameters()] if "text" in n or "cross" in n]


# --- derivatives of second order ----------------------------------------------------------------------------


def test_r1_differentiates_through_d_with_every_option_on():
    """The penalty's own gradient reaches every parameter that a picture's gradient depends on."""
    D = Discriminator(discriminator_config(**EVERY_OPTION_OF_D))
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    t = D.encode_text(features(4))
    logits, decoded = D(box_pyramid(x, D.config.entries), t, reconstruct=4)
    score = torch.stack(logits[0]).sum() + decoded.square().sum()
    (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in D.parameters())
    # a bias behind the last nonlinearity shifts a score and leaves its slope alone
    assert [n for n in silent(D, "D") if not n.endswith("bias")] == []


def test_pixel_norm_has_unit_moment_and_both_derivatives():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert (PixelNorm()(x).square().mean(-1) - 1).abs().max() < 1e-6
    plain = x * (x.square().mean(-1, keepdim=True) + 1e-8).rsqrt()
    assert (PixelNorm()(x) - plain).abs().max() < 1e-14
    assert torch.autograd.gradcheck(PixelNorm(), x)
    assert torch.autograd.gradgradcheck(PixelNorm(), x)
    zero = torch.zeros(1, 4, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(PixelNorm()(zero).sum(), zero)[0]).all()


def test_attention_passes_gradgradcheck():
    own = SelfAttention(8, w_dim=4, head_dim=4).double()
    cross = CrossAttention(8, text_dim=6, head_dim=4).double()
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    w = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    words = torch.randn(1, 3, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    assert torch.autograd.gradgradcheck(own, (x, w), atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda x, words: cross(x, words, mask), (x, words), atol=1e-6)


def test_a_tiny_d_passes_gradgradcheck():
    D = Discriminator(
        DiscriminatorConfig(
            resolution=8, channels={8: 4, 4: 4}, entries=(8, 4), exits=(4, 1), attention={8: 1}, text_dim=3,
            head_layers=1, text_layers=0, group=0,
        )
    ).double()  # fmt: skip
    D.compute_dtype = torch.float64
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    t = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)

    def judge(x, t):
        return torch.stack(D(box_pyramid(x, (8, 4)), t)[0])

    assert judge(x, t).dtype == torch.float64
    assert torch.autograd.gradcheck(judge, (x, t), fast_mode=True)
    assert torch.autograd.gradgradcheck(judge, (x, t), fast_mode=True, atol=1e-6)


def test_self_attention_equals_a_loop_over_its_tokens():
    """Sec. 3.2 written out: distances of tied queries, a softmax a token, w as one more token."""
    layer = SelfAttention(8, w_dim=5, head_dim=4).double()
    x, w = torch.randn(2, 8, 3, 3, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)

    def norm(v):
        return v / (v.square().mean() + 1e-8).sqrt()

    for n in range(2):
        pixels = [x[n, :, i // 3, i % 3] for i in range(9)]
        seen = torch.stack([norm(p) for p in pixels] + [norm(layer.token(w[n]))])
        q, v = layer.query(seen).unflatten(1, (2, 4)), layer.value(seen).unflatten(1, (2, 4))
        for i, pixel in enumerate(pixels):
            heads = []
            for h in range(2):
                distances = torch.stack([(q[i, h] - q[j, h]).square().sum() for j in range(10)])
                weights = torch.exp(-distances / (8 * 4) ** 0.5)
                heads.append((weights[:, None] * v[:, h]).sum(0) / weights.sum())
            after = pixel + 0.3 * layer.out(torch.cat(heads))
            after = after + 0.3 * layer.mlp_out(nn.functional.leaky_relu(layer.mlp_in(norm(after)), 0.2))
            assert (layer(x, w)[n, :, i // 3, i % 3] - after).abs().max() < 1e-6


# --- what does not fit is refused ---------------------------------------------------------------------------


def test_pictures_that_d_was_not_built_for_are_refused():
    D, t = Discriminator(discriminator_config()), torch.randn(4, TEXT_DIM)
    x = box_pyramid(torch.randn(4, 3, 16, 16), (16, 8, 4))
    with pytest.raises(
        WorkbenchError, match=r"pictures of \[16, 8\] px: expected .*\[16, 8, 4\] px.*box_pyramid"
    ):
        D(x[:2], t)
    with pytest.raises(WorkbenchError, match=r"given \[4, 4, 2\] pictures"):
        D([*x[:2], x[2][:2]], t)
    with pytest.raises(WorkbenchError, match="given 3 pictures: expected a multiple of its group of 2"):
        D([level[:3] for level in x], t[:3])
    with pytest.raises(WorkbenchError, match="its text_dim is None, so it expects none: pass t_D=None"):
        Discriminator(discriminator_config(text_dim=None))(x, t)


def test_captions_that_g_lacks_or_does_not_want_are_refused():
    G, z = Generator(generator_config()), torch.randn(2, 8)
    with pytest.raises(WorkbenchError, match="given no caption, but its text_dim is 16, so it expects one"):
        G(z)
    w = G.mapping(z, G.encode_text(features(2)).t_global)
    with pytest.raises(
        WorkbenchError, match="has cross-attention, which expects t_local: pass what encode_text"
    ):
        G.synthesis(w)
    free = Generator(generator_config(text_dim=None, cross_attention={}))
    with pytest.raises(WorkbenchError, match="given a caption, but its text_dim is None, so it expects none"):
        free.mapping(z, torch.randn(2, TEXT_DIM))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": "64"}, "resolution is '64': expected a power of two, at least 8. Choose 8, 16"),
        ({"resolution": 0}, "resolution is 0"),
        ({"channels": {4: 8, 8: 8, 16: -8}}, r"channels is \{16: -8\} where at least 0"),
        ({"channels": {4: 8, 8: 8}}, r"channels lacks a positive entry for \[16\]"),
        ({"blocks": {4: 1, 8: 0, 16: 1}}, r"blocks lacks a positive entry for \[8\]"),
        ({"attention": {64: 1}}, r"attention speaks of sizes \[64\]"),
        ({"text_dim": 0}, "text_dim is 0: expected the width.*Pass None to switch text off"),
        ({"w_dim": 0}, "w_dim is 0: expected a whole number of at least 1"),
        ({"text_layers": -1}, "text_layers is -1: expected a whole number of at least 0"),
        ({"mapping_layers": 2.5}, "mapping_layers is 2.5"),
    ],
)
def test_shapes_of_g_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        generator_config(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 4}, "resolution is 4: expected a power of two, at least 8"),
        ({"entries": (4, 8, 16)}, r"entries are \[4, 8, 16\].*List the largest first"),
        ({"entries": (16, 16)}, r"entries are \[16, 16\].*each once"),
        ({"entries": (16, 2)}, r"entries are \[16, 2\]"),
        ({"exits": ()}, r"exits are \[\].*Add 1, the last output"),
        ({"exits": (4, 4, 1)}, r"exits are \[4, 4, 1\].*each once"),
        ({"attention": {32: 1}}, r"attention speaks of sizes \[32\]"),
        ({"group": -1}, "group is -1: expected a whole number of at least 0"),
        ({"head_layers": 0}, "head_layers is 0"),
    ],
)
def test_shapes_of_d_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        discriminator_config(**changes)


def test_channels_that_no_head_divides_are_refused():
    with pytest.raises(
        WorkbenchError, match="194 channels cannot be split into 3 heads: choose multiples of 64"
    ):
        SelfAttention(194, w_dim=None)
