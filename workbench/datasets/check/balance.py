"""Whether there is enough of everything: pictures for a preset, and each value of each column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.datasets.check.findings import Finding
from workbench.datasets.rows import Row
from workbench.errors import WorkbenchError

ENOUGH_PICTURES = 500
_DISTINCT = 24  # values up to which a column is one of kinds
_FAIR_SHARE = 12  # pictures: of fewer, a third can come about by chance
# Columns about the file, not about what is to be seen.
_ABOUT_FILES = frozenset({"source", "width", "height", "bucket", "frame", "upscaled", "caption_from", "seed"})


@dataclass(frozen=True)
class Need:
    """What a preset asks of a data set. side: its resolution in px; least: pictures below which G learns them
    by heart; good: from which on more help little."""

    preset: str
    side: int
    least: int
    good: int


# Orders of magnitude, not laws: with augmentation, StyleGAN2-ADA (Karras et al. 2020) is good from a few
# thousand pictures on and gains little beyond some tens of thousands; GigaGAN's own are hundreds of millions.
NEEDS = {
    need.preset: need
    for need in (
        Need("shepherd-32", 32, 1_000, 5_000),
        Need("shepherd-64", 64, 2_000, 10_000),
        Need("critics-64", 64, 2_000, 10_000),
        Need("seed-128", 128, 3_000, 20_000),
        Need("gigagan-64", 64, 1_000_000, 100_000_000),
        Need("shepherd-up2", 128, 500, 2_000),  # crops of a picture are many
        Need("shepherd-up4", 256, 500, 2_000),
        Need("shepherd-up8", 512, 500, 2_000),
        Need("upsampler-64-512", 512, 100_000, 10_000_000),
        Need("upsampler-128-1024", 1024, 100_000, 10_000_000),
    )
}


def need_of(preset: str) -> Need:
    """What the named preset asks of a data set."""
    if preset not in NEEDS:
        raise WorkbenchError(f"there is no preset {preset!r}: choose one of {', '.join(NEEDS)}.")
    return NEEDS[preset]


def of_count(count: int, need: Need | None) -> list[Finding]:
    """Whether `count` whole pictures are enough, for a preset or at all."""
    if need is None:
        if count >= ENOUGH_PICTURES:
            return []
        level = "problem" if count < 2 else "note"
        what = f"few pictures for training from nothing: {count}"
        advice = f"gather {ENOUGH_PICTURES} at least; with fewer a GAN learns them by heart"
        return [Finding(kind="few", level=level, what=what, suggestion=advice)]
    if count >= need.good:
        return []
    if count >= need.least:
        level, what = "note", f"pictures for {need.preset}: {count:,}; more would still help"
    else:
        level = "problem" if count < need.least / 10 else "warning"
        what = f"few pictures for {need.preset}: {count:,}"
    advice = (
        f"{need.preset} learns fewer than {need.least:,} by heart and gains from up to {need.good:,}; "
        "gather more, or take a smaller preset"
    )
    return [Finding(kind="few", level=level, what=what, suggestion=advice)]


def of_balance(rows: Sequence[Row]) -> list[Finding]:
    """Values that have less than a third of their fair share, in every column of few values.

    The fair share is the column's rows over its values; below _FAIR_SHARE nothing is said, so that chance
    alone (a Poisson count of 12 is below 4 once in 400) rarely raises a finding.
    """
    found = []
    for column, counts in kinds(rows).items():
        fair = sum(counts.values()) / len(counts)
        rare = {value: count for value, count in counts.items() if count < fair / 3}
        if fair >= _FAIR_SHARE and rare:
            told = tuple(
                f"{value} ({count})" for value, count in sorted(rare.items(), key=lambda item: item[1])
            )
            found.append(
                Finding(
                    kind="balance",
                    level="note",
                    what=f"values of {column!r} with under a third of their share of {fair:.0f}: {len(rare)}",
                    names=told,
                    suggestion="add pictures of these, or expect them to be learned last and worst",
                )
            )
    return found


def kinds(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Column -> value -> rows, for the columns that sort pictures into a few kinds."""
    values: dict[str, Counter] = {}
    for row in rows:
        for column, value in row.factors.items():
            if column not in _ABOUT_FILES and isinstance(value, (str, bool, int)):
                values.setdefault(column, Counter())[str(value)] += 1
    few = {column: counts for column, counts in values.items() if 2 <= len(counts) <= _DISTINCT}
    return {column: dict(counts.most_common()) for column, counts in few.items()}
