"""One of two processes that measure the same folders together, as `accelerate launch` starts them."""

import os
from pathlib import Path

import torch
from noise_pictures import pixel_features

from workbench.evaluation.metrics.measuring import distances
from workbench.evaluation.metrics.sources import open_pictures
from workbench.evaluation.metrics.statistics import statistics_of
from workbench.evaluation.metrics.team import Team


def measure_in_pair(rank: int, port: int, folders: tuple[Path, Path], out: Path) -> None:
    """Write the distances of two folders to `<rank>-<turn>.txt`, a name and a number a line."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    team = Team.from_environment()
    assert (team.rank, team.world) == (rank, 2)
    extractor = pixel_features(5)
    cache = out / "cache"
    for again in range(2):  # the second time from what is kept
        found = [statistics_of(open_pictures(x), extractor, cache=cache, team=team) for x in folders]
        (out / f"{rank}-{again}.txt").write_text(
            "\n".join(f"{one.name}\t{one.value!r}" for one in distances(*found, extractor).measurements)
        )
