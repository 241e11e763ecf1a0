"""Films through upscalers, frame by frame, with one seed for all of them so that nothing flickers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.pipeline.inputs import check_size
from workbench.pipeline.upscale_files import Job, caption_beside, make_folder
from workbench.video import open_film, stream_mp4

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def is_film(path: Path) -> bool:
    """Whether a file's name is one of a film."""
    return path.suffix.lower() in ENDINGS


def upscale_film(
    source: str | Path, out: str | Path, job: Job, progress: Callable[[int, int], None] | None = None
) -> tuple[Path, list[str]]:
    """Enlarge a film into an MP4 of the same rate, without its sound; returns the file and warnings.

    out: a name ending in .mp4, or a folder. One frame is held at a time. Raises WorkbenchError for what is no
    film or too large, FileExistsError for a file that is there.
    """
    source, out = Path(source), Path(out)
    target = out / f"{source.stem}.mp4" if out.is_dir() or not out.suffix else out
    if target.suffix.lower() != ".mp4":
        raise WorkbenchError(f"{target} has the ending {target.suffix}: a film is written as .mp4.")
    if target.exists() and not job.overwrite:
        raise FileExistsError(
            f"{target} is already there: add --overwrite to replace it, or choose another name."
        )
    warnings = ["The sound of the film is left out."]
    prompt = caption_beside(source) if job.prompt is None else job.prompt
    with open_film(source) as film:
        check_size(film.size[1], film.size[0], job.factor)
        make_folder(target.parent)

        def enlarged() -> Iterator[np.ndarray]:
            for number, frame in enumerate(film.frames, start=1):
                made = job.enlarge(frame, prompt)
                if number == 1:
                    warnings.extend(made.warnings)
                if progress is not None:
                    progress(number, max(number, film.count))
                yield to_uint8(made.images)[0]

        path = stream_mp4(enlarged(), target, rate=film.rate, overwrite=job.overwrite)
    return path, warnings
