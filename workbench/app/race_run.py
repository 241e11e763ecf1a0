"""One race: every lane draws the same prompt and seed, one after the other, and tells each of its steps.

One at a time, because lanes that ran at once would take the processor from each other and no clock would be
right. A clock counts the time inside the model alone, after it has read the prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.app.race_lanes import Runner, Track
from workbench.errors import WorkbenchError

MOST_STEPS = 50
STUDENT_STEPS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is raced for. steps, sampler, guidance: of the diffusion lane; student_steps: of the student's."""

    prompt: str
    seed: int
    steps: int = 16
    student_steps: int = 2
    sampler: str = "dpm++"
    guidance: float = 1.5


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A lane at a moment. picture: [1, 3, S, S] that it shows now, None before its first; strip: every
    estimate so far; calls: of the network; ms: on its clock.
    """

    kind: str
    name: str
    parameters: int
    trained: str
    calls: int = 0
    of: int = 1
    ms: float = 0.0
    done: bool = False
    picture: Any = field(default=None, repr=False)
    strip: tuple[Any, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Race:
    """All lanes at a moment, in their order on the page."""

    ask: Ask
    lanes: tuple[Lane, ...]

    @property
    def done(self) -> bool:
        """Whether every lane has its picture."""
        return all(lane.done for lane in self.lanes)

    def lane(self, kind: str) -> Lane | None:
        """The lane of a kind; None where it took no part."""
        return next((lane for lane in self.lanes if lane.kind == kind), None)


def asked(prompt: str, seed: Any, steps: Any, student_steps: Any, sampler: Any, guidance: Any) -> Ask:
    """The page's controls as an Ask. WorkbenchError for what cannot be raced for."""
    from workbench.noise import parse_seed

    for name, value, most in (("steps", steps, MOST_STEPS), ("student's steps", student_steps, 4)):
        whole = isinstance(value, int | float) and not isinstance(value, bool)
        if not whole or value not in range(1, most + 1):
            raise WorkbenchError(
                f"The {name} are {str(value)[:40]}: expected a whole number from 1 to {most}."
            )
    return Ask(
        prompt=prompt or "", seed=parse_seed(str(seed)), steps=int(steps), student_steps=int(student_steps),
        sampler=str(sampler), guidance=guidance,
    )  # fmt: skip


def race(track: Track, ask: Ask, tell: Callable[[Race], Any]) -> Race:
    """Run every lane that there is and tell the race after each step; returns it finished.

    Raises WorkbenchError for a prompt or settings that a lane refuses, and whatever `tell` raises.
    """
    runners = [track.runner(kind) for kind in track.lanes()]
    of = {"gan": 1, "student": ask.student_steps, "diffusion": ask.steps}
    now = Race(
        ask=ask,
        lanes=tuple(
            Lane(kind=r.kind, name=r.name, parameters=r.parameters, trained=r.trained, of=of[r.kind])
            for r in runners
        ),
    )
    tell(now)
    for at, runner in enumerate(runners):

        def moved(lane: Lane, at: int = at) -> None:
            nonlocal now
            now = replace(now, lanes=(*now.lanes[:at], lane, *now.lanes[at + 1 :]))
            tell(now)

        with track.studio.alone():
            _warm(runner, ask)
            _run(runner, ask, now.lanes[at], moved)
    return now


def _warm(runner: Runner, ask: Ask) -> None:
    """One call outside of the clock: a model's first one reads the prompt, and arranges its weights."""
    if runner.kind == "gan":
        runner.model(ask.prompt, seed=ask.seed)
    else:
        runner.model(ask.prompt, seed=ask.seed, steps=1)


def _run(runner: Runner, ask: Ask, lane: Lane, moved: Callable[[Lane], None]) -> None:
    start, outside = time.perf_counter(), 0.0

    def clock() -> float:
        return 1000 * (time.perf_counter() - start - outside)

    if runner.kind == "gan":
        picture = runner.model(ask.prompt, seed=ask.seed).images
        moved(replace(lane, calls=1, ms=clock(), done=True, picture=picture, strip=(picture,)))
        return

    def step(seen: Any) -> None:
        nonlocal outside, lane
        ms, told = clock(), time.perf_counter()
        lane = replace(
            lane, calls=seen.index + 1, ms=ms, picture=seen.x0.clone(), strip=(*lane.strip, seen.x0.clone())
        )
        moved(lane)
        outside += time.perf_counter() - told  # what the page does with a step is not the model's time

    settings: dict[str, Any] = {"steps": ask.student_steps}
    if runner.kind == "diffusion":
        settings = {"steps": ask.steps, "sampler": ask.sampler, "guidance": ask.guidance}
    samples = runner.model(ask.prompt, seed=ask.seed, on_step=step, **settings)
    moved(replace(lane, ms=clock(), done=True, picture=samples.images))


def steps_in(race: Race, kind: str = "diffusion") -> int | None:
    """Steps that a lane can take in the GAN's time, 0 where not even one; None where either is missing."""
    gan, other = race.lane("gan"), race.lane(kind)
    if gan is None or other is None or not (gan.done and other.calls):
        return None
    return min(MOST_STEPS, int(gan.ms / (other.ms / other.calls)))
