"""What a person typed, made fit for the text encoder, with a warning for everything that is left out.

Nothing is dropped in silence: characters, words beyond the context and words the model never saw are named.
"""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.errors import WorkbenchError
from workbench.models.text import TextEncoder

MAX_CHARACTERS = 2_000
EXAMPLE = "a white shepherd sitting in the snow at night"
UNREAD = "This model was trained without text: the prompt is ignored, the seed alone decides."
# Presentation, keycap and joiner belong to the emoji before them.
_EMOJI_PARTS = {"\ufe0e", "\ufe0f", "\u20e3", "\u200d"}


@dataclass(frozen=True)
class CleanPrompt:
    """text: what the encoder reads and the recipe records; warnings: sentences about what was left out."""

    text: str
    warnings: list[str] = field(default_factory=list)


def clean_prompt(prompt: str, text_encoder: TextEncoder | None) -> CleanPrompt:
    """`prompt` on one line, without what cannot be read. An empty or wordless prompt is a WorkbenchError.

    text_encoder: None for a model without text, for which every prompt is the empty one.
    """
    if not isinstance(prompt, str):
        raise WorkbenchError(
            f'The prompt is {_short(repr(prompt))}, not a text. Write for example "{EXAMPLE}".'
        )
    if text_encoder is None:
        return CleanPrompt("", [UNREAD] if prompt.strip() else [])
    text, warnings = within_reach(prompt), []
    if len(text) < len(prompt):
        warnings.append(f"The prompt has {len(prompt):,} characters; only the first {len(text):,} are read.")
    text = _readable_characters(text, text_encoder, warnings)
    if not any(character.isalnum() or _is_emoji(character) for character in text):
        held = f"holds no words ({_short(repr(prompt))})" if prompt.strip() else "is empty"
        raise WorkbenchError(f'The prompt {held}. Describe a picture, for example "{EXAMPLE}".')
    lost = text_encoder.truncated_words(text)
    if lost:
        warnings.append(
            f"The prompt is longer than the {text_encoder.context_length} tokens the model reads; "
            f"left out: {_named(lost)}."
        )
    unknown = text_encoder.unknown_words(text)
    if unknown:
        warnings.append(_unknown_warning(unknown, text_encoder))
    return CleanPrompt(text, warnings)


def within_reach(prompt: str) -> str:
    """What is read of a prompt: at most MAX_CHARACTERS, cut between words where there is a gap."""
    if len(prompt) <= MAX_CHARACTERS:
        return prompt
    head = prompt[:MAX_CHARACTERS]
    gap = max(head.rfind(" "), head.rfind("\n"))
    return head[:gap] if gap > MAX_CHARACTERS // 2 else head


def _readable_characters(text: str, text_encoder: TextEncoder, warnings: list[str]) -> str:
    """White space to single blanks; control characters out; emoji out unless this encoder can read them."""
    keeps_emoji = not text_encoder.unknown_words("🐕")
    kept, emoji, control = [], [], 0
    for character in text:
        kind = unicodedata.category(character)
        if character.isspace():
            kept.append(" ")
        elif _is_emoji(character) or character in _EMOJI_PARTS:
            if keeps_emoji:
                kept.append(character)
            else:
                kept.append(" ")
                emoji += [character] if character not in _EMOJI_PARTS else []
        elif kind.startswith("C"):  # control, invisible, half a surrogate pair, private, unassigned
            control += 1
        else:
            kept.append(character)
    if emoji:
        warnings.append(f"Emoji are ignored, the model cannot read them: {_named(emoji, quote=False)}.")
    if control:
        warnings.append(f"{control} control or invisible character{'s' * (control > 1)} ignored.")
    return " ".join("".join(kept).split())


def _is_emoji(character: str) -> bool:
    """A pictograph or one of the five skin tones."""
    return unicodedata.category(character) == "So" or 0x1F3FB <= ord(character) <= 0x1F3FF


def _unknown_warning(unknown: Sequence[str], text_encoder: TextEncoder) -> str:
    """The words no training caption held, with near ones that the model knows."""
    known = getattr(text_encoder.tokenizer, "words", ())
    near = []
    for word in unknown[:5]:
        near += [w for w in difflib.get_close_matches(word.lower(), known, n=2, cutoff=0.75) if w not in near]
    hint = f" Known and similar: {_named(near)}." if near else ""
    return f"The model never saw {_named(unknown)} and ignores {'it' if len(unknown) == 1 else 'them'}.{hint}"


def _named(words: Sequence[str], most: int = 8, *, quote: bool = True) -> str:
    """The first few, each once, and how many more."""
    each = list(dict.fromkeys(words))
    shown = [f"“{_short(word, 30)}”" if quote else word for word in each[:most]]
    return ", ".join(shown) + (f" and {len(each) - most} more" if len(each) > most else "")


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
