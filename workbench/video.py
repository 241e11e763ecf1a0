"""Films: frames become an MP4 (H.264), below a size or as they come; any film's frames are read."""

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.errors import WorkbenchError
from workbench.images import write_whole

MOST_BYTES = 8_000_000
_QUALITIES = (18, 23, 28, 33, 38)  # libx264's constant rate factor: 18 looks like the frames, more is smaller


def write_mp4(
    frames: Iterable[np.ndarray],
    path: str | Path,
    *,
    rate: float,
    most_bytes: int = MOST_BYTES,
    hold_last: float = 0.0,
    overwrite: bool = True,
) -> Path:
    """Write a film at the best quality that stays below `most_bytes`; returns its path. A film that is larger
    at the least of them is written all the same, with a warning.

    frames: uint8 [H, W, 3] each, as a list or anything that can be gone through more than once (a quality is
    a pass; one frame at a time is held, so that a long film fits into memory). rate: frames a second, 1 to
    60; hold_last: seconds that the last stays. The file appears whole or not at all. Raises WorkbenchError
    for no frames, a rate that is none, and where imageio-ffmpeg is missing.
    """
    if not 1 <= rate <= 60:
        raise WorkbenchError(f"The film has {rate!r} frames a second: expected 1 to 60.")
    check_encoder()
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "film.mp4"
        for quality in _QUALITIES:
            _encode(frames, draft, rate, quality, hold_last)
            if draft.stat().st_size <= most_bytes:
                break
        else:
            size = draft.stat().st_size
            warnings.warn(f"{path} has {size:,} bytes, more than {most_bytes:,}.", stacklevel=2)
        data = draft.read_bytes()
    return write_whole(Path(path), lambda handle: handle.write(data), overwrite=overwrite)


@dataclass(frozen=True)
class Film:
    """An opened film. rate: frames a second; count: how many there are about; size: (width, height); frames:
    uint8 [H, W, 3] each, to be gone through once.
    """

    rate: float
    count: int
    size: tuple[int, int]
    frames: Iterator[np.ndarray]


@contextlib.contextmanager
def open_film(path: str | Path) -> Iterator[Film]:
    """A film's frames, upright, one at a time; WorkbenchError for what no decoder knows or is cut short."""
    check_encoder()
    import imageio.v2 as imageio

    path = Path(path)
    if not path.is_file():
        raise WorkbenchError(f"There is no film at {path}: check the path.")
    try:
        reader = imageio.get_reader(str(path), format="FFMPEG")
        facts = reader.get_meta_data()
    except (OSError, RuntimeError, ValueError, IndexError, KeyError) as error:
        raise WorkbenchError(f"{path} is broken or no film that can be read: give another file.") from error
    try:
        rate = float(facts["fps"])
        yield Film(rate, round(rate * float(facts["duration"])), tuple(facts["size"]), _each(reader, path))
    finally:
        reader.close()


def _each(reader: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    count = 0
    try:
        for count, frame in enumerate(reader, start=1):  # noqa: B007
            yield np.asarray(frame)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise WorkbenchError(f"{path} is broken after frame {count}: give a whole film.") from error


def stream_mp4(
    frames: Iterable[np.ndarray], path: str | Path, *, rate: float, quality: int = 18, overwrite: bool = True
) -> Path:
    """Write a film in one pass, each frame as it comes; returns its path.

    For frames that are too dear to be made twice. quality: libx264's constant rate factor, less is better.
    The file appears whole or not at all. Raises WorkbenchError for no frames and a rate that is none.
    """
    if not 1 <= rate <= 240:
        raise WorkbenchError(f"The film has {rate!r} frames a second: expected 1 to 240.")
    check_encoder()
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "film.mp4"
        _encode(frames, draft, rate, quality, 0.0)
        with open(draft, "rb") as made:
            return write_whole(
                Path(path), lambda handle: shutil.copyfileobj(made, handle), overwrite=overwrite
            )


def check_encoder() -> None:
    """WorkbenchError where imageio-ffmpeg is missing: asked before long work."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise WorkbenchError(
            "An MP4 needs the package imageio-ffmpeg, which is not installed: pip install imageio-ffmpeg, or "
            "make the GIF."
        ) from error


def _encode(frames: Iterable[np.ndarray], target: Path, rate: float, quality: int, hold_last: float) -> None:
    import imageio.v2 as imageio

    pixels = None
    with imageio.get_writer(
        str(target),
        format="FFMPEG",
        fps=rate,
        codec="libx264",
        macro_block_size=1,
        output_params=["-crf", str(quality), "-preset", "slow", "-movflags", "+faststart"],
    ) as writer:
        for frame in frames:
            pixels = _even(frame)
            writer.append_data(pixels)
        if pixels is None:
            raise WorkbenchError("A film needs at least one frame, got none.")
        for _ in range(round(hold_last * rate)):
            writer.append_data(pixels)


def _even(pixels: np.ndarray) -> np.ndarray:
    """With an even height and width, as H.264 halves colours: the last row or column twice."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
