"""Are the pictures as various as the world's, and are they the generator's own?

Recall and coverage ask whether the renders' kinds all occur, geometry whether dogs stand where, and turn as,
they do in the world, memorisation whether a picture is a training picture again. Letters: N, M samples, F
features, k neighbours.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.features import RANGES

NEIGHBOURS = 5
# Of held-out renders, one in a thousand lies nearer to a training picture than this distance.
MEMORISED_QUANTILE = 0.001
THUMBNAIL = 32
_CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """precision, recall: shares of generated samples inside the real manifold and of real ones inside the
    generated one (Kynkäänniemi et al. 2019); density, coverage: Naeem et al. 2020, which outliers move less.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each row of [N, F] to its k-th nearest other row, [N]."""
    nearest = [torch.cdist(part, x).topk(k + 1, largest=False).values[:, k] for part in x.split(_CHUNK)]
    return torch.cat(nearest)


def manifold(real: Tensor, generated: Tensor, *, k: int = NEIGHBOURS) -> Manifold:
    """How two feature sets, [N, F] and [M, F], cover each other by balls to the k-th neighbour.

    Raises WorkbenchError for fewer than k + 1 samples or features of different length.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise WorkbenchError(
            f"Features have shapes {tuple(real.shape)} and {tuple(generated.shape)}: expected [N, F] and "
            "[M, F]. Take both sets from the same features."
        )
    if min(len(real), len(generated)) <= k:
        raise WorkbenchError(
            f"There are {len(real)} real and {len(generated)} generated samples: expected more than k = {k} "
            "of each. Measure more pictures."
        )
    real_radii, own_radii = _radii(real, k), _radii(generated, k)
    inside, recalled, covered = torch.zeros(len(generated)), [], []
    for at in range(0, len(real), _CHUNK):
        rows = slice(at, at + _CHUNK)
        distances = torch.cdist(real[rows], generated)
        balls = distances < real_radii[rows, None]
        inside += balls.sum(0)
        covered.append(balls.any(1))
        recalled.append((distances < own_radii).any(1))
    return Manifold(
        precision=(inside > 0).double().mean().item(),
        recall=torch.cat(recalled).double().mean().item(),
        density=inside.double().mean().item() / k,
        coverage=torch.cat(covered).double().mean().item(),
    )


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Distance of two samples [N, F] and [M, F]: sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), 0 for equal ones.

    Székely and Rizzo 2013. Means over all pairs, a row with itself among them: a distance of the two
    empirical distributions, so never below 0, and for two samples of one distribution about 1 / sqrt(N).
    """

    def mean_distance(a: Tensor, b: Tensor) -> float:
        # differences, not a matrix product: here a few large equal terms cancel
        sums = [
            torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist").sum()
            for part in a.split(_CHUNK)
        ]
        return torch.stack(sums).sum().item() / (len(a) * len(b))

    a, b = x.double(), y.double()
    squared = 2 * mean_distance(a, b) - mean_distance(a, a) - mean_distance(b, b)
    return max(0.0, squared) ** 0.5


def thumbnails(images: Tensor) -> Tensor:
    """Pictures [N, 3, S, S] in [-1, 1] -> means over a grid of 32 x 32 at most, flat: [N, D]."""
    size = min(THUMBNAIL, images.shape[-1])
    return F.adaptive_avg_pool2d(images.float(), size).flatten(1)


def geometry(regression: dict[str, Tensor]) -> Tensor:
    """What the judge reads of view and place: sine and cosine of the azimuth, x, y and size in half their
    ranges.

    regression: `Measured.regression`, name -> [N]; the result is [N, 5] float64.
    """
    azimuth = regression["azimuth_deg"].double().deg2rad()
    columns = [azimuth.sin(), azimuth.cos()]
    for name in ("x", "y", "size"):
        low, high = RANGES[name]
        columns.append((regression[name].double() - low) / (high - low) * 2 - 1)
    return torch.stack(columns, dim=1)


def nearest(x: Tensor, training: Tensor) -> Tensor:
    """Root mean square difference of each thumbnail [N, D] to the nearest of [M, D], or to its mirror image:
    [N].
    """
    side = round((training.shape[1] / 3) ** 0.5)
    mirrored = training.unflatten(1, (3, side, side)).flip(-1).flatten(1)
    parts = [
        torch.minimum(torch.cdist(part, training).amin(1), torch.cdist(part, mirrored).amin(1))
        for part in x.split(_CHUNK)
    ]
    return torch.cat(parts) / training.shape[1] ** 0.5


def memorised(generated: Tensor, held_out: Tensor, training: Tensor) -> dict[str, float]:
    """Share of generated thumbnails that are nearer to a training picture than fresh renders ever come.

    generated [N, D], held_out [M, D], training [T, D] -> {"memorised_share"; "memorised_threshold", the
    distance that one held-out render in a thousand undercuts; medians "nearest_generated", "nearest_render"}.
    """
    return memory(nearest(generated, training), nearest(held_out, training))


def memory(own: Tensor, fresh: Tensor) -> dict[str, float]:
    """`memorised` of distances to the nearest training picture, of generated [N] and of fresh ones [M]."""
    threshold = fresh.quantile(MEMORISED_QUANTILE)
    return {
        "memorised_share": (own < threshold).double().mean().item(),
        "memorised_threshold": threshold.item(),
        "nearest_generated": own.median().item(),
        "nearest_render": fresh.median().item(),
    }
