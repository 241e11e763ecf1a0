"""Contact sheets of a model: many prompts once, and few prompts with many seeds."""

from __future__ import annotations

import torch
from PIL import Image

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.images import grid
from workbench.pipeline import Pipeline

SEED = 4_242  # of prompts and pictures: not chosen by their looks


def enlarged(sheet: Image.Image, scale: int) -> Image.Image:
    """A sheet `scale` times as large, smoothly: what is looked at on a page is no mosaic of pixels."""
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC)


def _prompts(pipeline: Pipeline, numbers: range, seed: int) -> list[str]:
    """Full captions of the world; nothing for a model without text, of which no prompt may be told."""
    if pipeline.text_encoder is None:
        return [""] * len(numbers)
    return [full_caption(draw_factors(seed, index), seed, index) for index in numbers]


def _read(prompts: list[str]) -> list[str]:
    return [prompt for prompt in prompts if prompt]


def many_prompts(pipeline: Pipeline, *, count: int = 36, columns: int = 6, seed: int = SEED, scale: int = 2):
    """`count` random full prompts, one picture each -> (sheet, prompts). Nothing is picked by its looks.

    No prompts are named for a model without text: then the pictures are those of `count` seeds.
    """
    prompts = _prompts(pipeline, range(count), seed)
    images = pipeline(prompts, seed=[seed + index for index in range(count)]).images
    return enlarged(grid(images, columns), scale), _read(prompts)


def many_seeds(pipeline: Pipeline, *, prompts: int = 6, seeds: int = 6, seed: int = SEED, scale: int = 2):
    """One row a prompt, one column a seed -> (sheet, prompts): whether z is alive can be seen here."""
    chosen = _prompts(pipeline, range(1_000, 1_000 + prompts), seed)
    rows = [pipeline(prompt, seed=seed + 100 * k, count=seeds).images for k, prompt in enumerate(chosen)]
    return enlarged(grid(torch.cat(rows), seeds), scale), _read(chosen)
