"""What the configs of the networks refuse, and how they are written down: for G, the upsampler and D."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields

from workbench.errors import WorkbenchError


def is_count(value: object, low: int) -> bool:
    """Whether a value is a whole number of at least `low`; True and 1.0 are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def check_whole(value: object, name: str, low: int = 1) -> None:
    """Raises WorkbenchError unless a value is a whole number of at least `low`."""
    if not is_count(value, low):
        raise WorkbenchError(
            f"{name} is {value!r:.40}: expected a whole number of at least {low}. Give {name}={low} or more."
        )


def check_resolution(resolution: object, low: int = 8) -> None:
    """Raises WorkbenchError unless the side of a picture is a power of two, at least `low`."""
    if is_count(resolution, low) and not resolution & (resolution - 1):
        return
    near = [str(low << i) for i in range(5)]
    raise WorkbenchError(
        f"resolution is {resolution!r}: expected a power of two, at least {low}. Choose {', '.join(near)}, …"
    )


def check_counts(config: object, names: Iterable[str], low: int = 1) -> None:
    """Raises WorkbenchError for a field that is not a whole number of at least `low`."""
    for name in names:
        check_whole(getattr(config, name), name, low)


def check_text_dim(text_dim: object) -> None:
    """Raises WorkbenchError unless the text width is None (text off) or a whole number of at least 1."""
    if text_dim is not None and not is_count(text_dim, 1):
        raise WorkbenchError(
            f"text_dim is {text_dim!r}: expected the width of the text features, at least 1. "
            "Pass None to switch text off."
        )


def check_positive(config: object, names: Iterable[str]) -> None:
    """Raises WorkbenchError for a field that is not a finite number above 0."""
    for name in names:
        value = getattr(config, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value <= sys.float_info.max:
            raise WorkbenchError(
                f"{name} is {value!r}: expected a finite number above 0. Leave it out for its default."
            )


def sizes_of(name: str, sizes: object) -> tuple[int, ...]:
    """A list of sizes as a tuple. Raises WorkbenchError unless it holds whole numbers alone."""
    if not isinstance(sizes, list | tuple) or not all(is_count(size, 1) for size in sizes):
        raise WorkbenchError(
            f"{name} is {sizes!r}: expected a list of whole numbers of at least 1. Write it like (8, 4)."
        )
    return tuple(sizes)


def table_of(name: str, table: Mapping, sizes: tuple[int, ...] | None, *, low: int = 0) -> dict[int, int]:
    """A table keyed by feature size with whole numbers, as JSON may have turned its keys to text.

    sizes: the keys allowed (None = any). Raises WorkbenchError for other keys, for numbers that are not
    whole (31.9, True), or for a value below `low`.
    """
    try:
        clean = {int(size) if isinstance(size, str) else size: count for size, count in table.items()}
    except (TypeError, ValueError, AttributeError):
        clean = {None: None}
    if not all(isinstance(v, int) and not isinstance(v, bool) for pair in clean.items() for v in pair):
        raise WorkbenchError(
            f"{name} is {table!r}: expected whole numbers by size. Write it like {{8: 1, 16: 1}}."
        )
    if sizes is not None and (stray := sorted(set(clean) - set(sizes))):
        raise WorkbenchError(
            f"{name} speaks of sizes {stray}, but one of {max(sizes)} px has {list(sizes)}: remove them."
        )
    if small := {size: count for size, count in clean.items() if count < low}:
        raise WorkbenchError(
            f"{name} is {small} where at least {low} is expected: raise the numbers, or remove those sizes."
        )
    return clean


def check_complete(name: str, table: Mapping[int, int], sizes: tuple[int, ...]) -> None:
    """Raises WorkbenchError unless the table has a positive entry for every size."""
    if missing := [size for size in sizes if table.get(size, 0) < 1]:
        raise WorkbenchError(
            f"{name} lacks a positive entry for {missing}, it is {dict(table)}: give one for each of "
            f"{list(sizes)}."
        )


def plain(config: object, options: Iterable[str]) -> dict:
    """The config as plain values, without those of `options` that are at their default.

    What an option that is off adds to a file must be nothing: the hash of a model's config is in every
    picture it drew, and a run compares its networks with those it was begun with.
    """
    values = asdict(config)
    for field in fields(config):
        if field.name in options:
            default = field.default if field.default is not MISSING else field.default_factory()
            if values[field.name] == default:
                del values[field.name]
    return values
