"""An upscaler whose picture is brought down as it is drawn: a stage for factors between its own powers.

It costs the time of the larger picture and the memory of the smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.pipeline import tiles
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.upscaler import Upscaled, Upscaler


@dataclass(frozen=True)
class Reduced:
    """`upscaler`, and the exact mean of cells x cells pixels of what it draws. Called as the upscaler is.

    Raises WorkbenchError where cells don't divide the upscaler's factor.
    """

    upscaler: Upscaler | AuraSR
    cells: int

    def __post_init__(self) -> None:
        tiles.check_cells(self.cells, self.upscaler.factor)

    def __call__(self, images: Tensor, prompts: str | Sequence[str] = "", **settings: Any) -> Upscaled:
        """Pictures [N, 3, H, W] -> [N, 3, factor H, factor W]; settings as the upscaler's."""
        made = self.upscaler(images, prompts, cells=self.cells, **settings)
        made.warnings.append(self.said)
        return made

    @property
    def said(self) -> str:
        """What is done, for people."""
        k = self.cells
        return (
            f"{self.name} enlarges {self.upscaler.factor} times: the picture is drawn {k} times larger than "
            f"asked for and brought down by the mean of each {k} × {k} pixels."
        )

    @property
    def factor(self) -> int:
        """What is left of the upscaler's."""
        return self.upscaler.factor // self.cells

    @property
    def name(self) -> str:
        return self.upscaler.name

    @property
    def device(self) -> torch.device:
        return self.upscaler.device

    @property
    def noise_max(self) -> float:
        return self.upscaler.noise_max

    @property
    def weight_hash(self) -> str:
        return self.upscaler.weight_hash

    def read(self, prompt: str) -> str:
        """What is read of a prompt, as recipes state it."""
        return self.upscaler.read(prompt)
