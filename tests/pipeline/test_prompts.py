"""Prompts: nothing is dropped in silence, nothing breaks."""

import pytest

from workbench.errors import WorkbenchError
from workbench.models.text import TextEncoder
from workbench.models.tokens import BpeTokenizer
from workbench.pipeline import clean_prompt
from workbench.pipeline.prompts import MAX_CHARACTERS


@pytest.mark.parametrize("prompt", ["white dog", "A White Dog, sitting.", "black-and-tan shepherd"])
def test_plain_prompts_pass_without_a_word(text_encoder, prompt):
    clean = clean_prompt(prompt.replace("tan", "white"), text_encoder)
    assert clean.text == prompt.replace("tan", "white") and clean.warnings == []


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t", "\u200b", "\x00\x01", "...", "?!", "🐕", "🐕🏽‍🦺 ❤️"])
def test_empty_and_wordless_prompts_are_refused(text_encoder, prompt):
    with pytest.raises(WorkbenchError, match=r"The prompt (is empty|holds no words).*Describe a picture"):
        clean_prompt(prompt, text_encoder)


@pytest.mark.parametrize("prompt", [None, 7, b"dog", ["dog"], float("nan")])
def test_what_is_no_text_is_refused(text_encoder, prompt):
    with pytest.raises(WorkbenchError, match="not a text"):
        clean_prompt(prompt, text_encoder)


def test_white_space_is_made_plain(text_encoder):
    clean = clean_prompt("  white\n\n dog\t in\u00a0snow\r\n", text_encoder)
    assert clean.text == "white dog in snow" and clean.warnings == []


def test_emoji_and_control_characters_are_ignored_and_named(text_encoder):
    clean = clean_prompt("white 🐕🏽‍🦺 dog\x07\u202e in snow ❤️\ud800", text_encoder)
    assert clean.text == "white dog in snow"
    assert clean.warnings == [
        "Emoji are ignored, the model cannot read them: 🐕, 🏽, 🦺, ❤.",
        "3 control or invisible characters ignored.",
    ]


def test_unknown_words_are_named_with_near_ones(text_encoder):
    clean = clean_prompt("a zebra sittting in the snow", text_encoder)
    assert clean.text == "a zebra sittting in the snow"
    assert clean.warnings == [
        "The model never saw “zebra”, “sittting” and ignores them. Known and similar: “sitting”."
    ]


def test_ten_thousand_characters_are_cut_with_a_warning(text_encoder):
    clean = clean_prompt("white dog " * 1000, text_encoder)
    assert len(clean.text) <= MAX_CHARACTERS and clean.text.endswith("dog")
    first, second = clean.warnings
    assert first == "The prompt has 10,000 characters; only the first 1,999 are read."
    assert second.startswith(
        f"The prompt is longer than the {text_encoder.context_length} tokens the model reads"
    )
    assert "“white”, “dog”" in second


def test_many_lost_words_are_counted_not_listed(text_encoder):
    (warning,) = clean_prompt(" ".join(f"zz{chr(97 + k)}q" for k in range(20)), text_encoder).warnings
    assert "“zzhq” and 12 more" in warning and len(warning) < 250


def test_one_word_of_ten_thousand_letters(text_encoder):
    clean = clean_prompt("a" * 10_000, text_encoder)
    assert len(clean.text) == MAX_CHARACTERS and all(len(w) < 200 for w in clean.warnings)


@pytest.mark.parametrize(
    "prompt",
    ["white dog " * 1000, "white 🐕 dog\x07", "  a\u200bb  c ", "눈 속의 white dog", "e\u0301t white <dog>"],
)
def test_cleaning_twice_changes_nothing_more(text_encoder, prompt):
    once = clean_prompt(prompt, text_encoder).text
    assert clean_prompt(once, text_encoder).text == once


def test_an_encoder_with_the_whole_vocabulary_keeps_emoji():
    config = {
        "embed_dim": 8,
        "quick_gelu": False,
        "name": "whole",
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    encoder = TextEncoder(config, BpeTokenizer(16))
    clean = clean_prompt("a zebra 🐕", encoder)
    assert clean.text == "a zebra 🐕" and clean.warnings == []
    assert clean_prompt("🐕", encoder).text == "🐕"
