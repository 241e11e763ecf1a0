"""A folder of D and its heads: the same verdicts after a round trip, and refusals that say what is wrong."""

import json

import pytest
import tiny_models
import torch

from workbench.errors import WorkbenchError
from workbench.models.critics import load_critics, save_critics
from workbench.models.discriminator import Discriminator
from workbench.models.mini_clip import new_mini_clip
from workbench.models.ops import box_pyramid
from workbench.models.vision_aided import ImageTower, VisionAided, VisionAidedConfig


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return new_mini_clip(["dog", "snow"])


@pytest.fixture(scope="module")
def critics(clip):
    torch.manual_seed(1)
    config = VisionAidedConfig(proj=8, width=8)
    tower = ImageTower(clip, config.taps, torch.float32)
    maps, _ = tower(torch.randn(4, 3, 64, 64))
    heads = VisionAided(config, [m.shape[1] for m in maps])
    heads.calibrate(maps)
    return Discriminator(tiny_models.discriminator_config()).eval(), heads.eval()


def verdicts(D, heads, tower):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1
    t = torch.randn(4, tiny_models.TEXT_DIM, generator=generator)
    with torch.no_grad():
        maps, embedding = tower(torch.nn.functional.interpolate(x, size=64))
        return torch.stack(D(box_pyramid(x, (16, 8, 4)), t)[0] + heads(maps, [embedding])[0])


def test_verdicts_survive_the_round_trip(critics, clip, tmp_path):
    D, heads = critics
    folder = save_critics(tmp_path / "critics", D, heads, {"images": 7})
    before = verdicts(D, heads, ImageTower(clip, heads.config.taps, torch.float32))
    after = verdicts(*load_critics(folder, clip))
    assert before.std() > 0.01
    assert torch.allclose(before, after, atol=2e-2 * before.abs().max())
    assert json.loads((folder / "config.json").read_text())["images"] == 7
    again = save_critics(tmp_path / "again", *load_critics(folder, clip)[:2])
    for name in ("discriminator.safetensors", "vision_aided.safetensors"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()  # rounding happens once


def test_half_copied_folders_pickles_and_other_clips_are_refused(critics, clip, tmp_path):
    folder = save_critics(tmp_path / "critics", *critics)
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(WorkbenchError, match="no folder"):
        load_critics(tmp_path / "nowhere", clip)
    config["vision_aided"]["embed_dim"] = 9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WorkbenchError, match=r"embeddings 9 wide, but this CLIP gives \d+: load"):
        load_critics(folder, clip)
    (folder / "vision_aided.safetensors").unlink()
    with pytest.raises(WorkbenchError, match=r"lacks vision_aided\.safetensors"):
        load_critics(folder, clip)
    (folder / "model.pt").write_bytes(b"")
    with pytest.raises(WorkbenchError, match="pickle"):
        load_critics(folder, clip)
