"""Directions under sliders: which there are, what they were measured to do, and the pictures they make.

Letters: N points or pictures of S x S pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.features import Judge
from workbench.images import save_png
from workbench.latents.directions import Direction, apply
from workbench.latents.edits import Edit
from workbench.latents.effects import measure_direction
from workbench.latents.film import save_gif
from workbench.latents.points import Points, draw
from workbench.latents.session import replay
from workbench.latents.store import FACTS, load_directions
from workbench.latents.supervised import Sample, draw_sample, fit_factors
from workbench.models.inspect import enlarged
from workbench.pipeline import Pipeline
from workbench.widgets.pictures import Picture, sheet
from workbench.widgets.theory import Page, rows_table

HELD_OUT_SEED = 9_000_003


def directions_of(folder: str | Path, pipeline: Pipeline, *, n: int = 600) -> tuple[list[Direction], str]:
    """The directions that ship with a model, and a sentence; where none do, some fitted here to n captions.

    Raises WorkbenchError for directions that are damaged or another model's.
    """
    if (Path(folder) / FACTS).is_file():
        found = load_directions(folder, pipeline)
        return found, f"{len(found)} directions, as they ship with the model"
    fit, held_out = draw_sample(pipeline, n), draw_sample(pipeline, n // 4, seed=HELD_OUT_SEED)
    found = fit_factors(pipeline, fit, held_out)
    return found, f"no directions ship with this model: {len(found)} were fitted here to {n} captions"


def by_name(directions: Sequence[Direction], name: str) -> Direction:
    """The direction of that name; WorkbenchError names those there are."""
    for direction in directions:
        if direction.name == name:
            return direction
    raise WorkbenchError(f"There is no direction {name!r}: {', '.join(d.name for d in directions)}.")


def measured(
    pipeline: Pipeline, judge: Judge, directions: Sequence[Direction], sample: Sample
) -> list[Direction]:
    """The directions with the effect that each has on the same held-out sample."""
    before = judge.measure(draw(pipeline, sample.at))
    return [d.with_effect(measure_direction(pipeline, judge, d, sample, before=before)) for d in directions]


def effects_table(directions: Sequence[Direction]) -> Page:
    """What each direction was measured to do, a row for each that was; a sentence where none was."""
    rows = []
    for direction in directions:
        effect = direction.effect
        if effect is None:
            continue
        reached = "" if effect.reached is None else f"{effect.reached:.0%}"
        turned = f"{effect.drift['azimuth_deg']:.0f}°" if "azimuth_deg" in effect.drift else ""
        rows.append(
            [direction.name, direction.source, reached, f"{effect.leaked:.0%}", turned, str(effect.n)]
        )
    if not rows:
        return Page("None of these directions was measured yet.")
    return rows_table(["direction", "from", "reached", "leaked", "turned by", "pictures"], rows)


def sliding(directions: Sequence[Direction]) -> list[str]:
    """Names of all directions, those that were measured to reach their target most often first."""
    effects = {d.name: d.effect.reached or 0.0 if d.effect else 0.0 for d in directions}
    return sorted(effects, key=lambda name: -effects[name])


def ranges(directions: Sequence[Direction], names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """(lowest, highest, start) of a slider for each, as `Sliders` takes them; all start at 0."""
    return {name: (*by_name(directions, name).strengths, 0.0) for name in names}


def drawing(pipeline: Pipeline, curve: Callable[[float], Points]) -> Callable[[float], Picture]:
    """t -> the picture of one point, enlarged, for a slider called t."""
    return lambda t: large(draw(pipeline, curve(t)))


def mixer(
    pipeline: Pipeline, directions: Sequence[Direction], names: Sequence[str], at: Points
) -> Callable[..., Picture]:
    """Strengths by name -> the picture of one point moved by all of them, enlarged."""
    chosen = {name: by_name(directions, name) for name in names}
    return lambda **strengths: large(
        draw(pipeline, apply(at, [(chosen[name], strength) for name, strength in strengths.items()]))
    )


def large(pictures: Tensor, side: int = 192) -> Picture:
    """The first of [N, 3, S, S] as a picture of `side` pixels."""
    return sheet(enlarged(pictures[:1], side), 1, "The picture under the sliders")


class Keeper:
    """Writes what buttons keep, numbered, into one folder that is made with the first file."""

    def __init__(self, folder: str | Path, pipeline: Pipeline) -> None:
        self.folder, self.pipeline = Path(folder), pipeline

    def picture(self, edit: Edit, directions: Sequence[Direction] = (), **strengths: float) -> Path:
        """The picture of an edit, moved along directions by name too, as PNG with its recipe: the app makes
        it again where it knows the directions.
        """
        edit = replace(edit, directions=(*edit.directions, *strengths.items()))
        samples = replay(self.pipeline, directions, edit)
        return save_png(samples.images[0], self._free("png"), samples.recipes[0], overwrite=False)

    def film(self, frames: Tensor) -> Path:
        """Frames [N, 3, S, S], there and back, as GIF."""
        return save_gif(frames, self._free("gif"))

    def _free(self, ending: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in self.folder.iterdir()}
        return self.folder / next(
            name for k in count(1) if (name := f"picture-{k:03d}.{ending}") not in taken
        )
