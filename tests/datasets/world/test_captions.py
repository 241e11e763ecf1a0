"""Captions read back to exactly what they claim."""

from __future__ import annotations

import re

import pytest

from workbench.datasets.world import CHOICES, captions, draw_factors
from workbench.errors import WorkbenchError

DRAWS = [draw_factors(4, i) for i in range(2000)]


def truth(factors) -> dict[str, str]:
    return {name: getattr(factors, name) for name in captions.FACTOR_NAMES}


def test_full_captions_read_back_to_all_four_factors():
    for i, factors in enumerate(DRAWS):
        text = captions.full_caption(factors, 4, i)
        assert captions.named_factors(text) == truth(factors), text


def test_captions_never_contradict_and_about_a_quarter_are_partial():
    partial = 0
    for i, factors in enumerate(DRAWS):
        text = captions.caption(factors, 4, i)
        named = captions.named_factors(text)
        assert 2 <= len(named) <= 4 and named.items() <= truth(factors).items(), text
        assert len(text.split()) <= 24, text
        partial += len(named) < 4
    assert 0.20 < partial / len(DRAWS) < 0.30


@pytest.mark.parametrize("form", captions.FULL_FORMS + captions.PART_FORMS)
def test_every_synonym_in_every_form_reads_back(form):
    for value_of in (
        dict(zip(captions.FACTOR_NAMES, claim, strict=True)) for claim in captions.all_claims()[::7]
    ):
        for k in range(5):
            factors = type("F", (), value_of)
            text = captions._write(form, factors, lambda words, k=k: words[k % len(words)])
            assert captions.named_factors(text).items() <= value_of.items(), text


def test_captions_are_a_function_of_factors_seed_and_index():
    factors = DRAWS[0]
    assert captions.caption(factors, 1, 2) == captions.caption(factors, 1, 2)
    assert len({captions.caption(factors, 1, i) for i in range(100)}) > 60


def test_at_least_twelve_sentence_forms_occur():
    """A caption's form is what is left when its factor words and the dog's name are blotted out."""
    shapes = set()
    for i, factors in enumerate(DRAWS):
        text = re.sub("|".join(captions.BREEDS), "#", captions.caption(factors, 4, i))
        found = captions._PATTERN.sub(
            lambda m: "<" + captions._PHRASES[re.sub(r"\s+", " ", m.group())][0] + ">", text.lower()
        )
        shapes.add(re.sub(r"\b(an?|in|on|at|by|the)\b ?", "", found))
    assert len(shapes) >= 12


def test_every_caption_word_is_in_the_vocabulary():
    words = set(captions.vocabulary())
    assert list(captions.vocabulary()) == sorted(words)
    for i, factors in enumerate(DRAWS):
        for text in (captions.caption(factors, 4, i), captions.full_caption(factors, 4, i)):
            assert set(re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower())) <= words, text
            assert set(re.findall(r"[a-z]+", text.lower())) <= words, text


@pytest.mark.parametrize(
    "text, claims",
    [
        ("a white shepherd sitting in the snow at night", ("white", "sitting", "snow", "night")),
        ("black dog sitting snow night", ("black", "sitting", "snow", "night")),
        ("A snow-white Alsatian lies on the beach at golden hour", ("white", "lying", "beach", "sunset")),
        ("Black & tan dog, standing in front of houses, noon", ("black-and-tan", "standing", "city", "day")),
        (
            "a BLACK AND TAN shepherd on its feet on the pavement in the dark",
            ("black-and-tan", "standing", "city", "night"),
        ),
        ("red dog resting against a plain background in daylight", ("red", "lying", "studio", "day")),
        ("a dog on white sand", (None, None, "beach", None)),
        ("a black dog in white snow", ("black", None, "snow", None)),
        ("a reddish-brown dog on all fours", ("red", "standing", None, None)),
        ("understanding a blackboard, the infrared seat", (None, None, None, None)),
        ("", (None, None, None, None)),
    ],
)
def test_free_wording(text, claims):
    expected = {name: value for name, value in zip(captions.FACTOR_NAMES, claims, strict=True) if value}
    assert captions.named_factors(text) == expected


def test_every_value_is_claimed_by_its_own_plain_word():
    for name, choices in CHOICES.items():
        for value in choices:
            assert captions.named_factors(value) == {name: value}


def test_bad_input_is_refused():
    with pytest.raises(WorkbenchError, match="not int"):
        captions.named_factors(3)
    with pytest.raises(WorkbenchError, match="seed is -1"):
        captions.caption(DRAWS[0], -1, 0)
