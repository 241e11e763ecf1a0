"""Mixed captions against their closed forms: ends, self-mixtures, muted and louder words, extrapolation."""

import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.latents import captions
from workbench.latents.points import draw, from_w, points, texts_of
from workbench.models.attention import CrossAttention, dot_attention
from workbench.models.inspect import cross_weights, words_of
from workbench.models.mapping import Text

A, B = "a white dog in the snow", "a black dog lying on the beach at night"


def with_text(pipeline, text):
    """One fixed w under a caption: what the caption alone does."""
    w = points(pipeline, A, 1).ws
    return draw(pipeline, from_w(pipeline, w.expand(len(text.mask), -1, -1), text))


def test_a_prior_is_what_an_explicit_loop_gives():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 7, 7))
    mask = torch.rand(2, 7) > 0.3
    prior = torch.rand(2, 7, dtype=torch.float64) * 2
    mask[:, 0] = True
    prior[:, 3] = 0.0
    found = dot_attention(q, k, v, mask[:, None, None], prior[:, None, None])
    for n in range(2):
        for h in range(3):
            for i in range(5):
                weights = [prior[n, j] * math.exp(q[n, h, i] @ k[n, h, j] / 2) * mask[n, j] for j in range(7)]
                expected = sum(w * v[n, h, j] for j, w in enumerate(weights)) / sum(weights)
                assert torch.allclose(found[n, h, i], expected, atol=1e-12)


def test_a_prior_of_ones_is_none_at_all_and_its_gradient_is_finite():
    torch.manual_seed(0)
    layer = CrossAttention(16, text_dim=8)
    x, t, mask = torch.randn(2, 16, 4, 4), torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    assert torch.allclose(layer(x, t, mask), layer(x, t, mask, torch.ones(2, 6)), atol=1e-6)
    prior = torch.tensor([[1.0, 0.0, 2.0, 1.0, 1.0, 1.0]] * 2, requires_grad=True)
    layer(x, t, mask, prior).sum().backward()
    assert torch.isfinite(prior.grad).all()
    weights = cross_weights(layer, x, t, mask, prior.detach())
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5) and (weights[..., 1] < 1e-30).all()


def test_between_has_exact_ends_and_a_caption_mixed_with_itself_is_itself(tiny):
    a, b = (texts_of(tiny, [prompt]) for prompt in (A, B))
    ends = with_text(tiny, captions.between(a, b, [0.0, 1.0]))
    assert torch.allclose(ends[:1], with_text(tiny, a), atol=1e-5)
    assert torch.allclose(ends[1:], with_text(tiny, b), atol=1e-5)
    itself = with_text(tiny, captions.between(a, a, [0.3]))
    assert torch.allclose(itself, with_text(tiny, a), atol=1e-5)
    middle = captions.between(a, b, [0.25])
    assert torch.allclose(middle.t_global, 0.75 * a.t_global + 0.25 * b.t_global, atol=1e-6)


def test_marks_are_read_as_typed():
    assert captions.parse_marks(A).loud == ()
    marked = captions.parse_marks("a (white:0) dog, in the (deep snow:1.4)")
    assert marked.text == "a white dog, in the deep snow"
    assert [(marked.text[a:b], loud) for a, b, loud in marked.loud] == [("white", 0.0), ("deep snow", 1.4)]
    for bad in ("(snow:loud)", "(snow:-1)", "(snow:nan)", "(snow:101)", "(snow:)"):
        with pytest.raises(WorkbenchError, match="expected a number from 0 to 100"):
            captions.parse_marks(bad)


def test_a_word_of_loudness_0_is_not_heard_and_1_changes_nothing(tiny):
    plain = texts_of(tiny, [A])
    rows = {word.text: word.rows for word in words_of(A, tiny.text_encoder)}
    silent = captions.read(tiny, "a (white:0) dog in the snow")
    other = Text(plain.t_local.clone(), plain.t_global, plain.mask)
    other.t_local[:, list(rows["white"])] = 100.0  # whatever it says, nobody listens
    heard = Text(other.t_local, other.t_global, other.mask, silent.prior)
    assert torch.allclose(with_text(tiny, silent), with_text(tiny, heard), atol=1e-5)
    one = captions.read(tiny, "a (white:1.0) dog in the snow")
    assert torch.allclose(with_text(tiny, one), with_text(tiny, plain), atol=1e-5)


def test_a_louder_word_takes_more_of_the_attention(shipped):
    from workbench.models.inspect import look, word_maps

    prompt = "a red dog lying on the beach at sunset"
    words = words_of(prompt, shipped.text_encoder)
    red = next(k for k, word in enumerate(words) if word.text == "red")
    maps = {}
    for loud in (0, 1, 10, 100):
        text = captions.read(shipped, prompt.replace("red", f"(red:{loud})"))
        seen = look(shipped.G, points(shipped, prompt, 1).ws, text)
        maps[loud] = word_maps(seen, words, 8)[red].double()
    assert maps[0].max() < 1e-6 < maps[1].mean()
    # A head that gave a word the share a gives it pa / (1 - a + pa) when it is p times as loud: concave in a,
    # so that the mean over heads lies between a and what a single head would give (Jensen).
    a = maps[1]
    for loud in (10, 100):
        assert (maps[loud] >= a - 1e-6).all() and (maps[loud] <= loud * a / (1 - a + loud * a) + 1e-4).all()
    assert (maps[100] >= maps[10] - 1e-6).all()
    assert 1.4 * a.mean() < maps[100].mean() and 1.1 * a.mean() < maps[10].mean() < maps[100].mean()


def test_negative_words_extrapolate_and_are_muted(tiny):
    away = captions.read(tiny, A, negative="snow", strength=2.0)
    without, with_words = (
        texts_of(tiny, [p]).t_global for p in ("a white dog in the", "a white dog in the snow")
    )
    assert torch.allclose(away.t_global, without + 2 * (without - with_words), atol=1e-5)
    rows = next(word.rows for word in words_of(A, tiny.text_encoder) if word.text == "snow")
    assert (away.prior[:, list(rows)] == 0).all() and (away.prior.sum() == away.prior.numel() - len(rows))
    assert torch.equal(captions.read(tiny, A, negative=" ").t_global, texts_of(tiny, [A]).t_global)
    with pytest.raises(WorkbenchError, match="leave nothing"):
        captions.read(tiny, "snow", negative="Snow")
    with pytest.raises(WorkbenchError, match="strength of negative words"):
        captions.read(tiny, A, negative="snow", strength=float("nan"))


def test_weights_that_fit_nothing_are_refused(tiny):
    a = texts_of(tiny, [A])
    with pytest.raises(WorkbenchError, match="one finite number for each"):
        captions.mix([a, a], [1.0])
    with pytest.raises(WorkbenchError, match="one finite number for each"):
        captions.mix([a], [float("inf")])
