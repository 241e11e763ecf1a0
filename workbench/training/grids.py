"""The sample grids of a run folder: samples/grid_<cur_nimg>.png as it trains, .webp where the run ships."""

import re
from pathlib import Path

FOLDER = "samples"
GRID = re.compile(r"grid_(\d{1,15})\.(png|webp)")
EXPECTED = "samples/grid_*.png or .webp"  # for messages


def find_grids(run: str | Path) -> dict[int, Path]:
    """cur_nimg -> file of every grid of a run, in order. Where both kinds are there, the PNG: it is exact."""
    found = {}
    for path in sorted((Path(run) / FOLDER).glob("grid_*"), key=lambda path: path.suffix, reverse=True):
        if match := GRID.fullmatch(path.name):
            found[int(match[1])] = path  # .webp before .png, which replaces it
    return dict(sorted(found.items()))
