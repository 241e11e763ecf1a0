"""Steps at which diffusion is as good as the GAN: read from a measured race, nothing interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.app.race_lanes import NAMES, Track
from workbench.app.race_run import MOST_STEPS
from workbench.diffusion import entrants


@dataclass(frozen=True, kw_only=True)
class Needed:
    """said: what is known, in a sentence; steps, sampler, guidance: as they were measured, None where no
    number of steps is known to reach the GAN.
    """

    said: str
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None


def needed(track: Track) -> Needed:
    """What the models of this track need, by the first measured race that has their weights.

    Raises WorkbenchError for a model or a race that cannot be read.
    """
    place = track.place("diffusion")
    if place is None:
        return Needed(
            said=f"There is no {NAMES['diffusion']} on the track yet: {entrants.how_to_make('diffusion')}."
        )
    command = f"`workbench compare --gan {track.studio.model} --diffusion {place} --n 1000`"
    races = entrants.results()
    if not races:
        return Needed(said=f"How many steps that takes has not been measured: {command} does.")
    weights = {kind: track.runner(kind).model.weight_hash for kind in ("gan", "diffusion")}
    own = entrants.result_of(weights)
    if own is None:
        where = " and ".join(str(path) for path, _ in races)
        return Needed(said=f"{where} measured other models than these: {command} measures these.")
    return of_result(own[1])


def of_result(result: dict[str, Any]) -> Needed:
    """What a race's result says. More steps than the page's slider has are told, and not set."""
    from workbench.diffusion import verdict

    rows = [row for row in result["lanes"] if row["kind"] == "diffusion"]
    gan, found = verdict.lane(result, "gan"), verdict.enough(result)
    count = f"{result['n']:,} pictures of each"
    if found is None:
        tried = ", ".join(str(steps) for steps in sorted({row["steps"] for row in rows}))
        return Needed(
            said=f"At none of the measured numbers of steps ({tried}) is the {NAMES['diffusion']} as near to "
            f"renders as the GAN and as faithful: the GAN is {gan['ratio']:.2f} times the floor away and has "
            f"all four factors right in {gan['all']:.1%}; diffusion comes to "
            f"{min(row['ratio'] for row in rows):.2f} and to {max(row['all'] for row in rows):.1%} at its "
            f"best, by {count}."
        )
    said = (
        f"At {verdict.said_steps(found)} the {NAMES['diffusion']} is as good as the GAN or better, as far as "
        f"can be told: {found['ratio']:.2f} times the floor away from renders against {gan['ratio']:.2f}, "
        f"all four factors right in {found['all']:.1%} against {gan['all']:.1%}, by {count}."
    )
    if found["steps"] > MOST_STEPS:
        return Needed(said=said)
    return Needed(said=said, steps=found["steps"], **found["settings"])
