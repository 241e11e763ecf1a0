"""What the look into G says against what G does, and switches that leave no trace."""

from types import SimpleNamespace

import pytest
import torch
from tiny_models import discriminator_config, features, generator_config

from workbench.errors import WorkbenchError
from workbench.models import glossary, inspect
from workbench.models.attention import merge_heads, split_heads, tokens_of
from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder, TextFeatures
from workbench.models.tokens import BpeTokenizer
from workbench.models.vision_aided import ImageTower, VisionAided, VisionAidedConfig


@pytest.fixture
def G() -> Generator:
    torch.manual_seed(0)
    G = Generator(generator_config(attention={8: 2, 16: 1}, cross_attention={8: 1, 16: 1})).eval()
    for parameter in G.parameters():  # biases start at 0: without a value a switched-off one goes unnoticed
        parameter.data += 0.1 * torch.randn_like(parameter)
    return G


@pytest.fixture
def inputs(G):
    with torch.no_grad():
        text = G.encode_text(features(3))
        return G.mapping(torch.randn(3, 8), text.t_global), text


def picture(G, inputs) -> torch.Tensor:
    with torch.no_grad():
        return G.synthesis(*inputs)[0]


# --- words ---


def test_every_word_knows_its_rows():
    encoder = TextEncoder.from_clip(new_mini_clip(["white", "shepherd", "snow", "Alsatian"]))
    words = inspect.words_of("a white zebra, an Alsatian in the snow!", encoder)
    assert [word.text for word in words] == ["a", "white", "an", "Alsatian", "in", "the", "snow"]
    ids = encoder.tokenizer(["a white zebra, an Alsatian in the snow!"])[0]
    rows = [row for word in words for row in word.rows]
    assert rows == list(range(1, int(ids.argmax())))
    for word in words:
        assert list(ids[list(word.rows)]) == encoder.tokenizer.encode(word.text)


def test_words_beyond_the_context_have_no_row():
    encoder = TextEncoder.from_clip(new_mini_clip(["snow"]))
    words = inspect.words_of("snow " * 60, encoder)
    assert len(words) == encoder.context_length - 2
    assert words[-1].rows == (encoder.context_length - 2,)


def test_a_full_bpe_gives_each_word_its_own_rows():
    """Behind an apostrophe too, where BPE joins what are two words here."""
    tokenizer = BpeTokenizer()
    for text in ("a dog's red collar", "I've 123 dogs, it's ok!! don't", "'TIS the dogs' &amp; 3.5 é", ""):
        ids, row = tokenizer([text])[0], 1
        for word, count in tokenizer.spelled(text):
            own = tokenizer([word])[0]
            if count and word.isalnum() and word != "TIS":  # which BPE reads as 'T and IS
                assert torch.equal(ids[row : row + count], own[1 : int(own.argmax())]), word
            row += count
        assert row == int(ids.argmax())
    encoder = SimpleNamespace(tokenizer=tokenizer)
    words = {word.text: word for word in inspect.words_of("a dog's red collar", encoder)}
    assert [words[text].rows for text in ("a", "dog", "'", "red", "collar")] == [(1,), (2,), (3,), (4,), (5,)]
    assert words["red"].number == 4 and "s" not in words  # among the words that a person counts


# --- the look ---


def test_a_look_changes_nothing_and_leaves_nothing_behind(G, inputs):
    before = picture(G, inputs)
    assert torch.equal(inspect.look(G, *inputs).pyramid[0], before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in G.modules())


def test_cross_weights_are_those_that_the_layer_used(G, inputs):
    """weights @ values through the layer's output map is what the layer added to its input."""
    layer, (_, text), x = G.blocks["8"][0].cross[0], inputs, torch.randn(3, 32, 8, 8)
    with torch.no_grad():
        weights = inspect.cross_weights(layer, x, text.t_local, text.mask)
        values = split_heads(layer.value(text.t_local), layer.heads)
        added = tokens_of(layer(x, text.t_local, text.mask)) - tokens_of(x)
        expected = layer.gain * layer.out(merge_heads(weights @ values))
    assert torch.allclose(added, expected, atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)
    assert weights.masked_select(~text.mask[:, None, None]).abs().max() == 0


def test_own_weights_are_those_that_the_layer_used(G, inputs):
    layer, w, x = G.blocks["8"][0].attention[0], inputs[0], torch.randn(3, 32, 8, 8)
    with torch.no_grad():
        layer.mlp_out.weight.zero_()
        layer.mlp_out.bias.zero_()
        weights = inspect.own_weights(layer, x, w)
        seen = torch.cat([layer.norm(tokens_of(x)), layer.norm(layer.token(w))[:, None]], dim=1)
        values = split_heads(layer.value(seen), layer.heads)
        added = tokens_of(layer(x, w)) - tokens_of(x)
        expected = layer.gain * layer.out(merge_heads(weights @ values))
    assert torch.allclose(added, expected, atol=1e-5)
    assert weights.shape == (3, layer.heads, 64, 65)


def test_the_look_has_every_size_and_every_bank(G, inputs):
    seen = inspect.look(G, *inputs)
    rows = inputs[1].t_local.shape[1]
    assert {size: tuple(maps.shape) for size, maps in seen.cross.items()} == {
        8: (3, rows, 8, 8), 16: (3, rows, 16, 16)}  # fmt: skip
    assert {size: tuple(maps.shape) for size, maps in seen.own.items()} == {8: (3, 64, 65), 16: (3, 256, 257)}
    assert torch.allclose(seen.cross[8].sum(1), torch.ones(3, 8, 8), atol=1e-5)
    assert list(seen.selection) == [
        "8 px, block 1, conv 1", "8 px, block 1, conv 2", "8 px, block 2, conv 1", "8 px, block 2, conv 2",
        "16 px, block 1, conv 1", "16 px, block 1, conv 2"]  # fmt: skip
    assert all(torch.allclose(a.sum(1), torch.ones(3)) for a in seen.selection.values())


def test_a_word_in_pieces_gets_the_sum_of_its_pieces(G, inputs):
    seen = inspect.look(G, *inputs)
    words = [inspect.Word("a", (1,)), inspect.Word("two", (2, 3))]
    maps = inspect.word_maps(seen, words, 8, row=2)
    assert torch.equal(maps[1], seen.cross[8][2, 2] + seen.cross[8][2, 3])
    assert torch.allclose(inspect.against_average(maps).mean((1, 2)), torch.ones(2))
    with pytest.raises(WorkbenchError, match="no word to look for"):
        inspect.word_maps(seen, [], 8)
    with pytest.raises(WorkbenchError, match=r"no cross-attention at 4 px: choose one of \[8, 16\]"):
        inspect.word_maps(seen, words, 4)


def test_a_spotlight_is_bright_where_the_map_is_high_and_dim_elsewhere():
    picture = torch.ones(3, 8, 8)  # white
    weights = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    lit = (inspect.spotlights(picture, weights)[0, 0] + 1) / 2
    assert lit[0, 0].item() == pytest.approx(1.0)
    assert lit[7, 7].item() == pytest.approx(inspect.DIM)


def test_the_place_that_asks_is_framed_and_its_inside_stays():
    picture = torch.full((3, 32, 32), -0.5)
    own = torch.zeros(16, 17)
    own[:, 5] = 1.0  # everybody listens to the place (1, 1) alone
    lit = inspect.asked_by(picture, own, (3, 0), 4)
    assert lit[:, 24, 0].tolist() == [1, 1, 1] and lit[:, 31, 7].tolist() == [1, 1, 1]
    assert lit[0, 27, 3] == picture[0, 27, 3]
    assert lit[0, 11, 11] == pytest.approx(-0.5, abs=0.06)  # light is interpolated between cells
    dim = (picture[0, 0, 0].item() + 1) * inspect.DIM - 1
    assert lit[0, 3, 28] == pytest.approx(dim, abs=1e-6)


# --- the pyramid ---


def test_increments_add_up_to_the_picture(G, inputs):
    pyramid = inspect.look(G, *inputs).pyramid
    parts = inspect.increments(pyramid)
    assert torch.allclose(inspect.recombine(parts, [4, 8, 16]), pyramid[0], atol=1e-5)
    assert inspect.recombine(parts, []).abs().max() == 0
    low, high = inspect.recombine(parts, [4]), inspect.recombine(parts, [8, 16])
    assert torch.allclose(low + high, pyramid[0], atol=1e-5)  # resampling is linear
    with pytest.raises(WorkbenchError, match=r"keep names the sizes \[32\]"):
        inspect.recombine(parts, [32])


# --- switches ---


@pytest.mark.parametrize("piece", list(inspect.PIECES))
def test_a_piece_without_strength_is_absent_and_comes_back(G, inputs, piece):
    """Strength 0 equals a G whose layers' output map is zero."""
    before = picture(G, inputs)
    with inspect.strength(G, piece, 0.0):
        off = picture(G, inputs)
    assert torch.equal(picture(G, inputs), before)
    assert (off - before).abs().max() > 1e-3
    for layer in G.modules():
        if isinstance(layer, inspect.PIECES[piece]):
            layer.out.weight.data.zero_()
            layer.out.bias.data.zero_()
    assert torch.allclose(picture(G, inputs), off, atol=1e-6)


def test_a_failure_inside_a_switch_leaves_no_trace(G, inputs):
    before = picture(G, inputs)
    with pytest.raises(ZeroDivisionError), inspect.strength(G, "self-attention", 0.0, sizes=[8]):
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), inspect.kernels(G, 1):
        _ = 1 / 0
    assert torch.equal(picture(G, inputs), before)


def test_strength_one_is_nothing_and_one_size_is_less_than_all(G, inputs):
    before = picture(G, inputs)
    with inspect.strength(G, "cross-attention", 1.0):
        assert torch.equal(picture(G, inputs), before)
    with inspect.strength(G, "cross-attention", 0.0, sizes=[16]):
        part = picture(G, inputs)
    with inspect.strength(G, "cross-attention", 0.0):
        assert not torch.equal(picture(G, inputs), part)


def test_forced_kernels_are_seen_and_exact(G, inputs):
    w, text = inputs
    free = inspect.look(G, w, text).selection
    with inspect.kernels(G, "uniform"):
        flat = inspect.look(G, w, text).selection
    with inspect.kernels(G, 2):
        single = inspect.look(G, w, text).selection
    with inspect.kernels(G, "others'"):
        first = next(iter(inspect.look(G, w, text).selection.values()))
    for name, a in flat.items():
        assert torch.allclose(a, torch.full_like(a, 1 / a.shape[1]))
        assert torch.equal(single[name][0], torch.eye(a.shape[1])[2 % a.shape[1]])
    assert torch.allclose(first, next(iter(free.values())).roll(-1, 0))


def test_one_kernel_equals_a_bank_that_holds_only_it(G, inputs):
    with inspect.kernels(G, 0):
        single = picture(G, inputs)
    for bank in G.modules():
        if isinstance(bank, inspect.AdaptiveConv2d) and bank.select is not None:
            with torch.no_grad():
                stacked = bank.weight.unflatten(0, (bank.kernels, -1))
                bank.weight.copy_(stacked[:1].expand_as(stacked).flatten(0, 1))
    assert torch.allclose(picture(G, inputs), single, atol=1e-4)


def test_the_end_of_text_can_be_misplaced_and_words_shuffled():
    made = features(3)
    wrong = inspect.end_at(TextFeatures(made.eps_txt, made.eot, made.eps_txt[:, 0]), -1)
    assert wrong.eot.tolist() == [8, 8, 8] and torch.equal(wrong.eps_txt, made.eps_txt)
    mixed = inspect.shuffled("a white dog at night", 0)
    assert mixed != "a white dog at night"
    assert sorted(mixed.split()) == ["a", "at", "dog", "night", "white"]
    assert inspect.shuffled("snow snow", 0) == "snow snow"
    with pytest.raises(WorkbenchError, match="row is 9: expected -9 to 8"):
        inspect.end_at(wrong, 9)


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        (lambda G: inspect.strength(G, "attention", 0), "no piece 'attention': choose one of self-attention"),
        (lambda G: inspect.strength(G, "self-attention", 0, [7]), "no blocks at 7 px: choose of 4, 8, 16"),
        (lambda G: inspect.kernels(G, "best"), "choice is 'best'"),
        (lambda G: inspect.kernels(G, -1), "choice is -1"),
    ],
)
def test_an_unknown_switch_is_refused(G, switch, message):
    with pytest.raises(WorkbenchError, match=message), switch(G):
        pass


# --- judges ---


def test_the_table_of_d_has_a_place_for_every_prediction_and_levels_stay_apart():
    torch.manual_seed(0)
    D = Discriminator(discriminator_config())
    t_D = D.encode_text(features(2))
    levels = [torch.randn(2, 3, size, size) for size in D.config.entries]
    before = inspect.table(D, inspect.verdicts(D, levels, t_D))
    assert before.shape == (3, 3)
    assert int(before.isfinite().sum()) == len(D.config.predictions) == 6
    levels[1] = levels[1] + 1
    moved = (inspect.table(D, inspect.verdicts(D, levels, t_D)) - before).abs()
    assert moved[1].nan_to_num().max() > 1e-4
    assert moved[[0, 2]].nan_to_num().max() < 1e-5


def test_every_tap_answers_for_every_caption():
    torch.manual_seed(0)
    clip = new_mini_clip(["dog"])
    config = VisionAidedConfig(proj=8, width=8)
    tower = ImageTower(clip, config.taps, torch.float32)
    pictures, captions = torch.rand(4, 3, 64, 64) * 2 - 1, torch.randn(4, config.embed_dim)
    heads = VisionAided(config, [m.shape[1] for m in tower(pictures)[0]]).eval()
    found = inspect.tap_verdicts(tower, heads, pictures, [captions, captions.flip(0)])
    assert list(found) == list(config.taps)
    with torch.no_grad():
        again = heads(tower(pictures)[0], [captions])[0]
    for logits, (right, wrong) in zip(again, found.values(), strict=True):
        assert torch.allclose(logits, right, atol=1e-5)
        assert not torch.allclose(right, wrong)


# --- the glossary ---


def test_every_term_has_two_sentences_and_balanced_formulas():
    assert [term.key for term in glossary.TERMS] == [
        "clip", "cross-attention", "self-attention", "kernels", "multi-scale", "matching", "contrastive",
        "vision-aided"]  # fmt: skip
    for term in glossary.TERMS:
        assert term.plain.count(". ") + term.plain.endswith(".") == 2, term.key
        assert term.formula.count("{") == term.formula.count("}"), term.key
    assert {term.key for term in glossary.TERMS if term.not_so} == {"kernels", "matching"}
    assert glossary.term("clip").name == "CLIP text encoder"
    with pytest.raises(WorkbenchError, match="There is no term 'gan': choose one of clip"):
        glossary.term("gan")


def test_the_papers_last_row_is_its_network():
    assert glossary.ABLATION[-1].parameters == 652.5
    assert glossary.ABLATION[-1].fid == min(rung.fid for rung in glossary.ABLATION)
