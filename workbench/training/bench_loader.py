"""How fast batches come from a data set, beside how fast the fastest preset takes them."""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import count
from pathlib import Path

from workbench.datasets.loading import PairedBatches
from workbench.datasets.sources import open_table
from workbench.datasets.table import PictureTable
from workbench.training import bench

FASTEST = "shepherd-32"
_PASS_S = 0.5  # seconds of a warm pass, long against the clock and short for a person


def loader(
    data: str | Path,
    *,
    clip: str | Path,
    resolution: int = 64,
    batch_size: int = 32,
    device: str | None = None,
) -> dict:
    """What `delivery` measures, and beside it the training of the fastest preset by `bench.step`:
    `ratio_to_training` is the warm images a second over the trained ones.

    Raises WorkbenchError as `delivery` does.
    """
    speeds = delivery(data, resolution=resolution, batch_size=batch_size)
    training = bench.step(FASTEST, clip=clip, device=device, batch_size=batch_size)
    return {
        **speeds,
        "preset": FASTEST,
        "device": training.device,
        "training_images_per_s": training.images_per_s,
        "ratio_to_training": speeds["images_per_s"] / training.images_per_s,
    }


def delivery(data: str | Path, *, resolution: int = 64, batch_size: int = 32, passes: int = 7) -> dict:
    """Images a second, cold: every picture decoded and its cache written, into a temporary folder; and warm:
    the trainer's batches of pairs, mirrored by chance, from that cache, the median of `passes`.

    open_s: seconds to open the set when its cache is there. Raises WorkbenchError as `open_table` and
    `PairedBatches` do.
    """
    with tempfile.TemporaryDirectory(prefix="workbench-loader-") as place:
        begun = time.perf_counter()
        table = open_table(data, resolution, cache=Path(place))
        cold = len(table) / (time.perf_counter() - begun)
        begun = time.perf_counter()
        table = open_table(data, resolution, cache=Path(place))
        open_s = time.perf_counter() - begun
        warm = warm_speeds(table, batch_size, passes)
        del table  # before its file goes: some systems keep a mapped file from being deleted
    return {
        "data": str(data),
        "resolution": resolution,
        "batch_size": batch_size,
        "cold_images_per_s": cold,
        "open_s": open_s,
        "images_per_s": statistics.median(warm),
    }


def warm_speeds(table: PictureTable, batch_size: int, passes: int) -> list[float]:
    """Images a second of `passes` times half a second of batches, after one that is not counted."""
    batches, steps = PairedBatches(table, batch_size, seed=0), count()
    speeds = []
    for _ in range(passes + 1):
        begun, made = time.perf_counter(), 0
        while time.perf_counter() - begun < _PASS_S:
            batches.batch_at(next(steps))
            made += batch_size
        speeds.append(made / (time.perf_counter() - begun))
    return speeds[1:]
