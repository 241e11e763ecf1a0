"""How far a distance moves when nothing about the model changes: by resizer, JPEG, count and reference.

Pure functions of pictures or features that give arrays, for lessons and for anyone who doubts a table.
Letters: N, M pictures of S x S pixels, F features, Q choices, R repeats.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.distances import frechet_from_features
from workbench.evaluation.metrics.extractor import Extractor
from workbench.evaluation.metrics.kernel import mmd2
from workbench.evaluation.metrics.resizing import RESIZERS, resize

CAREFUL = "antialias"  # the resizer of both sides of an honest comparison here
_BATCH = 50


def features_of(extractor: Extractor, pictures: Tensor) -> Tensor:
    """Features [N, F] of uint8 pictures [N, 3, S, S], in batches."""
    return torch.cat([extractor(part) for part in pictures.split(_BATCH)])


def shrunk(pictures: Tensor, side: int, resizer: str) -> Tensor:
    """uint8 [N, 3, S, S] -> uint8 [N, 3, side, side], rounded as a file would hold them."""
    parts = [resize(part, side, resizer).round().to(torch.uint8) for part in pictures.split(_BATCH)]
    return torch.cat(parts)


def as_jpeg(pictures: Tensor, quality: int) -> Tensor:
    """uint8 [N, 3, S, S] through a JPEG file each. quality: 1 … 95, as Pillow counts it."""
    if not 1 <= quality <= 95:
        raise WorkbenchError(f"The JPEG quality is {quality}: expected 1 to 95.")
    out = []
    for picture in pictures.permute(0, 2, 3, 1).contiguous().numpy():
        coded = io.BytesIO()
        Image.fromarray(picture).save(coded, format="JPEG", quality=quality)
        out.append(np.array(Image.open(coded).convert("RGB")))
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous()


def resizer_effect(
    own: Tensor,
    reference: Tensor,
    extractor: Extractor,
    *,
    side: int,
    resizers: Sequence[str] = tuple(RESIZERS),
) -> np.ndarray:
    """Fréchet distances [Q] of large pictures [N, 3, S, S], shrunk to `side` by each resizer, to a reference
    [M, 3, S, S] shrunk by CAREFUL. Where both are of one kind, all that is above CAREFUL's own is the
    resizer's.
    """
    there = features_of(extractor, shrunk(reference, side, CAREFUL))
    return np.array(
        [frechet_from_features(features_of(extractor, shrunk(own, side, r)), there) for r in resizers]
    )


def jpeg_effect(
    own: Tensor, reference: Tensor, extractor: Extractor, *, qualities: Sequence[int]
) -> np.ndarray:
    """Fréchet distances [1 + Q] of pictures [N, 3, S, S] to a reference [M, 3, S, S] as it is, then stored as
    JPEG of each quality."""
    mine = features_of(extractor, own)
    theirs = [reference, *(as_jpeg(reference, quality) for quality in qualities)]
    return np.array([frechet_from_features(mine, features_of(extractor, one)) for one in theirs])


def count_effect(
    own: Tensor, reference: Tensor, counts: Sequence[int], *, repeats: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Fréchet and kernel distances, [Q, R] each, of random n rows of features own [N, F] to random n of
    reference [M, F], for each n in counts. The first falls with n, the second does not.

    Raises WorkbenchError for a count that one of the two does not hold.
    """
    most = min(len(own), len(reference))
    if any(not 2 <= n <= most for n in counts) or repeats < 1:
        raise WorkbenchError(
            f"The counts are {list(counts)}, repeats {repeats}: expected counts from 2 to {most}, and one "
            "repeat or more."
        )
    draw = torch.Generator().manual_seed(seed)
    frechet, kernel = np.zeros((len(counts), repeats)), np.zeros((len(counts), repeats))
    for q, n in enumerate(counts):
        for r in range(repeats):
            a = own[torch.randperm(len(own), generator=draw)[:n]]
            b = reference[torch.randperm(len(reference), generator=draw)[:n]]
            frechet[q, r], kernel[q, r] = frechet_from_features(a, b), mmd2(a, b)
    return frechet, kernel


def at_infinity(counts: Sequence[int], distances: np.ndarray) -> float:
    """Where a Fréchet distance would end with all pictures of the world: a straight line over 1 / n, at 0
    (Chong and Forsyth 2020). distances [Q, R]. Meant for counts beyond the number of features."""
    _, end = np.polyfit(1 / np.asarray(counts, dtype=float), distances.mean(axis=1), 1)
    return float(end)


def reference_effect(own: Tensor, training: Tensor, held_out: Tensor) -> tuple[float, float]:
    """Fréchet distance of features own [N, F] to the model's training set and to pictures that it has not
    seen. Given as many rows of both, the first flatters whoever learnt by heart."""
    n = min(len(training), len(held_out))
    return frechet_from_features(own, training[:n]), frechet_from_features(own, held_out[:n])
