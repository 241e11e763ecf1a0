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


def _prompt(index: int, seed: int) -> str:
    return full_caption(draw_factors(seed, index), seed, index)


def many_prompts(pipeline: Pipeline, *, count: int = 36, columns: int = 6, seed: int = SEED, scale: int = 2):
    """`count` random full prompts, one picture each -> (sheet, prompts). Nothing is picked by its looks."""
    prompts = [_prompt(index, seed) for index in range(count)]
    images = pipeline(prompts, seed=[seed + index for index in range(count)]).images
    return enlarged(grid(images, columns), scale), prompts


def many_seeds(pipeline: Pipeline, *, prompts: int = 6, seeds: int = 6, seed: int = SEED, scale: int = 2):
    """One row a prompt, one column a seed -> (sheet, prompts): whether z is alive can be seen here."""
    chosen = [_prompt(1_000 + index, seed) for index in range(prompts)]
    rows = [pipeline(prompt, seed=seed + 100 * k, count=seeds).images for k, prompt in enumerate(chosen)]
    return enlarged(grid(torch.cat(rows), seeds), scale), chosen
