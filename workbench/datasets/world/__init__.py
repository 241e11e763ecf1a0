"""Shepherd World: a German shepherd of known factors, drawn; picture i of seed s is always the same."""

from workbench.datasets.world.drawing import dog_mask, head_place, render
from workbench.datasets.world.factors import (
    CHOICES,
    COATS,
    LIGHTS,
    POSES,
    RANGES,
    SCENES,
    WORLD_VERSION,
    Factors,
    draw_factors,
    is_render,
    mirrored,
)

__all__ = [
    "CHOICES",
    "COATS",
    "LIGHTS",
    "POSES",
    "RANGES",
    "SCENES",
    "WORLD_VERSION",
    "Factors",
    "dog_mask",
    "draw_factors",
    "head_place",
    "is_render",
    "mirrored",
    "render",
]
