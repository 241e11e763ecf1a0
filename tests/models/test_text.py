"""The text towers: features as open_clip computes them, the compact vocabulary."""

import copy

import open_clip
import pytest
import torch
import torch.nn.functional as F
from tiny_towers import CAPTIONS

from workbench.errors import WorkbenchError
from workbench.models.text import TextEncoder, TextFeatures
from workbench.models.tokens import split_words


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
    mini = copy.deepcopy(mini)
    mini.model.requires_grad_(True)
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

    def named(ids):  # by open_clip's table, without padding, SOT and EOT
        return [tokenizer.bpe_ids[i - 1] for i in ids if 0 < i < tokenizer.sot]

    for word in tokenizer.words:
        ids = tokenizer.encode(word)
        assert named(ids) == bpe.encode(word)
    caption = "An Alsatian puppy lying on the beach"
    row = tokenizer([caption])[0].tolist()
    assert named(row) == bpe.encode(caption)
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
