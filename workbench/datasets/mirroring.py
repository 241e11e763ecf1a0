"""Which captions may become false of a mirrored picture."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

# Whole words, with the endings and the hyphens that go with them: left-hand, rightmost, leftwards, right's.
# "upright", "bright" and "leftover" name no side.
_SIDE = re.compile(r"(?<!\w)(left|right)(s|y|most|ward|wards|hand|handed|ies)?(?!\w)", re.IGNORECASE)


def names_a_side(caption: str) -> bool:
    """Whether the caption says left or right, in any of their forms; such a picture is not mirrored.

    A "right" that means correct counts too: one picture less to mirror costs nothing, a false caption does.
    """
    return _SIDE.search(caption) is not None


def sided(captions: Sequence[str]) -> Tensor:
    """[N] bool: `names_a_side` of each caption."""
    return torch.tensor([names_a_side(caption) for caption in captions], dtype=torch.bool)
