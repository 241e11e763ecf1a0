"""The blind vote: lanes without names in a random order, and a tally that stays on this machine."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.app.race_lanes import NAMES
from workbench.errors import WorkbenchError

LETTERS = "ABC"
TALLY = Path("runs") / "race-votes.json"
_EMPTY = {"best": {}, "guesses": {"right": 0, "wrong": 0}}
_writing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """A race to be voted on: order[k] is the kind of the lane that is shown as letter k."""

    order: tuple[str, ...]

    @property
    def letters(self) -> list[str]:
        """What the lanes are called until the vote."""
        return list(LETTERS[: len(self.order)])

    def kind(self, letter: str | None) -> str:
        """The lane behind a letter. WorkbenchError where none was chosen."""
        if letter not in self.letters:
            raise WorkbenchError("Choose a letter for each question, then vote.")
        return self.order[self.letters.index(letter)]


def shuffled(kinds: tuple[str, ...], rng: random.Random | None = None) -> Ballot:
    """The lanes in an order that nobody knows."""
    order = list(kinds)
    (rng or random.SystemRandom()).shuffle(order)
    return Ballot(order=tuple(order))


def read(path: Path = TALLY) -> dict:
    """The tally so far: {"best": {kind: votes}, "guesses": {"right", "wrong"}}.

    Raises WorkbenchError when the file holds something else.
    """
    try:
        tally = json.loads(path.read_text(encoding="utf-8"))
        best = {kind: int(tally["best"].get(kind, 0)) for kind in NAMES if kind in tally["best"]}
        guesses = {name: int(tally["guesses"][name]) for name in ("right", "wrong")}
    except FileNotFoundError:
        return json.loads(json.dumps(_EMPTY))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkbenchError(
            f"{path} holds no tally of votes ({error}): move it away to begin anew."
        ) from error
    return {"best": best, "guesses": guesses}


def vote(
    ballot: Ballot, best: str | None, taken: Mapping[str, str | None], path: Path = TALLY
) -> tuple[dict, bool]:
    """Count a vote: the letter that is best, and those taken for the lanes of these kinds. Returns (tally,
    whether all were guessed right).

    Raises WorkbenchError where a letter is missing, or the tally cannot be read or written.
    """
    from workbench.images import write_whole

    liked = ballot.kind(best)
    right = [ballot.kind(letter) for letter in taken.values()] == list(taken)
    with _writing:
        tally = read(path)
        tally["best"][liked] = tally["best"].get(liked, 0) + 1
        tally["guesses"]["right" if right else "wrong"] += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(json.dumps(tally, indent=1).encode("utf-8")))
    return tally, right
