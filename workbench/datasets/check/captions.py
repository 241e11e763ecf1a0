"""Captions: lines that are none, texts that say nothing, and what a text encoder makes of the words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from workbench.datasets.check.findings import Finding
from workbench.datasets.own.captions import tidy
from workbench.datasets.rows import Line, Row
from workbench.datasets.tree import shown

_FEW = 10  # rows from which on repeating captions are worth a word
_MANY_PIECES = 4  # tokens of one word: the encoder has hardly met it
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|https?://\S+|\.(?:jpe?g|png|webp)\b|\ufffd|Ã.|â€")
_WORD = re.compile(r"[^\W\d_]{2,}")
# (kind, level, what, whether a caption is one, what to do)
_SUSPECTS = (
    (
        "captions-untidy",
        "note",
        "captions with stray blanks, control characters or HTML entities",
        lambda text: text != tidy(text),
        "--fix writes them plainly",
    ),
    (
        "captions-foreign",
        "warning",
        "captions with markup, addresses, file names or broken letters in them",
        _TAG.search,
        "leave only words that say what is to be seen",
    ),
)
_WORDS_ASKED = 4096  # words a tokenizer gets at a time


class Tokenizer(Protocol):
    """What is asked of a text encoder's tokenizer; those of `workbench.models.tokens` answer it."""

    context_length: int

    def __call__(self, texts: Sequence[str]) -> Any:
        """Ids [N, context_length], the end mark the largest of a row."""

    def unknown_words(self, text: str) -> list[str]:
        """Words of the text that it drops."""

    def truncated_words(self, text: str) -> list[str]:
        """Words of the text beyond the context."""


def of_lines(lines: Sequence[Line], bad: Sequence[str], folder: str) -> list[Finding]:
    """Findings on metadata that cannot be read as rows; bad: where a file name or a caption lacks."""
    broken = [line for line in lines if line.entry is None]
    doubtful = [line for line in lines if line.entry is not None and line.mistake]
    found = []
    for kind, level, what, some in (
        ("broken-lines", "problem", "lines of the metadata that cannot be read", broken),
        (
            "doubtful-lines",
            "warning",
            "lines of the metadata that other programs may read otherwise",
            doubtful,
        ),
    ):
        if some:
            first = some[0]
            found.append(
                Finding(
                    kind=kind,
                    level=level,
                    what=f"{what}: {len(some)}",
                    names=tuple(line.where.removeprefix(f"{folder}/") for line in some),
                    suggestion=shown(f"the first {first.mistake}"),
                )
            )
    if bad:
        found.append(
            Finding(
                kind="no-caption",
                level="problem",
                what=f"rows without a file name or a caption: {len(bad)}",
                names=tuple(bad),
                suggestion="write a caption for each, or take the lines out",
            )
        )
    return found


def of_texts(rows: Sequence[Row]) -> list[Finding]:
    """Findings on the captions as texts."""
    found = []
    distinct = {(row.file_name, row.text) for row in rows}
    if len(distinct) < len(rows):
        seen = Counter((row.file_name, row.text) for row in rows)
        found.append(
            Finding(
                kind="rows-twice",
                level="note",
                what=f"rows that stand twice: {len(rows) - len(distinct)}",
                names=tuple(name for (name, _), often in seen.items() if often > 1),
                suggestion="keep one line for each picture and caption",
            )
        )
    texts = Counter(row.text for row in rows)
    text, often = texts.most_common(1)[0] if texts else ("", 0)
    if len(rows) >= _FEW and often > len(rows) / 2:
        found.append(
            Finding(
                kind="captions-equal",
                level="problem",
                what=f"{often} of {len(rows)} captions are the same: {shown(text[:80])!r}",
                suggestion="say in each caption what sets its picture apart, or the prompt cannot steer",
            )
        )
    elif len(rows) >= _FEW and len(texts) < len(rows):
        found.append(
            Finding(
                kind="captions-repeat",
                level="note",
                what=f"captions that repeat another picture's: {len(rows) - len(texts)}",
                suggestion="fine where the pictures show the same; training pairs them",
            )
        )
    return found + _untidy(rows)


def _untidy(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for kind, level, what, suspect, advice in _SUSPECTS:
        names = tuple(dict.fromkeys(row.file_name for row in rows if suspect(row.text)))
        if names:
            text = f"{what}: {len(names)}"
            found.append(Finding(kind=kind, level=level, what=text, names=names, suggestion=advice))
    return found


def of_tokens(rows: Sequence[Row], tokenizer: Tokenizer) -> list[Finding]:
    """Findings on what the text encoder makes of the captions: words cut off, not known, or spelled out."""
    texts = list(dict.fromkeys(row.text for row in rows))
    cut = {text for text in texts if tokenizer.truncated_words(text)}
    unknown = Counter(word.lower() for text in texts for word in tokenizer.unknown_words(text))
    found = []
    if cut:
        names = tuple(dict.fromkeys(row.file_name for row in rows if row.text in cut))
        room = tokenizer.context_length
        found.append(
            Finding(
                kind="captions-long",
                level="warning",
                what=f"captions longer than the text encoder's {room} tokens: {len(names)}",
                names=names,
                suggestion="say the important things first, or shorten them: the rest is not read",
            )
        )
    if unknown:
        found.append(
            Finding(
                kind="words-unknown",
                level="warning",
                what=f"words that the text encoder does not know and leaves out: {len(unknown)}",
                names=tuple(word for word, _ in unknown.most_common()),
                suggestion="train with a CLIP that knows them (--clip ViT-L-14), or use other words",
            )
        )
    pieces = _in_pieces(texts, tokenizer)
    if pieces:
        found.append(
            Finding(
                kind="words-in-pieces",
                level="note",
                what=f"words that the text encoder spells in {_MANY_PIECES} pieces or more: {len(pieces)}",
                names=pieces,
                suggestion="look for typing errors; a common word in its place is understood better",
            )
        )
    return found


def _in_pieces(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[str, ...]:
    """Words of many tokens, the most frequent first."""
    words = Counter(word.lower() for text in texts for word in _WORD.findall(text))
    asked = [word for word, _ in words.most_common()]
    found: list[str] = []
    for at in range(0, len(asked), _WORDS_ASKED):
        some = asked[at : at + _WORDS_ASKED]
        tokens = tokenizer(some).argmax(-1).tolist()  # the end mark's place: one more than the pieces
        found += [word for word, end in zip(some, tokens, strict=True) if end - 1 >= _MANY_PIECES]
    return tuple(found)
