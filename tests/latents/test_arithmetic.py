"""Sums of prompts: identities, words that cancel, and what is nearest."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.latents.arithmetic import Term, nearest, parse_sum, total, world_captions
from workbench.latents.points import draw, points, texts_of
from workbench.models.inspect import words_of

A, B = "a white dog in the snow", "a black dog lying on the beach at night"


def test_a_sum_is_read_as_written():
    assert parse_sum("a dog \u2212 black + jet-black") == [
        Term("a dog"),
        Term("black", -1.0),
        Term("jet-black"),
    ]
    assert parse_sum("- black + a dog") == [Term("black", -1.0), Term("a dog")]
    for bad in ("", "  ", "a dog -  + b", "a dog -", "+"):
        with pytest.raises(WorkbenchError, match="is no sum of prompts"):
            parse_sum(bad)


@pytest.mark.parametrize("space", ["prompt", "w"])
def test_one_prompt_alone_and_with_nothing_taken_away_is_itself(tiny, space):
    plain = draw(tiny, points(tiny, A, [1, 2]))
    assert torch.allclose(draw(tiny, total(tiny, [Term(A)], [1, 2], space=space)), plain, atol=1e-5)
    circle = total(tiny, [Term(A), Term(B), Term(B, -1.0)], [1, 2], space=space)
    assert torch.allclose(circle.ws, points(tiny, A, [1, 2]).ws, atol=1e-5)


def test_t_global_is_summed_and_words_that_cancel_are_not_heard(tiny):
    terms = parse_sum("a white dog in the snow - snow + beach")
    at = total(tiny, terms, [1])
    parts = [texts_of(tiny, [term.prompt]).t_global for term in terms]
    assert torch.allclose(at.texts[0].t_global, parts[0] - parts[1] + parts[2], atol=1e-5)
    snow = next(word.rows for word in words_of(terms[0].prompt, tiny.text_encoder) if word.text == "snow")
    assert (at.texts[0].prior[0, list(snow)] == 0).all() and (at.texts[0].prior[0] == 0).sum() == len(snow)


def test_what_cannot_be_summed_is_refused(tiny):
    with pytest.raises(WorkbenchError, match="no space 'z'"):
        total(tiny, [Term(A)], [1], space="z")
    with pytest.raises(WorkbenchError, match="at least one term"):
        total(tiny, [], [1])
    with pytest.raises(WorkbenchError, match="is taken away"):
        total(tiny, [Term(A, -1.0)], [1])


def test_the_nearest_are_found_and_the_world_is_said_whole():
    candidates = torch.eye(4)
    rows, cosines = nearest(torch.tensor([[0.6, 0.8, 0.0, 0.0]]), candidates, k=2)
    assert rows.tolist() == [[1, 0]] and torch.allclose(cosines, torch.tensor([[0.8, 0.6]]))
    captions = world_captions()
    assert len({caption for _, caption in captions}) == len(captions) == 225
