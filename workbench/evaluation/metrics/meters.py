"""What is kept of pictures that stream by: sums, which add up over batches, processes and interruptions.

Letters: N pictures of a batch, F features, K kept rows. Every tensor of a meter's state starts at zero and
the states of two disjoint sets of pictures add up to that of both; so saving, resuming and sharding need to
know nothing else.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.distances import Moments
from workbench.evaluation.metrics.extractor import Extractor
from workbench.evaluation.metrics.sources import Batch
from workbench.models.clip_io import Clip

KEPT = 10_000  # rows kept for what needs single pictures: kernel distance, precision, recall


class Meter(Protocol):
    """key: what its state depends on beside the pictures; reads_captions: whether on what is said of them,
    too; state: tensors that add up."""

    key: str
    reads_captions: bool
    state: dict[str, Tensor]

    def add(self, batch: Batch) -> None: ...


def kept_numbers(n: int, most: int = KEPT) -> Tensor:
    """Which of n pictures have their features kept: all, or `most` of them spread by chance, in order [K].

    By chance and not the first ones, because folders are often sorted by what they show.
    """
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values


class FeatureMeter:
    """Moments of the even and of the odd pictures, [F, F] float64 each, and the rows of a bounded few.

    state: even.count, even.total, even.outer, the same of odd, and rows [K, F] float32.
    """

    reads_captions = False

    def __init__(self, extractor: Extractor, n: int, resolution: int, *, most: int = KEPT) -> None:
        self.extractor = extractor
        self.kept = kept_numbers(n, most)
        self.key = f"features {extractor.key(resolution)} of {n} keeping {len(self.kept)}"
        dims = extractor.dims
        self.state: dict[str, Tensor] = {"rows": torch.zeros(len(self.kept), dims)}
        for half in ("even", "odd"):
            self.state[f"{half}.count"] = torch.zeros(1, dtype=torch.float64)
            self.state[f"{half}.total"] = torch.zeros(dims, dtype=torch.float64)
            self.state[f"{half}.outer"] = torch.zeros(dims, dims, dtype=torch.float64)

    def add(self, batch: Batch) -> None:
        self.take(self.extractor(batch.pictures), batch.first)

    def take(self, features: Tensor, first: int) -> None:
        """Features [N, F] of pictures first … first + N - 1."""
        numbers = torch.arange(first, first + len(features))
        for parity, half in enumerate(("even", "odd")):
            x = features[numbers % 2 == parity].double()
            self.state[f"{half}.count"] += len(x)
            self.state[f"{half}.total"] += x.sum(dim=0)
            self.state[f"{half}.outer"] += x.T @ x
        places = torch.searchsorted(self.kept, numbers)
        mine = places < len(self.kept)
        mine &= self.kept[places.clamp_max(len(self.kept) - 1)] == numbers
        self.state["rows"][places[mine]] = features[mine]

    def moments(self, half: str) -> Moments:
        """Of "even" or "odd" pictures."""
        found = Moments(self.extractor.dims)
        found.count = round(self.state[f"{half}.count"].item())
        found.total, found.outer = self.state[f"{half}.total"], self.state[f"{half}.outer"]
        return found


class ClipScoreMeter:
    """100 times the cosine between a CLIP's embeddings of a picture and of its caption, at least 0 each
    (Hessel et al. 2021 without their factor 2.5, as torchmetrics counts it).

    state: sums = number, sum, sum of squares.
    """

    reads_captions = True

    def __init__(self, clip: Clip, version: str) -> None:
        self.clip, self.version = clip, version
        self.key = f"clip score {clip.name} {version}"
        self.state = {"sums": torch.zeros(3, dtype=torch.float64)}

    @torch.inference_mode()
    def add(self, batch: Batch) -> None:
        if not all(batch.texts):
            raise WorkbenchError(
                f"Picture {batch.first + list(batch.texts).index('')} has no caption: a CLIP score needs one "
                "for each. Give a data set with captions, or leave the score out."
            )
        seen = self.clip.encode_image(batch.pictures.to(self.clip.device).float() / 127.5 - 1)
        told = self.clip.encode_text(list(batch.texts))
        x = (100 * (seen * told).sum(dim=1)).clamp_min(0).double().cpu()
        self.state["sums"] += torch.stack([x.new_tensor(len(x)), x.sum(), x.square().sum()])

    @property
    def mean(self) -> tuple[float, float]:
        """The score and its standard error (0 for one picture)."""
        count, total, squares = self.state["sums"].tolist()
        mean = total / count
        spread = max(0.0, squares / count - mean**2) * count / max(1.0, count - 1)
        return mean, (spread / count) ** 0.5
