"""Small networks and made-up text features that the model tests share."""

from types import SimpleNamespace

import torch

from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.generator import GeneratorConfig

TEXT_DIM = 16


def generator_config(**changes) -> GeneratorConfig:
    """G at 16 px with every kind of part: bank, self- and cross-attention."""
    sizes = (4, 8, 16)
    settings = {
        "resolution": 16,
        "channels": dict.fromkeys(sizes, 32),
        "kernels": {4: 1, 8: 2, 16: 3},
        "blocks": {4: 1, 8: 2, 16: 1},
        "attention": {8: 1},
        "cross_attention": {8: 1},
        "z_dim": 8,
        "w_dim": 24,
        "text_dim": TEXT_DIM,
        "text_layers": 2,
    }
    return GeneratorConfig(**{**settings, **changes})


def discriminator_config(**changes) -> DiscriminatorConfig:
    """D at 16 px with the paper's full set of entries and exits for that size: 3 * 4 / 2 = 6 predictions."""
    settings = {
        "resolution": 16,
        "channels": dict.fromkeys((16, 8, 4), 32),
        "entries": (16, 8, 4),
        "exits": (8, 4, 1),
        "attention": {8: 1},
        "text_dim": TEXT_DIM,
        "head_layers": 4,
        "group": 2,
    }
    return DiscriminatorConfig(**{**settings, **changes})


def features(n: int, *, length: int = 9, seed: int = 0) -> SimpleNamespace:
    """Frozen text features of n captions with their end at various places."""
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(
        eps_txt=torch.randn(n, length, TEXT_DIM, generator=generator),
        eot=torch.arange(n) % (length - 2) + 2,
    )
