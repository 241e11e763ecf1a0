"""The prompt's helpers say what the world's own reader says, and never let a prompt become HTML."""

from itertools import product
from types import SimpleNamespace

import pytest

from workbench.app import prompts
from workbench.datasets.world.captions import FACTOR_NAMES, named_factors, vocabulary
from workbench.models.tokens import CompactTokenizer, split_words
from workbench.pipeline.prompts import MAX_CHARACTERS


class Encoder:
    """A text encoder without its tower: the tokenizer answers all that the notice asks."""

    def __init__(self, context_length: int = 32) -> None:
        self.tokenizer = CompactTokenizer(vocabulary(), context_length)
        self.context_length = context_length
        self.unknown_words = self.tokenizer.unknown_words
        self.truncated_words = self.tokenizer.truncated_words


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


def test_a_composed_prompt_names_exactly_what_was_chosen():
    for values in product(*prompts.choices().values()):
        chosen = {n: v for n, v in zip(FACTOR_NAMES, values, strict=True) if v != prompts.OPEN}
        assert named_factors(prompts.compose(*values)) == chosen


def test_examples_and_composed_prompts_hold_known_words_alone(encoder):
    texts = [*prompts.EXAMPLES, *(prompts.compose(*v) for v in product(*prompts.choices().values()))]
    assert {text: encoder.unknown_words(text) for text in texts if encoder.unknown_words(text)} == {}
    assert len(set(prompts.EXAMPLES)) == 8


def test_a_random_caption_names_all_four_factors():
    assert set(named_factors(prompts.random_caption(3))) == set(FACTOR_NAMES)
    assert prompts.random_caption(3) == prompts.random_caption(3) != prompts.random_caption(4)


def test_each_word_has_its_state(encoder):
    reading = prompts.read("a white zebra, sitting in the snow", encoder)
    assert [w.state for w in reading.words] == ["known", "known", "unknown", *["known"] * 4]
    assert reading.claims == {"coat": "white", "pose": "sitting", "scene": "snow"}
    assert reading.warnings and "zebra" in reading.warnings[0]


def test_dropped_words_are_those_the_encoder_drops():
    short = Encoder(context_length=8)
    prompt = "a white shepherd sitting in the snow at night, zebra, black-and-tan dog"
    reading = prompts.read(prompt, short)
    lost = [part for word in reading.of_state("dropped") for part in split_words(word) if part not in "-,"]
    assert lost == short.truncated_words(prompt) != []
    assert reading.of_state("unknown") == ["zebra,"]
    assert reading.tokens == len(short.tokenizer.encode(prompt)) + 2 > reading.limit == 8


def test_the_notice_marks_words_by_more_than_colour(encoder):
    shown = prompts.reading_html(prompts.read("a white zebra", encoder))
    assert '<span class="wb-chip unknown"><s>zebra</s><small>unknown</small></span>' in shown
    assert "The seed decides the pose, scene and light." in shown


def test_what_a_person_typed_is_never_html(encoder):
    for nasty in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><b>x', "${1+1} {{x}}"):
        shown = prompts.reading_html(prompts.read(nasty, encoder))
        assert "<script" not in shown and "<img" not in shown and "<b>x" not in shown


def test_an_endless_prompt_gives_a_short_notice(encoder):
    shown = prompts.reading_html(prompts.read("white dog " * 1000, encoder))
    assert len(shown) < 10_000 and "more words" in shown
    assert len(prompts.reading_html(prompts.read("x" * 10_000, encoder))) < 2_000
    assert "Describe a shepherd" in prompts.reading_html(prompts.read(" \n ", encoder))


def test_a_pasted_book_is_read_as_far_as_the_model_reads(encoder):
    asked = []

    class Listening(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.unknown_words = lambda text: asked.append(len(text)) or self.tokenizer.unknown_words(text)

    book = "white zebra " * 90_000
    reading = prompts.read(book, Listening())
    assert max(asked) <= MAX_CHARACTERS and reading.tokens <= MAX_CHARACTERS
    assert len(reading.words) + reading.more == len(book.split())
    assert f"{len(book.split()) - 60:,} more words" in prompts.reading_html(reading)
    assert any("1,080,000 characters" in warning for warning in reading.warnings)
    assert prompts.read(book, None).more == reading.more


@pytest.mark.parametrize("prompt", ["...", "🐕", "( : )", "?" * 5_000])
def test_a_prompt_without_words_is_told_and_not_raised(encoder, prompt):
    shown = prompts.reading_html(prompts.read(prompt, encoder))
    assert "holds no words" in shown and "wb-chip" in shown


def test_the_footer_holds_the_words_of_the_loaded_model(encoder):
    shown = prompts.vocabulary_html(encoder)
    known = {part for word in vocabulary() for part in split_words(word)} - {"-"}
    assert all(f"<span>{word}</span>" in shown for word in known)
    other = SimpleNamespace(tokenizer=CompactTokenizer(["a", "cat"], 32))
    words = other.tokenizer.words
    assert "<span>cat</span>" in prompts.vocabulary_html(other) and "shepherd" not in words
    assert f"The {len(words)} words this model reads" in prompts.vocabulary_html(other)
    for wordless in (None, SimpleNamespace(tokenizer=object())):
        assert prompts.vocabulary_html(wordless) == ""
