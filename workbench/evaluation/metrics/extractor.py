"""The one form of every network whose features carry a distance.

Letters: N pictures of H x W pixels, S pixels that the network reads, F features. Pictures are uint8
[N, 3, H, W]. Only published Inception weights make a distance that is called FID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.resizing import check_resizer, described, resize


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Pictures to features: resized to the network's side, then `embed`.

    name: how to quote it; version: fingerprint of its weights; dims: F; embed: float32 pictures
    [N, 3, side, side] in 0 … 255 -> [N, F] on any device; fid: whether its Fréchet distance is the one that
    others call FID.
    """

    name: str
    version: str
    dims: int
    side: int
    resizer: str
    embed: Callable[[Tensor], Tensor]
    fid: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_resizer(self.resizer)

    @property
    def distance_name(self) -> str:
        """What its Fréchet distance is called."""
        return "FID" if self.fid else f"Fréchet distance (features {self.name})"

    @property
    def kernel_name(self) -> str:
        """What its kernel distance is called."""
        return "KID" if self.fid else f"kernel distance (features {self.name})"

    def key(self, resolution: int) -> str:
        """All that features of pictures of that size depend on, beside the pictures."""
        return f"{self.name} {self.version} {described(resolution, self.side, self.resizer)}"

    def with_resizer(self, resizer: str) -> Extractor:
        """The same network behind another resizer."""
        return replace(self, resizer=check_resizer(resizer))

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] -> [N, F] float32 on the CPU.

        Raises WorkbenchError for another form of pictures, or features that are not finite.
        """
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3 or not len(pictures):
            raise WorkbenchError(
                f"Pictures are {pictures.dtype} {list(pictures.shape)}: expected uint8 [N, 3, H, W], N >= 1."
            )
        features = self.embed(resize(pictures.to(self.device), self.side, self.resizer)).float().cpu()
        if features.shape != (len(pictures), self.dims):
            raise WorkbenchError(
                f"{self.name} gave features {list(features.shape)} for {len(pictures)} pictures: expected "
                f"[{len(pictures)}, {self.dims}]."
            )
        if not torch.isfinite(features).all():
            raise WorkbenchError(
                f"{self.name} gave features that are not finite: expected finite numbers. Its weights are "
                "damaged; get them again."
            )
        return features


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Twelve hex digits over names and values of a network's state."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
