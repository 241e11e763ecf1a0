"""How fast a model draws: from a prompt to one picture, and pictures a second at the best batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench import hardware
from workbench.errors import WorkbenchError
from workbench.evaluation.report import energy
from workbench.pipeline import Pipeline

Undisturbed = Callable[[], AbstractContextManager[Any]]
BATCHES = (1, 2, 4, 8, 16, 32)


def time_model(
    pipeline: Pipeline,
    prompts: Sequence[str],
    *,
    batches: Sequence[int] = BATCHES,
    repeats: int = 7,
    rapl: Path = energy.RAPL,
    undisturbed: Undisturbed = nullcontext,
) -> dict:
    """Speed of a pipeline: {"latency_ms", "latency_ms_10", "latency_ms_90" (of one picture at a time),
    "by_batch": [{"batch", "images_per_s", "low", "high"}], "best_batch", "images_per_s" (median at the best),
    "peak_mib", "joules" (a picture at the best batch, or None), "energy" (how it was counted, or why not),
    "threads", "device", "repeats"}.

    low, high: 10th and 90th percentile over the repeats. Every draw has other prompts and other noise, so
    that nothing kept helps; the first of each batch is not counted. undisturbed: what keeps others' work out
    of a draw, entered for each, so that they wait for one alone. peak_mib: of this process, on CUDA of the
    GPU. Raises WorkbenchError for fewer than two repeats or no prompts.
    """
    if repeats < 2 or not prompts or not batches:
        raise WorkbenchError(
            f"{repeats} repeats of {len(prompts)} prompts in {len(batches)} sizes cannot be timed: expected "
            "two repeats or more of a prompt or more."
        )
    draw = _drawing(pipeline, prompts)

    def taken_by(batch: int) -> float:
        with undisturbed():
            return draw(batch)

    by_batch, latencies = [], []
    for batch in batches:
        taken_by(batch)
        taken = sorted(taken_by(batch) for _ in range(repeats if batch > 1 else 3 * repeats))
        speeds = [batch / one for one in reversed(taken)]
        by_batch.append(
            {"batch": batch, "images_per_s": statistics.median(speeds), "low": _at(speeds, 0.1),
             "high": _at(speeds, 0.9)}
        )  # fmt: skip
        if batch == min(batches):
            latencies = [one * 1e3 / batch for one in taken]
    best = max(by_batch, key=lambda one: one["images_per_s"])
    with undisturbed():
        used = _energy(draw, best, str(pipeline.device), rapl)
    return {
        "latency_ms": statistics.median(latencies),
        "latency_ms_10": _at(latencies, 0.1),
        "latency_ms_90": _at(latencies, 0.9),
        "by_batch": by_batch,
        "best_batch": best["batch"],
        "images_per_s": best["images_per_s"],
        "peak_mib": _peak_mib(pipeline.device),
        "joules": used.joules,
        "energy": used.how,
        "threads": torch.get_num_threads(),
        "device": pipeline.device.type,
        "repeats": repeats,
    }


def _drawing(pipeline: Pipeline, prompts: Sequence[str]) -> Callable[[int], float]:
    """What draws a batch of the next prompts and seeds, and tells its seconds."""
    drawn = 0

    def draw(batch: int) -> float:
        nonlocal drawn
        texts = [prompts[(drawn + k) % len(prompts)] for k in range(batch)]
        start = time.perf_counter()
        images = pipeline(texts, seed=list(range(drawn, drawn + batch)), batch_size=batch).images
        images.sum().item()  # waits for a GPU
        drawn += batch
        return time.perf_counter() - start

    return draw


def _at(ordered: Sequence[float], share: float) -> float:
    """A percentile, between two values on the line that joins them."""
    return float(np.quantile(ordered, share))


def _energy(draw: Callable[[int], float], best: dict, device: str, rapl: Path) -> energy.Energy:
    """Joules a picture at the best batch, over about a second, so that a slow counter moves often enough."""
    turns = max(1, round(best["images_per_s"] / best["batch"]))
    used = energy.measure(lambda: [draw(best["batch"]) for _ in range(turns)], device=device, rapl=rapl)
    if used.joules is None:
        return used
    return energy.Energy(joules=used.joules / (turns * best["batch"]), how=used.how)


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return hardware.peak_mib()
