"""The U-Net is as large as the G it races, whatever G is."""

from dataclasses import replace

import pytest
import torch

from workbench.diffusion import baseline
from workbench.diffusion.baseline import BaselineConfig, baseline_for, build, parameter_count
from workbench.errors import WorkbenchError
from workbench.models.generator import Generator
from workbench.models.presets import preset


@pytest.mark.parametrize("name", ["shepherd-32", "shepherd-64", "seed-128", "gigagan-64"])
def test_as_many_parameters_as_the_generator(name):
    config = preset(name).generator
    found = baseline_for(config, embed_dim=128)
    with torch.device("meta"):
        wanted = sum(p.numel() for p in Generator(config).parameters())
        have = sum(p.numel() for p in build(found).parameters())
    assert abs(have / wanted - 1) < 0.05
    assert found.resolution == config.resolution and found.text_dim == config.text_dim
    assert all(width % 32 == 0 for width in found.widths)


def test_it_follows_a_generator_that_changes():
    config = preset("shepherd-64").generator
    wider = replace(config, channels={size: 2 * width for size, width in config.channels.items()})
    found = baseline_for(wider, embed_dim=128)
    assert abs(parameter_count(found) / baseline.generator_count(wider) - 1) < 0.05
    assert parameter_count(found) > 2 * parameter_count(baseline_for(config, embed_dim=128))


def test_the_same_search_finds_the_same():
    config = preset("shepherd-32").generator
    first = baseline_for(config, embed_dim=64)
    baseline._for_count.cache_clear()
    assert baseline_for(config, embed_dim=64) == first


def test_the_formula_counts_what_is_built():
    common = {"resolution": 32, "attention": (16, 8), "layers": 2, "text_dim": 48, "embed_dim": 24}
    count = baseline._count_formula(3, common)
    for widths in [(32, 32, 32), (64, 160, 96), (96, 96, 320)]:
        wanted = parameter_count(BaselineConfig(widths=widths, **common))
        assert round(count(torch.tensor([widths], dtype=torch.float64)).item()) == wanted


def test_a_fresh_network_says_nothing_and_learns():
    config = BaselineConfig(resolution=16, widths=(32, 32), attention=(8,), text_dim=16, embed_dim=8)
    unet = build(config)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 900])
    text, embedding = torch.randn(2, 5, 16), torch.randn(2, 8)
    said = unet(x, t, text, class_labels=embedding).sample
    assert torch.equal(said, torch.zeros_like(x))
    (said - x).square().mean().backward()
    assert unet.conv_out.weight.grad.abs().sum() > 0


def test_json_brings_the_config_back():
    config = BaselineConfig(widths=(32, 64, 96, 96))
    assert BaselineConfig(**config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"widths": (32, 48)}, r"widths are \[32, 48\]"),
        ({"widths": (32,)}, "2 or more multiples of 32"),
        ({"widths": (32,) * 6}, "down to 4 px"),
        ({"widths": (32, 64), "attention": (16,)}, "32 among them"),
        ({"widths": (32, 64), "attention": (32,), "layers": 0}, "layers"),
    ],
)
def test_refusals(changes, match):
    with pytest.raises(WorkbenchError, match=match):
        BaselineConfig(**changes)


def test_a_generator_without_text_is_refused():
    config = replace(preset("shepherd-32").generator, text_dim=None, cross_attention={}, text_layers=0)
    with pytest.raises(WorkbenchError, match="reads no text"):
        baseline_for(config, embed_dim=128)


def test_a_generator_smaller_than_any_unet_is_refused():
    config = preset("shepherd-32").generator
    small = replace(config, channels=dict.fromkeys(config.channels, 8), w_dim=16)
    with pytest.raises(WorkbenchError, match="No U-Net of 32 px"):
        baseline_for(small, embed_dim=128)
