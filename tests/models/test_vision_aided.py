"""The frozen tower, its random projection and the heads."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.models.mini_clip import new_mini_clip
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
    heads.calibrate(maps)
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
