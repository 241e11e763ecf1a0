"""training.mp4: every grid of a run as one film, with the image count under it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench import video
from workbench.errors import WorkbenchError
from workbench.training.gif import frame
from workbench.training.grids import EXPECTED, find_grids
from workbench.video import MOST_BYTES

NAME = "training.mp4"
_HOLD_S = 2.0  # on the last grid


def write_mp4(run: str | Path, out: str | Path | None = None, *, seconds: float = 12.0) -> Path:
    """Make `training.mp4` in the run folder (or `out`) from its sample grids; returns its path.

    Every grid is a frame, equally long; seconds: length before the last is held. H.264 at the best quality
    that stays below 8 MB. Raises WorkbenchError when there are no grids, `out` exists, or imageio-ffmpeg is
    missing.
    """
    run = Path(run)
    if not 1 <= seconds <= 600:
        raise WorkbenchError(f"seconds is {seconds!r}: expected 1 to 600.")
    if out is not None and Path(out).exists():
        raise WorkbenchError(f"{out} is already there and is not overwritten: choose another name.")
    grids = find_grids(run)
    if not grids:
        raise WorkbenchError(
            f"There are no grids ({EXPECTED}) in {run}: give the folder of a run that has sampled."
        )
    target = Path(out or run / NAME)
    target.parent.mkdir(parents=True, exist_ok=True)
    rate = min(30.0, max(1.0, len(grids) / seconds))  # frames a second
    return video.write_mp4(
        _Frames(grids),
        target,
        rate=rate,
        most_bytes=MOST_BYTES,
        hold_last=_HOLD_S,
        overwrite=out is None,
    )


@dataclass(frozen=True)
class _Frames:
    """The grids with their image count, read one by one each time they are gone through."""

    grids: dict[int, Path]

    def __iter__(self) -> Iterator[np.ndarray]:
        final = max(self.grids)
        for cur_nimg, path in self.grids.items():
            yield np.asarray(frame(path, cur_nimg, final))
