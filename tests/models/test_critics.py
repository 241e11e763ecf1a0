"""A folder of D and its heads: the same verdicts after a round trip, and refusals that say what is wrong."""

import copy
import json

import pytest
import tiny_models
import torch

from workbench.errors import WorkbenchError
from workbench.latents.encoder import open_eyes
from workbench.models.clip_io import save_clip
from workbench.models.critics import load_critics, save_critics
from workbench.models.discriminator import Discriminator
from workbench.models.mini_clip import new_mini_clip
from workbench.models.ops import box_pyramid
from workbench.models.vision_aided import ImageTower, VisionAided, VisionAidedConfig, eyes_hash


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


def test_another_clip_is_refused_where_the_folder_tells_the_eyes(critics, clip, tmp_path):
    torch.manual_seed(3)
    other = new_mini_clip(["dog", "snow"])  # of the same shape, with fresh weights
    folder = save_critics(tmp_path / "critics", *critics, clip=clip)
    assert len(load_critics(folder, clip)) == 3
    with pytest.raises(
        WorkbenchError, match=r"judges the features of mini-clip .* load the CLIP it was trained"
    ):
        load_critics(folder, other)
    assert load_critics(save_critics(tmp_path / "older", *critics), other)  # tells none, as what shipped


def test_the_hash_of_the_eyes_is_the_one_that_encoders_are_bound_by(clip, tmp_path):
    assert eyes_hash(clip) == open_eyes(save_clip(clip, tmp_path / "clip")).weight_hash


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("discriminator", None, "config.json lacks discriminator: copy"),
        ("discriminator", {"new_option": 1}, "a discriminator this version does not know .*new_option"),
        ("discriminator", {"entries": 3}, "describes no discriminator: entries"),
        ("vision_aided", None, "config.json lacks vision_aided: copy"),
        ("vision_aided", {"new_option": 1}, "a vision_aided this version does not know"),
        ("vision_aided", {"taps": 5}, "describes no vision_aided: taps"),
        ("clip", {}, "expected its name and the hash of its eyes"),
    ],
)
def test_a_damaged_config_is_told_with_its_file(critics, clip, tmp_path, name, damage, words):
    folder = save_critics(tmp_path / "critics", *critics)
    config = json.loads((folder / "config.json").read_text())
    if damage is None:
        del config[name]
    else:
        config[name] = {**config.get(name, {}), **damage}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WorkbenchError, match=words):
        load_critics(folder, clip)


def test_weights_that_fp16_cannot_hold_are_not_written(critics, tmp_path):
    D = copy.deepcopy(critics[0])
    with torch.no_grad():
        next(D.parameters()).fill_(1e5)
    with pytest.raises(WorkbenchError, match=r"holds values beyond fp16 \(65504\)"):
        save_critics(tmp_path / "critics", D, critics[1])
    assert not (tmp_path / "critics").exists()
