"""A packed image tower says what it said, in a smaller file, and what others read of it is untouched."""

import pytest
import torch

from workbench.datasets.world import draw_factors, render
from workbench.errors import WorkbenchError
from workbench.models.clip_io import load_clip, save_clip
from workbench.models.mini_clip import new_mini_clip
from workbench.training.clip_packing import pack


@pytest.fixture(scope="module")
def renders():
    return render([draw_factors(11, i) for i in range(48)], 64, supersample=1)


@pytest.fixture
def clip():
    torch.manual_seed(0)
    clip = new_mini_clip(["dog", "snow"])
    clip.model.eval().requires_grad_(False)
    return clip


def test_it_says_what_it_said(clip, renders, tmp_path):
    x, y = renders[:32], renders[32:]
    visual = clip.model.visual
    before, middle = clip.encode_image(y), visual.layer3(visual.layer2(visual.layer1(visual.stem(y))))
    untouched = {
        k: v.clone() for k, v in clip.model.state_dict().items() if "layer4" not in k and "pool" not in k
    }
    save_clip(clip, tmp_path / "whole")
    facts = pack(clip, x, y, lost=1e-3)
    after = clip.encode_image(y)
    cosine = (before * after).sum(1)
    assert facts["cosine_mean"] == pytest.approx(cosine.mean().item(), abs=1e-6)
    assert facts["cosine_least"] == pytest.approx(cosine.min().item(), abs=1e-6) and cosine.min() > 0.99
    assert set(facts["ranks"]) >= {"layer4.0.conv2", "attnpool.q_proj", "attnpool.v_proj"}
    assert torch.equal(visual.layer3(visual.layer2(visual.layer1(visual.stem(y)))), middle)
    assert all(torch.equal(clip.model.state_dict()[k], v) for k, v in untouched.items())
    save_clip(clip, tmp_path / "packed")
    whole, packed = ((tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "packed"))
    assert packed < 0.5 * whole
    again = load_clip(tmp_path / "packed")
    assert torch.equal(again.encode_image(y), after)
    save_clip(again, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "packed" / "model.safetensors"
    ).read_bytes()


def test_what_is_asked_for_bounds_what_is_lost(clip, renders):
    rough = pack(clip, renders[:32], renders[32:], lost=0.2)
    assert rough["cosine_mean"] < 0.9999
    assert all(rank >= 1 for rank in rough["ranks"].values())


def test_another_tower_is_refused(clip, renders):
    clip.model.visual = torch.nn.Identity()
    with pytest.raises(WorkbenchError, match="expected open_clip's ModifiedResNet"):
        pack(clip, renders, renders)
