"""Text features on disk: equal to the encoder's, encoded once, and mended where a file is torn."""

import pytest
import torch

from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder
from workbench.training import captions
from workbench.training.captions import CaptionStore, CaptionTable

TEXTS = ["a black dog in the snow", "a dog", "a white dog at night on the beach", "a red dog", "a sable dog"]


class Counting:
    """An encoder that counts the captions it is asked for."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder, self.asked = encoder, []

    def __call__(self, texts: list[str]):
        self.asked += texts
        return self.encoder(texts)

    def __getattr__(self, name: str):
        return getattr(self.encoder, name)


@pytest.fixture
def encoder() -> Counting:
    torch.manual_seed(0)
    return Counting(TextEncoder.from_clip(new_mini_clip(sorted({w for t in TEXTS for w in t.split()}))))


def assert_same(found, expected) -> None:
    """Up to half precision, and up to the caption's end: what follows it is masked everywhere."""
    assert torch.equal(found.eot, expected.eot)
    assert torch.allclose(found.embedding.float(), expected.embedding, atol=1e-3)
    seen = torch.arange(expected.eps_txt.shape[1]) <= expected.eot[:, None]
    assert found.eps_txt.shape == expected.eps_txt.shape
    assert torch.allclose(found.eps_txt[seen].float(), expected.eps_txt[seen], atol=2e-3, rtol=1e-3)


def test_features_from_disk_are_the_encoders_in_any_order(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "_PART", 2)  # several files
    store = CaptionStore(tmp_path, encoder)
    assert store.add(TEXTS) == 5 and len(list(tmp_path.rglob("part-*.safetensors"))) == 3
    wanted = [TEXTS[k] for k in (4, 0, 3, 0, 2)]
    assert_same(CaptionStore(tmp_path, encoder).read(wanted), encoder.encoder(wanted))


def test_a_second_run_encodes_nothing_and_new_captions_alone_later(encoder, tmp_path):
    CaptionTable(TEXTS[:3], encoder, torch.device("cpu"), folder=tmp_path)
    assert encoder.asked == TEXTS[:3]
    CaptionTable(TEXTS[:3], encoder, torch.device("cpu"), folder=tmp_path)
    assert encoder.asked == TEXTS[:3]
    table = CaptionTable(TEXTS, encoder, torch.device("cpu"), folder=tmp_path)
    assert encoder.asked == TEXTS
    assert_same(table.of(TEXTS[::-1]), encoder.encoder(TEXTS[::-1]))


def test_a_set_too_large_for_memory_is_read_from_disk(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "_MOST_BYTES", 0)
    table = CaptionTable(TEXTS, encoder, torch.device("cpu"), folder=tmp_path)
    encoder.asked.clear()
    assert table.features is None
    assert_same(table.of(TEXTS[1:4]), encoder.encoder(TEXTS[1:4]))
    assert encoder.asked == []


def test_another_encoder_has_features_of_its_own(encoder, tmp_path):
    CaptionStore(tmp_path, encoder).add(TEXTS)
    torch.manual_seed(1)
    other = TextEncoder.from_clip(new_mini_clip(sorted({w for t in TEXTS for w in t.split()})))
    assert CaptionStore(tmp_path, other).add(TEXTS) == 5
    assert_same(CaptionStore(tmp_path, other).read(TEXTS), other(TEXTS))


def test_a_torn_file_is_said_and_encoded_again(encoder, tmp_path):
    CaptionStore(tmp_path, encoder).add(TEXTS)
    (file,) = tmp_path.rglob("part-*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    said = []
    store = CaptionStore(tmp_path, encoder, said.append)
    assert len(said) == 1 and file.name in said[0]
    assert store.add(TEXTS) == 5
    assert_same(store.read(TEXTS), encoder.encoder(TEXTS))


def test_a_folder_that_cannot_be_written_costs_only_the_cache(encoder, tmp_path):
    (tmp_path / "captions").write_text("a file where the folder should be")
    said = []
    table = CaptionTable(TEXTS, encoder, torch.device("cpu"), folder=tmp_path / "captions", say=said.append)
    assert_same(table.of(TEXTS), encoder.encoder(TEXTS))
    assert len(said) == 1 and "not kept" in said[0]


@pytest.mark.parametrize("in_memory", [True, False])
def test_captions_beyond_the_context_are_cut_and_said(encoder, tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(captions, "_MOST_BYTES", 0)
    said, long = [], "a black dog " * 20
    full = "dog " * 30  # just fits: nothing to say of it
    table = CaptionTable(
        [*TEXTS, full, long, long], encoder, torch.device("cpu"), folder=tmp_path, say=said.append
    )
    (sentence,) = said
    assert "1 of 7 captions are longer than the 32 tokens" in sentence and "'a black dog a" in sentence
    assert table.of([long, full]).eot.tolist() == [31, 31]  # the end of text takes the last place
