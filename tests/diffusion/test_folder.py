"""Model folders: round trips, what ships of a student, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_diffusion import tiny_diffusion, tiny_student, tiny_unet

from workbench.datasets.world.captions import vocabulary
from workbench.diffusion import lora
from workbench.diffusion.baseline import baseline_for, build
from workbench.diffusion.lora import LoraConfig
from workbench.diffusion.model import DiffusionModel
from workbench.errors import WorkbenchError
from workbench.models.clip_io import save_clip
from workbench.models.mini_clip import new_mini_clip
from workbench.models.presets import preset
from workbench.pipeline import Pipeline
from workbench.training.shipping import ship_model

PROMPT = "a white shepherd standing in a park"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = tiny_diffusion()
    folder = tmp_path_factory.mktemp("models") / "teacher"
    model.save_pretrained(folder)
    return model, folder


def test_the_folder_brings_the_same_pictures_and_the_same_hash(saved):
    model, folder = saved
    again = DiffusionModel.from_pretrained(folder, device="cpu")
    assert torch.equal(again(PROMPT, seed=2, steps=2).images, model(PROMPT, seed=2, steps=2).images)
    assert again.weight_hash == model.weight_hash
    facts = json.loads((folder / "config.json").read_text())
    assert facts["scheduler"]["rescale_betas_zero_snr"] is True
    assert facts["weights"]["unet.safetensors"] == model.weight_hash
    assert "diffusion model" in (folder / "README.md").read_text()


def test_saving_again_exchanges_the_weights_and_keeps_what_else_is_there(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved[1], folder)
    (folder / "samples.txt").write_text("mine")
    other = tiny_diffusion(seed=5)
    with pytest.raises(WorkbenchError, match="not overwritten"):
        other.save_pretrained(folder)
    other.save_pretrained(folder, overwrite=True)
    assert DiffusionModel.from_pretrained(folder, device="cpu").weight_hash == other.weight_hash
    assert (folder / "samples.txt").read_text() == "mine"


def test_a_student_is_its_adapters_beside_its_teacher(saved, tmp_path):
    teacher, folder = saved
    student = tiny_student(teacher, folder)
    place = student.save_pretrained(tmp_path / "student")
    assert sorted(p.name for p in place.iterdir()) == ["README.md", "config.json", "lora.safetensors"]
    again = DiffusionModel.from_pretrained(place, device="cpu")
    assert again.is_student and again.samplers == ("consistency",)
    pictures = again(PROMPT, seed=2, steps=3).images
    assert (pictures - student(PROMPT, seed=2, steps=3).images).abs().max() < 1e-4  # merged: other rounding
    third = DiffusionModel.from_pretrained(again.save_pretrained(tmp_path / "copy"), device="cpu")
    assert torch.equal(third(PROMPT, seed=2, steps=3).images, pictures)
    files = [(tmp_path / name / "lora.safetensors").read_bytes() for name in ("student", "copy")]
    assert files[0] == files[1] and third.weight_hash == again.weight_hash
    assert not torch.equal(again(PROMPT, seed=2, steps=1).images, teacher(PROMPT, seed=2, steps=1).images)
    with pytest.raises(WorkbenchError, match="folded in"):
        again(PROMPT, guidance=2.0)


def test_a_student_finds_its_teacher_beside_it_once_both_have_moved(saved, tmp_path):
    teacher, folder = saved
    tiny_student(teacher, folder).save_pretrained(tmp_path / "a" / "b" / "student")
    shutil.copytree(folder, tmp_path / "new" / "teacher")
    shutil.copytree(tmp_path / "a" / "b" / "student", tmp_path / "new" / "student")
    assert DiffusionModel.from_pretrained(tmp_path / "new" / "student", device="cpu").is_student


def test_models_that_ship_share_one_text_tower_and_draw_the_same(saved, tmp_path):
    teacher, folder = saved
    student = tiny_student(teacher, folder)
    place = student.save_pretrained(tmp_path / "runs" / "student")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # whose tower the teacher reads by
        tower = save_clip(new_mini_clip(vocabulary()), tmp_path / "models" / "tower")
    shipped = ship_model(folder, tmp_path / "models" / "teacher", encoder=tower)
    ship_model(place, tmp_path / "models" / "light", encoder=tower)
    assert (shipped / "text_encoder").readlink() == Path("../tower")
    shutil.move(tmp_path / "models", tmp_path / "elsewhere")
    shutil.rmtree(place)
    for name, kept, steps in (("teacher", teacher, 2), ("light", student, 1)):
        drawn = DiffusionModel.from_pretrained(tmp_path / "elsewhere" / name, device="cpu")
        difference = drawn(PROMPT, seed=2, steps=steps).images - kept(PROMPT, seed=2, steps=steps).images
        assert difference.abs().max() < 1e-4
    facts = json.loads((tmp_path / "elsewhere" / "light" / "config.json").read_text())
    assert facts["teacher"]["path"] == "../teacher"
    with pytest.raises(WorkbenchError, match="already there"):
        ship_model(folder, tmp_path / "elsewhere" / "teacher", encoder=tmp_path / "elsewhere" / "tower")
    other = save_clip(new_mini_clip(["dog"]), tmp_path / "other")
    with pytest.raises(WorkbenchError, match="another text tower"):
        ship_model(folder, tmp_path / "never", encoder=other)
    assert not (tmp_path / "never").exists()


def test_a_student_of_another_teacher_is_refused(saved, tmp_path):
    teacher, folder = saved
    place = tiny_student(teacher, folder).save_pretrained(tmp_path / "student")
    facts = json.loads((place / "config.json").read_text())
    lonely = {**facts, "teacher": {**facts["teacher"], "path": "nowhere", "name": "nobody"}}
    (place / "config.json").write_text(json.dumps(lonely))
    with pytest.raises(WorkbenchError, match="needs its teacher nobody"):
        DiffusionModel.from_pretrained(place)
    tiny_diffusion(seed=9).save_pretrained(tmp_path / "nobody")
    with pytest.raises(WorkbenchError, match="distilled from other weights"):
        DiffusionModel.from_pretrained(place)


def test_damaged_adapters_are_refused(saved, tmp_path):
    teacher, folder = saved
    place = tiny_student(teacher, folder).save_pretrained(tmp_path / "student")
    data = bytearray((place / "lora.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "lora.safetensors").write_bytes(data)
    with pytest.raises(WorkbenchError, match="is not the file that config"):
        DiffusionModel.from_pretrained(place)


def test_another_schedule_is_refused(saved, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(saved[1], folder)
    facts = json.loads((folder / "config.json").read_text())
    facts["scheduler"]["beta_schedule"] = "linear"
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(WorkbenchError, match="another noise schedule"):
        DiffusionModel.from_pretrained(folder)


def test_a_gan_folder_is_no_diffusion_model_nor_the_other_way_round(saved, tmp_path):
    with pytest.raises(WorkbenchError, match=r"holds a diffusion model, .* `workbench compare` takes it"):
        Pipeline.from_pretrained(saved[1])
    with pytest.raises(WorkbenchError, match="a GAN, which turns prompts"):
        DiffusionModel.from_pretrained("assets/models/shepherd-64")


# ---------------------------------------------------------------- adapters


def inputs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 16, 16, generator=generator)
    text = torch.randn(2, 5, 128, generator=generator)
    return (x, torch.tensor([10, 999]), text), {"class_labels": torch.randn(2, 128, generator=generator)}


def test_a_fresh_student_is_its_teacher_bit_for_bit():
    unet, (args, more) = tiny_unet(), inputs()
    before = unet(*args, **more).sample
    lora.attach(unet, LoraConfig(rank=4))
    assert torch.equal(unet(*args, **more).sample, before)


def test_merged_adapters_are_gone_and_draw_the_same():
    unet, (args, more) = tiny_unet(), inputs()
    before = set(dict(unet.named_parameters()))
    with torch.no_grad():
        for p in lora.attach(unet, LoraConfig(rank=2, alpha=4)).values():
            p.add_(0.05)
    worn = unet(*args, **more).sample
    kept = lora.merged(unet)
    assert set(dict(unet.named_parameters())) == before and all(".lora_" in name for name in kept)
    assert (unet(*args, **more).sample - worn).abs().max() < 1e-4 * worn.abs().max()


def test_the_teacher_is_under_the_adapters():
    unet, (args, more) = tiny_unet(), inputs()
    before = unet(*args, **more).sample
    with torch.no_grad():
        for p in lora.attach(unet, LoraConfig(rank=4)).values():
            p.add_(0.1)
    assert not torch.equal(unet(*args, **more).sample, before)
    with lora.teacher(unet):
        assert torch.equal(unet(*args, **more).sample, before)
    assert not torch.equal(unet(*args, **more).sample, before)


def test_an_adapter_adds_the_low_rank_product():
    """W x + (alpha / rank) B A x of one linear layer, in float64."""
    unet = tiny_unet()
    own = lora.attach(unet, LoraConfig(rank=2, alpha=6))
    layer = unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1.to_q
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.normal_()
    x = torch.randn(3, a.shape[1])
    wanted = x.double() @ (layer.base_layer.weight.double() + 3.0 * b.double() @ a.double()).T
    assert (layer(x) - wanted).abs().max() < 1e-4
    assert sum(p.requires_grad for p in unet.parameters()) == len(own)


def test_what_ships_of_a_student_of_the_demo_is_below_1200_kB():
    config = baseline_for(preset("shepherd-64").generator, embed_dim=128)
    with torch.device("meta"):
        count = sum(p.numel() for p in lora.attach(build(config), LoraConfig()).values())
    assert 2 * count < 1_150_000


def test_wearing_the_average_leaves_the_student_as_it_was():
    unet, (args, more) = tiny_unet(), inputs()
    own = lora.attach(unet, LoraConfig(rank=2))
    average = lora.Adapter(unet)
    other = {name: torch.randn_like(p) for name, p in own.items()}
    plain = unet(*args, **more).sample
    kept = lora.Adapter(tiny_worn(other))
    with lora.worn(unet, kept):
        assert not torch.equal(unet(*args, **more).sample, plain)
    assert torch.equal(unet(*args, **more).sample, plain)
    assert set(average.tensors()) == set(own)


def tiny_worn(tensors):
    unet = tiny_unet()
    lora.attach(unet, LoraConfig(rank=2))
    lora.load(unet, tensors, "test")
    return unet


def test_adapters_that_do_not_fit_are_refused():
    unet = tiny_unet()
    own = lora.attach(unet, LoraConfig(rank=2))
    some = dict(list(own.items())[:-1])
    with pytest.raises(WorkbenchError, match="found nothing"):
        lora.load(unet, some, "lora.safetensors")
    with pytest.raises(WorkbenchError, match="targets are"):
        LoraConfig(targets=("everything",))
    with pytest.raises(WorkbenchError, match="rank"):
        LoraConfig(rank=0)
