"""What an edit changed, in the judge's eyes: the factor it was for, the others, and where the dog stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, Judge, Measured
from workbench.latents.directions import Direction, Effect
from workbench.latents.points import Points, draw
from workbench.latents.supervised import Sample
from workbench.pipeline import Pipeline

Edit = Callable[[Points], Points]
DRIFTS = ("azimuth_deg", "x", "y", "size", "head_yaw_deg")


def measure_edit(
    pipeline: Pipeline,
    judge: Judge,
    at: Points,
    edit: Edit,
    *,
    target: str | None = None,
    wanted: Tensor | None = None,
    strength: float = 1.0,
    before: Measured | None = None,
) -> Effect:
    """Draw points before and after an edit and let the judge compare.

    target, wanted: factor, and the class [n] that it should have afterwards. A sample leaks when the judge
    names any other factor otherwise than before.
    """
    before = before or judge.measure(draw(pipeline, at))
    after = judge.measure(draw(pipeline, edit(at)))
    others = [name for name in FACTOR_CLASSES if name != target]
    changed = torch.stack([before.classes[name] != after.classes[name] for name in others]).any(0)
    differences = {name: _difference(name, before, after) for name in DRIFTS}
    return Effect(
        n=len(at),
        strength=strength,
        reached=None if wanted is None else (after.classes[target] == wanted).double().mean().item(),
        leaked=changed.double().mean().item(),
        drift={name: d.abs().median().item() for name, d in differences.items()},
        moved={name: d.mean().item() for name, d in differences.items()},
    )


def measure_direction(
    pipeline: Pipeline,
    judge: Judge,
    direction: Direction,
    sample: Sample,
    *,
    strength: float | None = None,
    before: Measured | None = None,
) -> Effect:
    """The effect of a direction on the samples of another class than its own, at `strength` or as suggested.

    before: what the judge says of all the samples' pictures, where it is known. Raises WorkbenchError where
    every sample is of its class already.
    """
    s = direction.suggested if strength is None else strength
    rows, wanted = torch.arange(len(sample.captions)), None
    if direction.target is not None and direction.value is not None:
        own = FACTOR_CLASSES[direction.target].index(direction.value)
        rows = torch.nonzero(sample.ids[direction.target] != own)[:, 0]
        wanted = torch.full((len(rows),), own)
        if not len(rows):
            raise WorkbenchError(
                f"All of the {len(sample.captions)} samples are {direction.name!r} already, so that it can "
                "change none: expected some of another class. Draw more."
            )
    return measure_edit(
        pipeline,
        judge,
        sample.at[rows],
        lambda at: direction.at(at, s),
        target=direction.target,
        wanted=wanted,
        strength=s,
        before=None if before is None else _rows_of(before, rows),
    )


def _rows_of(measured: Measured, rows: Tensor) -> Measured:
    """What was measured of some of the pictures."""
    return Measured(
        classes={name: ids[rows] for name, ids in measured.classes.items()},
        regression={name: values[rows] for name, values in measured.regression.items()},
        mid=measured.mid[rows],
        last=measured.last[rows],
    )


def _difference(name: str, before: Measured, after: Measured) -> Tensor:
    """Change of one reading, [n]; angles the short way round."""
    change = after.regression[name].double() - before.regression[name].double()
    return (change + 180) % 360 - 180 if name == "azimuth_deg" else change
