"""Directions that two phrases span: from "a dog" to "a white dog", in w and in the words.

The difference of w = M(z, t_global) under the two captions, averaged over seeds and settings, and the rows of
the words that are new, put into the caption as loud as the strength.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workbench.errors import WorkbenchError
from workbench.latents.captions import spoken
from workbench.latents.directions import Direction, Move
from workbench.latents.points import from_z, texts_of
from workbench.noise import draw_z
from workbench.pipeline import Pipeline

FIRST_SEED = 95_000_000_000
LOUD = 8.0  # of the new words at strength 1: the caption's own words answer the same question otherwise


@torch.no_grad()
def between_phrases(
    pipeline: Pipeline,
    without: str,
    with_: str,
    *,
    settings: Sequence[str] = ("{}",),
    seeds: int = 16,
    name: str | None = None,
) -> Direction:
    """The direction from one phrase to another. settings: captions with a {} where the phrase stands.

    Raises WorkbenchError where the phrases read alike or the model reads no text.
    """
    if pipeline.text_encoder is None:
        raise WorkbenchError(f"{pipeline.name} reads no text: two phrases span no direction in it.")
    z = draw_z(range(FIRST_SEED, FIRST_SEED + seeds), pipeline.G.config.z_dim)
    steps = []
    for setting in settings:
        ends = [
            from_z(pipeline, z, texts_of(pipeline, [setting.format(phrase)]).repeat_interleave(seeds))
            for phrase in (without, with_)
        ]
        steps.append(ends[1].ws[:, 0] - ends[0].ws[:, 0])
    step = torch.cat(steps).mean(0)
    said = spoken(pipeline, with_)
    old = {word.text.lower() for word in spoken(pipeline, without).words}
    new = [word for word in said.words if word.text.lower() not in old]
    if not new or step.norm() < 1e-6:
        raise WorkbenchError(
            f"{without!r:.60} and {with_!r:.60} read alike to {pipeline.name}: take phrases that differ in a "
            "word it knows."
        )
    rows = said.text.t_local[0, [row for word in new for row in word.rows]]
    return Direction(
        name=name or f"{without} → {with_}",
        source="text",
        layers=tuple(range(pipeline.G.num_ws)),
        w=Move(vector=step),
        words=rows,
        strengths=(0.0, 2.0),
        facts={"without": without, "with": with_, "seeds": seeds, "settings": len(settings)},
    )
