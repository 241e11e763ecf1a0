"""What is measured of enlarging: times, how little tiles differ, and memory that is bounded at any size."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_upsampler import tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.evaluation import enlarging
from workbench.models.mapping import Text
from workbench.models.presets import shepherd_up
from workbench.models.upsampler import Upsampler
from workbench.pipeline import Upscaler

GIB = 2**30
# 4096 x 4096 in one process, with what importing takes; the largest resident size is printed in bytes.
LARGE = """
import resource
from workbench.evaluation.enlarging import noise_picture, random_upscaler, small_config
from workbench.pipeline import upscale

up, low = random_upscaler(small_config({factor})), noise_picture({side}, {side})
made = upscale([up] * {passes}, low).images
assert made.shape[-2:] == (4096, 4096), made.shape
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_times_are_those_of_calls():
    up = Upscaler(tiny_upsampler(2, text_dim=None, cross_attention={}, text_layers=0), None)
    timed = enlarging.time_upscale(up, count=4, warm_up=1)
    assert timed["n"] == 4 and 0 < timed["ms"] <= timed["ms_90"] and "chain_ms" not in timed
    with pytest.raises(WorkbenchError, match=r"1 pictures after 0 cannot be timed"):
        enlarging.time_upscale(up, count=1, warm_up=0)


def test_tiles_of_the_demos_form_hardly_differ_from_the_whole():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        U = Upsampler(shepherd_up(2).generator).eval().requires_grad_(False)
    bare = Upscaler.__new__(Upscaler)  # its text encoder plays no part here
    bare.U, bare.text_encoder, bare.card = U, None, {}
    text = Text(torch.randn(1, 9, 128), torch.randn(1, 128), torch.ones(1, 9, dtype=torch.bool))
    bare.text = lambda prompt: text
    assert 0 < enlarging.tile_difference(bare) < 2 / 255


def test_a_factor_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(enlarging, "FACTORS", (2,))
    found = enlarging.measure_factors(side=48)
    assert found["2"]["size"] == [96, 96]
    assert found["2"]["s_per_megapixel"] > 0 and 100 < found["2"]["peak_mib"] < 4096


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_every_factor_has_a_small_form(factor):
    up = enlarging.random_upscaler(enlarging.small_config(factor))
    assert up(enlarging.noise_picture(8, 12)).images.shape == (1, 3, 8 * factor, 12 * factor)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_papers_networks_want_a_gpu():
    with pytest.raises(WorkbenchError, match=r"no CUDA GPU"):
        enlarging.time_paper_networks()


@pytest.mark.parametrize(("name", "side"), [("upsampler-64-512", 64), ("upsampler-128-1024", 128)])
def test_what_is_timed_on_a_gpu_gives_the_papers_sizes(name, side):
    G, U = (enlarging._paper_network(each, "meta") for each in ("gigagan-64", name))
    assert enlarging._paper_chain(G, U, side, "meta")().shape == (1, 3, 8 * side, 8 * side)


@pytest.mark.gpu
def test_the_papers_networks_are_timed():
    timed = enlarging.time_paper_networks(count=3)
    assert 0 < timed["gpu_512px_s"] < timed["gpu_1024px_s"] < 10


@pytest.mark.long
@pytest.mark.parametrize(
    ("factor", "side", "passes"), [(4, 1024, 1), (8, 64, 2), (8, 512, 1), (2, 512, 3), (2, 2048, 1)]
)
def test_4096_pixels_a_side_take_at_most_four_gib(factor, side, passes):
    done = subprocess.run(
        [sys.executable, "-c", LARGE.format(factor=factor, side=side, passes=passes)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    peak = json.loads(done.stdout.splitlines()[-1])
    print(f"{side} px, {passes} times {factor}: {peak / GIB:.2f} GiB")
    assert peak < 4 * GIB
