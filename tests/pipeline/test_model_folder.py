"""The model folder: exact round trips, whole or not at all, every damage named."""

import json
import os
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.pipeline import Pipeline
from workbench.pipeline.card import card_text
from workbench.pipeline.model_folder import pack

PROMPT = "a white dog in snow"
WEIGHTS = "generator.safetensors"


def change_config(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(config))
    return config


def change_weights(folder, change):
    """Other tensors under a checksum that fits, as from another model."""
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
    change_config(folder, weights={WEIGHTS: recipes.sha256((folder / WEIGHTS).read_bytes())})


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- round trips ---


def test_saved_and_loaded_is_the_same_to_the_last_bit(pipe, folder, tmp_path):
    loaded = Pipeline.from_pretrained(folder)
    for key, value in pipe.G.state_dict().items():
        assert torch.equal(loaded.G.state_dict()[key], value.half().float()), key
    assert {t.dtype for t in load_file(folder / WEIGHTS).values()} == {torch.float16}
    again = loaded.save_pretrained(tmp_path / "again")
    assert contents(again) == contents(folder)
    features = [p.text_encoder([PROMPT]) for p in (pipe, loaded)]
    assert torch.equal(features[0].eps_txt, features[1].eps_txt)
    second = Pipeline.from_pretrained(again)
    assert torch.equal(second(PROMPT, seed=3).images, loaded(PROMPT, seed=3).images)


def test_loading_leaves_the_callers_random_numbers_alone(folder):
    before = torch.random.get_rng_state()
    Pipeline.from_pretrained(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loaded_model_is_frozen_and_in_eval_mode(folder):
    G = Pipeline.from_pretrained(folder).G
    assert not G.training and not any(p.requires_grad for p in G.parameters())


def test_a_text_tower_may_be_a_link_also_where_there_are_none(folder, tmp_path):
    """A checkout without symbolic links holds a file with the target's path in the link's place."""
    expected = Pipeline.from_pretrained(folder)(PROMPT, seed=3).images
    shutil.move(folder / "text_encoder", tmp_path / "tower")
    for make in ("symlink_to", "write_text"):
        getattr(folder / "text_encoder", make)("../tower")
        assert torch.equal(Pipeline.from_pretrained(folder)(PROMPT, seed=3).images, expected)
        (folder / "text_encoder").unlink()
    for make in ("symlink_to", "write_text"):
        getattr(folder / "text_encoder", make)("../nowhere")
        with pytest.raises(WorkbenchError, match=r"is a link, and what it leads to is not .*cp -rL"):
            Pipeline.from_pretrained(folder)
        (folder / "text_encoder").unlink()


def test_hashes_name_the_file_and_tell_models_apart(pipe, folder, text_encoder, make_generator):
    loaded = Pipeline.from_pretrained(folder)
    on_disk = recipes.sha256((folder / WEIGHTS).read_bytes())
    assert (
        loaded.weight_hash == on_disk == json.loads((folder / "config.json").read_text())["weights"][WEIGHTS]
    )
    # In memory the weights are float32 that float16 rounds: another model, another hash.
    assert pipe.weight_hash != on_disk
    rebuilt = Pipeline(loaded.G, text_encoder)  # the same weights without a file
    assert rebuilt.weight_hash == on_disk and rebuilt.config_hash == pipe.config_hash
    assert Pipeline(make_generator(w_dim=48), text_encoder).config_hash != pipe.config_hash


def test_values_beyond_float16_stay_float32():
    state = {"a": torch.tensor([1.0, 70_000.0]), "b": torch.tensor([0.5]), "n": torch.tensor([3])}
    data, exact = pack(state)
    assert exact and data == pack(dict(state))[0]
    with pytest.raises(WorkbenchError, match="NaN or infinity in a"):
        pack({"a": torch.tensor([float("nan")])})
    assert pack({"a": torch.tensor([0.1])})[1] is False


def test_the_card_is_readable_and_kept(text_encoder, make_generator, tmp_path):
    card = {"name": "snow: dogs", "license": "mit", "data": "Shepherd World", "scores": {"coat": 0.97}}
    folder = Pipeline(make_generator(), text_encoder, card).save_pretrained(tmp_path / "m")
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit" and "gigagan" in yaml.safe_load(front)["tags"]
    assert "# snow: dogs" in text and "Shepherd World" in text and '"coat": 0.97' in text
    assert Pipeline.from_pretrained(folder).card == card


def test_a_model_without_a_name_takes_its_folders(text_encoder, make_generator, tmp_path):
    folder = Pipeline(make_generator(), text_encoder).save_pretrained(tmp_path / "shepherd-16")
    assert Pipeline.from_pretrained(folder).name == "shepherd-16"


def test_the_card_says_short_facts_in_a_list_and_long_ones_in_sections():
    facts = {
        "name": "mine",
        "license": "mit",
        "images": 210016,
        "data": "runs/world",
        "limits": "x" * 90,
        "seeds": [1],
    }
    text = card_text(facts, parameters=1_234_567, resolution=64)
    assert (
        text.startswith('---\nlicense: "mit"\n') and "\n# mine\n" in text and "1,234,567 parameters" in text
    )
    assert "\n- **Images**: 210,016\n- **Data**: runs/world\n" in text
    assert f"\n## Limits\n\n{'x' * 90}\n" in text and "\n## Seeds\n\n```json\n[\n  1\n]\n```\n" in text
    assert "## Images" not in text and "mit**" not in text


# --- writing ---


def test_nothing_is_overwritten_silently(pipe, folder, tmp_path):
    before = contents(folder)
    with pytest.raises(WorkbenchError, match="holds files and is not overwritten"):
        pipe.save_pretrained(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(WorkbenchError, match="holds files but no model"):
        pipe.save_pretrained(tmp_path / "mine", overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkbenchError, match="is a file"):
        pipe.save_pretrained(tmp_path / "file", overwrite=True)
    assert contents(folder) == before and sorted(os.listdir(tmp_path)) == ["file", "mine", "model"]


def test_overwrite_exchanges_the_model_and_keeps_the_rest(folder, text_encoder, make_generator, tmp_path):
    (folder / "samples.png").write_text("picture")
    (folder / "history").mkdir()
    (folder / "history" / "a.jsonl").write_text("{}")
    other = Pipeline(make_generator(seed=1), text_encoder)
    other.save_pretrained(folder, overwrite=True)
    assert (folder / "samples.png").read_text() == "picture" and (folder / "history" / "a.jsonl").exists()
    expected = other.G.state_dict()["constant"].half().float()
    assert torch.equal(Pipeline.from_pretrained(folder).G.state_dict()["constant"], expected)
    assert os.listdir(tmp_path) == ["model"]


def test_an_empty_folder_is_filled(pipe, tmp_path):
    (tmp_path / "m").mkdir()
    assert Pipeline.from_pretrained(pipe.save_pretrained(tmp_path / "m")).name == "tiny"


@pytest.mark.parametrize(
    "limit", [2_000, 1_000_000]
)  # within the generator's file; within the text encoder's
def test_a_full_disk_leaves_the_old_model_and_no_scraps(pipe, folder, tmp_path, largest_file, limit):
    sizes = [(folder / name).stat().st_size for name in (WEIGHTS, "text_encoder/model.safetensors")]
    assert 2_000 < sizes[0] < 1_000_000 < sizes[1]
    before = contents(folder)
    with largest_file(limit), pytest.raises(OSError, match=r"Cannot write .*model"):
        pipe.save_pretrained(folder, overwrite=True)
    with largest_file(limit), pytest.raises(OSError, match=r"Cannot write .*new"):
        pipe.save_pretrained(tmp_path / "new")
    assert contents(folder) == before and os.listdir(tmp_path) == ["model"]


def test_a_diverged_generator_is_not_saved(pipe, tmp_path):
    with torch.no_grad():
        pipe.G.constant[0, 0, 0, 0] = float("nan")
    with pytest.raises(WorkbenchError, match="NaN or infinity in constant"):
        pipe.save_pretrained(tmp_path / "m")
    assert os.listdir(tmp_path) == []


# --- damaged, foreign and dangerous folders ---


def refused(folder, message):
    with pytest.raises(WorkbenchError, match=message) as caught:
        Pipeline.from_pretrained(folder)
    assert len(str(caught.value)) < 500


def test_a_missing_folder(tmp_path):
    refused(tmp_path / "none", "There is no model folder .*none: check the path")
    refused("assets/models/none", "There is no model folder assets/models/none")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is a file: give the folder")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "text_encoder"])
def test_a_missing_part_is_named(folder, name):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(folder, rf"lacks {name}: .*copied")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json"])
def test_a_missing_part_of_the_text_encoder_is_named(folder, name):
    (folder / "text_encoder" / name).unlink()
    refused(folder, name)


@pytest.mark.parametrize("name", [WEIGHTS, "text_encoder/model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(folder, name, share):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * share)])
    refused(folder, rf"{name} can't be read as safetensors")


@pytest.mark.parametrize("name", ["config.json", "text_encoder/config.json", "text_encoder/vocabulary.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"])
def test_damaged_json_is_named(folder, name, text):
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(folder, rf"{name} (is no readable JSON|holds a list)")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "G.pt", "model.PTH", "a.ckpt", "weights.pkl"])
def test_a_pickle_is_refused_and_never_opened(folder, name, tmp_path):
    trap = tmp_path / "ran"
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch " + str(trap).encode() + b"'\ntR.")
    refused(folder, rf"pickle \({name}\), which can run code when opened and is never read")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("schema", "advice"),
    [(2, "update the workbench"), *((old, "save the model again") for old in (0, "1", None, True, 1.5))],
)
def test_another_version_is_told(folder, schema, advice):
    change_config(folder, schema=schema)
    refused(folder, f"of version .*, but 1 is read here: {advice}")


def test_another_kind_is_told(folder):
    change_config(folder, kind="clip")
    refused(folder, "of the kind 'clip': expected 'gigagan-pipeline'")


@pytest.mark.parametrize(
    "generator",
    [
        {"magic": 1},
        {},
        [],
        {"resolution": "x"},
        {"channels": 3},
        None,
        {"channels": {"4": 2**60, "8": 2**60, "16": 2**60}},
    ],
)
def test_an_unknown_architecture_is_told(folder, generator):
    known = json.loads((folder / "config.json").read_text())["generator"]
    change_config(
        folder, generator={**known, **generator} if isinstance(generator, dict) and generator else generator
    )
    refused(folder, "config.json describes (a|no) generator")


@pytest.mark.parametrize(("key", "value"), [("card", "a dog"), ("weights", [1]), ("weights", None)])
def test_parts_of_another_kind_are_told(folder, key, value):
    change_config(folder, **{key: value})
    refused(folder, f"as {key}: expected an object; copy the folder again")


@pytest.mark.parametrize(
    "change", [{"embed_dim": "x"}, {"embed_dim": -1}, {"text_cfg": 7}, {"text_cfg": {"width": 0}}]
)
def test_a_text_tower_that_cannot_be_is_told(folder, change):
    change_config(folder / "text_encoder", **change)
    refused(folder, "text_cfg|text tower|text encoder")


def test_wrong_shapes_are_told_with_key_expected_and_found(folder):
    def change(state):
        state["constant"] = torch.zeros(1, 8, 4, 4)

    change_weights(folder, change)
    refused(folder, r"at constant: expected \[1, 16, 4, 4\], found \[1, 8, 4, 4\]")


def test_shapes_are_compared_before_memory_is_taken(folder):
    """A config that asks for a generator of terabytes costs nothing."""
    config = json.loads((folder / "config.json").read_text())["generator"]
    change_config(folder, generator={**config, "channels": {"4": 2**18, "8": 2**18, "16": 2**18}})
    refused(folder, r"at constant: expected \[1, 262144, 4, 4\], found \[1, 16, 4, 4\] \(\d+ more differ\)")


def test_missing_and_spare_tensors_are_told(folder):
    change_weights(folder, lambda state: state.pop("rgb_bias"))
    refused(folder, r"at rgb_bias: expected \[3, 3\], found nothing")
    change_weights(folder, lambda state: state.update(rgb_bias=torch.zeros(3, 3), spare=torch.zeros(2)))
    refused(folder, r"at spare: expected nothing, found \[2\]")


def test_nan_weights_are_refused(folder):
    change_weights(folder, lambda state: state["constant"].fill_(float("nan")))
    refused(folder, "NaN or infinity in constant")


def test_a_changed_byte_is_noticed(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    refused(folder, "is not the file that config.json describes")


def test_a_text_encoder_of_another_width_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["generator"]["text_dim"] == 128
    text = json.loads((folder / "text_encoder" / "config.json").read_text())
    text["text_cfg"]["width"] = 64
    (folder / "text_encoder" / "config.json").write_text(json.dumps(text))
    refused(folder, r"does not fit its config|belong to different models")


def test_a_place_without_a_name_is_refused(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (".", "..", "/"):
        with pytest.raises(
            WorkbenchError, match=r"is no name of a folder: .* Give it a name, such as .*model"
        ):
            pipe.save_pretrained(place, overwrite=True)
    assert not any(tmp_path.iterdir())
