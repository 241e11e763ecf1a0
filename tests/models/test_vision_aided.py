"""The frozen tower, its random projection and the heads."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models.clip_io import build_clip
from workbench.models.mini_clip import mini_clip_cfg, new_mini_clip
from workbench.models.tokens import CompactTokenizer
from workbench.models.vision_aided import (
    ImageTower,
    RandomProjection,
    VisionAided,
    VisionAidedConfig,
    fold_batch_norm,
)


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    clip = new_mini_clip(["dog", "snow"])
    for module in clip.model.visual.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that are not those of a fresh layer
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
    clip.model.eval()
    return clip


def test_folding_batch_norm_changes_nothing(clip):
    x = torch.randn(2, 3, 64, 64)
    folded = fold_batch_norm(clip.model.visual)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert torch.allclose(folded(x), clip.model.visual(x), atol=1e-4, rtol=1e-3)


def test_taps_give_maps_and_the_embedding_is_clips_own(clip):
    tower = ImageTower(clip, ("act3", "layer1", "layer2"), torch.float32)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    maps, embedding = tower(x)
    assert [m.shape[-1] for m in maps] == [32, 16, 8]
    assert torch.allclose(embedding, clip.encode_image(x), atol=1e-4)


def test_weights_are_frozen_but_gradients_reach_the_picture(clip):
    tower = ImageTower(clip, ("layer2",), torch.float32).train()
    assert not tower.training and not any(p.requires_grad for p in tower.parameters())
    x = torch.zeros(2, 3, 64, 64, requires_grad=True)
    tower(x)[0][0].square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_unknown_tap_names_the_layers_there_are(clip):
    with pytest.raises(WorkbenchError, match=r"no layer 'layer9'.*layer1"):
        ImageTower(clip, ("layer9",), torch.float32)


def test_random_projection_is_fixed_by_its_seed_and_has_no_parameters():
    maps = [torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)]
    one, same, other = (RandomProjection([8, 16], 4, seed) for seed in (0, 0, 1))
    assert not list(one.parameters())
    for a, b, c in zip(one(maps), same(maps), other(maps), strict=True):
        assert torch.equal(a, b) and not torch.allclose(a, c)


def test_coarse_maps_are_mixed_into_fine_ones_and_never_back():
    maps = [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    projection = RandomProjection([8, 16], 4, 0)
    fine, coarse = projection(maps)
    changed_fine, changed_coarse = projection([maps[0], maps[1] + 1])
    assert not torch.allclose(changed_fine, fine)
    assert torch.equal(projection([maps[0] + 1, maps[1]])[1], coarse) and not torch.allclose(
        changed_coarse, coarse
    )


def test_calibration_brings_each_map_to_unit_deviation():
    heads = VisionAided(VisionAidedConfig(taps=("a", "b"), proj=32, width=32, embed_dim=8), [8, 16])
    maps = [torch.randn(4, 8, 8, 8) * 100, torch.randn(4, 16, 4, 4) * 0.01]
    assert not heads.calibrated
    heads.calibrate(maps)
    assert heads.calibrated
    for m, scale in zip(maps, heads.projection.scale, strict=True):
        assert abs((m * scale).square().mean().item() - 1) < 1e-4


def test_heads_judge_several_caption_sets_at_once():
    heads = VisionAided(VisionAidedConfig(taps=("a", "b"), proj=32, width=32, embed_dim=8), [8, 16])
    maps = [torch.randn(4, 8, 8, 8), torch.randn(4, 16, 4, 4)]
    t, other = torch.randn(4, 8), torch.randn(4, 8)
    heads.eval()  # spectral normalisation keeps its estimate
    both = heads(maps, [t, other])
    assert len(both) == 2 and len(both[0]) == 2 and both[0][0].shape == (4,)
    assert torch.allclose(both[1][1], heads(maps, [other])[0][1], atol=1e-5)
    assert not torch.allclose(both[0][0], both[1][0])


def test_empty_taps_are_refused():
    with pytest.raises(WorkbenchError, match="taps is empty"):
        VisionAidedConfig(taps=())


def test_taps_from_coarse_to_fine_are_refused():
    clip = new_mini_clip(["dog", "snow"])
    config = VisionAidedConfig(taps=("layer2", "layer1"), proj=8, width=8, embed_dim=None)
    tower = ImageTower(clip, config.taps, torch.float32)
    maps, _ = tower(torch.zeros(2, 3, 64, 64))
    heads = VisionAided(config, [m.shape[1] for m in maps])
    with pytest.raises(
        WorkbenchError, match=r"taps \['layer2', 'layer1'\] have sides \[8, 16\]: expected the finest"
    ):
        heads(maps, None)
    with pytest.raises(WorkbenchError, match=r"sides \[12, 8\]: expected the finest first"):
        heads(
            [maps[0].new_zeros(2, m.shape[1], side, side) for m, side in zip(maps, (12, 8), strict=True)],
            None,
        )


# --- a Vision Transformer as image tower --------------------------------------------------------------------

BLOCKS = tuple(f"transformer.resblocks.{i}" for i in (0, 1, 2))


@pytest.fixture(scope="module")
def vit():
    """An open_clip ViT of ViT-B/32's form, small: 32 px in patches of 8, so 4 x 4 and a class token."""
    torch.manual_seed(0)
    tokenizer = CompactTokenizer(["dog", "snow"])
    cfg = mini_clip_cfg(tokenizer.vocab_size, context_length=tokenizer.context_length)
    cfg |= {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "head_width": 16},
    }
    clip = build_clip(cfg, tokenizer, name="tiny-vit")
    clip.model.eval()
    return clip


def test_a_vits_tokens_come_back_on_their_grid(vit):
    tower = ImageTower(vit, ("conv1", *BLOCKS), torch.float32)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    maps, embedding = tower(x)
    assert [tuple(m.shape) for m in maps] == [(2, 48, 4, 4)] * 4
    assert torch.allclose(embedding, vit.encode_image(x), atol=1e-5)
    # block 0 by hand: class token first, then the patches row by row
    visual = vit.model.visual
    with torch.no_grad():
        patches = maps[0].flatten(2).transpose(1, 2)
        tokens = torch.cat([visual.class_embedding.expand(2, 1, -1), patches], dim=1)
        out = visual.transformer.resblocks[0](visual.ln_pre(tokens + visual.positional_embedding))
    for row, column in ((0, 0), (0, 3), (2, 1), (3, 3)):
        assert torch.allclose(maps[1][:, :, row, column], out[:, 1 + 4 * row + column], atol=1e-5)


def test_heads_on_a_vit_judge_and_send_a_gradient_to_the_picture(vit):
    tower = ImageTower(vit, BLOCKS, torch.float32)
    config = VisionAidedConfig(taps=BLOCKS, proj=16, width=16, embed_dim=24)
    heads = VisionAided(config, [48, 48, 48])
    x = (torch.rand(4, 3, 64, 64) * 2 - 1).requires_grad_()  # resized to what the tower wants
    maps, embedding = tower(x)
    heads.calibrate(maps)
    (logits,) = heads(maps, [vit.encode_text(["dog", "dog", "snow", "snow"])])
    assert len(logits) == 3 and embedding.shape == (4, 24)
    torch.stack(logits).sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()
    assert not any(p.grad is not None for p in tower.parameters())


@pytest.mark.parametrize(
    ("tap", "words"),
    [
        ("transformer.resblocks.0.attn", "gives tuple: expected a map .* whole block"),
        ("transformer.resblocks.0.attn.out_proj", "gives NoneType"),
    ],
)
def test_a_tap_that_gives_no_map_is_refused(vit, tap, words):
    with pytest.raises(WorkbenchError, match=words):
        ImageTower(vit, (tap,), torch.float32)(torch.zeros(1, 3, 32, 32))


def test_a_tap_behind_the_pooling_is_refused(clip):
    with pytest.raises(WorkbenchError, match=r"'attnpool' of the image tower gives shape \[1, 128\]"):
        ImageTower(clip, ("attnpool",), torch.float32)(torch.zeros(1, 3, 64, 64))


def test_captions_of_another_clip_are_refused():
    heads = VisionAided(VisionAidedConfig(taps=("a",), proj=16, width=16, embed_dim=8), [8])
    maps = [torch.randn(2, 8, 4, 4)]
    with pytest.raises(WorkbenchError, match=r"1 maps and captions \[12\] wide: expected 1 maps and 8"):
        heads(maps, [torch.randn(2, 12)])
    with pytest.raises(WorkbenchError, match="2 maps and captions"):
        heads(maps * 2, [torch.randn(2, 8)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"taps": ("layer1", "layer1")}, "expected each layer once"),
        ({"proj": 0}, "proj is 0: expected a whole number of at least 1"),
        ({"group": -2}, "group is -2"),
    ],
)
def test_heads_that_cannot_be_are_refused(changes, words):
    with pytest.raises(WorkbenchError, match=words):
        VisionAidedConfig(**changes)
