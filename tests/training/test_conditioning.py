"""Unconditional, class- or text-conditional, by the captions of the set; and a whole run without text."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

from workbench.errors import WorkbenchError
from workbench.models.mini_clip import new_mini_clip
from workbench.models.presets import preset
from workbench.models.text import TextEncoder
from workbench.pipeline import Pipeline, clean_prompt, remake, sample_to_folder
from workbench.pipeline.prompts import UNREAD
from workbench.training import conditioning
from workbench.training.checkpoint import newest
from workbench.training.config import TrainConfig
from workbench.training.history import read_history

WORLD = {"coat": "black", "pose": "sitting", "scene": "snow", "light": "night"}


class Table(SimpleNamespace):
    def __len__(self):
        return len(self.texts)


def set_of(texts, factors=None):
    return Table(texts=texts, known=[factors or {}] * len(texts))


ONE, CLASSES = set_of(["a dog"] * 20), set_of(["cat", "dog"] * 20)
TEXTS = set_of([f"dog number {k}" for k in range(20)])
WORLD_SET = set_of(["a black dog", "a dog at night"] * 20, WORLD)


@pytest.mark.parametrize(
    ("pictures", "found"),
    [(ONE, "none"), (CLASSES, "class"), (TEXTS, "text"), (WORLD_SET, "text"), (set_of([""] * 3), "none"),
     (set_of(["cat", "dog"] * 8), "class"), (set_of(["cat", "dog"] * 7), "text")],
)  # fmt: skip
def test_the_captions_decide(pictures, found):
    assert conditioning.by_captions(pictures) == found


def test_a_choice_that_auto_makes_too_is_recorded_as_auto():
    for asked in ("auto", "class"):
        config, _ = conditioning.settle(TrainConfig(conditioning=asked), preset("shepherd-32"), CLASSES)
        assert config.conditioning == "class"
        assert "conditioning" not in conditioning.recorded(config, "class", CLASSES).to_json()
    config, _ = conditioning.settle(TrainConfig(conditioning="none"), preset("shepherd-32"), CLASSES)
    assert conditioning.recorded(config, "none", CLASSES).to_json()["conditioning"] == "none"


def test_without_text_nothing_of_it_is_left():
    asked = TrainConfig.for_preset("shepherd-32")
    assert asked.matching_weight > 0 and asked.clip_weight > 0
    config, networks = conditioning.settle(asked, preset("shepherd-32"), ONE)
    assert (config.matching_weight, config.clip_weight) == (0.0, 0.0)
    assert networks.generator.text_dim is networks.discriminator.text_dim is None
    assert not networks.generator.cross_attention and networks.vision_aided.embed_dim is None
    kept, same = conditioning.settle(asked, preset("shepherd-32"), TEXTS)
    assert same == preset("shepherd-32") and kept.matching_weight == asked.matching_weight


def test_classes_that_the_encoder_reads_alike_are_refused_by_name():
    encoder = TextEncoder.from_clip(new_mini_clip(["cat", "dog"]))
    said = []
    conditioning.explain("class", CLASSES, encoder, said.append)
    assert said == ["2 captions come again and again: they are classes, read by the text encoder."]
    with pytest.raises(WorkbenchError, match=r"reads the classes 'wolf' and 'fox' alike.*conditioning none"):
        conditioning.explain("class", set_of(["wolf", "fox"] * 8), encoder, said.append)
    with pytest.raises(WorkbenchError, match="conditioning is 'class', but all pictures have one caption"):
        conditioning.settle(TrainConfig(conditioning="class"), preset("shepherd-32"), ONE)


@pytest.fixture(scope="module")
def plain(inputs, tmp_path_factory) -> tuple[Path, Path]:
    """(data, clip) of a set whose captions are all one."""
    data = tmp_path_factory.mktemp("plain") / "data"
    shutil.copytree(inputs[0], data, ignore=shutil.ignore_patterns("cache-*", "captions"))
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    lines = [json.dumps({"file_name": row["file_name"], "text": "a shepherd"}) for row in rows]
    (data / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return data, inputs[1]


OPTIONS = {"heads": True, "images": 24, "checkpoint_every_nimg": 16, "log_every_nimg": 8, "clip_weight": 0.1}


@pytest.fixture(scope="module")
def run(plain, tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("unconditional") / "run"
    assert tiny_run.run_tiny(plain, out, **OPTIONS).reason == "done"
    return out


def test_a_run_without_text_trains_and_says_so(run, plain, tmp_path, capsys):
    tiny_run.run_tiny(plain, tmp_path / "run", **{**OPTIONS, "images": 8}, progress=True)
    assert "All captions are the same: this run is unconditional" in "".join(capsys.readouterr())
    facts = json.loads((run / "config.json").read_text())
    assert facts["generator"]["text_dim"] is facts["vision_aided"]["embed_dim"] is None
    assert set(facts["grid"]["prompts"]) == {""} and "conditioning" not in facts["config"]
    assert facts["config"]["matching_weight"] == 0.5  # as it was asked, and off all the same
    means = read_history(run, "step")[-1]
    assert {"G.vision", "D.adversarial", "D.vision"} <= set(means)
    assert not {"D.matching", "D.vision_matching", "G.clip"} & set(means)
    parts = newest(run)[0].tensors()
    assert not [name for part in parts.values() for name in part if "text" in name]
    first = newest(tmp_path / "run")[0].tensors()["G"]
    assert any(not torch.equal(value, first[name]) for name, value in parts["G"].items())


def test_it_resumes_exactly(run, plain, same_run, tmp_path):
    out = tmp_path / "run"
    assert tiny_run.run_tiny(plain, out, stop_after_nimg=16, **OPTIONS).reason == "paused"
    assert tiny_run.run_tiny(plain, out, **OPTIONS, conditioning="none").reason == "done"
    same_run(run, out)


def test_its_model_folder_makes_pictures_by_seed_alone(run, tmp_path):
    model = run / "model"
    assert not (model / "text_encoder").exists()
    readme = (model / "README.md").read_text()
    assert "An unconditional GAN" in readme and "unconditional-image-generation" in readme
    pipe = Pipeline.from_pretrained(model, device="cpu")
    asked, empty = (
        pipe("a white shepherd", seed=3, count=2, truncation=0.7),
        pipe("", seed=3, count=2, truncation=0.7),
    )
    assert torch.equal(asked.images, empty.images) and not torch.equal(empty.images[0], empty.images[1])
    assert asked.warnings == [UNREAD] and empty.warnings == []
    again = Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "copy"), device="cpu")
    assert torch.equal(again("", seed=3, count=2, truncation=0.7).images, empty.images)
    assert (again.config_hash, again.weight_hash) == (pipe.config_hash, pipe.weight_hash)
    assert torch.allclose(
        pipe("", seed=[3, 4], batch_size=2).images, pipe("", seed=3, count=2).images, atol=1e-5
    )


def test_its_pictures_can_be_made_again_from_their_recipe(run, tmp_path):
    saved = sample_to_folder(
        Pipeline.from_pretrained(run / "model", device="cpu"),
        "a dog",
        seed=5,
        count=1,
        truncation=1.0,
        out=tmp_path,
    )
    assert [path.name for path in saved.paths] == ["picture-5.png"] and saved.warnings == [UNREAD]
    assert (
        remake(saved.paths[0], Pipeline.from_pretrained(run / "model", device="cpu")).verdict == "identical"
    )


def test_the_weights_of_its_model_are_the_average_of_its_checkpoint(run):
    average = newest(run)[0].tensors()["G_ema"]
    written = load_file(run / "model" / "generator.safetensors")
    assert all(torch.equal(average[name].half(), value) for name, value in written.items())


def test_a_prompt_must_be_text_even_where_it_is_not_read():
    with pytest.raises(WorkbenchError, match="not a text"):
        clean_prompt(5, None)


def test_a_text_run_can_be_trained_without_text_on_request(inputs, tmp_path):
    tiny_run.run_tiny(inputs, tmp_path / "run", images=16, conditioning="none", eval_every_nimg=0)
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["config"]["conditioning"] == "none" and facts["generator"]["text_dim"] is None
    with pytest.raises(WorkbenchError, match="conditioning 'none', now 'auto'"):
        tiny_run.run_tiny(inputs, tmp_path / "run", images=16, resume="extend")
