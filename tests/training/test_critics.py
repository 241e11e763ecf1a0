"""The judges of a run as a folder: what was trained, to fp16, and refusals in words."""

import json
from dataclasses import replace

import pytest
import tiny_run
import torch

from workbench.errors import WorkbenchError
from workbench.models.clip_io import load_clip
from workbench.models.critics import load_critics
from workbench.pipeline import Pipeline
from workbench.training import checkpoint, players, warm_start
from workbench.training.critics import export_critics
from workbench.training.trainer import train


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    """Two steps of judges beside a generator that stands still, and the run that it comes from."""
    data, clip = inputs
    root = tmp_path_factory.mktemp("critics")
    kept = {"clip": clip, "preset": tiny_run.tiny_preset(heads=True), "device": "cpu", "progress": False}
    config = tiny_run.tiny_config(vision_weight=1.0, images=16)
    train(config, data, root / "whole", **kept)
    alone = tiny_run.tiny_config(vision_weight=1.0, images=16, lr_G=0.0)
    train(alone, data, root / "alone", start_from=root / "whole" / "model", **kept)
    return root / "alone"


def test_the_judges_of_a_run_are_those_of_its_checkpoint(run, inputs, tmp_path):
    folder = export_critics(run, tmp_path / "critics", clip=inputs[1])
    D, heads, _ = load_critics(folder, load_clip(inputs[1]))
    trained = checkpoint.newest(run)[0].tensors()
    for module, name in ((D, "D"), (heads, "heads")):
        for key, value in module.state_dict().items():
            assert torch.allclose(value, trained[name][key].to(value.dtype), rtol=1e-3, atol=1e-6), key
    facts = json.loads((folder / "config.json").read_text())
    beside = Pipeline.from_pretrained(run.parent / "whole" / "model").weight_hash
    assert (facts["images"], facts["generator"], facts["G_learned"]) == (16, beside, False)


def test_those_of_a_whole_run_judge_its_own_generator(run, inputs, tmp_path):
    whole = run.parent / "whole"
    folder = export_critics(whole, tmp_path / "critics", clip=inputs[1])
    facts = json.loads((folder / "config.json").read_text())
    assert facts["G_learned"] and facts["generator"] == Pipeline.from_pretrained(whole / "model").weight_hash


def test_the_generator_they_learned_beside_is_the_one_they_started_from(run):
    before, after = (
        checkpoint.newest(folder)[0].tensors()["G_ema"] for folder in (run.parent / "whole", run)
    )
    for key, value in after.items():
        assert torch.allclose(value, before[key], rtol=1e-3, atol=1e-6), key  # the model is fp16


def test_a_folder_that_is_there_and_a_run_that_has_no_judges_are_refused(run, inputs, tmp_path):
    folder = export_critics(run, tmp_path / "critics", clip=inputs[1])
    with pytest.raises(WorkbenchError, match="critics"):
        export_critics(run, folder, clip=inputs[1])
    export_critics(run, folder, clip=inputs[1], overwrite=True)
    with pytest.raises(WorkbenchError, match="belongs to something else"):
        export_critics(folder, tmp_path / "no", clip=inputs[1])
    blind = tmp_path / "blind"
    train(
        tiny_run.tiny_config(images=16), inputs[0], blind, clip=inputs[1], preset=tiny_run.tiny_preset(),
        device="cpu", progress=False,
    )  # fmt: skip
    with pytest.raises(WorkbenchError, match="trains no heads"):
        export_critics(blind, tmp_path / "no", clip=inputs[1])
    assert not (tmp_path / "no").exists()


def test_a_run_goes_on_from_a_model_and_its_critics(run, inputs, tmp_path):
    """D and the heads of the folder beside the model's G, from the first step on; after a stop too."""
    folder = export_critics(run, tmp_path / "critics", clip=inputs[1])
    model = run.parent / "whole" / "model"
    cast = players.build(
        tiny_run.tiny_preset(heads=True), tiny_run.tiny_config(vision_weight=1.0, seed=9), inputs[1],
        "cpu", "fp32",
    )  # fmt: skip
    taken = warm_start.take_over(cast, model, folder)
    D, heads, _ = load_critics(folder, load_clip(inputs[1]))
    for name, given in {"D": D, "heads": heads}.items():
        for key, value in cast.modules()[name].state_dict().items():
            assert torch.equal(value, given.state_dict()[key]), key
    assert taken.shares == {"G": 1.0, "D": 1.0, "heads": 1.0}
    assert f"judged by {folder}" in taken.text

    options = {"heads": True, "images": 16, "seed": 5}
    begun = {"start_from": model, "start_critics": folder}
    tiny_run.run_tiny(inputs, tmp_path / "run", **options, **begun)
    facts = json.loads((tmp_path / "run" / "config.json").read_text())["started_from"]
    assert (facts["source"], facts["critics"]) == (str(model), str(folder))
    tiny_run.run_tiny(inputs, tmp_path / "without", **options, start_from=model)
    judges = [checkpoint.newest(tmp_path / name)[0].tensors()["D"] for name in ("run", "without")]
    assert any(not torch.equal(judges[0][key], judges[1][key]) for key in judges[0])


def test_critics_without_their_g_or_of_other_networks_are_refused(run, inputs, tmp_path):
    folder = export_critics(run, tmp_path / "critics", clip=inputs[1])
    with pytest.raises(WorkbenchError, match="without a G"):
        tiny_run.run_tiny(inputs, tmp_path / "alone", heads=True, start_critics=folder)
    assert not (tmp_path / "alone" / "config.json").exists()
    model = run.parent / "whole" / "model"
    with pytest.raises(WorkbenchError, match="no critics folder"):
        warm_start.take_over(
            players.build(tiny_run.tiny_preset(heads=True), tiny_run.tiny_config(), inputs[1], "cpu", "fp32"),
            model,
            model,
        )
    wide = tiny_run.tiny_preset(heads=True)
    wide = replace(wide, discriminator=replace(wide.discriminator, channels={4: 16, 8: 24}, text_dim=None))
    cast = players.build(wide, tiny_run.tiny_config(vision_weight=1.0), inputs[1], "cpu", "fp32")
    with pytest.raises(WorkbenchError, match="Next to nothing of the critics"):
        warm_start.take_over(cast, model, folder)
