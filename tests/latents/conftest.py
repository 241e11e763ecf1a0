"""A tiny pipeline of random weights, and the shipped one where the world's words matter."""

from pathlib import Path

import pytest
import torch
from tiny_world_model import tiny_world_model

from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder
from workbench.models.tokens import BpeTokenizer
from workbench.pipeline import Pipeline

WORDS = ("white", "black", "red", "dog", "shepherd", "sitting", "lying", "in", "on", "the", "snow", "city",
         "a", "by", "night", "day", "beach", "at")  # fmt: skip
SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "models" / "shepherd-64"


SPELLS = {
    "embed_dim": 16, "quick_gelu": False, "name": "spells",
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}  # fmt: skip


def make_pipeline(seed: int = 0, *, spells: bool = False) -> Pipeline:
    """16 px, two attentions of each kind, random weights; the text matters as much as z. spells: its encoder
    reads every character by BPE, instead of some words.
    """
    sizes = (4, 8, 16)
    config = GeneratorConfig(
        resolution=16,
        channels=dict.fromkeys(sizes, 16),
        kernels={4: 1, 8: 2, 16: 1},
        blocks=dict.fromkeys(sizes, 1),
        attention={8: 1},
        cross_attention={8: 1, 16: 1},
        z_dim=16,
        w_dim=32,
        text_dim=128,
        text_layers=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spells:
            encoder = TextEncoder(SPELLS, BpeTokenizer())
        else:
            encoder = TextEncoder.from_clip(new_mini_clip(WORDS))
        G = Generator(config).eval().requires_grad_(False)
        return Pipeline(G, encoder, {"name": f"tiny-{seed}"})


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    return make_pipeline()


@pytest.fixture(scope="session")
def spelling() -> Pipeline:
    """Signs have rows here, too."""
    return make_pipeline(spells=True)


@pytest.fixture(scope="session")
def unread() -> Pipeline:
    """A model without text."""
    return tiny_world_model(text_dim=None, cross_attention={})


@pytest.fixture(scope="session")
def another() -> Pipeline:
    """The same shape with other weights."""
    return make_pipeline(1)


@pytest.fixture(scope="session")
def shipped() -> Pipeline:
    """The demo model on the CPU."""
    return Pipeline.from_pretrained(SHIPPED, device="cpu")
