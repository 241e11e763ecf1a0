"""Copies: the same file twice, and pictures that were only scaled or stored again. Letters: N pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from workbench.datasets.check.findings import Finding
from workbench.datasets.check.looks import Look

# Seven of 64 bits of the difference hash, and then 3 of 255 grey levels of mean difference between 16 px
# thumbnails: the hash alone takes every two pictures with one plain ground for copies.
HASH_BITS, THUMBNAIL_LEVELS = 7, 3.0
_BANDS = 8  # of 8 bits; one more than HASH_BITS: with seven bits apart, one of eight bands is equal
_COMPARED = 256  # thumbnails that one picture is held against in a band, those of nearest brightness


def of_copies(looks: Sequence[Look]) -> list[Finding]:
    """Findings on exact and near copies among pictures that can be decoded."""
    same = exact_copies(looks)
    doubled = {later for later, _ in same}
    once = [look for look in looks if look.name not in doubled]
    found = []
    if same:
        found.append(
            Finding(
                kind="exact-copies",
                level="warning",
                what=f"pictures that are there twice, to the byte: {len(same)}",
                names=tuple(f"{later} = {earlier}" for later, earlier in same),
                files=tuple(name for pair in same for name in pair),
                suggestion="keep one of each (--fix does); copies are learned by heart",
            )
        )
    near = near_copies(once)
    if near:
        found.append(
            Finding(
                kind="near-copies",
                level="note",
                what=f"pictures nearly the same as another: {len(near)}",
                names=tuple(f"{once[a].name} = {once[b].name}" for a, b in near),
                files=tuple(once[at].name for pair in near for at in pair),
                suggestion="keep one of each; copies are learned by heart",
            )
        )
    return found


def exact_copies(looks: Sequence[Look]) -> list[tuple[str, str]]:
    """[(name, an earlier name)] of files equal to the byte."""
    first: dict[bytes, str] = {}
    pairs = [(look.name, first.setdefault(look.digest, look.name)) for look in looks]
    return [(name, earlier) for name, earlier in pairs if name != earlier]


def near_copies(looks: Sequence[Look]) -> list[tuple[int, int]]:
    """[(picture, the most like among earlier ones)] of pictures nearly the same; each picture once.

    Multi-index hashing (Norouzi et al. 2012): hashes at most HASH_BITS apart agree in one of _BANDS parts, so
    only pictures with an equal part are compared, never all with all.
    """
    if len(looks) < 2:
        return []
    hashes = np.array([look.hash for look in looks], dtype=np.uint64)
    thumbnails = np.stack([look.thumbnail for look in looks]).reshape(len(looks), -1)
    brightness = thumbnails.mean(axis=1)
    bands = hashes.view(np.uint8).reshape(-1, _BANDS)
    best: dict[int, tuple[float, int]] = {}
    for band in range(_BANDS):
        for row, others in _neighbours(bands[:, band], brightness):
            others = others[np.bitwise_count(hashes[others] ^ hashes[row]) <= HASH_BITS]
            if not len(others):
                continue
            apart = np.abs(thumbnails[others].astype(np.int16) - thumbnails[row]).mean(axis=1)
            at = int(apart.argmin())
            if apart[at] <= THUMBNAIL_LEVELS:
                best[row] = min(best.get(row, (np.inf, -1)), (float(apart[at]), int(others[at])))
    return [(row, other) for row, (_, other) in sorted(best.items())]


def _neighbours(keys: np.ndarray, brightness: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(picture, earlier pictures with its key and nearly its brightness), where there are any.

    keys: [N] of one band; the mean difference of two thumbnails is never below that of their brightness.
    """
    order = np.lexsort((brightness, keys))
    starts = np.flatnonzero(np.r_[True, np.diff(keys[order].astype(np.int32)) != 0, True])
    for start, end in itertools.pairwise(starts):
        if end - start < 2:
            continue
        group = order[start:end]
        light = brightness[group]
        low = np.searchsorted(light, light - THUMBNAIL_LEVELS, side="left")
        high = np.searchsorted(light, light + THUMBNAIL_LEVELS, side="right")
        for at, row in enumerate(group.tolist()):
            near = group[max(low[at], at - _COMPARED // 2) : min(high[at], at + _COMPARED // 2)]
            earlier = near[near < row]
            if len(earlier):
                yield row, earlier
