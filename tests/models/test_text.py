"""The text towers: features as open_clip computes them, the compact vocabulary, folders that load whole or
not at all.
"""

import errno
import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from workbench.errors import WorkbenchError
from workbench.models.clip_io import compact_state, round_to_fp16, write_folder
from workbench.models.mini_clip import mini_clip_cfg, new_mini_clip
from workbench.models.text import TextEncoder, TextFeatures, build_clip, load_clip, save_clip
from workbench.models.tokens import BpeTokenizer, CompactTokenizer, split_words

WORDS = [
    "black-and-tan",
    "white",
    "sable",
    "dog",
    "alsatian",
    "german",
    "shepherd",
    "puppy",
    "beach",
    "snow",
    "sitting",
    "lying",
    "night",
    "moonlight",
    "at",
]
CAPTIONS = ["", "a white dog", "An Alsatian lying on the beach at night, moonlight", "snow " * 60]
VIT_CFG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
    "quick_gelu": True,
}


@pytest.fixture(scope="module")
def mini():
    torch.manual_seed(0)
    clip = new_mini_clip(WORDS)
    round_to_fp16(clip.model)
    clip.model.eval()
    return clip


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(1)
    clip = build_clip(VIT_CFG, BpeTokenizer(), name="tiny-vit")
    clip.model.eval()
    return clip


@pytest.fixture(scope="module")
def custom():
    torch.manual_seed(2)
    return build_clip({**VIT_CFG, "custom_text": True}, BpeTokenizer(), name="tiny-custom")


@pytest.fixture
def folder(mini, tmp_path) -> Path:
    return save_clip(mini, tmp_path / "clip")


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", ["mini", "vit", "custom"])
def test_features_are_open_clips_own(kind, request):
    """One call for the classic CLIP, the ViT one and CustomTextCLIP: equal to a loop by hand and to
    encode_text.
    """
    clip = request.getfixturevalue(kind)
    encoder = TextEncoder.from_clip(clip)
    features = encoder(CAPTIONS)
    tower = clip.model.text if kind == "custom" else clip.model
    tokens = clip.tokenizer(CAPTIONS)
    with torch.no_grad():
        x = tower.token_embedding(tokens) + tower.positional_embedding
        for index in range(len(tower.transformer.resblocks) - 1):
            x = tower.transformer.resblocks[index](x, attn_mask=tower.attn_mask)
        embedding = F.normalize(clip.model.encode_text(tokens), dim=-1)
    assert torch.equal(features.eps_txt, x)
    torch.testing.assert_close(features.embedding, embedding, rtol=0, atol=1e-6)
    assert features.eps_txt.shape == (4, encoder.context_length, encoder.text_dim)
    assert features.embedding.shape == (4, encoder.embed_dim)
    torch.testing.assert_close(features.embedding.norm(dim=-1), torch.ones(4))


def test_attention_is_causal_and_eot_moves_with_the_caption(mini):
    encoder = TextEncoder.from_clip(mini)
    short, long = "white dog", "white dog at night"
    a, b = encoder([short]), encoder([long])
    assert (a.eot.item(), b.eot.item()) == (3, 5)
    torch.testing.assert_close(
        a.eps_txt[:, :3], b.eps_txt[:, :3], rtol=0, atol=1e-5
    )  # what comes later can't be seen
    assert (a.eps_txt[:, 3] - b.eps_txt[:, 3]).abs().max() > 0.01
    assert encoder(["", "snow " * 60]).eot.tolist() == [1, 31]


def test_encoder_is_frozen_and_a_copy(mini):
    encoder = TextEncoder.from_clip(mini)
    before = encoder(["white dog"])
    torch.nn.Sequential(encoder).train()
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    assert not before.eps_txt.requires_grad
    assert all(p.requires_grad for p in mini.model.parameters())
    kept = mini.model.token_embedding.weight.detach().clone()
    with torch.no_grad():
        mini.model.token_embedding.weight.add_(1)
    try:
        assert torch.equal(encoder(["white dog"]).eps_txt, before.eps_txt)
    finally:
        mini.model.token_embedding.weight.data.copy_(kept)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(["white dog"]).eps_txt, before.eps_txt)


def test_features_select_join_and_move(mini):
    encoder = TextEncoder.from_clip(mini)
    features = encoder(CAPTIONS)
    joined = TextFeatures.cat(
        [features.index_select(torch.tensor([2, 3])), features.index_select(torch.tensor([0]))]
    )
    assert torch.equal(joined.eps_txt, features.eps_txt[[2, 3, 0]])
    assert torch.equal(joined.to("cpu").eot, features.eot[[2, 3, 0]]) and len(joined) == 3
    many = encoder(CAPTIONS * 100)  # more than are encoded at once
    torch.testing.assert_close(many.embedding[-4:], features.embedding, rtol=0, atol=1e-5)
    with pytest.raises(WorkbenchError, match="expected a list of texts"):
        encoder("a white dog")


def test_compact_ids_are_open_clips_bpe_renumbered(mini):
    tokenizer = mini.tokenizer
    bpe = open_clip.SimpleTokenizer()
    for word in tokenizer.words:
        ids = tokenizer.encode(word)
        assert tokenizer.to_bpe(ids) == bpe.encode(word)
    caption = "An Alsatian puppy lying on the beach"
    row = tokenizer([caption])[0].tolist()
    assert tokenizer.to_bpe(row) == bpe.encode(caption)
    assert len(bpe.encode("alsatian")) > 1  # the case of several pieces is among them
    eot = row.index(tokenizer.eot)
    assert row[0] == tokenizer.sot and set(row[eot + 1 :]) <= {0} and 0 not in row[:eot]
    assert tokenizer.eot == max(row) == tokenizer.vocab_size - 1 and tokenizer.sot == tokenizer.eot - 1


def test_the_whole_bpe_is_open_clips(vit):
    texts = ["", "A photo of the dog's tail, 12 times!", "héllo wörld", "x " * 100]
    assert torch.equal(vit.tokenizer(texts), open_clip.tokenize(texts))


@pytest.mark.parametrize(
    ("caption", "unknown"),
    [
        ("A White, dog. SITTING!", []),
        ("black-and-tan dogs, puppies & beaches", []),
        ("the dog's moonlight", []),
        ("a Zebra and a dog, zebra-striped", ["Zebra", "zebra", "striped"]),
        ("12 dogs and 1 Zürich 🐕 Zürich", ["12", "1", "Zürich", "🐕"]),
        ("no dog", ["no"]),
        ("dog\x00\x07\x1b\u200d\ufeff", []),
        ("", []),
    ],
)
def test_unknown_words_keep_the_users_spelling(mini, vit, caption, unknown):
    assert TextEncoder.from_clip(mini).unknown_words(caption) == unknown
    assert TextEncoder.from_clip(vit).unknown_words(caption) == []


def test_unknown_words_and_signs_change_no_feature(mini):
    encoder = TextEncoder.from_clip(mini)
    same = encoder(
        ["white dogs at night", "White zebra dog, at --- night! 🐕", "white dog at\x00 night\ud800"]
    )
    assert torch.equal(same.eps_txt[0], same.eps_txt[1]) and torch.equal(same.eps_txt[0], same.eps_txt[2])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\x00\x01\x02",
        "🐕🐕❤️",
        "\ud800",
        "<end_of_text> dog",
        "a" * 10_000,
        "犬 " * 3000,
        "&lt;" * 99,
    ],
)
def test_no_text_breaks_either_tower(mini, vit, text):
    for clip in (mini, vit):
        encoder = TextEncoder.from_clip(clip)
        features = encoder([text])
        assert torch.isfinite(features.eps_txt).all() and torch.isfinite(features.embedding).all()
        assert clip.tokenizer([text])[0, features.eot.item()] == clip.tokenizer([text]).max()
        encoder.unknown_words(text), encoder.truncated_words(text)


def test_a_typed_end_of_text_moves_no_eot(vit):
    tokens = vit.tokenizer(["a <END_of_text> dog", "a <start_of_text> dog"])
    assert (tokens == 49407).sum(dim=1).tolist() == [1, 1] and (tokens == 49406).sum(dim=1).tolist() == [1, 1]


def test_truncated_words_are_named(mini, vit):
    small = TextEncoder.from_clip(mini)
    assert small.truncated_words("white dog") == []
    assert small.truncated_words("Zebra " + "snow " * 30) == []  # an unknown word takes no room
    assert small.truncated_words("snow " * 29 + "white, Dog night") == ["Dog", "night"]
    pieces = len(mini.tokenizer.encode("alsatian"))
    assert small.truncated_words("snow " * (31 - pieces) + "Alsatian") == [
        "Alsatian"
    ]  # a word is never cut in two
    assert small(["snow " * (31 - pieces) + "Alsatian"]).eot.item() == 32 - pieces
    large = TextEncoder.from_clip(vit)
    assert large.truncated_words("snow " * 75) == []
    assert large.truncated_words("snow " * 74 + "White dog's tail.") == ["dog", "'s", "tail"]


def test_split_words_shows_what_the_user_wrote():
    assert split_words("Tan-and-black  DOG,\n12 🐕") == [
        "Tan",
        "-",
        "and",
        "-",
        "black",
        "DOG",
        ",",
        "12",
        "🐕",
    ]


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
    with pytest.raises(WorkbenchError, match=r"positional_embedding: expected \(32, 128\), found \(7, 128\)"):
        load_clip(folder)
    del state["positional_embedding"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WorkbenchError, match=r"positional_embedding: expected \(32, 128\), found nothing"):
        load_clip(folder)
    state = {**compact_state(mini.model.state_dict()), "spare": torch.zeros(3)}
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WorkbenchError, match=r"spare: expected nothing, found \(3,\)"):
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
