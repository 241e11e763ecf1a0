"""How long, how often: images, thousands of images or passes over the data set, and the shape of the grids.

A length is written `20000` (images), `2kimg` or `5epochs`. Epochs become images once the run's data set is
known; a run's record holds images alone.
"""

import math
import re

from workbench.errors import WorkbenchError

_LENGTH = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([A-Za-z]*)")
_EPOCHS = ("epoch", "epochs")
_GRID = re.compile(r"(\d+)\s*[xX×]\s*(\d+)")
MOST_CELLS = 12  # of a grid, across and down

Length = int | str  # images, or epochs that wait for a data set: "5epochs"


def parse_length(name: str, value: object, *, low: int = 1) -> Length:
    """Images as a number, or epochs as the text that `in_images` reads.

    name: of the setting, for the message. low: the fewest images allowed (0 where 0 means never). Raises
    WorkbenchError for anything but a whole number, `NUMBERkimg` or `NUMBERepochs`.
    """
    images = value
    if isinstance(value, str):
        match = _LENGTH.fullmatch(value.strip())
        number, unit = (float(match[1].replace("_", "")), match[2].lower()) if match else (math.nan, "")
        if unit in _EPOCHS and number > 0:
            return f"{number:.12g}epochs"
        factor = {"": 1, "kimg": 1000}.get(unit, math.nan)
        images = number * factor
        images = int(images) if math.isfinite(images) and images == int(images) else value
    if isinstance(images, bool) or not isinstance(images, int) or images < low:
        raise WorkbenchError(
            f"{name} is {value!r}: expected a whole number of at least {low} images, or a length such as "
            "2kimg or 5epochs."
        )
    return images


def in_images(length: Length, epoch: int) -> int:
    """A length of `parse_length` in images, 1 at least for epochs; epoch: pictures of the data set."""
    if isinstance(length, int):
        return length
    return max(1, round(float(length.removesuffix("epochs")) * epoch))


def parse_grid(value: object) -> tuple[int, int]:
    """(columns, rows) of a grid from `3x3` or a pair. Raises WorkbenchError unless both are 1 to 12."""
    pair = value
    if isinstance(value, str):
        match = _GRID.fullmatch(value.strip())
        pair = [int(match[1]), int(match[2])] if match else None
    whole = isinstance(pair, (list, tuple)) and len(pair) == 2
    if not whole or not all(type(side) is int and 1 <= side <= MOST_CELLS for side in pair):
        raise WorkbenchError(
            f"grid is {value!r}: expected columns x rows, each from 1 to {MOST_CELLS}, such as 3x3."
        )
    return pair[0], pair[1]
