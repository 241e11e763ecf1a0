"""A tiny but whole pipeline: real generator, real text tower, real tokenizer, random weights."""

import pytest
import torch
from tiny_upsampler import tiny_upsampler

from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder
from workbench.pipeline import Pipeline, Upscaler
from workbench.pipeline.upscale_files import Job

WORDS = ("white", "black", "shepherd", "dog", "sitting", "standing", "snow", "beach", "night", "day")


def tiny_generator(seed=0, **changes):
    """16 px, each part of the structure once, random weights."""
    settings = {
        "resolution": 16,
        "channels": {4: 16, 8: 16, 16: 8},
        "kernels": {4: 1, 8: 2, 16: 1},
        "blocks": {4: 1, 8: 1, 16: 1},
        "attention": {8: 1},
        "cross_attention": {8: 1},
        "z_dim": 16,
        "w_dim": 32,
        "text_dim": 128,
        "text_layers": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Generator(GeneratorConfig(**{**settings, **changes})).eval()


@pytest.fixture(scope="session")
def make_generator():
    return tiny_generator


@pytest.fixture(scope="session")
def text_encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TextEncoder.from_clip(new_mini_clip(WORDS))


@pytest.fixture
def pipe(text_encoder):
    return Pipeline(tiny_generator(), text_encoder, {"name": "tiny"})


@pytest.fixture
def folder(pipe, tmp_path):
    """A saved model folder."""
    return pipe.save_pretrained(tmp_path / "model")


@pytest.fixture
def up(text_encoder):
    """A tiny upscaler of four times."""
    return Upscaler(tiny_upsampler(), text_encoder, {"name": "tiny-up4"})


@pytest.fixture
def job(up):
    """How files are enlarged by whatever `up` a file of tests has."""
    return Job(upscalers=[up], prompt="white dog")


@pytest.fixture
def up_folder(up, tmp_path):
    """A saved model folder of it."""
    return up.save_pretrained(tmp_path / "up4")
