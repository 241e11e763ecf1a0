"""Named sizes: the paper's parameter counts part by part, configs through JSON, settings that train."""

import json
import time

import pytest
import torch

from workbench import cli
from workbench.errors import WorkbenchError
from workbench.models import params
from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.presets import PRESETS, preset
from workbench.models.vision_aided import VisionAidedConfig
from workbench.training.config import TrainConfig

C = {4: 1600, 8: 1600, 16: 1024, 32: 512, 64: 256}  # min(16384 / S, 1600)
BANK = {4: 1, 8: 1, 16: 2, 32: 4, 64: 8}
BLOCKS = {4: 3, 8: 3, 16: 3, 32: 2, 64: 2}
DEPTH = {8: 2, 16: 2, 32: 1}
W, TEXT = 1024, 768


@pytest.fixture(scope="module")
def paper() -> params.ParameterTable:
    return params.count(preset("gigagan-64"))


def linear(a: int, b: int, bias: int = 1) -> int:
    return (a + bias) * b


T = 4 * (4 * linear(TEXT, TEXT) + linear(TEXT, 4 * TEXT) + linear(4 * TEXT, TEXT) + 4 * TEXT) + 2 * TEXT


def convolutions_of_g():
    """(inputs, outputs, kernels) of each 3 x 3 convolution, coarse to fine."""
    inputs = C[4]
    for size, blocks in BLOCKS.items():
        for _ in range(blocks):
            yield inputs, C[size], BANK[size]
            yield C[size], C[size], BANK[size]
            inputs = C[size]


def test_g_has_the_papers_number_of_parameters(paper):
    assert abs(paper.deviation("G")) < 0.01
    convs = list(convolutions_of_g())
    assert len(convs) == 26
    assert paper.networks["G"] == {
        "text encoder T": T,
        "mapping network M": linear(128 + TEXT, W) + 3 * linear(W, W),
        "style affines": sum(linear(W, i) for i, _, _ in convs) + sum(linear(W, c) for c in C.values()),
        "filter affines": sum(linear(W, k) for _, _, k in convs if k > 1),
        # q, v, out, the token of w, an MLP four times as wide
        "self-attention": sum(
            n * (2 * C[s] ** 2 + linear(C[s], C[s]) + linear(W, C[s]) + linear(C[s], 4 * C[s])
                 + linear(4 * C[s], C[s]))
            for s, n in DEPTH.items()
        ),
        "cross-attention": sum(
            n * (C[s] ** 2 + 2 * TEXT * C[s] + linear(C[s], C[s])) for s, n in DEPTH.items()
        ),
        "RGB outputs": sum(3 * c for c in C.values()) + 5 * 3,
        "constant": 16 * C[4],
        # banks, biases, and a 1 x 1 where the width changes
        "convolutions (banks)": sum(k * 9 * i * o + o for i, o, k in convs)
        + C[8] * C[16] + C[16] * C[32] + C[32] * C[64],
    }  # fmt: skip


def test_d_has_the_papers_number_of_parameters(paper):
    assert abs(paper.deviation("D")) < 0.01
    outs = {32: C[32], 16: C[16], 8: C[8], 4: C[4], 1: C[4]}

    def block(i, o, mid):
        return linear(9 * i, mid) + linear(9 * mid, o) + i * o

    strided = [block(C[s], C[s // 2], C[s]) for s in (64, 32, 16, 8)]
    kept = [block(C[s], C[s], C[s]) for s in (32, 16, 8, 4, 4)]
    assert paper.networks["D"] == {
        "text encoder T": T,
        "RGB inputs": sum(linear(3, c) for c in C.values()),
        "self-attention": sum(
            2 * C[s] ** 2 + linear(C[s], C[s]) + linear(C[s], 4 * C[s]) + linear(4 * C[s], C[s])
            for s in (32, 16, 8)
        ),
        "heads": sum(4 * linear(c, c) + 4 * linear(TEXT, c) + 2 * linear(c, 1) for c in outs.values()),
        "convolutions": sum(strided) + sum(kept),
    }


def test_the_papers_preset_has_its_fifteen_predictions_and_depths():
    chosen = preset("gigagan-64")
    assert len(chosen.discriminator.predictions) == 15
    with torch.device("meta"):
        G = Generator(chosen.generator)
    depth = {s: [(len(b.attention), len(b.cross)) for b in stack] for s, stack in G.blocks.items()}
    assert depth["8"] == depth["16"] == [(0, 0), (1, 1), (1, 1)]
    assert depth["32"] == [(0, 0), (1, 1)] and depth["4"] == [(0, 0)] * 3 and depth["64"] == [(0, 0)] * 2


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_counted_whole_and_has_settings_that_train(name):
    chosen = preset(name)
    counted = params.count(chosen)
    with torch.device("meta"):
        G = chosen.network()
    assert counted.total("G") == sum(p.numel() for p in G.parameters())
    assert TrainConfig.for_preset(name).batch_size % 2 == 0


@pytest.mark.parametrize("name", PRESETS)
def test_configs_come_back_from_json(name):
    chosen = preset(name)
    for config in filter(None, (chosen.generator, chosen.discriminator, chosen.vision_aided)):
        assert type(config)(**json.loads(json.dumps(config.to_json()))) == config


def test_an_option_that_is_off_leaves_no_trace_in_json():
    """The hash of the config is in every picture that the shipped model drew."""
    chosen = preset("shepherd-64")
    assert not {"spread_attention", "excitation", "glu"} & set(chosen.generator.to_json())
    assert not {"blocks", "collapse", "reconstruction"} & set(chosen.discriminator.to_json())
    on = GeneratorConfig(**{**chosen.generator.to_json(), "glu": True, "excitation": {8: 64}})
    assert on.to_json()["glu"] is True and on.to_json()["excitation"] == {8: 64}


def test_a_parameter_that_no_part_claims_is_refused():
    with pytest.raises(WorkbenchError, match=r"stray\.weight, which belongs to none of"):
        params.count_parts(torch.nn.ModuleDict({"stray": torch.nn.Linear(2, 2)}), "G")


def test_bench_params_prints_the_table_within_ten_seconds(capsys):
    before = time.process_time()
    assert cli.main(["bench", "params", "--json"]) == 0
    assert time.process_time() - before < 10
    shown = json.loads(capsys.readouterr().out)
    assert shown["D"]["total"] == sum(shown["D"]["parts"].values()) and shown["D"]["paper"] == 381_400_000
    assert cli.main(["bench", "params", "--preset", "seed-128"]) == 0
    table = capsys.readouterr().out
    assert "self-attention" in table and "vision-aided" in table
    assert cli.main(["bench", "params", "--preset", "gigagan"]) == 2
    assert "there is no preset 'gigagan'" in capsys.readouterr().err


def test_heads_of_the_papers_presets_sit_on_a_vits_blocks():
    for name in ("gigagan-64", "seed-128"):
        config = preset(name).vision_aided
        assert isinstance(config, VisionAidedConfig) and config.embed_dim == 512
        assert all(tap.startswith("transformer.resblocks.") for tap in config.taps)
    assert isinstance(preset("seed-128").discriminator, DiscriminatorConfig)
    assert len(preset("seed-128").discriminator.predictions) == 21
