"""What a race asks of a lane beside its pictures: how evenly it walks, what a swapped word changes, how long
a picture takes.

Letters: N samples, F frames [F, 3, S, S] in [-1, 1].
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from workbench.datasets.world import CHOICES, draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.diffusion.lanes import Lane
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, Judge, class_ids
from workbench.evaluation.perceptual import FeatureDistance
from workbench.noise import generator_for

WORLD_SEED = 8_500_001  # of prompts no training and no other measurement saw
FIRST_SEED = 86_000_000_000


def interleaved_times(
    lanes: Sequence[Lane], *, rounds: int = 9, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Milliseconds from prompt to picture of each lane, by name: {"ms" (median), "ms_low", "ms_high" (the
    quartiles), "rounds"}.

    Every round goes once through all lanes, so that whatever else the machine does meets all alike; the first
    round warms up and does not count. Each time the prompt is another one, so that no lane finds its words
    read already.
    """
    if rounds < 1:
        raise WorkbenchError(f"rounds is {rounds}: expected 1 or more.")
    taken: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    for index in range(rounds + 1):
        for place, lane in enumerate(lanes):
            prompt = _prompt(seed, index * len(lanes) + place)[0]
            start = time.perf_counter()
            lane.draw([prompt], [FIRST_SEED + index]).sum().item()  # waits for a GPU
            taken[lane.name].append((time.perf_counter() - start) * 1e3)
    found = {}
    for name, times in taken.items():
        ordered = sorted(times[1:])
        last = len(ordered) - 1
        low, high = ordered[round(0.25 * last)], ordered[round(0.75 * last)]
        found[name] = {"ms": statistics.median(ordered), "ms_low": low, "ms_high": high, "rounds": rounds}
    return found


def smoothness(
    lane: Lane, distance: FeatureDistance, *, paths: int = 4, frames: int = 17, seed: int = 0
) -> dict[str, float] | None:
    """Walks from one seed's noise to another's under one prompt, in equal steps of the angle: means over the
    paths of {"step" (mean distance of a frame to the last), "largest" (the largest over the mean step: 1 is
    even), "detour" (length over the distance of the ends: 1 is straight)}; None for a lane without a walk.
    """
    if paths < 1 or frames < 3:
        raise WorkbenchError(f"{paths} paths of {frames} frames: expected at least 1 and 3.")
    if lane.along is None:
        return None
    t, rows = torch.linspace(0, 1, frames), []
    for path in range(paths):
        ends = FIRST_SEED + 1_000 + 2 * path, FIRST_SEED + 1_001 + 2 * path
        pictures = lane.along(_prompt(seed, 1_000 + path)[0], ends, t)
        steps = distance.steps(pictures).double()
        with torch.no_grad():
            straight = distance(pictures[:1], pictures[-1:]).double().clamp_min(1e-9)
        rows.append(
            torch.stack([steps.mean(), steps.max() / steps.mean().clamp_min(1e-9), steps.sum() / straight[0]])
        )
    step, largest, detour = torch.stack(rows).mean(0).tolist()
    return {"step": step, "largest": largest, "detour": detour}


def edit_consistency(lane: Lane, judge: Judge, *, n: int = 32, seed: int = 0) -> dict[str, float]:
    """One factor's word swapped, the same seed: {"reached" (share in which the judge then names the new
    class), "kept" (in which it names the other three as before), "both"}, over all four factors in turn.
    """
    if n < len(FACTOR_CLASSES):
        raise WorkbenchError(f"n is {n}: expected {len(FACTOR_CLASSES)} or more, one for each factor.")
    names, before, after, wanted = list(FACTOR_CLASSES), [], [], []
    for index in range(n):
        text, factors = _prompt(seed, 2_000 + index)
        factor = names[index % len(names)]
        swapped = _swapped(factors, factor, index)
        before.append(text)
        after.append(full_caption(swapped, WORLD_SEED + seed, 2_000 + index))
        wanted.append(swapped)
    seeds = [FIRST_SEED + 10_000 + index for index in range(n)]
    seen = [judge.measure(lane.draw(texts, seeds)).classes for texts in (before, after)]
    ids = class_ids(wanted)
    rows = torch.arange(n)
    own = rows % len(names)
    same = torch.stack([seen[0][name] == seen[1][name] for name in names], dim=1)
    right = torch.stack([seen[1][name] == ids[name] for name in names], dim=1)
    same[rows, own] = True  # the swapped factor may change
    reached, kept = right[rows, own], same.all(dim=1)
    shares = {"reached": reached, "kept": kept, "both": reached & kept}
    return {name: value.double().mean().item() for name, value in shares.items()}


def _prompt(seed: int, index: int):
    """A caption that names all four factors, and what it says."""
    factors = draw_factors(WORLD_SEED + seed, index)
    return full_caption(factors, WORLD_SEED + seed, index), factors


def _swapped(factors, factor: str, index: int):
    """The same with another class of one factor."""
    others = [value for value in CHOICES[factor] if value != getattr(factors, factor)]
    place = int(torch.randint(len(others), (1,), generator=generator_for(WORLD_SEED, index)))
    return replace(factors, **{factor: others[place]})
