"""Every kind of edit scored under held-out captions: did it change what it should, and that alone.

Directions move a sample towards another class of one factor; prompt edits swap the words of that factor and
keep z. Paths are scored by their most uneven step. The judge reads the pictures; it took no part in finding
any direction of a factor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, Judge, Measured
from workbench.evaluation.perceptual import FeatureDistance
from workbench.latents.directions import Direction, Effect
from workbench.latents.effects import measure_edit
from workbench.latents.pace import walk
from workbench.latents.paths import KINDS, Key, curve
from workbench.latents.points import Points, draw, from_z, texts_of
from workbench.latents.supervised import FIRST_SEED, Sample, check_reads, draw_sample
from workbench.models.checks import check_whole
from workbench.noise import draw_z, generator_for
from workbench.pipeline import Pipeline

HELD_OUT_SEED = (
    8_000_201  # captions neither fitted nor tuned on; their z are among the fit's (`supervised.py`)
)
Progress = Callable[[int, int, str], None]


def evaluate_edits(
    pipeline: Pipeline,
    judge: Judge,
    directions: Sequence[Direction],
    *,
    n: int = 200,
    pairs: int = 3,
    frames: int = 60,
    seed: int = HELD_OUT_SEED,
    progress: Progress | None = None,
) -> dict:
    """Scores of directions, prompt edits and paths under n held-out captions, of paths between pairs of them.

    Returns {"n", "direction": {factor: {"target", "leak", "drift"}}, "prompt": the same, "path": {kind:
    largest step over mean step, the worst of `pairs` paths; "max_step_ratio": the worst of all; "distance"}}.
    target: share of samples whose factor became another, wanted class; leak: share in which any other factor
    changed. Raises WorkbenchError where a class has no supervised direction, for a model without text, and
    for fewer than 2 samples for each pair of ends.
    """
    check_reads(pipeline, "edits are scored by what its captions say. Score a model that reads them")
    _check_walks(n, pairs, frames)
    sample = draw_sample(pipeline, n, seed=seed)
    before = judge.measure(draw(pipeline, sample.at))
    wanted = other_classes(sample, seed)
    result: dict = {"n": n, "direction": {}, "prompt": {}}
    for done, factor in enumerate(FACTOR_CLASSES):
        for kind, edited in (
            ("direction", by_directions(directions, factor, wanted[factor], sample.at)),
            ("prompt", by_prompt(pipeline, sample, factor, wanted[factor], seed)),
        ):
            effect = _measured(pipeline, judge, sample, edited, factor, wanted[factor], before)
            result[kind][factor] = {
                "target": effect.reached,
                "leak": effect.leaked,
                "drift": effect.drift,
            }
            if progress is not None:
                progress(2 * done + 1 + (kind == "prompt"), 8, "judging edits")
    return {**result, "path": score_paths(pipeline, sample, pairs=pairs, frames=frames, progress=progress)}


def other_classes(sample: Sample, seed: int) -> dict[str, Tensor]:
    """Factor -> for each sample [n] a class that is not its own, by chance."""
    found = {}
    for number, (factor, values) in enumerate(FACTOR_CLASSES.items()):
        generator = generator_for(seed, stream=number)
        step = torch.randint(1, len(values), (len(sample.captions),), generator=generator)
        found[factor] = (sample.ids[factor] + step) % len(values)
    return found


def by_directions(directions: Sequence[Direction], factor: str, wanted: Tensor, at: Points) -> Points:
    """Each point moved by the direction to its wanted class, at the strength that it suggests."""
    own = {d.value: d for d in directions if d.target == factor and d.source == "supervised"}
    values = FACTOR_CLASSES[factor]
    if lacking := [value for value in values if value not in own]:
        raise WorkbenchError(
            f"There is no supervised direction to {factor} {lacking[0]}: find them with `workbench "
            "directions`."
        )
    chosen = [own[values[int(k)]] for k in wanted]
    return Points.cat([d.at(at[k], d.suggested) for k, d in enumerate(chosen)])


def by_prompt(pipeline: Pipeline, sample: Sample, factor: str, wanted: Tensor, seed: int) -> Points:
    """The same seeds under the same captions with the words of one factor swapped."""
    values = FACTOR_CLASSES[factor]
    swapped = [
        full_caption(replace(own, **{factor: values[int(k)]}), seed, i)
        for i, (own, k) in enumerate(zip(sample.factors, wanted, strict=True))
    ]
    first = FIRST_SEED + seed
    z = draw_z(range(first, first + len(swapped)), pipeline.G.config.z_dim)
    return from_z(pipeline, z, texts_of(pipeline, swapped))


def score_paths(
    pipeline: Pipeline,
    sample: Sample,
    *,
    pairs: int = 3,
    frames: int = 60,
    progress: Progress | None = None,
) -> dict:
    """Kind of path -> the largest step over the mean one at even speed, the worst of `pairs` paths.

    Raises WorkbenchError for fewer than 1 pair, 2 samples a pair or 2 frames.
    """
    _check_walks(len(sample.captions), pairs, frames)
    distance, worst = FeatureDistance(), {}
    for done, kind in enumerate(KINDS):
        ratios = []
        for k in range(pairs):
            ends = [Key(sample.captions[2 * k + e], FIRST_SEED + 2 * k + e) for e in (0, 1)]
            ratios.append(
                walk(pipeline, curve(pipeline, ends, kind), frames, distance=distance).max_step_ratio
            )
        worst[kind] = max(ratios)
        if progress is not None:
            progress(done + 1, len(KINDS), "walking paths")
    return {
        **worst,
        "max_step_ratio": max(worst.values()),
        "frames": frames,
        "pairs": pairs,
        "distance": distance.name,
    }


def time_edit(pipeline: Pipeline, directions: Sequence[Direction], *, count: int = 40) -> dict:
    """Milliseconds from a moved slider to the new picture: {"n", "ms" (median), "ms_90", "threads"}.

    A slider is the first direction's strength or the place between two pictures, in turn, at another value
    each time. Raises WorkbenchError for a count below 1.
    """
    check_whole(count, "count")
    sample = draw_sample(pipeline, 2)
    ends = [Key(caption, FIRST_SEED + k) for k, caption in enumerate(sample.captions)]
    between, taken = curve(pipeline, ends), []
    for k in range(count + 4):
        start = time.perf_counter()
        if k % 2 or not directions:
            at = between(torch.tensor([(k % 17) / 17]))
        else:
            at = directions[0].at(sample.at[0], k / count)
        draw(pipeline, at).sum().item()
        taken.append((time.perf_counter() - start) * 1e3)
    timed = sorted(taken[4:])
    return {
        "n": count,
        "ms": statistics.median(timed),
        "ms_90": timed[int(0.9 * (count - 1))],
        "threads": torch.get_num_threads(),
    }


def _check_walks(n: int, pairs: int, frames: int) -> None:
    """Before anything is drawn: every pair takes two samples of its own."""
    check_whole(n, "n")
    check_whole(pairs, "pairs")
    check_whole(frames, "frames", 2)
    if n < 2 * pairs:
        raise WorkbenchError(
            f"{pairs} paths lead between {2 * pairs} samples, and n is {n}: expected n of at least "
            f"{2 * pairs}. Draw more samples, or fewer pairs."
        )


def _measured(
    pipeline: Pipeline,
    judge: Judge,
    sample: Sample,
    edited: Points,
    factor: str,
    wanted: Tensor,
    before: Measured,
) -> Effect:
    return measure_edit(
        pipeline, judge, sample.at, lambda at: edited, target=factor, wanted=wanted, before=before
    )
