"""What is done to a picture in the latent space, as plain values that go into a recipe and come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import WorkbenchError
from workbench.latents.captions import parse_marks
from workbench.latents.layers import RANGES
from workbench.latents.paths import KINDS, Key
from workbench.noise import check_seed
from workbench.pipeline import check_truncation

MOST_MIXED = 8
MOST_DIRECTIONS = 64
MOST_STRENGTH = 20.0
_LENGTHS = {"prompt": 4_000, "negative": 1_000, "name": 200, "start": 200_000}


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The layers `which` (coarse, middle or fine) come from the picture of a prompt and a seed."""

    which: str
    key: Key

    def __post_init__(self) -> None:
        if self.which not in RANGES:
            raise WorkbenchError(f"There is no range {self.which!r:.40}: choose one of {', '.join(RANGES)}.")
        _check_key(self.key)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is done to a picture. The default of everything but `first` and `second` does nothing.

    first, second: the two pictures of the path (prompts may hold marks such as (snow:1.4)); kind, t: which
    path, and how far along it from 0 to 1; truncation: of both; negative: words both prompts are led away
    from (a Key's own are refused); mixing: layers from elsewhere, one after the other; directions: (name,
    strength) in their order; start: styles and words of a picture found by inversion (`session.packed`), in
    place of the first seed.
    Raises WorkbenchError for a value that cannot be used, NaN among them.
    """

    first: Key
    second: Key
    kind: str = "both"
    t: float = 0.0
    truncation: float = 1.0
    negative: str = ""
    mixing: tuple[Mixed, ...] = ()
    directions: tuple[tuple[str, float], ...] = ()
    start: str = ""

    def __post_init__(self) -> None:
        _check_key(self.first)
        _check_key(self.second)
        if self.kind not in KINDS:
            raise WorkbenchError(f"There is no path {self.kind!r:.40}: choose one of {', '.join(KINDS)}.")
        if not _is_number(self.t) or not 0 <= self.t <= 1:
            raise WorkbenchError(
                f"The place between the two pictures is {self.t!r:.40}: expected 0 (the first) to "
                "1 (the second)."
            )
        check_truncation(self.truncation)
        _check_text(self.negative, "negative")
        _check_text(self.start, "start")
        if len(self.mixing) > MOST_MIXED or len(self.directions) > MOST_DIRECTIONS:
            raise WorkbenchError(
                f"The edit takes layers {len(self.mixing)} times and follows {len(self.directions)} "
                f"directions: at most {MOST_MIXED} and {MOST_DIRECTIONS} are meant."
            )
        for name, strength in self.directions:
            _check_text(name, "name")
            if not _is_number(strength) or abs(strength) > MOST_STRENGTH:
                raise WorkbenchError(
                    f"The strength of {name!r:.80} is {strength!r:.40}: expected a number from "
                    f"{-MOST_STRENGTH:g} to {MOST_STRENGTH:g}. Move the slider back."
                )

    @property
    def before(self) -> Edit:
        """The picture that the edit starts from."""
        return replace(self, t=0.0, mixing=(), directions=())

    @property
    def plain(self) -> bool:
        """Whether the pipeline alone draws this picture: a prompt and a seed, nothing done to them."""
        marked = parse_marks(self.first.prompt).loud
        return self == self.before and not (self.start or self.negative.strip() or marked)

    @property
    def still(self) -> bool:
        """Whether its path leads nowhere: the two pictures are alike in what the path changes."""
        a, b = self.first, self.second
        same = {"z": a.seed == b.seed, "prompt": a.prompt == b.prompt}
        return not self.start and same.get(self.kind, (a.prompt, a.seed) == (b.prompt, b.seed))


# --- as JSON ------------------------------------------------------------------------------------------------


def to_json(edit: Edit) -> dict[str, Any]:
    """Plain values, without what does nothing."""
    page: dict[str, Any] = {
        "first": [edit.first.prompt, edit.first.seed],
        "second": [edit.second.prompt, edit.second.seed],
        "kind": edit.kind,
        "t": edit.t,
        "truncation": edit.truncation,
        "negative": edit.negative,
        "mixing": [[mixed.which, mixed.key.prompt, mixed.key.seed] for mixed in edit.mixing],
        "directions": [[name, strength] for name, strength in edit.directions],
        "start": edit.start,
    }
    return {name: value for name, value in page.items() if value not in ("", [])}


def from_json(page: Mapping[str, Any]) -> Edit:
    """The edit of a page that anybody may have written: damaged ones raise WorkbenchError."""
    try:
        edit = Edit(
            first=Key(*page["first"]),
            second=Key(*page["second"]),
            kind=page.get("kind", "both"),
            t=page.get("t", 0.0),
            truncation=page.get("truncation", 1.0),
            negative=page.get("negative", ""),
            mixing=tuple(Mixed(which=row[0], key=Key(*row[1:])) for row in page.get("mixing", ())),
            directions=tuple((name, strength) for name, strength in page.get("directions", ())),
            start=page.get("start", ""),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise WorkbenchError(
            f"The edit is damaged ({type(error).__name__}: {error!s:.60}): use the original file."
        ) from error
    return edit


def of_recipe(recipe: Mapping[str, Any]) -> Edit:
    """The edit in a recipe; that of a plain picture does nothing.

    WorkbenchError where prompt or seed lack.
    """
    if "edit" in recipe:
        return from_json(recipe["edit"])
    if not {"prompt", "seed"} <= set(recipe):
        raise WorkbenchError("The recipe lacks prompt or seed: the picture cannot be made again.")
    key = Key(recipe["prompt"], recipe["seed"])
    return Edit(first=key, second=key, truncation=recipe.get("truncation", 1.0))


# --- checks -------------------------------------------------------------------------------------------------


def _check_key(key: Key) -> None:
    _check_text(key.prompt, "prompt")
    check_seed(key.seed)
    if key.negative:
        raise WorkbenchError(
            f"The picture of {key.prompt!r:.40} has negative words of its own ({key.negative!r:.40}): an "
            "edit leads all its pictures away from the same ones. Give them as `negative` of the edit."
        )


def _check_text(value: object, what: str) -> None:
    if not isinstance(value, str) or len(value) > _LENGTHS[what]:
        raise WorkbenchError(
            f"The {what} of this edit is {value!r:.40}: expected a text of at most "
            f"{_LENGTHS[what]:,} characters."
        )


def _is_number(value: object) -> bool:
    """Whether a value is a finite int or float that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False
