"""How fast this machine goes from a prompt to a picture, and draws the world."""

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count as natural_numbers
from pathlib import Path

import torch

from workbench import hardware
from workbench.datasets import world
from workbench.datasets.world import workers as world_workers
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError

PROMPT_SEED = 7_001
SET = 5_000  # pictures whose time is extrapolated


def time_sample(pipeline: Callable, *, count: int = 40, warm_up: int = 5) -> dict:
    """Milliseconds from a prompt to one picture: {"n", "ms" (median), "ms_90" (90th percentile), "threads"}.

    pipeline(prompt, seed=…) -> Samples. Every prompt is another one, so that no kept text features help.
    """
    if count < 2 or warm_up < 0:
        raise WorkbenchError(
            f"{count} pictures after {warm_up} cannot be timed: expected 2 or more after 0 or more."
        )
    taken = []
    for index in range(warm_up + count):
        prompt = full_caption(world.draw_factors(PROMPT_SEED, index), PROMPT_SEED, index)
        start = time.perf_counter()
        images = pipeline(prompt, seed=index).images
        images.sum().item()  # waits for a GPU
        taken.append((time.perf_counter() - start) * 1e3)
    timed = sorted(taken[warm_up:])
    return {
        "n": count,
        "ms": statistics.median(timed),
        "ms_90": timed[int(0.9 * (count - 1))],
        "threads": torch.get_num_threads(),
    }


def time_world(*, resolution: int = 64, count: int = 96) -> dict:
    """Processor seconds of one core that one Shepherd World picture takes: {"n", "resolution", "core_s"}.

    One thread and this process's own processor time, so that other programs do not count.
    """
    if count < 1:
        raise WorkbenchError(f"count is {count}: expected 1 picture or more.")
    threads = torch.get_num_threads()
    factors = [world.draw_factors(PROMPT_SEED, index) for index in range(count)]
    hardware.set_threads(1)
    try:
        with torch.inference_mode():
            world.render(factors[:1], resolution)
            start = time.process_time()
            for item in factors:
                world.render([item], resolution)
            taken = time.process_time() - start
    finally:
        hardware.set_threads(threads)
    return {"n": count, "resolution": resolution, "core_s": taken / count}


def time_world_set(*, resolution: int = 256, count: int = 225, workers: int | None = None) -> dict:
    """Minutes in which all cores draw and write SET pictures, extrapolated from `count` of them, or from four
    a core where that is more.

    Gives {"minutes_5000", "combinations", "pool", "extrapolated_from"}. The real worker processes draw, with
    their start counted once; the sample goes evenly through the combinations of coat, pose, scene and light,
    which `combinations` counts.
    """
    if count < 1:
        raise WorkbenchError(f"count is {count}: expected 1 picture or more.")
    cores = hardware.usable_cores() if workers is None else workers
    count = max(count, 4 * cores)  # the first portion to come back marks the end of the start
    indices = stratified(PROMPT_SEED, count)
    batch = max(1, min(16, count // (4 * cores)))
    chunks = [indices[at : at + batch] for at in range(0, count, batch)]
    ends: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as room:
        (Path(room) / "images").mkdir()
        canvas = world_workers.Canvas(folder=Path(room), seed=PROMPT_SEED, resolution=resolution)
        start = time.perf_counter()
        world_workers.draw_in_processes(
            canvas, chunks, cores, lambda more: ends.append((time.perf_counter() - start, more))
        )
    (first_s, first), (last_s, _) = ends[0], ends[-1]
    per_picture_s = (last_s - first_s) / (count - first)
    return {
        "minutes_5000": (first_s + per_picture_s * (SET - first)) / 60,
        "combinations": min(count, math.prod(len(values) for values in world.CHOICES.values())),
        "pool": cores,
        "extrapolated_from": count,
    }


def stratified(seed: int, count: int) -> list[int]:
    """Numbers of `count` pictures of `seed` that hold every combination of the four named factors equally
    often, or as many different ones as `count` allows, in a mixed order that never changes."""
    combinations = math.prod(len(values) for values in world.CHOICES.values())
    rounds = -(-count // combinations)
    found: dict[tuple[str, ...], list[int]] = {}
    for index in natural_numbers():
        factors = world.draw_factors(seed, index)
        held = found.setdefault(tuple(getattr(factors, name) for name in world.CHOICES), [])
        if len(held) < rounds:
            held.append(index)
        if len(found) == combinations and all(len(held) == rounds for held in found.values()):
            break
    # Mixed: a prefix in sorted order, or any even stride, would leave out whole scenes.
    keys = random.Random(seed).sample(sorted(found), combinations)
    return [found[key][turn] for turn in range(rounds) for key in keys][:count]
