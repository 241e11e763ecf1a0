"""A picture brought to a size: centre crop, padding, or the nearest of a few shapes of one area.

Every way is one Lanczos resampling from the original's pixels (antialiased: Pillow widens the filter when it
shrinks), cut and scale in one step. Whether that enlarges is asked first, with `enlargement`.
"""

from __future__ import annotations

import math
from typing import Literal

from PIL import Image

from workbench.errors import WorkbenchError

Fit = Literal["crop", "pad", "bucket"]
Size = tuple[int, int]  # width, height

# The shapes of photographs and screens; a portrait shape for every landscape one.
_RATIOS = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2.0)


class DoesNotFit(WorkbenchError):
    """A picture that cannot be brought to the size as asked. `why` and `advice` in few words each."""

    def __init__(self, why: str, advice: str) -> None:
        self.why, self.advice = why, advice
        super().__init__(f"The picture does not fit: {why}. What to do: {advice}.")


def buckets(resolution: int) -> list[Size]:
    """Widths and heights of about resolution² pixels, from 1:2 to 2:1, in steps of a sixteenth of the side.

    >>> buckets(64)[:3]
    [(44, 92), (48, 84), (52, 80)]
    """
    step = max(1, resolution // 16)
    found = set()
    for ratio in _RATIOS:
        long = step * round(resolution * math.sqrt(ratio) / step)
        short = step * round(resolution / math.sqrt(ratio) / step)
        found |= {(long, short), (short, long)}
    return sorted(found)


def bucket_of(size: Size, resolution: int) -> Size:
    """The bucket whose aspect ratio is nearest to the picture's: the largest part of it is kept."""
    aspect = math.log(size[0] / size[1])
    return min(buckets(resolution), key=lambda shape: abs(math.log(shape[0] / shape[1]) - aspect))


def target_size(size: Size, resolution: int, how: Fit) -> Size:
    """What a picture of `size` becomes: a square, or with how="bucket" its bucket."""
    return bucket_of(size, resolution) if how == "bucket" else (resolution, resolution)


def enlargement(size: Size, target: Size, how: Fit) -> float:
    """The factor by which a picture of `size` is scaled to fit `target`; above 1 it would be enlarged."""
    factors = target[0] / size[0], target[1] / size[1]
    return min(factors) if how == "pad" else max(factors)


def fit(picture: Image.Image, target: Size, how: Fit, *, colour: str = "white") -> Image.Image:
    """The RGB picture at exactly `target` (width, height).

    "crop" and "bucket" cover it and cut off what sticks out, the same on both sides; "pad" fits the whole
    picture inside and fills the rest with `colour`. Raises DoesNotFit for a strip that would be thinner
    than a pixel.
    """
    scale = enlargement(picture.size, target, how)
    if how == "pad":
        inner = round(picture.width * scale), round(picture.height * scale)
        if min(inner) < 1:
            raise DoesNotFit(
                f"of its {picture.width} × {picture.height} px not one pixel is left in one direction",
                "cut a part out of it, or choose --fit crop",
            )
        sheet = Image.new("RGB", target, colour)
        place = (target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2
        sheet.paste(picture.resize(inner, Image.Resampling.LANCZOS), place)
        return sheet
    width, height = target[0] / scale, target[1] / scale
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    # Rounding must not lead out of the picture by a hair, which Pillow refuses.
    box = max(0.0, left), max(0.0, top), min(left + width, picture.width), min(top + height, picture.height)
    return picture.resize(target, Image.Resampling.LANCZOS, box=box)
