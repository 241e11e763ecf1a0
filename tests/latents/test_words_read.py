"""Loud, negative and cancelled words are those that the encoder reads, whatever else was typed."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.latents import captions
from workbench.latents.arithmetic import Term, parse_sum, total
from workbench.latents.captions import read, spoken
from workbench.latents.points import texts_of
from workbench.latents.text_directions import between_phrases
from workbench.models.inspect import words_of

HYPHEN = "\u00ad"  # soft: seen nowhere, read by nobody


def words_at(pipeline, caption, rows) -> list[str]:
    """The words of a plain caption that own these rows."""
    rows = set(rows)
    return [word.text for word in words_of(caption, pipeline.text_encoder) if rows & set(word.rows)]


def rows_where(chosen: torch.Tensor) -> list[int]:
    return chosen.nonzero().flatten().tolist()


@pytest.mark.parametrize("which", ["tiny", "spelling"])
@pytest.mark.parametrize(
    ("typed", "read_as", "loud"),
    [
        ("a white dog in the (snow:20)", "a white dog in the snow", ["snow"]),
        (f"a whi{HYPHEN}te dog in the (snow:20)", "a white dog in the snow", ["snow"]),
        (f"a white{HYPHEN}(dog:20) in the snow", "a whitedog in the snow", ["whitedog"]),
        (
            f"  {HYPHEN} a white \n dog in (the snow:20) at night",
            "a white dog in the snow at night",
            ["the", "snow"],
        ),
        ("a wh(ite dog in:20) the snow", "a white dog in the snow", ["white", "dog", "in"]),
        ("a black(ish:20) dog", "a blackish dog", ["blackish"]),
        ("(black:20)ish dog", "blackish dog", ["blackish"]),
        ("... (dog:20)", "... dog", ["dog"]),
        ("a &amp; (dog:20)", "a & dog", ["dog"]),
    ],
)
def test_a_mark_makes_the_words_it_touches_loud_and_no_others(request, which, typed, read_as, loud):
    pipeline = request.getfixturevalue(which)
    text, plain = read(pipeline, typed), texts_of(pipeline, [read_as])
    assert torch.equal(text.t_local, plain.t_local) and torch.equal(text.mask, plain.mask)
    heard = {word.text for word in words_of(read_as, pipeline.text_encoder)}
    assert words_at(pipeline, read_as, rows_where(text.loudness[0] == 20)) == [w for w in loud if w in heard]
    assert ((text.loudness == 20) | (text.loudness == 1)).all()


def test_what_is_spoken_is_what_is_encoded(spelling):
    said = spoken(spelling, f"a w{HYPHEN}hite (dog:3)\tin  the snow")
    assert said.caption == "a white dog in the snow"
    assert said.words == words_of(said.caption, spelling.text_encoder)
    assert torch.equal(said.text.t_local, spelling.text(said.caption).t_local)


@pytest.mark.parametrize("which", ["tiny", "spelling"])
def test_negative_words_mute_their_own_rows(request, which):
    pipeline, plain = request.getfixturevalue(which), "a white dog in the snow at night"
    for prompt, negative in ((f"a whi{HYPHEN}te dog in the snow at night", "snow"), (plain, f"sn{HYPHEN}ow")):
        away = read(pipeline, prompt, negative=negative)
        expected = read(pipeline, plain, negative="snow")
        assert words_at(pipeline, plain, rows_where(away.loudness[0] == 0)) == ["snow"]
        assert torch.equal(away.t_global, expected.t_global) and torch.equal(away.prior, expected.prior)
    assert torch.equal(read(pipeline, plain, negative=HYPHEN).t_global, texts_of(pipeline, [plain]).t_global)


@pytest.mark.parametrize("which", ["tiny", "spelling"])
def test_negative_words_act_where_the_prompt_fills_the_context(request, which):
    """The difference is then that of the words which leave them room: computed here by hand."""
    pipeline = request.getfixturevalue(which)
    room = pipeline.text_encoder.context_length - 2
    words = ["dog", "white", "black", "red"] * 30
    long = " ".join(words)
    away = read(pipeline, long, negative="snow", strength=2.0)
    start = " ".join(words[: room - 1])
    whole, before, after = (texts_of(pipeline, [p]).t_global for p in (long, start, f"{start} snow"))
    assert not torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(away.t_global, whole + 2 * (before - after), atol=1e-5)
    with pytest.raises(WorkbenchError, match=f"leave no room for the prompt in the {room + 2} tokens"):
        read(pipeline, long, negative="snow " * room)


@pytest.mark.parametrize("which", ["tiny", "spelling"])
def test_a_sum_mutes_its_words_behind_marks(request, which):
    pipeline, plain = request.getfixturevalue(which), "a dog in the snow at night"
    at = total(pipeline, parse_sum("a dog in the (snow:1.4) at night - night"), [1])
    loudness = at.texts[0].loudness[0]
    assert words_at(pipeline, plain, rows_where(loudness == 0)) == ["night"]
    assert words_at(pipeline, plain, rows_where(loudness > 1)) == ["snow"]
    loud_away = total(pipeline, [Term(plain), Term("(night:3)", -1.0)], [1])
    assert words_at(pipeline, plain, rows_where(loud_away.texts[0].loudness[0] == 0)) == ["night"]


def test_a_direction_of_phrases_puts_the_new_word_in(spelling):
    found = between_phrases(spelling, "a dog", f"a{HYPHEN} white dog", seeds=2)
    (row,) = next(w.rows for w in words_of("a white dog", spelling.text_encoder) if w.text == "white")
    assert torch.equal(found.words, texts_of(spelling, ["a white dog"]).t_local[0, [row]])


def test_room_is_made_by_the_words_that_fit(tiny):
    words = ["dog"] * 40
    assert captions._with_room(tiny, words[:4], "snow") == "dog dog dog dog"
    assert captions._with_room(tiny, words, "snow night") == " ".join(["dog"] * 28)
