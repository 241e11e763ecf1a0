"""What the check says of words: against the real tokenizers, and of texts that say nothing."""

import pytest

from workbench.datasets.check.captions import of_lines, of_texts, of_tokens
from workbench.datasets.rows import Line, Row
from workbench.models.tokens import BpeTokenizer, CompactTokenizer


def rows(*texts: str) -> list[Row]:
    return [Row(f"{k}.png", text) for k, text in enumerate(texts)]


def kinds(findings) -> dict[str, tuple[str, ...]]:
    return {each.kind: each.names for each in findings}


def test_captions_beyond_the_context_are_named_and_the_last_that_fits_is_not():
    tokenizer = BpeTokenizer()
    assert tokenizer.context_length == 77  # of which start and end take two
    found = kinds(of_tokens(rows("dog " * 75, "dog " * 76), tokenizer))
    assert found == {"captions-long": ("1.png",)}


def test_words_in_many_pieces_are_named_most_frequent_first():
    text = "a pneumonoultramicroscopicsilicovolcanoconiosis dog"
    found = kinds(of_tokens(rows("a qzxwvkjq cat", text, text + " sits"), BpeTokenizer()))
    assert found == {"words-in-pieces": ("pneumonoultramicroscopicsilicovolcanoconiosis", "qzxwvkjq")}


def test_words_outside_a_small_vocabulary_are_named():
    tokenizer = CompactTokenizer(["dog", "sits"])
    found = kinds(of_tokens(rows("a dog sits", "a cat sits", "a Cat runs"), tokenizer))
    assert found == {"words-unknown": ("cat", "runs")}
    assert of_tokens(rows("a dog sits", "the dog"), tokenizer) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a <b>dog</b>", "captions-foreign"),
        ("see https://example.org/dog", "captions-foreign"),
        ("IMG_0001.jpg", "captions-foreign"),
        ("ein RÃ¼de", "captions-foreign"),
        ("a  dog", "captions-untidy"),
        ("a dog\n", "captions-untidy"),
        ("salt &amp; pepper", "captions-untidy"),
    ],
)
def test_texts_with_something_else_in_them_are_named(text, kind):
    assert kinds(of_texts(rows("a dog", text))) == {kind: ("1.png",)}


def test_plain_texts_in_any_script_are_fine():
    assert of_texts(rows("a dog, 3 years old (male) < 40 kg", "ein Rüde", "犬が座っている", "Собака")) == []


def test_half_the_captions_may_be_equal_and_no_more():
    assert set(kinds(of_texts(rows(*["a"] * 6, *"bcdefg")))) == {"captions-repeat"}
    assert set(kinds(of_texts(rows(*["a"] * 7, *"bcdefg")))) == {"captions-equal"}


def test_lines_are_named_relative_to_the_folder():
    lines = [
        Line("/x/metadata.jsonl line 1", None, "is not JSON (…). Mend it."),
        Line("/x/metadata.jsonl line 2", {"a": 1}, "holds `a` twice: the last one counts. Keep one."),
        Line("/x/metadata.jsonl line 3", {"a": 1}),
    ]
    found = of_lines(lines, ["metadata.jsonl line 9"], "/x")
    assert kinds(found) == {
        "broken-lines": ("metadata.jsonl line 1",),
        "doubtful-lines": ("metadata.jsonl line 2",),
        "no-caption": ("metadata.jsonl line 9",),
    }
    assert [each.level for each in found] == ["problem", "warning", "problem"]
