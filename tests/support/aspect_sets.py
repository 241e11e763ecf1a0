"""Data sets whose pictures have many aspects, each picture of one colour that no other has."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def colour(row: int) -> tuple[int, int, int]:
    """The colour of picture `row`: different for each of 1000, and never black."""
    return 20 + 2 * (row % 100), 30 + 20 * (row // 100), 200 - row % 7


def write_set(folder: Path, sizes: Sequence[tuple[int, int]], captions: Sequence[str] | None = None) -> Path:
    """A data set folder with a picture of each (width, height); captions all different when left out."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for row, size in enumerate(sizes):
        name = f"images/{row:03d}.png"
        Image.new("RGB", size, colour(row)).save(folder / name)
        text = f"picture number {row} of a dog" if captions is None else captions[row]
        lines.append(json.dumps({"file_name": name, "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def ramp(width: int, height: int) -> Image.Image:
    """A picture whose red tells the column and whose green the row."""
    red, green = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([red, green, np.zeros_like(red)], axis=2).astype(np.uint8))
