"""Any text-to-image pipeline of diffusers as a lane: Stable Diffusion 1.5, SD-Turbo, Flux Schnell, one's own.

What loads and draws is `workbench.pipeline.diffusing`; here it is called as our own models are.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.diffusion.schedule import ladder
from workbench.errors import WorkbenchError
from workbench.pipeline.core import Samples
from workbench.pipeline.diffusing import DiffusersSource

_HASHED = 256  # numbers of each tensor


class Pretrained:
    """A pipeline of diffusers. settings: given to every call (height, width, guidance_scale, …)."""

    def __init__(self, source: DiffusersSource) -> None:
        self.source, self.name = source, source.name

    @classmethod
    def from_pretrained(cls, model: str | Path, device: str | None = None, **settings: Any) -> Pretrained:
        """A folder that diffusers saved, or a name on the Hub whose files are in its cache."""
        return cls(DiffusersSource.from_pretrained(model, device=device, **settings))

    @property
    def parameters(self) -> int:
        """Of the network that is called at each step."""
        network = self._network
        return 0 if network is None else sum(p.numel() for p in network.parameters())

    @property
    def weight_hash(self) -> str:
        """Tells one network from another: SHA-256 over its tensors' names, shapes and first numbers.

        Not over all of them, as of our own models: of a network of gigabytes that takes as long as a picture.
        """
        found = hashlib.sha256(type(self.source.pipe).__name__.encode())
        for name, tensor in {} if self._network is None else self._network.state_dict().items():
            found.update(f"{name}{tuple(tensor.shape)}".encode())
            found.update(tensor.flatten()[:_HASHED].float().cpu().numpy().tobytes())
        return found.hexdigest()

    @property
    def _network(self) -> Any:
        pipe = self.source.pipe
        return getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)

    def __call__(
        self, prompts: str | Sequence[str], *, seed: int | Sequence[int] = 0, steps: int = 4,
        guidance: float | None = None, on_step: Callable[[int, int], None] | None = None,
    ) -> Samples:  # fmt: skip
        """One picture of each prompt, drawn one by one, each from its own seed.

        guidance: the pipeline's own when None. on_step: called with (steps done, steps) where the pipeline
        has a callback; what it draws in between are latents, so there is no picture to show. May raise.
        """
        ladder(steps)
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        seeds = list(seed) if isinstance(seed, Sequence) else [seed + k for k in range(len(texts))]
        if len(texts) == 1:
            texts = texts * len(seeds)
        if not texts or len(texts) != len(seeds):
            raise WorkbenchError(f"There are {len(seeds)} seeds for {len(texts)} prompts: give one for each.")
        settings: dict[str, Any] = {"num_inference_steps": steps}
        if guidance is not None:
            settings["guidance_scale"] = guidance
        if (
            on_step is not None
            and "callback_on_step_end" in inspect.signature(self.source.pipe.__call__).parameters
        ):

            def told(pipe: Any, index: int, t: Any, kept: dict) -> dict:
                on_step(index + 1, steps)
                return kept

            settings["callback_on_step_end"] = told
        drawn = [self.source(text, seed=one, **settings) for text, one in zip(texts, seeds, strict=True)]
        return Samples(
            torch.cat([each.images for each in drawn]), texts, seeds, [each.recipes[0] for each in drawn]
        )

    def sized(self, prompts: list[str], seeds: list[int], *, steps: int, side: int) -> Tensor:
        """Pictures [N, 3, side, side]: the middle square, made smaller by means, or larger bilinearly."""
        images = self(prompts, seed=seeds, steps=steps).images
        height, width = images.shape[-2:]
        square = min(height, width)
        top, left = (height - square) // 2, (width - square) // 2
        cut = images[..., top : top + square, left : left + square]
        if square < side:
            return F.interpolate(cut, (side, side), mode="bilinear", align_corners=False)
        return F.adaptive_avg_pool2d(cut, side)
