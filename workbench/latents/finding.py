"""All directions of a model at once: found, measured under held-out captions, and named by what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from workbench.evaluation.features import Judge
from workbench.latents import ganspace, sefa
from workbench.latents.directions import Direction
from workbench.latents.effects import DRIFTS, measure_direction
from workbench.latents.layers import sizes_of
from workbench.latents.points import draw
from workbench.latents.supervised import (
    Sample,
    check_reads,
    draw_sample,
    fit_factors,
    fit_turns,
    loosened,
)
from workbench.latents.text_directions import between_phrases
from workbench.models.checks import check_whole
from workbench.pipeline import Pipeline

# Captions that nothing was fitted to, and others than those of `evaluate edits`. Their z are among those of
# the fit: see `supervised.py`.
MEASURE_SEED = 8_000_301  # effects that are stored
TUNE_SEED = 8_000_401
STRENGTHS = (0.9, 1.1, 1.3)  # of directions to a class; the best of them is suggested
GATES = (0.0, 3.0, None)  # how far the rows that do not name the factor go along: see `supervised.loosened`
PHRASES = (
    ("a dog", "a white dog"),
    ("a dog", "a dog in the snow"),
    ("a dog", "a dog at night"),
)
SETTINGS = ("{}", "{} on the beach", "{} by day", "{} sitting", "{} lying in the city at sunset")
# What an unlabelled direction does, by the reading of the judge that it moves most.
WORDS = {
    "azimuth_deg": "turns",
    "x": "stands left or right",
    "y": "stands low or high",
    "size": "small or large",
    "head_yaw_deg": "turns its head",
}
Progress = Callable[[int, int, str], None]


def find_directions(
    pipeline: Pipeline,
    judge: Judge,
    *,
    fit: int = 1500,
    n: int = 200,
    progress: Progress | None = None,
) -> list[Direction]:
    """Supervised, GANSpace, SeFa and text directions, each with its effect under n held-out captions.

    fit: captions and seeds that the supervised ones are fitted on. Strengths of directions to a class are
    tuned under a third set of captions. Raises WorkbenchError for a model without text, fewer than 2 samples,
    and so few that they lack a class.
    """
    check_reads(pipeline, "its directions are those of ganspace.find and sefa.find, which need none")
    check_whole(fit, "fit", 2)
    check_whole(n, "n", 2)
    sample, held = draw_sample(pipeline, fit), draw_sample(pipeline, n, seed=MEASURE_SEED)
    tune = draw_sample(pipeline, max(20, n // 4), seed=TUNE_SEED)
    found = [tuned(pipeline, judge, d, tune) for d in fit_factors(pipeline, sample, held)]
    found += fit_turns(pipeline, judge, sample, held)
    found += ganspace.find(pipeline, held.captions[:24])
    for layers in ("coarse", "fine"):
        if sizes_of(pipeline.G, layers):  # a G of 16 px has none that are fine
            found += sefa.find(pipeline, count=2, layers=layers)
    found += [between_phrases(pipeline, *pair, settings=SETTINGS) for pair in PHRASES]
    return measured(pipeline, judge, found, held, progress=progress)


def tuned(pipeline: Pipeline, judge: Judge, direction: Direction, sample: Sample) -> Direction:
    """The direction with the gate and strength that reach most and leak least on a sample of its own."""
    if direction.target is None:
        return direction
    before = judge.measure(draw(pipeline, sample.at))
    best, score = direction, -1.0
    for gate, strength in product(GATES, STRENGTHS):
        tried = loosened(direction, gate)
        effect = measure_direction(pipeline, judge, tried, sample, strength=strength, before=before)
        if effect.reached - 2 * effect.leaked > score + 1e-9:
            best, score = replace(tried, suggested=strength), effect.reached - 2 * effect.leaked
    return best


def measured(
    pipeline: Pipeline,
    judge: Judge,
    directions: Sequence[Direction],
    sample: Sample,
    *,
    progress: Progress | None = None,
) -> list[Direction]:
    """Every direction with its effect on the samples; unlabelled ones also say what they move most."""
    before, done = judge.measure(draw(pipeline, sample.at)), []
    spread = {name: before.regression[name].double().std().item() for name in DRIFTS}
    for k, direction in enumerate(directions):
        effect = measure_direction(pipeline, judge, direction, sample, before=before)
        direction = direction.with_effect(effect)
        if direction.source in ("ganspace", "sefa"):
            most = max(DRIFTS, key=lambda name: effect.drift[name] / spread[name])
            direction = replace(direction, facts={**direction.facts, "moves_most": WORDS[most]})
        done.append(direction)
        if progress is not None:
            progress(k + 1, len(directions), "measuring directions")
    return done
