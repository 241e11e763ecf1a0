"""How different two pictures look: a distance in the features of a frozen CLIP image tower.

LPIPS needs weights that cannot ship here; this is its form (unit-normalised features of several layers,
compared place by place) without its trained weights, on our mini-CLIP. It is named so wherever it is quoted.
Letters: N pictures, F features.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from workbench.models.text import load_clip
from workbench.models.vision_aided import ImageTower, VisionAidedConfig

CLIP_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "models" / "mini-clip"


class FeatureDistance:
    """sqrt(sum over layers of mean over places of |f_a - f_b|^2), f the unit-length features of a place.

    A norm, so that lengths of paths add up; differentiable in the pictures. name: how to quote it.
    """

    def __init__(self, clip: str | Path | None = None, *, taps: tuple[str, ...] | None = None) -> None:
        """clip: CLIP folder or open_clip name, the shipped mini-CLIP when None; taps: layers to compare."""
        loaded = load_clip(CLIP_FOLDER if clip is None else clip)
        self.name = f"{loaded.name} feature distance"
        self.tower = ImageTower(loaded, taps or VisionAidedConfig().taps, torch.float32)

    def features(self, images: Tensor) -> Tensor:
        """[N, 3, S, S] in [-1, 1] -> [N, F]; the distance of two pictures is the norm of the difference."""
        maps, _ = self.tower(images)
        flat = []
        for layer in maps:
            unit = layer.float() / layer.float().norm(dim=1, keepdim=True).clamp_min(1e-8)
            flat.append(unit.flatten(1) / (layer.shape[-1] * layer.shape[-2]) ** 0.5)
        return torch.cat(flat, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """The tower's CLIP embedding of pictures, [N, e], of unit length."""
        return self.tower(images)[1]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair, [N]."""
        return (self.features(a) - self.features(b)).norm(dim=1)

    @torch.no_grad()
    def steps(self, frames: Tensor, *, batch_size: int = 32) -> Tensor:
        """Distance of each frame to the one before it: [N, 3, S, S] -> [N - 1]."""
        features = torch.cat([self.features(part) for part in frames.split(batch_size)])
        return (features[1:] - features[:-1]).norm(dim=1)
