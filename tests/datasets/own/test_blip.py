"""Captions by BLIP: the real classes at a tiny size, pictures to words to a data set; no download unasked."""

import json

import numpy as np
import pytest
from bad_files import picture
from tiny_blip import WORDS, write_tiny_blip

from workbench.cli import main
from workbench.datasets.own.blip import MODEL, load_captioner
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_blip(tmp_path_factory.mktemp("blip") / "model")


def test_captions_are_words_of_the_model_and_belong_to_their_pictures(folder):
    pictures = [picture(seed, 50, 40) for seed in range(8)]
    captioner = load_captioner(str(folder), device="cpu")
    texts = captioner(pictures)
    assert len(texts) == 8 and len(set(texts)) > 2
    assert set(" ".join(texts).split()) <= set(WORDS)
    assert captioner(pictures[::-1]) == texts[::-1]
    assert load_captioner(str(folder), device="cpu", batch=3)(pictures) == texts
    assert captioner([]) == []


def test_the_command_captions_a_folder_and_names_what_got_no_words(folder, tmp_path, capsys):
    (tmp_path / "src").mkdir()
    for seed in range(8):
        picture(seed, 50, 40).save(tmp_path / f"src/{seed}.png")
    (tmp_path / "src/broken.png").write_bytes(b"")
    line = ["dataset", "folder", str(tmp_path / "src"), "--out", str(tmp_path / "set"), "--resolution", "32"]
    line += ["--captions", "blip", "--caption-model", str(folder), "--device", "cpu"]
    assert main(line) == 0
    rows = [json.loads(row) for row in (tmp_path / "set/metadata.jsonl").read_text().splitlines()]
    texts = load_captioner(str(folder), device="cpu")([picture(seed, 50, 40) for seed in range(8)])
    said = {f"{seed}.png": text for seed, text in enumerate(texts) if text}
    assert {row["source"]: row["text"] for row in rows} == said
    assert {row["caption_from"] for row in rows} == {"blip"}
    skipped = [json.loads(row) for row in (tmp_path / "set/skipped.jsonl").read_text().splitlines()]
    assert {each["source"] for each in skipped} == {f"{k}.png" for k in range(8)} - set(said) | {"broken.png"}
    capsys.readouterr()
    assert main(line) == 0 and f"{len(said)} pictures from {len(said)} files" in (
        again := capsys.readouterr().out
    )
    assert ", 0 of them new" in again


def test_weights_that_are_not_here_are_named_with_the_command(tmp_path):
    with pytest.raises(WorkbenchError, match=f"hf download {MODEL}.*--download"):
        load_captioner()
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="cannot be loaded as a BLIP captioner"):
        load_captioner(str(tmp_path / "empty"))


def test_pickled_weights_are_not_read(folder, tmp_path):
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(WorkbenchError, match="safetensors"):
        load_captioner(str(tmp_path))
