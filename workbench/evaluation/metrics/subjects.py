"""What is measured, as a person names it: a model with its prompts, or pictures that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import FACTOR_NAMES
from workbench.errors import WorkbenchError
from workbench.evaluation.faithfulness import draw_prompts
from workbench.evaluation.metrics.sources import Pictures, drawn_pictures
from workbench.evaluation.reference import PROMPT_SEED, check_request
from workbench.pipeline import Pipeline

Prompts = Literal["auto", "world", "captions"]


def knows_the_world(source: Pictures) -> bool:
    """Whether every picture of a set says its four factors."""
    return bool(source.known) and all(source.known)


def prompts_for(
    reference: Pictures | None, n: int, seed: int, kind: Prompts = "auto"
) -> tuple[list[str], list[dict]]:
    """n prompts and what they name of the four factors ({} where nothing is known).

    "world": full captions of the world that no training saw; "captions": those of the reference, in order and
    from the start again; "auto": the world's where the reference says its factors, or is none but statistics,
    else its captions, else one sentence that says nothing. Raises WorkbenchError where captions are asked for
    and there are none.
    """
    check_request(n, seed)
    if kind not in ("auto", "world", "captions"):
        raise WorkbenchError(f"The prompts {kind!r} are not known: use auto, world or captions.")
    if kind == "world" or (kind == "auto" and (reference is None or knows_the_world(reference))):
        factors = [draw_factors(PROMPT_SEED + seed, k) for k in range(n)]
        return draw_prompts(n, seed)[0], [{name: getattr(f, name) for name in FACTOR_NAMES} for f in factors]
    if reference is not None and reference.texts:
        return [reference.texts[k % len(reference)] for k in range(n)], [
            reference.known[k % len(reference)] if reference.known else {} for k in range(n)
        ]
    if kind == "captions":
        named = "The reference" if reference is None else reference.facts.name
        raise WorkbenchError(f"{named} has no captions to draw from: give a data set with captions.")
    return ["a picture"] * n, [{}] * n


def drawn_for(
    pipeline: Pipeline,
    prompts: Sequence[str],
    known: Sequence[dict],
    *,
    seed: int,
    truncation: float = 1.0,
) -> Pictures:
    """Pictures of prompts, with the noise that every evaluation of that seed uses."""
    first = (PROMPT_SEED + seed) * 100_000
    return drawn_pictures(pipeline, prompts, seed=seed, first_seed=first, truncation=truncation, known=known)
