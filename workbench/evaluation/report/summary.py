"""What a report says in short: a verdict, and the few numbers that its plots are drawn of."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.evaluation.features import FACTOR_CLASSES
from workbench.evaluation.metrics.record import Measurement
from workbench.evaluation.report.gathering import Gathered

ABOUT_AS_MANY = 2  # times


def verdict(gathered: Gathered) -> str:
    """One or two sentences that a reader takes away."""
    world = gathered.world
    if world is None:
        first = gathered.measurements[0]
        name = gathered.data.facts.name
        return f"{first.name} to {name}: {first.value:.3g}, over {len(gathered.source):,} pictures."
    found = world.found
    said = (
        f"All four factors come true in {found['all']:.1%} of {found['n']:,} prompts; the distance to "
        f"held-out renders is {found['ratio']:.2f} times its floor."
    )
    missed = len(world.missed)
    return f"{said} {missed} goal{'s are' if missed > 1 else ' is'} not met." if missed else said


def over_floors(found: Sequence[Measurement]) -> dict[str, float]:
    """Short name -> distance over its floor, of every distance that has one taken on about as many pictures.

    A floor of many more pictures is lower by its n alone: over it, the best model would look bad.
    """
    values, out = {one.name: one.value for one in found}, {}
    counts = {one.name: one.statement.n for one in found}
    for name, value in values.items():
        floor = values.get(f"{name}, floor")
        if floor and counts[f"{name}, floor"] <= ABOUT_AS_MANY * counts[name]:
            features = name.partition("features ")[2].rstrip(")") or "Inception"
            out["to held-out renders" if "held-out" in name else f"to the data, {features}"] = value / floor
    if "geometry, distance over its floor" in values:
        out["geometry"] = values["geometry, distance over its floor"]
    return out


def asked(found: Sequence[Measurement]) -> dict[str, float]:
    """Question -> share, of what a CLIP answered."""
    start = "faithfulness by questions: "
    return {one.name.removeprefix(start): one.value for one in found if one.name.startswith(start)}


def judged(gathered: Gathered) -> dict[str, float]:
    """Factor -> how often the judge itself is right on true renders."""
    right = gathered.world.real["right"].double().mean(dim=0)
    return {factor: right[k].item() for k, factor in enumerate(FACTOR_CLASSES)}
