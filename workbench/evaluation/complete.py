"""Every measure of a model of Shepherd World in one pass: faithfulness, distance, variety, memory."""

import time
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError
from workbench.evaluation.faithfulness import Generate, evaluate, generated_view
from workbench.evaluation.features import Judge
from workbench.evaluation.reference import (
    CACHE,
    FLOOR_SEED,
    REFERENCE_SEED,
    Progress,
    check_request,
    render_view,
)
from workbench.evaluation.variety import energy_distance, manifold, memorised, thumbnails

_CHUNK = 500


def training_thumbnails(data: str | Path, resolution: int) -> Tensor:
    """Thumbnails [T, D] of the pictures in a data set folder, as training at `resolution` saw them."""
    images = PictureTable.from_folder(data, resolution, progress=True).images
    return torch.cat([thumbnails(part.float() / 127.5 - 1) for part in images.split(_CHUNK)])


def evaluate_completely(
    generate: Generate,
    judge: Judge,
    *,
    n: int = 5000,
    seed: int = 0,
    data: str | Path | None = None,
    progress: Progress | None = None,
    cache: Path | None = CACHE,
    seen: tuple[dict[str, Tensor], int] | None = None,
) -> dict:
    """All of `faithfulness.evaluate`, and on the same n pictures against two sets of n held-out renders:

    precision, recall, density, coverage on mid-level features, with recall_renders and coverage_renders for
    one set of renders against the other, the best that can be had; geometry, geometry_floor, geometry_ratio:
    energy distance of the azimuth, place and size that the judge reads, to those of the renders; and, where
    data names the training set's folder, memorised_share and what it is made of (`variety.memorised`).
    seen: what `generated_view` gave for the same n and seed, where a caller has it.
    """
    check_request(n, seed)
    start = time.perf_counter()
    seen = seen or generated_view(generate, judge, n=n, seed=seed, progress=progress)
    found = evaluate(generate, judge, n=n, seed=seed, progress=progress, cache=cache, seen=seen)
    own, resolution = seen
    real, other = (
        render_view(
            judge,
            n=n,
            world_seed=first + seed,
            resolution=min(resolution, judge.config.resolution),
            cache=cache,
            progress=progress,
        )
        for first in (REFERENCE_SEED, FLOOR_SEED)
    )
    found |= vars(manifold(real["mid"], own["mid"]))
    best = manifold(real["mid"], other["mid"])
    found |= {"recall_renders": best.recall, "coverage_renders": best.coverage}
    distance = energy_distance(own["geometry"], real["geometry"])
    floor = energy_distance(other["geometry"], real["geometry"])
    if floor == 0:
        raise WorkbenchError(
            f"The judge {judge.version} reads the same view and place from every render: expected a trained "
            "one. Give assets/models/judge, or train it."
        )
    found |= {"geometry": distance, "geometry_floor": floor, "geometry_ratio": distance / floor}
    if data is not None:
        training = training_thumbnails(data, resolution)
        found |= memorised(own["thumbnails"], real["thumbnails"], training)
    return found | {"seconds": time.perf_counter() - start}
