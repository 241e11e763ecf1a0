"""Tokenizers of the text towers: open_clip's BPE whole, and a compact one that knows the words of one world.

Both answer the same calls, so that a TextEncoder needs not know which one it holds: `tokenizer(texts)` gives
ids [N, context_length], `spelled(text)`, `unknown_words(text)`, `truncated_words(text)` and `to_json()`.

The compact table exists for size: open_clip's 49,408 rows of embedding at width 128 would be 12 MiB in fp16,
and a world of a few hundred words never trains the rest.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

import regex
import torch
from open_clip.tokenizer import SimpleTokenizer, basic_clean

from workbench.errors import WorkbenchError

# Words that carry no claim. A prompt may hold them although the captions of the world never did; the trainer
# mixes them into its captions. "no" and "not" are left out on purpose: the model can't follow them, so they
# are reported.
FUNCTION_WORDS = (
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "her", "his", "i", "in",
    "into", "is", "it", "its", "my", "near", "of", "on", "our", "over", "photo", "picture", "image", "please",
    "show", "some", "that", "the", "there", "this", "to", "under", "very", "was", "where", "which", "while",
    "who", "with", "your",
)  # fmt: skip

# Letters with their marks, digits, or a run of anything else: one "word" as the user sees it.
_WORD = regex.compile(r"[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}]+")
# Typed by a user, these would become the real special tokens and move the EOT position.
_SPECIAL = re.compile(r"<(start|end)_of_text>", re.IGNORECASE)


def check_captions(captions: object) -> None:
    """Raises WorkbenchError unless `captions` is a list of at least one text; a text may be empty."""
    if isinstance(captions, str):
        raise WorkbenchError(
            f"The captions are one text ({captions[:40]!r}): expected a list of texts. Write [caption]."
        )
    if not isinstance(captions, Collection):
        raise WorkbenchError(
            f"The captions are {str(captions)[:40]!r}, a {type(captions).__name__}: expected a list of "
            "texts. Write [caption], or list(captions) for what gives them one by one."
        )
    if not len(captions):
        raise WorkbenchError(
            "The list of captions is empty: expected at least one text. Pass [''] for one without words."
        )
    for place, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise WorkbenchError(
                f"Caption {place} is {str(caption)[:40]!r}, a {type(caption).__name__}: expected a text. "
                "Pass str(caption), or '' where there is none."
            )


@lru_cache(maxsize=1)
def _open_clip_bpe() -> SimpleTokenizer:
    return SimpleTokenizer()


def clean_text(text: str) -> str:
    """What is tokenized: broken encodings mended, control characters and special tokens made harmless."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no UTF-8
    if not text.isascii() or "&" in text:
        text = basic_clean(text)
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(_SPECIAL.sub(r"\1 of text", text).split())


def split_words(text: str) -> list[str]:
    """Words, numbers and runs of signs of a text in the user's spelling.

    >>> split_words("A black-and-tan dog!")
    ['A', 'black', '-', 'and', '-', 'tan', 'dog', '!']
    """
    return _WORD.findall(clean_text(text))


def _is_punctuation(word: str) -> bool:
    """Signs without a meaning of their own. An emoji has one (category So), so it isn't punctuation."""
    return all(unicodedata.category(c)[0] in "PCMZ" or c in "$+<=>^`|~" for c in word)


class BpeTokenizer:
    """open_clip's BPE with its whole vocabulary (49,408 ids): knows every word."""

    def __init__(self, context_length: int = 77):
        self.context_length = context_length
        self.vocab_size = _open_clip_bpe().vocab_size

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """Ids of open_clip's tokenizer, [N, context_length] int64."""
        texts = [texts] if isinstance(texts, str) else texts
        return _open_clip_bpe()([clean_text(t) for t in texts], context_length or self.context_length)

    def spelled(self, text: str) -> list[tuple[str, int]]:
        """Each word of `split_words` with its number of ids. A piece that reaches over two words, as "'s"
        does, belongs to the word it begins in.
        """
        text, bpe = clean_text(text), _open_clip_bpe()
        words = list(_WORD.finditer(text))
        count, at = [0] * len(words), 0
        for piece in bpe.pat.finditer(text):
            while piece.start() >= words[at].end():
                at += 1
            count[at] += len(bpe.encode(piece.group()))
        return [(word.group(), n) for word, n in zip(words, count, strict=True)]

    def unknown_words(self, text: str) -> list[str]:
        """Always []: BPE spells any word."""
        return []

    def truncated_words(self, text: str) -> list[str]:
        """Words that don't fit wholly between SOT and EOT."""
        bpe = _open_clip_bpe()
        pieces = bpe.pat.findall(clean_text(text))  # its own pattern, so that the count is its own count
        return _beyond(((piece, bpe.encode(piece)) for piece in pieces), self.context_length - 2)

    def to_json(self) -> dict:
        return {"schema": 1, "kind": "open-clip-bpe", "context_length": self.context_length}


class CompactTokenizer:
    """open_clip's BPE cut down to the pieces of some known words, renumbered.

    Id 0 is padding, ids 1 … n the kept BPE pieces in open_clip's order, n + 1 SOT and n + 2 EOT: the largest,
    so that argmax over the ids finds EOT as in CLIP. Words outside the table are dropped, as are punctuation
    marks.
    """

    def __init__(self, words: Iterable[str], context_length: int = 32):
        if context_length < 3:
            raise WorkbenchError(
                f"context_length is {context_length}: expected at least 3 (SOT, a token, EOT)."
            )
        self.context_length = context_length
        pieces = {p.lower() for word in words for p in split_words(word) if not _is_punctuation(p)}
        self.words = tuple(sorted(pieces | set(FUNCTION_WORDS)))
        spelled = {word: _open_clip_bpe().encode(word) for word in self.words}
        self.bpe_ids = tuple(sorted({i for ids in spelled.values() for i in ids}))
        compact = {bpe_id: k + 1 for k, bpe_id in enumerate(self.bpe_ids)}
        self._ids = {word: tuple(compact[i] for i in ids) for word, ids in spelled.items()}
        self.sot, self.eot = len(self.bpe_ids) + 1, len(self.bpe_ids) + 2
        self.vocab_size = len(self.bpe_ids) + 3

    @classmethod
    def from_json(cls, facts: dict, where: str = "vocabulary.json") -> "CompactTokenizer":
        """From the content of vocabulary.json; refuses a table that its own words don't give."""
        tokenizer = cls(facts["words"], facts["context_length"])
        if list(tokenizer.bpe_ids) != list(facts["bpe_ids"]):
            raise WorkbenchError(
                f"{where} keeps {len(facts['bpe_ids'])} BPE pieces, but its words need "
                f"{len(tokenizer.bpe_ids)}, in open_clip's order. The file was changed by hand or "
                "damaged: get the model folder again."
            )
        return tokenizer

    def to_json(self) -> dict:
        return {
            "schema": 1,
            "kind": "compact-bpe",
            "context_length": self.context_length,
            "words": list(self.words),
            "bpe_ids": list(self.bpe_ids),
        }

    def lookup(self, word: str) -> tuple[int, ...] | None:
        """Compact ids of a word in any case, or of its singular; None for a word outside the table."""
        word = word.lower()
        candidates = [word]
        if len(word) > 3 and word.endswith("s"):
            candidates.append(word[:-1])
            if word.endswith("ies"):
                candidates.append(word[:-3] + "y")
            elif word.endswith("es"):
                candidates.append(word[:-2])
        return next((self._ids[c] for c in candidates if c in self._ids), None)

    def _known(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        pairs = ((word, self.lookup(word)) for word in split_words(text))
        return [(word, ids) for word, ids in pairs if ids is not None]

    def spelled(self, text: str) -> list[tuple[str, int]]:
        """Each word of `split_words` with its number of ids, 0 for one outside the table."""
        return [(word, len(self.lookup(word) or ())) for word in split_words(text)]

    def encode(self, text: str) -> list[int]:
        """Ids of the known words of a text, without SOT, EOT and truncation."""
        return [i for _, ids in self._known(text) for i in ids]

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> torch.Tensor:
        """[N, context_length] int64: SOT, the known words that fit wholly, EOT, padding."""
        texts = [texts] if isinstance(texts, str) else texts
        length = context_length or self.context_length
        result = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens = [self.sot]
            for _, ids in self._known(text):
                if len(tokens) + len(ids) + 1 > length:
                    break
                tokens.extend(ids)
            tokens.append(self.eot)
            result[row, : len(tokens)] = torch.tensor(tokens)
        return result

    def unknown_words(self, text: str) -> list[str]:
        """Words that the table lacks, each once, in the user's spelling and order."""
        unknown = [w for w in split_words(text) if self.lookup(w) is None and not _is_punctuation(w)]
        # "the dog's tail": what follows an apostrophe is no word of its own
        unknown = [w for w in unknown if w.lower() not in ("s", "t", "re", "ve", "m", "ll", "d")]
        return list(dict.fromkeys(unknown))

    def truncated_words(self, text: str) -> list[str]:
        """Known words beyond the context, in the user's spelling and order."""
        return _beyond(self._known(text), self.context_length - 2)


def _beyond(words: Iterable[tuple[str, Sequence[int]]], room: int) -> list[str]:
    """The words from the first on that doesn't fit wholly into `room` tokens."""
    lost, used = [], 0
    for word, ids in words:
        used += len(ids)
        if lost or used > room:
            lost.append(word)
    return [word for word in lost if not _is_punctuation(word)]


Tokenizer = BpeTokenizer | CompactTokenizer


_ENTRIES = {
    "context_length": ("a whole number", lambda value: type(value) is int),
    "words": ("a list of texts", lambda value: _all_are(value, str)),
    "bpe_ids": ("a list of whole numbers", lambda value: _all_are(value, int)),
}


def _all_are(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def tokenizer_from_json(facts: dict, where: str = "vocabulary.json") -> Tokenizer:
    """The tokenizer of a vocabulary.json; where: its path. Raises WorkbenchError for another schema, and for
    an entry that is missing or of another kind.
    """
    if facts.get("schema") != 1 or facts.get("kind") not in ("open-clip-bpe", "compact-bpe"):
        raise WorkbenchError(
            f"{where} has schema {facts.get('schema')!r} and kind {facts.get('kind')!r}: expected "
            "schema 1 and kind 'compact-bpe' or 'open-clip-bpe'. Update the workbench, or get the model "
            "folder again."
        )
    compact = facts["kind"] == "compact-bpe"
    for name, (expected, fits) in _ENTRIES.items():
        if name not in facts and (compact or name == "context_length"):
            raise WorkbenchError(f"{where} lacks the entry {name!r}: get the model folder again.")
        if name in facts and not fits(facts[name]):
            raise WorkbenchError(
                f"{where} holds {str(facts[name])[:40]!r} as {name}: expected {expected}. Get the model "
                "folder again."
            )
    return CompactTokenizer.from_json(facts, where) if compact else BpeTokenizer(facts["context_length"])
