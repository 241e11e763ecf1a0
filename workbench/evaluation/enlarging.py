"""How fast this machine enlarges pictures, in how much memory, and how little tiles show.

Pictures of noise and networks of random weights cost what real ones cost: nothing depends on values.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from workbench import hardware
from workbench.datasets import world
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.speed import PROMPT_SEED
from workbench.models.presets import preset, shepherd_up
from workbench.models.upsampler import FACTORS, Upsampler, UpsamplerConfig
from workbench.pipeline import Chain, Pipeline, Upscaler, tiles

MEGAPIXEL = 1_000_000


def time_upscale(
    upscaler: Upscaler, pipeline: Pipeline | None = None, *, count: int = 20, warm_up: int = 3
) -> dict:
    """Milliseconds from a picture of the pipeline's size (64 px without one) to the enlarged one, each with
    another prompt: {"n", "ms" (median), "ms_90", "chain_ms", "threads"}.

    chain_ms: from a prompt through pipeline and upscaler; only where a pipeline is given.
    """
    if count < 2 or warm_up < 0:
        raise WorkbenchError(
            f"{count} pictures after {warm_up} cannot be timed: expected 2 or more after 0 or more."
        )
    side = 64 if pipeline is None else pipeline.G.config.resolution
    low = noise_picture(side, side)
    alone = _times(lambda prompt, k: upscaler(low, prompt, seed=k), count, warm_up)
    result = {
        "n": count,
        "ms": statistics.median(alone),
        "ms_90": sorted(alone)[int(0.9 * (count - 1))],
        "threads": torch.get_num_threads(),
    }
    if pipeline is not None:
        chain = Chain(pipeline, upscaler)
        result["chain_ms"] = statistics.median(
            _times(lambda prompt, k: chain(prompt, seed=k), count, warm_up)
        )
    return result


def tile_difference(upscaler: Upscaler, low: Tensor | None = None) -> float:
    """The largest difference, in 0 … 1 units, that tiles make to the whole picture, by either tier.

    low: a picture wider than ten windows of attention, which are one tile; noise when None.
    """
    U, window = upscaler.U, upscaler.U.config.window
    side = 10 * window
    low = noise_picture(4 * window, side + 4 * window) if low is None else low
    height, width = low.shape[-2:]
    text = upscaler.text(upscaler.neutral_prompt)
    cuts = [
        tiles.Plan(network=None, overlap=0, piece=max(height, width)),
        tiles.Plan(network=None, overlap=0, piece=max(tiles.LEAST_TILE, window)),
        tiles.Plan(network=side, overlap=3 * window, piece=2 * window),
    ]
    drawn = []
    with torch.inference_mode():
        z = torch.zeros(1, U.config.z_dim, device=upscaler.device)
        w = U.mapping(z, None if text is None else text.t_global)
        for cut in cuts:
            out = torch.empty(1, 3, U.config.factor * height, U.config.factor * width)
            tiles.enlarge(U, low, w, text, out, cut)
            drawn.append(out)
    return max((each - drawn[0]).abs().max().item() for each in drawn[1:]) / 2


def measure_factors(side: int = 256, device: str | None = None) -> dict[str, dict]:
    """Of each factor, by the small presets: seconds for a megapixel of the output, and peak memory of a
    process that enlarges a picture of side x side px: {"2": {"s_per_megapixel", "peak_mib", "size"}, …}.
    """
    found = {}
    for factor in FACTORS:
        code = (
            f"from workbench.evaluation.enlarging import one_factor; one_factor({factor}, {side}, {device!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise WorkbenchError(
                f"Factor {factor} could not be measured: {done.stderr.strip().splitlines()[-1:]}."
            )
        found[str(factor)] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_factor(factor: int, side: int, device: str | None) -> None:
    """Measures one factor in a process of its own and prints it as JSON."""
    upscaler = random_upscaler(small_config(factor), device)
    low = noise_picture(side, side)
    upscaler(low[..., :64, :64])
    start = time.perf_counter()
    made = upscaler(low).images
    seconds = time.perf_counter() - start
    size = [made.shape[3], made.shape[2]]
    print(
        json.dumps(
            {
                "s_per_megapixel": seconds * MEGAPIXEL / (size[0] * size[1]),
                "peak_mib": hardware.peak_mib(),
                "size": size,
            }
        )
    )


def small_config(factor: int) -> UpsamplerConfig:
    """The demo's upsampler of any factor; 16 times, which none is trained for, in the same form. No text, so
    that no text encoder takes memory.
    """
    config = shepherd_up(min(factor, 8)).generator
    levels = range(1, factor.bit_length())
    tables = {
        name: {**getattr(config, name), **{level: getattr(config, name)[1] for level in levels}}
        for name in ("channels", "kernels", "blocks")
    }
    return dataclasses.replace(
        config, factor=factor, text_dim=None, text_layers=0, cross_attention={}, **tables
    )


def random_upscaler(config: UpsamplerConfig, device: str | None = None) -> Upscaler:
    """An upscaler without text, of random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        U = Upsampler(config).eval().requires_grad_(False)
    return Upscaler(U if device is None else U.to(device), None, {"name": "random"})


def noise_picture(height: int, width: int) -> Tensor:
    """[1, 3, height, width] in [-1, 1]."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _times(draw: Callable[[str, int], object], count: int, warm_up: int) -> list[float]:
    """Milliseconds of each call after the warm-up; every prompt is another one."""
    taken = []
    for index in range(warm_up + count):
        prompt = full_caption(world.draw_factors(PROMPT_SEED, index), PROMPT_SEED, index)
        start = time.perf_counter()
        draw(prompt, index)  # its pictures come back on the CPU, which waits for a GPU
        taken.append((time.perf_counter() - start) * 1e3)
    return taken[warm_up:]


# --- the paper's networks on a GPU ---


def time_paper_networks(*, count: int = 30, device: str = "cuda") -> dict:
    """Seconds from text features to one picture of 512 px and of 1024 px: {"gpu_512px_s", "gpu_1024px_s",
    "gpu"}.

    Random weights, bfloat16, batch 1, each captured as one CUDA graph. 512: gigagan-64, then
    upsampler-64-512. 1024: gigagan-64, its picture interpolated to 128 px, then upsampler-128-1024. Each
    network's own T is counted, the frozen CLIP before it is not.
    """
    if not torch.cuda.is_available():
        raise WorkbenchError("There is no CUDA GPU here, and the paper's networks are timed on one.")
    G = _paper_network("gigagan-64", device)
    result = {"gpu": torch.cuda.get_device_name(device)}
    for name, low_side in (("upsampler-64-512", 64), ("upsampler-128-1024", 128)):
        U = _paper_network(name, device)
        draw = _paper_chain(G, U, low_side, device)
        result[f"gpu_{8 * low_side}px_s"] = _replay(draw, count)
        del U, draw
        torch.cuda.empty_cache()
    return result


def _paper_network(name: str, device: str) -> torch.nn.Module:
    with torch.device(device):
        network = preset(name).network()
    network.compute_dtype = torch.bfloat16
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _paper_chain(G: torch.nn.Module, U: torch.nn.Module, low_side: int, device: str) -> Callable[[], Tensor]:
    """A call without arguments: features in, picture out, all of it on the GPU."""
    from workbench.models.text import TextFeatures

    features = TextFeatures(
        torch.randn(1, 77, 768, device=device),
        torch.full((1,), 20, device=device),
        torch.randn(1, 768, device=device),
    )
    z = torch.randn(1, 128, device=device)

    def draw() -> Tensor:
        text = G.encode_text(features)
        low = G.synthesis(G.mapping(z, text.t_global), text)[0].clamp(-1, 1)
        if low.shape[-1] != low_side:
            low = torch.nn.functional.interpolate(low, size=(low_side, low_side), mode="bilinear")
        return U(low, z, features)[0]

    return draw


def _replay(draw: Callable[[], Tensor], count: int) -> float:
    """Median seconds of a captured graph."""
    stream = torch.cuda.Stream()
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                draw()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            draw()
        taken = []
        for _ in range(count + 3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            graph.replay()
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[3:])
