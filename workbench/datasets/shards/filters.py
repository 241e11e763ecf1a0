"""Which samples of web-scale shards are wanted: by size, aesthetic score, similarity and NSFW score.

The names of the scores are those that LAION's sets and img2dataset write into the JSON of a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workbench.errors import WorkbenchError

_NAMES = {
    "aesthetic": ("aesthetic", "aesthetic_score", "aesthetics", "predicted_aesthetic", "ae_score"),
    "similarity": ("similarity", "clip_similarity", "clip_score", "similarity_score", "sim"),
    "nsfw": ("punsafe", "nsfw", "pnsfw", "nsfw_score", "unsafe"),
}
# The words that LAION-400M has in place of a score.
_NSFW_WORDS = {"unlikely": 0.0, "unsure": 0.5, "likely": 1.0, "very_likely": 1.0, "nsfw": 1.0}


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a sample needs to be kept; None asks for nothing.

    min_size: pixels of the shorter side, of the picture itself; min_aesthetic, min_similarity: lowest score;
    max_nsfw: highest probability of being unsafe, 0 … 1 (the words unlikely, unsure and nsfw count 0, 0.5 and
    1). missing: what becomes of a sample without a score that is asked for.
    """

    min_size: int | None = None
    min_aesthetic: float | None = None
    min_similarity: float | None = None
    max_nsfw: float | None = None
    missing: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        if self.missing not in ("drop", "keep"):
            raise WorkbenchError(f"missing is {self.missing!r}: expected drop or keep.")
        if self.min_size is not None and self.min_size < 1:
            raise WorkbenchError(f"min_size is {self.min_size}: expected a number of pixels of at least 1.")
        for name in ("min_aesthetic", "min_similarity", "max_nsfw"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise WorkbenchError(f"{name} is {value}: expected a number.")

    def why_not(self, size: tuple[int, int], columns: dict) -> str | None:
        """Why a picture of `size` (width, height) with the JSON `columns` is left out; None: it is kept."""
        if self.min_size is not None and min(size) < self.min_size:
            return f"shorter side below {self.min_size} px"
        for name, least, most in (
            ("aesthetic", self.min_aesthetic, math.inf),
            ("similarity", self.min_similarity, math.inf),
            ("nsfw", -math.inf, self.max_nsfw),
        ):
            if least is None or most is None:
                continue
            score = score_of(columns, name)
            if score is None:
                if self.missing == "drop":
                    return f"no {name} score"
            elif score < least:
                return f"{name} score below {least:g}"
            elif score > most:
                return f"{name} score above {most:g}"
        return None


def score_of(columns: dict, name: str) -> float | None:
    """The score "aesthetic", "similarity" or "nsfw" of a sample's columns; None where it has none."""
    by_name = {str(key).lower().replace(" ", "_"): value for key, value in columns.items()}
    for key in _NAMES[name]:
        number = _number(by_name.get(key), words=_NSFW_WORDS if name == "nsfw" else {})
        if number is not None:
            return number
    return None


def _number(value: object, words: dict[str, float]) -> float | None:
    """A finite number, also from text and, where there are words for it, from a word or a yes and no."""
    if isinstance(value, bool):
        return float(value) if words else None
    if isinstance(value, str) and value.strip().lower().replace(" ", "_") in words:
        return words[value.strip().lower().replace(" ", "_")]
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
