"""Options of the lightweight-gan lineage: gates, gated units, D's decoder, deeper stages."""

import math

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config, features, generator_config

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.lightweight import GLU_GAIN, Decoder, SkipExcitation, glu
from workbench.models.ops import box_pyramid


def test_glu_is_the_gated_product_at_unit_variance():
    x = torch.randn(64, 8, 16, 16, dtype=torch.float64)
    y = glu(x)
    assert torch.allclose(y[3, 1], x[3, 1] * GLU_GAIN / (1 + torch.exp(-x[3, 5])), atol=1e-12)
    assert abs(y.var().item() - 1) < 0.02


def test_gates_start_near_one_and_scale_whole_channels():
    sle = SkipExcitation(16, 24)
    low, high = torch.randn(5, 16, 4, 4), torch.randn(5, 24, 8, 8)
    gate = sle.gate(low)
    assert gate.shape == (5, 24) and 0.9 < gate.mean().item() < 1 and gate.min() > 0.8
    assert torch.allclose(sle(low, high), high * gate[:, :, None, None])
    turned = low.flip(2)  # the gate asks what there is, not where
    assert torch.allclose(sle.gate(turned), gate, atol=1e-6)


def test_excitation_gates_the_high_size_by_the_low_one():
    G = Generator(generator_config(excitation={4: 16}))
    z, text = torch.randn(2, 8), features(2)
    before = G(z, text)
    with torch.no_grad():
        G.excitation["4_16"].excite.bias.fill_(-50.0)  # shut: nothing of the features at 16 px is left
    after = G(z, text)
    assert torch.equal(before[1], after[1]) and torch.equal(before[2], after[2])
    increment = after[0] - torch.nn.functional.interpolate(
        after[1], scale_factor=2, mode="bilinear", align_corners=False
    )
    assert increment.abs().max() < 1e-6
    assert (before[0] - after[0]).abs().max() > 1e-2


def test_gated_units_double_the_kernels_and_keep_the_scale_of_the_picture():
    plain, gated = Generator(generator_config()), Generator(generator_config(glu=True))
    assert gated.blocks["8"][0].conv0.weight.shape[0] == 2 * plain.blocks["8"][0].conv0.weight.shape[0]
    z, text = torch.randn(16, 8), features(7).eps_txt
    some = features(7)
    some.eps_txt, some.eot = text.repeat(3, 1, 1)[:16], some.eot.repeat(3)[:16]
    ratio = gated(z, some)[0].std() / plain(z, some)[0].std()
    assert 0.5 < ratio.item() < 2


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_reconstruction_decodes_half_the_size_of_the_leading_rows(resolution):
    sizes = [resolution >> i for i in range(int(math.log2(resolution)) - 1)]
    config = discriminator_config(
        resolution=resolution,
        channels=dict.fromkeys(sizes, 16),
        entries=(resolution, 4),
        exits=(4, 1),
        reconstruction=True,
    )
    D = Discriminator(config)
    x, t = torch.randn(4, 3, resolution, resolution), torch.randn(4, TEXT_DIM)
    pyramid = box_pyramid(x, config.entries)
    plain = D(pyramid, t)
    logits, decoded = D(pyramid, t, reconstruct=2)
    assert decoded.shape == (2, 3, resolution // 2, resolution // 2) and decoded.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(plain[0], logits[0], strict=True))
    # only the finest entry's own rows are decoded
    pyramid[0][2:] += 1
    pyramid[1] += 1
    assert torch.allclose(D(pyramid, t, reconstruct=2)[1], decoded, atol=1e-5)
    pyramid[0][:2] += 1
    assert not torch.allclose(D(pyramid, t, reconstruct=2)[1], decoded, atol=1e-3)


def test_the_decoder_can_learn_to_repaint():
    """Gradients reach the trunk, and a few steps bring the decoded picture nearer to the true one."""
    D = Discriminator(discriminator_config(reconstruction=True))
    x = torch.nn.functional.interpolate(torch.randn(4, 3, 4, 4), size=16, mode="bilinear")
    pyramid, target = box_pyramid(x, D.config.entries), box_pyramid(x, (8,))[0]
    optimizer = torch.optim.Adam(D.parameters(), lr=1e-2)
    errors = []
    for _ in range(12):
        _, decoded = D(pyramid, torch.zeros(4, TEXT_DIM), reconstruct=4)
        loss = (decoded - target).square().mean()
        errors.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert D.stages["16"].conv0.weight.grad.abs().sum() > 0
    assert errors[-1] < 0.5 * errors[0]


def test_the_decoder_doubles_up_to_half_the_resolution():
    assert len(Decoder(16, 16).convs) == 0 and len(Decoder(16, 128).convs) == 3
    assert Decoder(16, 128)(torch.randn(1, 16, 8, 8)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("collapse", ["dense", "mean"])
@pytest.mark.parametrize("group", [0, 2])
def test_deeper_stages_keep_every_output(collapse, group):
    config = discriminator_config(blocks={16: 2, 8: 1, 4: 2}, collapse=collapse, group=group)
    D = Discriminator(config)
    assert [len(D.stages[s].before) for s in ("16", "8")] == [1, 0]
    logits = D(box_pyramid(torch.randn(2, 3, 16, 16), config.entries), torch.randn(2, TEXT_DIM))[0]
    assert len(logits) == 6 and all(x.shape == (2,) for x in logits)


def test_more_blocks_keep_the_scale_of_the_features():
    x = torch.randn(8, 32, 16, 16)
    shallow, deep = (
        Discriminator(discriminator_config(attention={}, blocks={16: n})).stages["16"] for n in (1, 4)
    )
    assert 0.5 < (deep(x).std() / shallow(x).std()).item() < 2


def test_one_block_each_has_the_names_it_always_had():
    names = {name for name, _ in Discriminator(discriminator_config()).named_parameters()}
    assert {
        "stages.16.conv0.weight",
        "stages.16.skip.weight",
        "stages.4.conv.weight",
        "stages.4.dense.bias",
    } <= names
    assert not [name for name in names if "before" in name or "decoder" in name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"excitation": {8: 8}}, "excitation leads from 8 to 8 px: expected a larger size"),
        ({"excitation": {4: 32}}, "excitation leads from 4 to 32 px"),
        ({"excitation": {2: 8}}, r"excitation speaks of sizes \[2\]"),
        ({"excitation": 4}, "excitation is 4: expected whole numbers by size"),
    ],
)
def test_gates_that_lead_nowhere_are_refused(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        generator_config(**changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks": {16: 0}}, r"blocks is \{16: 0\} where at least 1"),
        ({"blocks": {32: 1}}, r"blocks speaks of sizes \[32\]"),
        ({"collapse": "max"}, "collapse is 'max': expected dense or mean"),
        (
            {
                "resolution": 8,
                "channels": {8: 8, 4: 8},
                "entries": (8,),
                "exits": (1,),
                "reconstruction": True,
            },
            "reconstruction is on at 8 px: expected at least 16",
        ),
    ],
)
def test_options_of_d_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        discriminator_config(**changes)


def test_reconstruct_without_a_decoder_or_beyond_the_batch_is_refused():
    x = box_pyramid(torch.randn(2, 3, 16, 16), (16, 8, 4))
    with pytest.raises(WorkbenchError, match=r"this D has no decoder.*reconstruction=True"):
        Discriminator(discriminator_config())(x, torch.randn(2, TEXT_DIM), reconstruct=1)
    D = Discriminator(discriminator_config(reconstruction=True))
    for rows in (3, -1):
        with pytest.raises(WorkbenchError, match=f"reconstruct is {rows}: expected 0 to 2"):
            D(x, torch.randn(2, TEXT_DIM), reconstruct=rows)
