"""Copies: found though scaled and stored again, as comparing all with all finds them, and for many."""

import io

import numpy as np
from PIL import Image

from workbench.datasets.check.copies import HASH_BITS, THUMBNAIL_LEVELS, exact_copies, near_copies
from workbench.datasets.check.looks import Look, difference_hash


def look(name: str, picture: Image.Image) -> Look:
    small = np.asarray(picture.resize((16, 16), Image.Resampling.BOX))
    return Look(name, size=picture.size, hash=difference_hash(picture), thumbnail=small)


def noise(seed: int, side: int = 64) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def stored_again(picture: Image.Image, side: int, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.resize((side, side), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def test_scaled_and_recompressed_copies_are_found():
    originals = [look(f"{k}", noise(k)) for k in range(40)]
    copies = [
        look(f"{k} again", stored_again(noise(k), side, 90)) for k, side in enumerate((64, 96, 80, 128))
    ]
    assert near_copies([*originals, *copies]) == [(40, 0), (41, 1), (42, 2), (43, 3)]


def test_the_index_finds_what_comparing_all_with_all_finds():
    draw = np.random.default_rng(0)
    looks = []
    for k in range(300):
        base = noise(k % 60)
        x = (
            np.asarray(base).astype(int)
            + draw.integers(-12, 13) * (k % 3)
            + draw.normal(0, 3 * (k % 4), (64, 64, 3))
        )
        looks.append(look(str(k), Image.fromarray(x.clip(0, 255).astype(np.uint8))))
    expected = {}
    for row in range(len(looks)):
        for other in range(row):
            apart = np.abs(looks[row].thumbnail.astype(int) - looks[other].thumbnail).mean()
            if (looks[row].hash ^ looks[other].hash).bit_count() <= HASH_BITS and apart <= THUMBNAIL_LEVELS:
                expected[row] = min(expected.get(row, (99.0, -1)), (apart, other))
    assert len(expected) > 50
    assert near_copies(looks) == [(row, other) for row, (_, other) in sorted(expected.items())]


def test_many_plain_pictures_do_not_make_the_search_slow_or_wrong():
    # All hashes are zero: only brightness keeps the search from comparing all with all.
    greys = [Image.new("RGB", (16, 16), (k % 251,) * 3) for k in range(3000)]
    found = near_copies([look(str(k), grey) for k, grey in enumerate(greys)])
    assert {row for row, _ in found} >= set(range(251, 3000))
    assert all(abs(row % 251 - other % 251) <= THUMBNAIL_LEVELS for row, other in found)


def test_exact_copies_name_the_first():
    looks = [
        Look(name, digest=digest) for name, digest in (("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"1"))
    ]
    assert exact_copies(looks) == [("c", "a"), ("d", "a")]
