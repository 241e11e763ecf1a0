"""Stages in series: a source of small pictures, then upscalers, the prompt passed along.

Letters: N pictures of H x W pixels, [N, 3, H, W] in [-1, 1] on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import from_uint8
from workbench.models.upsampler import FACTORS
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.core import Samples, check_count
from workbench.pipeline.inputs import Stop, check_pictures, check_seeds
from workbench.pipeline.reduced import Reduced
from workbench.pipeline.stage_recipes import picture_recipe
from workbench.pipeline.upscaler import Upscaled, Upscaler

# (prompt, seed=…) -> Samples of one picture, or the picture: a tensor in [-1, 1], uint8 [H, W, 3], PIL's
Source = Callable[..., Samples | Tensor | np.ndarray | Image.Image]
Stage = Upscaler | AuraSR | Reduced


@dataclass
class Chained(Upscaled):
    """The last stage's pictures; stages: the pictures of every stage, the source's first."""

    stages: list[Tensor] = field(default_factory=list)


class Chain:
    """Source and upscalers: `Chain(pipe, [up4])("a white shepherd sitting in the snow", seed=1).images`.

    source: a Pipeline, or anything called with (prompt, seed=…) that gives one picture. upscalers: one or
    several; the same one may stand there twice.
    """

    def __init__(self, source: Source, upscalers: Stage | Sequence[Stage]):
        self.source = source
        self.upscalers = list(upscalers) if isinstance(upscalers, Sequence) else [upscalers]
        if not self.upscalers:
            raise WorkbenchError("The chain has no upscaler: give at least one, or call the source alone.")

    @property
    def factor(self) -> int:
        """What all stages together make of a side."""
        return total_factor(self.upscalers)

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        count: int = 1,
        noise: float = 0.0,
        tile: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        stop: Stop = None,
        **settings: Any,
    ) -> Chained:
        """Draw `count` pictures of each prompt and enlarge them; picture k has the seed `seed + k`.

        noise, tile: as an Upscaler's; the noise goes onto the source's picture alone. progress is called with
        (done, total) after each stage of each picture. settings go to the source (`truncation`).
        """
        listed = [prompts] if isinstance(prompts, str) else list(prompts)
        if not listed:
            raise WorkbenchError("The list of prompts is empty: give at least one prompt.")
        texts = [prompt for prompt in listed for _ in range(check_count(count))]
        if isinstance(seed, Sequence) and not isinstance(seed, str) and len(texts) == 1 and len(seed):
            texts *= len(seed)
        seeds = check_seeds(seed, len(texts))
        total, done, drawn = len(texts) * (1 + len(self.upscalers)), 0, []

        def tell() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        for prompt, own in zip(texts, seeds, strict=True):
            small = as_samples(self.source(prompt, seed=own, **settings), prompt, own)
            tell()
            read = small.prompts[0] or prompt  # a source without text hands its prompt on all the same
            drawn.append(
                _stages(
                    self.upscalers, small, [read], noise=noise, tile=tile, stop=stop, after=tell, batch_size=1
                )
            )
        return _joined(drawn)


def upscale(
    upscalers: Sequence[Stage],
    images: Tensor,
    prompts: str | Sequence[str] = "",
    *,
    seed: int | Sequence[int] = 0,
    noise: float = 0.0,
    tile: int | None = None,
    batch_size: int = 1,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: Stop = None,
) -> Chained:
    """Pictures [N, 3, H, W] through several upscalers, as one through an Upscaler; `progress` is told each
    stage's pieces in turn.
    """
    count, _ = check_pictures(images, total_factor(upscalers))
    seeds = check_seeds(seed, count)
    drawn = list(inputs) if inputs else [picture_recipe(image) for image in images]
    given = [prompts] * count if isinstance(prompts, str) else list(prompts)
    small = Samples(images, [], seeds, drawn)
    return _stages(
        upscalers, small, given, noise=noise, tile=tile, stop=stop, progress=progress, batch_size=batch_size
    )


def passes(upscaler: Upscaler | AuraSR, factor: int) -> list[Stage]:
    """The upscaler as often as `factor` needs it. A factor between its powers takes the next one, whose last
    pass is brought down as it is drawn (`reduced.py`); one that no power is a multiple of, or that is 1 or
    less, is a WorkbenchError with those that can be made.
    """
    powers = [upscaler.factor**n for n in range(1, 5) if upscaler.factor**n <= max(FACTORS)]
    can = [k for k in range(2, powers[-1] + 1) if any(_last_cells(upscaler.factor, p, k) for p in powers)]
    if isinstance(factor, bool) or factor not in can:
        said = ", ".join(map(str, can))
        raise WorkbenchError(
            f"{upscaler.name} enlarges {upscaler.factor} times, once or in series, and what it draws can be "
            f"brought down by whole cells of pixels: a factor of {str(factor)[:20]} cannot be made exactly. "
            f"Choose {'one of ' if len(can) > 1 else ''}{said}, or another model."
        )
    factor = int(factor)
    times = next(n for n, p in enumerate(powers) if _last_cells(upscaler.factor, p, factor))
    cells = _last_cells(upscaler.factor, powers[times], factor)
    return [*[upscaler] * times, upscaler if cells == 1 else Reduced(upscaler, cells)]


def _last_cells(own: int, power: int, factor: int) -> int:
    """Side of the cells that bring `power` of an upscaler of `own` down to `factor` in its last pass; 0 where
    whole cells of that pass do not.
    """
    cells, rest = divmod(power, factor)
    return cells if rest == 0 and 1 <= cells < own and own % cells == 0 else 0


def total_factor(upscalers: Sequence[Stage]) -> int:
    """The product of the factors."""
    total = 1
    for upscaler in upscalers:
        total *= upscaler.factor
    return total


def as_samples(drawn: Samples | Tensor | np.ndarray | Image.Image, prompt: str, seed: int) -> Samples:
    """What a source gave, as Samples of one picture; WorkbenchError for anything else."""
    if isinstance(drawn, Samples):
        if len(drawn) != 1:
            raise WorkbenchError(f"The source gave {len(drawn)} pictures for one prompt: expected one.")
        return drawn
    if isinstance(drawn, Image.Image):
        drawn = np.asarray(drawn.convert("RGB"))
    if isinstance(drawn, np.ndarray):
        drawn = from_uint8(drawn if drawn.ndim == 4 else drawn[None])
    if not isinstance(drawn, Tensor):
        raise WorkbenchError(
            f"The source gave {type(drawn).__name__}: expected Samples, a tensor [3, H, W] in [-1, 1], uint8 "
            "[H, W, 3] or a PIL picture."
        )
    drawn = drawn if drawn.dim() == 4 else drawn[None]
    check_pictures(drawn, 1)
    if len(drawn) != 1:
        raise WorkbenchError(f"The source gave {len(drawn)} pictures for one prompt: expected one.")
    return Samples(drawn.float().cpu(), [prompt], [seed], [picture_recipe(drawn[0])])


def _stages(
    upscalers: Sequence[Stage],
    small: Samples,
    prompts: list[str],
    *,
    noise: float,
    after: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Chained:
    """All stages after the source; the noise goes onto the first one's input."""
    check_pictures(small.images, total_factor(upscalers))
    stages, now, warnings = [small.images], small, list(small.warnings)
    for number, upscaler in enumerate(upscalers):
        now = upscaler(
            now.images,
            prompts,
            seed=small.seeds,
            noise=0.0 if number else noise,
            inputs=now.recipes,
            **settings,
        )
        stages.append(now.images)
        warnings += now.warnings
        after()
    unique = list(dict.fromkeys(warnings))
    return Chained(now.images, now.prompts, now.seeds, now.recipes, unique, stages)


def _joined(parts: list[Chained]) -> Chained:
    """Pictures drawn one by one as one result."""
    shapes = {tuple(part.images.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise WorkbenchError("The source gave pictures of different sizes: draw them in calls of their own.")
    rows = [part.recipes[0] | {"index": k} for k, part in enumerate(parts)]
    return Chained(
        torch.cat([part.images for part in parts]),
        [part.prompts[0] for part in parts],
        [part.seeds[0] for part in parts],
        rows,
        list(dict.fromkeys(w for part in parts for w in part.warnings)),
        [torch.cat(stage) for stage in zip(*(part.stages for part in parts), strict=True)],
    )
