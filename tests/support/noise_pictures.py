"""Folders of made-up pictures whose statistics are known, and features that are read off their pixels."""

from pathlib import Path

import torch

from workbench.evaluation.metrics.extractor import Extractor
from workbench.images import save_png


def noise(
    count: int, side: int = 8, *, seed: int = 0, mean: float = 128.0, std: float = 30.0
) -> torch.Tensor:
    """uint8 [N, 3, side, side] of independent normal pixels."""
    draw = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return (draw * std + mean).round().clamp(0, 255).to(torch.uint8)


def noise_folder(folder: Path, count: int, side: int = 8, **settings) -> Path:
    """As PNG, by number."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, picture in enumerate(noise(count, side, **settings)):
        save_png(picture.permute(1, 2, 0).numpy(), folder / f"{k:06d}.png")
    return folder


def pixel_features(
    dims: int = 6, *, name: str = "pixels", side: int = 8, resizer: str = "antialias"
) -> Extractor:
    """Features that are the first pixels themselves: the statistics of noise are those of its pixels."""
    return Extractor(
        name=name, version=f"{name}-{dims}", dims=dims, side=side, resizer=resizer,
        embed=lambda x: x.flatten(1)[:, :dims],
    )  # fmt: skip
