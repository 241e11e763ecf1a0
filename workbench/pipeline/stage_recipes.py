"""Recipes of enlarged pictures: the upscaler, its settings, and inside the recipe of what was enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from workbench import recipe as recipes
from workbench.images import pixel_hash, to_uint8


class Enlarger(Protocol):
    """What a recipe asks of any upscaler."""

    name: str
    factor: int
    device: torch.device
    weight_hash: str
    config_hash: str


def picture_recipe(image: Tensor) -> dict[str, Any]:
    """What a recipe holds of a picture [3, H, W] that nobody drew here: its size, the hash of its pixels."""
    picture = Image.fromarray(to_uint8(image[None])[0])
    return {"kind": "picture", "size": list(picture.size), "pixel_hash": pixel_hash(picture)}


def stage_recipes(
    model: Enlarger,
    *,
    prompts: Sequence[str],
    seeds: Sequence[int],
    z: Tensor,
    inputs: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    noise: float,
    tile: int | None,
    cells: int,
    dtype: torch.dtype,
    sampler: str,
    exact: bool,
) -> list[dict[str, Any]]:
    """A recipe for each picture. size: (width, height); tile: of the overlapping tiles that the whole network
    saw, None where it saw the input whole; cells: side of the cells whose mean was kept, 1 for every pixel;
    exact: drawn one by one, in the usual pieces.
    """
    kind = str(dtype).removeprefix("torch.")
    exact = exact and model.device.type == "cpu" and kind == "float32"
    common = {
        "factor": model.factor // cells,
        "noise": noise,
        **({} if cells == 1 else {"cells": cells}),
        **({} if tile is None else {"tile": tile}),
        "steps": 1,
        "sampler": sampler,
        "size": list(size),
        "model": model.name,
        "weight_hash": model.weight_hash,
        "config_hash": model.config_hash,
        "dtype": kind,
        "device": model.device.type,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": recipes.library_versions(),
    }
    made = []
    for k, (prompt, seed, row, drawn) in enumerate(zip(prompts, seeds, z, inputs, strict=True)):
        whole = exact and drawn.get("promise") != "close"
        made.append(
            {
                "kind": "upscaled",
                "prompt": prompt,
                "seed": seed,
                "index": k,
                **common,
                "promise": "identical" if whole else "close",
                "noise_hash": recipes.sha256(row.numpy().astype("<f4").tobytes()),
                "input": dict(drawn),
            }
        )
    return made
