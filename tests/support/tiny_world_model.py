"""A whole pipeline at 16 px with random weights that reads the world's words: for the latent room."""

import torch
from tiny_models import generator_config

from workbench.datasets.world.captions import vocabulary
from workbench.models.generator import Generator
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder
from workbench.pipeline import Pipeline


def tiny_world_model(seed: int = 0, *, words=None, **changes) -> Pipeline:
    """words: what the text encoder knows, the world's vocabulary when None."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = TextEncoder.from_clip(new_mini_clip(vocabulary() if words is None else words))
        G = Generator(generator_config(**{"text_dim": encoder.text_dim, "z_dim": 2, **changes})).eval()
    with torch.no_grad():  # a fresh G hardly hears z, and half of its pixels are beyond white
        first, *_, last = G.mapping_network.layers
        first.weight[:, : G.config.z_dim] *= 4
        last.weight *= 3
        for layer in G.to_rgb.values():
            layer.weight *= 0.3
    return Pipeline(G, encoder if G.config.text_dim else None, {"name": f"tiny-{seed}"})
