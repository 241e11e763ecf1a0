"""A pipeline of diffusers in front of the upscaler: tiny, built here, and refused where it could run code."""

import json
import shutil

import pytest
import torch
from tiny_diffusers import tiny_diffusers

from workbench.errors import WorkbenchError
from workbench.images import save_png
from workbench.pipeline import Chain, remake
from workbench.pipeline.diffusing import DiffusersSource
from workbench.pipeline.loading import load_source

PROMPT = "a dog"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny_diffusers(tmp_path_factory.mktemp("diffusers") / "tiny-sd")


@pytest.fixture(scope="module")
def source(saved):
    return DiffusersSource.from_pretrained(saved, device="cpu", num_inference_steps=2, guidance_scale=1.0)


def test_its_thumbnails_are_enlarged(source, up, tmp_path):
    chained = Chain(source, up)(PROMPT, seed=3)
    assert [stage.shape[-1] for stage in chained.stages] == [32, 128]
    small = source(PROMPT, seed=3)
    assert torch.equal(chained.images, up(small.images, PROMPT, seed=3).images)
    assert not torch.equal(small.images, source(PROMPT, seed=4).images)
    recipe = chained.recipes[0]
    assert recipe["promise"] == "close" and recipe["input"]["kind"] == "diffusers"
    assert (recipe["input"]["model"], recipe["input"]["steps"]) == ("tiny-sd", 2)
    png = save_png(chained.images, tmp_path / "a.png", recipe)
    with pytest.raises(WorkbenchError, match=r"another kind of model .diffusers"):
        remake(png, None, upscalers=[up])


def test_settings_of_a_call_reach_it(source, up):
    assert Chain(source, up)(PROMPT, height=16, width=24).images.shape == (1, 3, 64, 96)
    with pytest.raises(WorkbenchError, match=r"cannot draw a picture of a prompt so"):
        source(PROMPT, generator=None)
    with pytest.raises(WorkbenchError, match=r"prompt is empty"):
        source(" ")


def test_it_is_found_by_name(saved):
    assert isinstance(load_source(f"diffusers:{saved}", device="cpu"), DiffusersSource)
    with pytest.raises(WorkbenchError, match=r"hf download nobody/nothing"):
        load_source("diffusers:nobody/nothing", device="cpu")


def changed(saved, tmp_path, **values):
    copy = shutil.copytree(saved, tmp_path / "copy")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, **values}))
    return copy


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"_class_name": "MyPipeline"}, "code beside weights is never run"),
        ({"_class_name": ["my_pipeline", "MyPipeline"]}, "code beside weights is never run"),
        ({"unet": ["my_unet", "MyUNet"]}, "takes its unet from 'my_unet'"),
        ({"unet": ["diffusers", "NoSuchModel"]}, "cannot be loaded as a pipeline"),
    ],
)
def test_no_code_comes_in_with_a_pipeline(saved, tmp_path, values, words):
    folder = changed(saved, tmp_path, **values)
    (folder / "my_pipeline.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(WorkbenchError, match=words):
        DiffusersSource.from_pretrained(folder, device="cpu")


def test_pickles_and_other_folders_are_refused(saved, tmp_path):
    copy = shutil.copytree(saved, tmp_path / "pickled")
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(WorkbenchError, match=r"cannot be loaded as a pipeline"):
        DiffusersSource.from_pretrained(copy, device="cpu")
    with pytest.raises(WorkbenchError, match=r"holds no model_index.json"):
        DiffusersSource.from_pretrained(tmp_path, device="cpu")
