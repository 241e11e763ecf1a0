"""What a sweep searches: settings, how each is drawn, the trials that follow, and when a trial is given up.

A sweep is a JSON file (`benchmarks/sweep.json`). Its trials are drawn before the first is trained, each value
from a generator of its own seeded by (seed, setting, number of the trial): the same file gives the same
trials, and more samples add to those that are there.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import dataclass, field, fields
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig, read_json
from workbench.training.trials import Plan, Trial, recipe_of

# What a sweep may seek: its name in a trial's row, and which way is better.
OBJECTIVES = {"frechet_ratio": "min", "all": "max"}
KINDS = ("uniform", "loguniform", "choice", "grid")
_BUDGET = ("images", "eval_every_nimg", "eval_n")  # the sweep's own to set


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How one setting is drawn. kind: "uniform" and "loguniform" over values = (low, high); "choice" of one
    of values; "grid" takes each of them, combined with each of every other grid.
    """

    kind: str
    values: tuple

    def value(self, at: random.Random, whole: bool) -> object:
        """One value; whole: of a setting that takes whole numbers."""
        if self.kind == "choice":
            return at.choice(self.values)
        low, high = self.values
        if self.kind == "loguniform":
            found = math.exp(at.uniform(math.log(low), math.log(high)))
        else:
            found = at.uniform(low, high)
        found = min(max(found, low), high)  # exp may round across an end
        return round(found) if whole else found


@dataclass(frozen=True, kw_only=True)
class Halving:
    """ASHA (Li et al. 2020, arXiv 1810.05934): a trial is judged at rungs of first · reduction^k images below
    the budget, and goes on from one only while it is among the best 1 / reduction of those that came there.
    """

    first: int
    reduction: int = 3


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A search. preset: networks and schedule; images: budget of a trial; n: pictures of an evaluation;
    objective: of `OBJECTIVES`; samples: trials for each combination of the grids; seed: of the drawing;
    space: setting -> how it is drawn; train: settings that all trials share; halving: None = every trial to
    its end; cores: of one trial.
    """

    preset: str
    images: int
    n: int = 500
    objective: str = "frechet_ratio"
    samples: int = 1
    seed: int = 0
    space: dict[str, Draw]
    train: dict = field(default_factory=dict)
    halving: Halving | None = None
    cores: int = 1

    @property
    def best_is_low(self) -> bool:
        """Whether the smaller value of the objective is the better one."""
        return OBJECTIVES[self.objective] == "min"

    def rungs(self) -> list[int]:
        """Images at which a trial is measured, ascending; the last is the budget."""
        if self.halving is None:
            return [self.images]
        below = itertools.takewhile(
            lambda images: images < self.images,
            (self.halving.first * self.halving.reduction**k for k in itertools.count()),
        )
        return [*below, self.images]

    def plan(self) -> Plan:
        """The trials "000", "001", …, as the experiment bench takes them."""
        trials = []
        for number, drawn in enumerate(self.draws()):
            words = ", ".join(f"{name} {shown(value)}" for name, value in drawn.items())
            settings = {**self.train, **drawn}
            networks = settings.pop("preset", None)
            trials.append(Trial(name=f"{number:03d}", change=words, preset=networks, train=settings))
        return Plan(preset=self.preset, images=self.images, n=self.n, trials=tuple(trials))

    def draws(self) -> list[dict[str, object]]:
        """What each trial sets, trial by trial: all grids' combinations, `samples` times."""
        grids = {name: draw.values for name, draw in self.space.items() if draw.kind == "grid"}
        drawn = {name: draw for name, draw in self.space.items() if draw.kind != "grid"}
        found = []
        for _, combination in itertools.product(range(self.samples), itertools.product(*grids.values())):
            number = len(found)
            given = dict(zip(grids, combination, strict=True))
            given |= {
                name: draw.value(random.Random(f"{self.seed}/{name}/{number}"), _whole(name))
                for name, draw in drawn.items()
            }
            found.append({name: given[name] for name in self.space})
        return found


def shown(value: object) -> str:
    """A value as tables show it: numbers to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _whole(name: str) -> bool:
    """Whether a setting takes whole numbers only."""
    return type(_DEFAULTS[name]) is int


_DEFAULTS = {one.name: one.default for one in fields(TrainConfig)}


# --- reading ---


def read_sweep(path: str | Path) -> Sweep:
    """The sweep in a JSON file. Raises WorkbenchError that names what is missing, unknown or impossible."""
    data = read_json(path, "a sweep")
    try:
        return parse_sweep(data)
    except WorkbenchError as error:
        raise WorkbenchError(f"{path}: {error}") from error


def parse_sweep(data: object) -> Sweep:
    """A sweep from what its JSON holds, checked whole. Raises WorkbenchError."""
    known = [one.name for one in fields(Sweep)]
    if not isinstance(data, dict):
        raise WorkbenchError(f"A sweep is an object with {', '.join(known)}, not {type(data).__name__}.")
    if unknown := sorted(set(data) - set(known)):
        raise WorkbenchError(f"A sweep has no {unknown[0]!r}: expected some of {', '.join(known)}.")
    if missing := [name for name in ("preset", "images", "space") if name not in data]:
        raise WorkbenchError(f"The sweep has no {missing[0]!r}: it needs preset, images and space.")
    if not isinstance(data["space"], dict) or not data["space"]:
        raise WorkbenchError("The space is empty: name at least one setting and how it is drawn.")
    space = {name: _draw(name, how) for name, how in data["space"].items()}
    sweep = Sweep(**{**data, "space": space, "halving": _halving(data.get("halving"))})
    _check_numbers(sweep)
    _check_settings(sweep)
    return sweep


def _draw(name: str, how: object) -> Draw:
    if name not in _DEFAULTS:
        raise WorkbenchError(f"There is no setting {name!r}: choose from {', '.join(_DEFAULTS)}.")
    if name in _BUDGET:
        raise WorkbenchError(f"{name} cannot be drawn: all trials have the same budget and measure.")
    kind, values = next(iter(how.items())) if isinstance(how, dict) and len(how) == 1 else (None, None)
    if kind not in KINDS or not isinstance(values, list) or not values:
        raise WorkbenchError(
            f"{name} is drawn by {json.dumps(how)}: expected one of {', '.join(KINDS)} with a list, "
            f'e.g. {{"choice": [1, 2]}}.'
        )
    if kind in ("choice", "grid"):
        return Draw(kind=kind, values=tuple(tuple(v) if isinstance(v, list) else v for v in values))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not numbers or not -math.inf < values[0] < values[1] < math.inf:
        raise WorkbenchError(f"The range of {name} is {values}: expected two numbers, the lower first.")
    if kind == "loguniform" and values[0] <= 0:
        raise WorkbenchError(f"{name} is drawn loguniform from {values[0]}: expected a range above 0.")
    default = _DEFAULTS[name]
    if isinstance(default, bool) or not isinstance(default, int | float) or name == "batch_size":
        kinds = "even numbers" if name == "batch_size" else f"values such as {json.dumps(default)}"
        raise WorkbenchError(f"{name} takes {kinds}, not any of a range: draw it by choice or grid.")
    return Draw(kind=kind, values=tuple(values))


def _halving(data: object) -> Halving | None:
    if data is None:
        return None
    known = [one.name for one in fields(Halving)]
    if not isinstance(data, dict) or "first" not in data or set(data) - set(known):
        raise WorkbenchError(f"halving is {json.dumps(data)}: expected an object with {' and '.join(known)}.")
    return Halving(**data)


def _check_numbers(sweep: Sweep) -> None:
    first, reduction = (sweep.halving.first, sweep.halving.reduction) if sweep.halving else (1, 2)
    wanted = {"images": (sweep.images, 1), "n": (sweep.n, 2), "samples": (sweep.samples, 1),
              "seed": (sweep.seed, 0), "cores": (sweep.cores, 1), "halving.first": (first, 1),
              "halving.reduction": (reduction, 2)}  # fmt: skip
    for name, (value, low) in wanted.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise WorkbenchError(f"{name} is {value!r}: expected a whole number of at least {low}.")
    if sweep.objective not in OBJECTIVES:
        raise WorkbenchError(
            f"The objective is {sweep.objective!r}: expected frechet_ratio (distance over its floor) or all "
            "(share of pictures with all four factors as prompted)."
        )
    if first > sweep.images:
        raise WorkbenchError(f"halving.first is {first}, beyond the budget of {sweep.images} images.")


def _check_settings(sweep: Sweep) -> None:
    """Build what every trial trains: a bad value raises here, before a minute is spent."""
    if not isinstance(sweep.train, dict):
        raise WorkbenchError(f"train is {json.dumps(sweep.train)}: expected an object of settings.")
    if both := sorted(set(sweep.train) & (set(sweep.space) | set(_BUDGET))):
        raise WorkbenchError(f"train sets {both[0]}, which the sweep sets itself: name it once.")
    base = {"preset": sweep.preset, **sweep.train}
    for name, draw in sweep.space.items():
        for value in draw.values:
            TrainConfig.from_json({**base, name: round(value) if _rounds(name, draw) else value})
    plan, smallest = sweep.plan(), sweep.rungs()[0]
    for trial in plan.trials:
        batch = recipe_of(plan, trial)[1].batch_size
        if smallest < batch:
            what = "halving.first" if smallest < sweep.images else "The budget"
            raise WorkbenchError(
                f"{what} is {smallest} images, less than the batch of {batch}: give at least a batch."
            )


def _rounds(name: str, draw: Draw) -> bool:
    return _whole(name) and draw.kind in ("uniform", "loguniform")
