"""How fast this machine goes from a prompt to a picture, and draws the world."""

import statistics
import time
from collections.abc import Callable

import torch

from workbench import hardware
from workbench.datasets import world
from workbench.datasets.captions import full_caption
from workbench.errors import WorkbenchError

PROMPT_SEED = 7_001


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
