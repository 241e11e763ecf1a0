"""Pictures one by one: whole or broken, what they are, their size, and the ones unlike all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.datasets.check.findings import Finding, Level
from workbench.datasets.check.looks import FEATURES, Look
from workbench.datasets.tree import Entry

_FLAT = 1.5  # grey levels of contrast below which a picture shows nothing
_FAR = 6.0  # robust standard deviations
_ENOUGH = 30  # pictures from which on "unlike the others" means something
# Scatter that no picture is blamed for, by feature: a set of equally bright pictures has no spread.
_LEAST_SPREAD = np.array([4.0, 3.0, 4.0, 2.0, 2.0, 0.1], dtype=np.float32)


def of_files(looks: Sequence[Look], strays: Sequence[str], others: Sequence[Entry]) -> list[Finding]:
    """Findings on the files. strays: pictures that no line names; others: what is no part of the set."""
    broken = [look.name for look in looks if look.trouble and not look.missing]
    unnamed = set(strays)
    found = [
        _finding(
            "missing", "problem", "missing pictures", [look.name for look in looks if look.missing],
            "put them back or take their lines out of the metadata",
        ),
        _finding(
            "broken", "problem", "broken pictures", [name for name in broken if name not in unnamed],
            "replace them, or delete them and their lines in the metadata (--fix leaves them out)",
        ),
        _finding(
            "broken-strays", "warning", "broken pictures without a line in the metadata",
            [name for name in broken if name in unnamed], "delete them, or get them again",
        ),
        _finding(
            "damaged", "warning", "pictures that decode although the file is damaged",
            [look.name for look in looks if look.damage], "look at them, or copy them again from the source",
        ),
        _finding(
            "mislabelled", "warning", "files whose content is another format than their name says",
            [f"{look.name} is {look.format}" for look in looks if look.mislabelled],
            "rename them (--fix does); other programs go by the name",
            [look.name for look in looks if look.mislabelled],
        ),
        _finding(
            "strays", "note", "pictures without a line in the metadata", strays,
            "write captions for them; they take no part as it is",
        ),
        _finding(
            "others", "note", "other things in the folder that are no part of the set",
            [f"{each.name}: {each.trouble}" if each.trouble else each.name for each in others],
            "take them out, or leave them: training does not read them",
        ),
    ]  # fmt: skip
    return [finding for finding in found if finding]


def of_sizes(looks: Sequence[Look], side: int) -> list[Finding]:
    """Findings on sizes and kinds of pictures; side: px that training wants."""
    odd = [look for look in looks if look.mode not in ("RGB", "P")]
    modes = ", ".join(sorted({look.mode for look in odd}))
    found = [
        _finding(
            "small", "note", f"pictures with a side below {side} px",
            [look.name for look in looks if min(look.size) < side],
            "train at their own resolution, or leave them out: enlarged they are blurred",
        ),
        _finding(
            "long", "note", "pictures more than twice as long as wide",
            [look.name for look in looks if max(look.size) > 2 * min(look.size)],
            "crop them: only the centre square is used, but by an upsampler that trains with aspects",
        ),
        _finding(
            "modes", "note", f"pictures not in RGB but in {modes}", [look.name for look in odd],
            "they are converted on reading, transparency on white; look whether that suits",
        ),
        _finding(
            "turned", "note", "pictures that an EXIF mark turns",
            [look.name for look in looks if look.orientation > 1],
            "they are turned on reading (--fix turns them for good)",
        ),
        _finding(
            "animated", "note", "files of several frames", [look.name for look in looks if look.frames > 1],
            "their first frame is used; `workbench dataset folder --frames N` takes more",
        ),
        _finding(
            "flat", "warning", "pictures of one plain colour",
            [look.name for look in looks if look.features[1] < _FLAT], "leave them out unless they are meant",
        ),
    ]  # fmt: skip
    return [finding for finding in found if finding]


def of_outliers(looks: Sequence[Look]) -> list[Finding]:
    """Pictures far from the others in brightness, contrast, colour, tint or detail, the farthest first."""
    if len(looks) < _ENOUGH:
        return []
    scores = robust_scores(np.stack([look.features for look in looks]))
    far = np.abs(scores).max(axis=1)
    names, files = [], []
    for row in np.argsort(-far, kind="stable"):
        if far[row] < _FAR:
            break
        at = int(np.abs(scores[row]).argmax())
        more = "more" if scores[row, at] > 0 else "less"
        names.append(f"{looks[row].name} ({more} {FEATURES[at]})")
        files.append(looks[row].name)
    found = _finding(
        "outliers", "note", "pictures unlike the others in light, colour or detail", names,
        "look at them in the report (--report); leave out what does not belong", files,
    )  # fmt: skip
    return [found] if found else []


def robust_scores(x: np.ndarray) -> np.ndarray:
    """Distances from the median in robust standard deviations (1.4826 times the median deviation): [N, F]."""
    apart = x - np.median(x, axis=0)
    spread = 1.4826 * np.median(np.abs(apart), axis=0)
    return apart / np.maximum(spread, _LEAST_SPREAD)


def _finding(
    kind: str, level: Level, what: str, names: Sequence[str], suggestion: str, files: Sequence[str] = ()
) -> Finding | None:
    """A finding on some files, None where there are none."""
    if not names:
        return None
    what = f"{what}: {len(names)}"
    return Finding(
        kind=kind, level=level, what=what, suggestion=suggestion, names=tuple(names), files=tuple(files)
    )
