"""training.mp4: every grid of a run as one film, with the image count under it."""

import tempfile
from pathlib import Path

import numpy as np

from workbench.errors import WorkbenchError
from workbench.images import write_whole
from workbench.training.gif import find_grids, frame

NAME = "training.mp4"
MOST_BYTES = 8_000_000
_QUALITIES = (18, 23, 28, 33, 38)  # libx264's constant rate factor: 18 looks like the grids, more is smaller
_HOLD_S = 2.0  # on the last grid


def write_mp4(run: str | Path, out: str | Path | None = None, *, seconds: float = 12.0) -> Path:
    """Make `training.mp4` in the run folder (or `out`) from samples/grid_*.png; returns its path.

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
            f"There are no grids (samples/grid_*.png) in {run}: give the folder of a run that has sampled."
        )
    _check_encoder()
    rate = min(30.0, max(1.0, len(grids) / seconds))  # frames a second
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / NAME
        for quality in _QUALITIES:
            _encode(grids, draft, rate, quality)
            if draft.stat().st_size <= MOST_BYTES:
                break
        data = draft.read_bytes()
    return write_whole(Path(out or run / NAME), lambda handle: handle.write(data), overwrite=out is None)


def _check_encoder() -> None:
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise WorkbenchError(
            "An MP4 needs the package imageio-ffmpeg, which is not installed: pip install imageio-ffmpeg, or "
            "make the GIF."
        ) from error


def _encode(grids: dict[int, Path], target: Path, rate: float, quality: int) -> None:
    """Write the film; its frames are read one by one, so that a long run fits into memory."""
    import imageio.v2 as imageio

    final = max(grids)
    with imageio.get_writer(
        str(target),
        format="FFMPEG",
        fps=rate,
        codec="libx264",
        macro_block_size=1,
        output_params=["-crf", str(quality), "-preset", "slow", "-movflags", "+faststart"],
    ) as writer:
        for cur_nimg, path in grids.items():
            pixels = _even(np.asarray(frame(path, cur_nimg, final)))
            writer.append_data(pixels)
        for _ in range(round(_HOLD_S * rate)):
            writer.append_data(pixels)


def _even(pixels: np.ndarray) -> np.ndarray:
    """With an even height and width, as H.264 halves colours: the last row or column twice."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
