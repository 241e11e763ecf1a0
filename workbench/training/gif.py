"""training.gif: the fixed-seed grids of a run as one film, with the image count under it."""

import math
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from workbench.errors import WorkbenchError
from workbench.images import COLOURS, open_picture, save_gif, write_whole
from workbench.training.grids import EXPECTED, find_grids

NAME = "training.gif"
MOST_BYTES = 3_000_000
GRID_CELLS = 6
_STRIP = 26  # pixels under the grid
_FEWEST = 8


def write_gif(
    run: str | Path,
    out: str | Path | None = None,
    *,
    columns: int = GRID_CELLS,
    seconds: float = 10.0,
    most_bytes: int = MOST_BYTES,
    colours: int = 256,
) -> Path:
    """Make `training.gif` in the run folder (or `out`) from its sample grids; returns its path.

    columns: how many columns of a grid of 6 x 6, and as many rows, are shown (an even number, so that pairs
    stay whole); 6 shows grids of any shape as they are. seconds: length of the film before its last frame is
    held. Frames lie densely at the start, where most happens; as many are taken as fit into
    `most_bytes`, but no fewer than 8. colours: of the palette that all frames share. Raises WorkbenchError
    when there are no grids, or `out` exists.
    """
    run = Path(run)
    if columns not in range(2, GRID_CELLS + 1, 2):
        raise WorkbenchError(f"columns is {columns!r}: expected 2, 4 or 6.")
    if not (isinstance(seconds, (int, float)) and math.isfinite(seconds) and 1 <= seconds <= 120):
        raise WorkbenchError(f"seconds is {seconds!r}: expected 1 to 120.")
    if out is not None and Path(out).exists():
        raise WorkbenchError(f"{out} is already there and is not overwritten: choose another name.")
    grids = find_grids(run)
    if not grids:
        raise WorkbenchError(
            f"There are no grids ({EXPECTED}) in {run}: give the folder of a run that has sampled."
        )
    target, final = Path(out or run / NAME), max(grids)
    wanted = min(len(grids), max(_FEWEST, round(seconds * 8)))
    with tempfile.TemporaryDirectory() as scratch:
        while True:
            chosen = dense_at_first(sorted(grids), wanted)
            frames = [frame(grids[n], n, final, columns) for n in chosen]
            pace = max(0.02, seconds / len(frames))
            draft = save_gif(frames, Path(scratch) / NAME, seconds_per_frame=pace, colours=colours)
            size = draft.stat().st_size
            if size <= most_bytes or len(chosen) <= _FEWEST:
                break
            wanted = max(_FEWEST, min(len(chosen) - 1, int(len(chosen) * most_bytes / size * 0.95)))
        data = draft.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(target, lambda handle: handle.write(data), overwrite=out is None)


def dense_at_first(counts: list[int], wanted: int) -> list[int]:
    """`wanted` of the sorted image counts, first and last among them.

    Steps grow with the square of the place.
    """
    if wanted >= len(counts):
        return counts
    first, last = counts[0], counts[-1]
    chosen = {first, last}
    for k in range(1, wanted - 1):
        target = first + (last - first) * (k / (wanted - 1)) ** 2
        left = [n for n in counts if n not in chosen]
        chosen.add(min(left, key=lambda n: abs(n - target)))
    return sorted(chosen)


def frame(path: Path, cur_nimg: int, final: int, columns: int = GRID_CELLS) -> Image.Image:
    """A grid, cut to `columns`, over a strip with the image count and how far the run is."""
    with open_picture(path) as picture:
        sheet = picture.convert("RGB")
    if columns < GRID_CELLS:
        sheet = _cut(sheet, columns)
    # At least 384 px wide, so that the text can be read; pixels stay squares.
    scale = max(1, math.ceil(384 / sheet.width))
    sheet = sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)
    frame = Image.new("RGB", (sheet.width, sheet.height + _STRIP), "white")
    frame.paste(sheet)
    draw = ImageDraw.Draw(frame)
    text = f"{cur_nimg / 1000:,.0f} thousand images" if cur_nimg >= 10_000 else f"{cur_nimg:,} images"
    draw.text((6, sheet.height + 5), text, fill="black", font=ImageFont.load_default(size=14))
    left, right, middle = round(frame.width * 0.5), frame.width - 8, sheet.height + _STRIP // 2
    draw.rectangle((left, middle - 2, right, middle + 2), fill="#DDDDDD")
    done = cur_nimg / final if final else 1.0
    draw.rectangle((left, middle - 2, left + round((right - left) * done), middle + 2), fill=COLOURS["gan"])
    return frame


def _cut(sheet: Image.Image, columns: int) -> Image.Image:
    """The first `columns` columns.

    Half of the rows from the single pictures above, half from the pairs below.
    """
    cell, half = sheet.width // GRID_CELLS, columns // 2
    width = columns * cell
    small = Image.new("RGB", (width, columns * cell))
    small.paste(sheet.crop((0, 0, width, half * cell)), (0, 0))
    middle = sheet.height // 2
    small.paste(sheet.crop((0, middle, width, middle + (columns - half) * cell)), (0, half * cell))
    return small
