"""Checkpoints of earlier versions, brought to what this one reads: one step a version, none left out."""

from collections.abc import Callable

CURRENT = 2


def to_current(state: dict) -> dict:
    """state.json of version 1 to `CURRENT`, as this version would have written it."""
    while state["schema"] < CURRENT:
        state = STEPS[state["schema"]](state)
    return state


def _from_1(state: dict) -> dict:
    """The monitor keeps its last log lines, checks and evaluations: those of before are not known."""
    memory = {"origin": None, "recent": [], "checks": [], "best_diversity": None, "since_best": []}
    return {**state, "schema": 2, "monitor": {**memory, **state["monitor"]}}


STEPS: dict[int, Callable[[dict], dict]] = {1: _from_1}
