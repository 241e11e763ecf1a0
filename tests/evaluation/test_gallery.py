"""Contact sheets hold the pictures they say, in order."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.evaluation.gallery import enlarged, many_prompts, many_seeds
from workbench.images import grid, to_uint8
from workbench.models.generator import Generator
from workbench.models.presets import preset
from workbench.models.text import TextEncoder
from workbench.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    torch.manual_seed(0)
    encoder = TextEncoder.from_pretrained("assets/models/mini-clip")
    return Pipeline(Generator(preset("shepherd-32").generator).eval(), encoder, {"name": "untrained"})


def test_many_prompts_shows_each_prompts_own_picture(pipeline):
    sheet, prompts = many_prompts(pipeline, count=4, columns=2, scale=1)
    assert sheet.size == (64, 64) and len(set(prompts)) == 4
    third = pipeline(prompts[2], seed=4_242 + 2).images
    assert np.array_equal(np.asarray(sheet)[32:, :32], to_uint8(third)[0])


def test_many_seeds_has_a_row_for_each_prompt(pipeline):
    sheet, prompts = many_seeds(pipeline, prompts=2, seeds=3, scale=1)
    assert sheet.size == (96, 64) and len(prompts) == 2
    last = pipeline(prompts[1], seed=4_242 + 100, count=3).images
    assert np.array_equal(np.asarray(sheet)[32:], np.asarray(grid(last, 3)))


def test_a_model_without_text_is_shown_by_seeds_alone_and_no_prompt_is_named():
    torch.manual_seed(0)
    plain = replace(preset("shepherd-32").generator, text_dim=None, cross_attention={})
    pipeline = Pipeline(Generator(plain).eval(), None, {"name": "untrained"})
    for draw, settings in ((many_prompts, {"count": 4}), (many_seeds, {"prompts": 2, "seeds": 2})):
        sheet, prompts = draw(pipeline, scale=1, **settings)
        assert sheet.width >= 64 and prompts == []


def test_enlarging_keeps_the_average_colour():
    sheet = grid(torch.rand(4, 3, 8, 8), 2)
    large = enlarged(sheet, 3)
    assert large.size == (48, 48)
    assert np.abs(np.asarray(large).mean((0, 1)) - np.asarray(sheet).mean((0, 1))).max() < 2
