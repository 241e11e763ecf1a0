"""What a run costs beside its steps: the share of its time that telling takes, and its peak of memory."""

import resource
import sys
import tempfile
from pathlib import Path

from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError
from workbench.models import presets
from workbench.training.bench import check_draws
from workbench.training.config import TrainConfig
from workbench.training.trainer import train

_PICTURES = 512  # of a set that is drawn for the measurement


def overhead(
    preset: str, *, images: int, clip: str | Path, data: Path | None = None, device: str | None = None
) -> dict[str, object]:
    """Train a preset for `images` images in a temporary folder, without evaluations.

    Returns overhead: share of the loop's wall time in log lines, monitor, live line and grids (the first one
    too); seconds of the loop; peak_mib: most main memory that this process held, from its start on; on CUDA
    gpu_peak_mib too. Call it in a fresh process. Raises WorkbenchError.
    """
    if images < 1:
        raise WorkbenchError(f"images is {images}: expected at least 1.")
    check_draws(presets.preset(preset))
    config = TrainConfig.for_preset(preset, images=images, eval_every_nimg=0)
    with tempfile.TemporaryDirectory(prefix="workbench-overhead-") as scratch:
        if data is None:
            data = Path(scratch) / "world"
            write_world(data, count=_PICTURES, seed=0, resolution=presets.preset(preset).generator.resolution)
        result = train(config, data, Path(scratch) / "run", clip=clip, device=device, judge=None)
    return {
        "preset": preset,
        "images": result.cur_nimg,
        "overhead": result.telling / result.seconds,
        "seconds": result.seconds,
        "peak_mib": peak_mib(),
        **_gpu_peak(),
    }


def peak_mib() -> float:
    """Most main memory that this process held so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def _gpu_peak() -> dict[str, float]:
    import torch

    return {"gpu_peak_mib": torch.cuda.max_memory_reserved() / 2**20} if torch.cuda.is_available() else {}
