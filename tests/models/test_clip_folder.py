"""CLIP folders load whole or not at all, by the same bits, and every damage is named."""

import errno
import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tiny_towers import CAPTIONS, VIT_CFG, WORDS

from workbench.errors import WorkbenchError
from workbench.models.clip_io import write_folder
from workbench.models.fp16 import compact_state, round_to_fp16
from workbench.models.mini_clip import mini_clip_cfg
from workbench.models.text import TextEncoder, load_clip, save_clip
from workbench.models.tokens import BpeTokenizer, CompactTokenizer


@pytest.fixture
def folder(mini, tmp_path) -> Path:
    return save_clip(mini, tmp_path / "clip")


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_save_and_load_give_the_same_bits(mini, folder):
    again = load_clip(folder)
    for key, value in mini.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 12 * 2**20
    assert not again.model.training and not any(p.requires_grad for p in again.model.parameters())
    assert (again.image_size, again.name, again.model_cfg) == (64, "mini-clip", mini.model_cfg)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(again.encode_image(pictures), mini.encode_image(pictures))
        assert torch.equal(again.encode_text(CAPTIONS), mini.encode_text(CAPTIONS))


@pytest.mark.parametrize("kind", ["mini", "vit"])
def test_the_text_tower_alone_round_trips(kind, request, tmp_path):
    encoder = TextEncoder.from_clip(request.getfixturevalue(kind))
    encoder.save_pretrained(tmp_path / "text")
    again = TextEncoder.from_pretrained(tmp_path / "text")
    assert again.config == encoder.config
    for key, value in encoder.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    a, b = encoder(CAPTIONS), again(CAPTIONS)
    assert (
        torch.equal(a.eps_txt, b.eps_txt)
        and torch.equal(a.eot, b.eot)
        and torch.equal(a.embedding, b.embedding)
    )


def test_a_text_encoder_comes_from_a_clip_folder_too(mini, folder):
    assert torch.equal(
        TextEncoder.from_pretrained(folder)(CAPTIONS).eps_txt, TextEncoder.from_clip(mini)(CAPTIONS).eps_txt
    )


def test_fp16_is_used_only_where_it_loses_nothing():
    exact = {"a": torch.tensor([0.5, 1.0]), "n": torch.tensor(3)}
    assert compact_state(exact)["a"].dtype == torch.float16 and compact_state(exact)["n"].dtype == torch.int64
    assert compact_state({**exact, "b": torch.tensor([0.1])})["a"].dtype == torch.float32
    broken = torch.nn.Linear(1, 1)
    broken.weight.data.fill_(1e6)
    with pytest.raises(WorkbenchError, match="weight holds values beyond fp16"):
        round_to_fp16(broken)


def test_nothing_is_overwritten_silently(mini, folder):
    with pytest.raises(WorkbenchError, match="already holds files"):
        save_clip(mini, folder)
    (folder / "README.md").write_text("card")
    save_clip(mini, folder, overwrite=True)
    assert (folder / "README.md").read_text() == "card"
    assert sorted(p.name for p in folder.parent.iterdir()) == ["clip"]  # nothing left beside it


def test_a_subfolder_is_replaced_as_a_whole(tmp_path):
    def write(word):
        def fill(path):
            (path / "tower").mkdir()
            (path / "tower" / word).write_text(word)
            (path / "config.json").write_text(word)

        return fill

    write_folder(tmp_path / "model", write("old"))
    (tmp_path / "model/notes.txt").write_text("mine")
    write_folder(tmp_path / "model", write("new"), overwrite=True)
    held = {p.name: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert held == {"new": "new", "config.json": "new", "notes.txt": "mine"}
    assert os.listdir(tmp_path) == ["model"]


def test_an_exchange_that_fails_half_way_is_taken_back(tmp_path, monkeypatch):
    for name in ("a.txt", "config.json"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text("old")
    replace = os.replace

    def on_a_bad_day(source, target):
        if Path(target) == tmp_path / "model/config.json" and ".tmp-" in str(source):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    def write(path):
        for name in ("a.txt", "b.txt", "config.json"):
            (path / name).write_text("new")

    monkeypatch.setattr(os, "replace", on_a_bad_day)
    with pytest.raises(OSError, match=r"Cannot write .*model: the disk is full; free some space"):
        write_folder(tmp_path / "model", write, overwrite=True)
    held = {name: (tmp_path / "model" / name).read_text() for name in ("a.txt", "config.json")}
    assert held == {"a.txt": "old", "config.json": "old"}
    assert os.listdir(tmp_path) == ["model"]


def test_a_full_disk_leaves_the_old_clip_and_no_scraps(mini, folder, largest_file):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with largest_file(2_000), pytest.raises(OSError, match=r"Cannot write .*clip: .*another folder"):
        save_clip(mini, folder, overwrite=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert os.listdir(folder.parent) == ["clip"]


def test_a_misfit_names_key_and_both_shapes(mini, folder):
    state = compact_state(mini.model.state_dict())
    state["positional_embedding"] = torch.zeros(7, 128)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WorkbenchError, match=r"positional_embedding: expected \[32, 128\], found \[7, 128\]"):
        load_clip(folder)
    del state["positional_embedding"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WorkbenchError, match=r"positional_embedding: expected \[32, 128\], found nothing"):
        load_clip(folder)
    state = {**compact_state(mini.model.state_dict()), "spare": torch.zeros(3)}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WorkbenchError, match=r"spare: expected nothing, found \[3\]"):
        load_clip(folder)


def test_broken_folders_are_refused(mini, folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(WorkbenchError, match="can't be read as safetensors"):
        load_clip(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        WorkbenchError, match=r"lacks model\.safetensors: it is no clip folder or was copied by half"
    ):
        load_clip(folder)
    (folder / "model.safetensors").write_bytes(weights)
    words = json.loads((folder / "vocabulary.json").read_text())
    edit(folder / "vocabulary.json", words=[*words["words"], "zebra"])
    with pytest.raises(WorkbenchError, match=r"vocabulary\.json keeps \d+ BPE pieces, but its words need"):
        load_clip(folder)
    (folder / "vocabulary.json").write_text(json.dumps(CompactTokenizer([*WORDS, "zebra"]).to_json()))
    with pytest.raises(WorkbenchError, match="belong to different models"):
        load_clip(folder)
    edit(folder / "vocabulary.json", schema=2)
    with pytest.raises(WorkbenchError, match="schema 2 and kind 'compact-bpe': expected schema 1"):
        load_clip(folder)
    (folder / "vocabulary.json").write_text("{")
    with pytest.raises(WorkbenchError, match="no readable JSON"):
        load_clip(folder)
    (folder / "old.PT").write_bytes(b"")
    with pytest.raises(WorkbenchError, match="a pickle file"):
        load_clip(folder)


def test_other_configs_are_refused(mini, folder):
    good = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", schema=2)
    with pytest.raises(WorkbenchError, match="schema 2 and kind 'clip': expected schema 1"):
        load_clip(folder)
    edit(folder / "config.json", schema=1, kind="judge")
    with pytest.raises(WorkbenchError, match="kind 'judge'"):
        TextEncoder.from_pretrained(folder)
    cfg = mini_clip_cfg(mini.tokenizer.vocab_size)
    edit(folder / "config.json", kind="clip", model_cfg={**cfg, "wings": 2})
    with pytest.raises(WorkbenchError, match=r"none that open_clip .* can build .*wings"):
        load_clip(folder)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in good.items() if k != "mean"}))
    with pytest.raises(WorkbenchError, match="lacks mean"):
        load_clip(folder)


def test_unknown_names_and_files_are_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="neither a folder nor a model of open_clip"):
        load_clip("no-such-model")
    (tmp_path / "weights.pt").write_bytes(b"x")
    with pytest.raises(WorkbenchError, match="a pickle file, which is never read"):
        load_clip(tmp_path / "weights.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match=r"lacks config\.json"):
        TextEncoder.from_pretrained(tmp_path / "empty")
    with pytest.raises(WorkbenchError, match=r"holds weights\.pt, a pickle file"):
        TextEncoder.from_pretrained(tmp_path)
    with pytest.raises(WorkbenchError, match=r"expected one of .*openai"):
        load_clip("ViT-L-14", "no-such-tag")
    with pytest.raises(WorkbenchError, match="no safetensors file, and pickle files are not read"):
        load_clip("ViT-L-14", str(tmp_path / "weights.pt"))


def test_weights_that_cant_be_had_are_explained(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(
        WorkbenchError, match=r"The weights of ViT-L-14 \(openai\) can't be had: .*safetensors.*mini-clip"
    ):
        load_clip("ViT-L-14")


def test_a_model_of_open_clip_loads_by_name_from_a_file(vit, tmp_path):
    """The route of ViT-L-14, with a config small enough to hold: registered under a name, weights in one
    file.
    """
    (tmp_path / "tiny-vit-test.json").write_text(json.dumps(VIT_CFG))
    open_clip.add_model_config(tmp_path)
    save_file(compact_state(vit.model.state_dict()), tmp_path / "tiny.safetensors")
    clip = load_clip("tiny-vit-test", str(tmp_path / "tiny.safetensors"))
    assert clip.mean == open_clip.OPENAI_DATASET_MEAN and clip.image_size == 32
    features = TextEncoder.from_clip(clip)(CAPTIONS)
    assert torch.equal(features.eps_txt, TextEncoder.from_clip(vit)(CAPTIONS).eps_txt)
    grey = torch.zeros(1, 3, 48, 48)  # another size, and mid-grey is 0.5 in [0, 1]
    expected = (0.5 - torch.tensor(clip.mean)) / torch.tensor(clip.std)
    torch.testing.assert_close(clip.normalise(grey)[0, :, 5, 5], expected)
    with pytest.raises(WorkbenchError, match="needs the name of its weights"):
        load_clip("tiny-vit-test")


def test_towers_of_another_kind_are_refused(vit):
    config = TextEncoder.from_clip(vit).config
    with pytest.raises(WorkbenchError, match="pools by 'last'"):
        TextEncoder({**config, "text_cfg": {**config["text_cfg"], "pool_type": "last"}}, BpeTokenizer())
    with pytest.raises(WorkbenchError, match="text_cfg is none that open_clip"):
        TextEncoder({**config, "text_cfg": {"wings": 2}}, BpeTokenizer())
    with pytest.raises(WorkbenchError, match="SigLIP has a text tower that isn't CLIP's"):
        load_clip("ViT-B-16-SigLIP", "webli")


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("config.json", {"mean": None}, r"config.json holds 'None' as mean: expected three numbers"),
        ("config.json", {"std": [1, 0, 1]}, r"holds '\[1, 0, 1\]' as std: expected three numbers"),
        ("config.json", {"mean": [0.5]}, r"as mean: expected three numbers"),
        ("config.json", {"model_cfg": [1]}, r"model_cfg of mini-clip is '\[1\]': expected an object"),
        ("config.json", {"model_cfg": {"text_cfg": 5}}, r"model_cfg of mini-clip is .*: expected an object"),
        ("vocabulary.json", {"words": 5}, r"vocabulary.json holds '5' as words: expected a list of texts"),
        ("vocabulary.json", {"words": ["dog", 5]}, r"as words: expected a list of texts"),
        ("vocabulary.json", {"bpe_ids": None}, r"holds 'None' as bpe_ids: expected a list of whole numbers"),
        (
            "vocabulary.json",
            {"context_length": "32"},
            r"holds '32' as context_length: expected a whole number",
        ),
    ],
)
def test_entries_of_another_kind_are_told_with_their_file(folder, file, changes, words):
    edit(folder / file, **changes)
    with pytest.raises(WorkbenchError, match=words) as caught:
        load_clip(folder)
    assert file != "vocabulary.json" or str(folder / file) in str(caught.value)


def test_the_working_folder_and_the_home_folder_are_places_too(mini, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    save_clip(mini, ".")
    assert os.getcwd() == str(here) and load_clip(here).name == load_clip(".").name == "mini-clip"
    monkeypatch.setenv("HOME", str(tmp_path))
    save_clip(mini, "~/models/mini")
    assert load_clip(tmp_path / "models/mini").name == "mini-clip"
    assert sorted(os.listdir(tmp_path)) == ["here", "models"] and len(os.listdir(here)) == 3


def test_a_new_file_of_an_exchange_that_fails_is_taken_back_too(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    replace = os.replace

    def write(path):
        for name in ("a.txt", "config.json"):
            (path / name).write_text("new")

    def on_a_bad_day(source, target):
        if Path(target).name == "config.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", on_a_bad_day)
    with pytest.raises(OSError, match="the disk is full"):
        write_folder(".", write)
    assert os.listdir(tmp_path) == ["model"] and os.listdir() == []
