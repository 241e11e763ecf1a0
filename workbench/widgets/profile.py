"""How large a notebook runs: WORKBENCH_PROFILE = smoke (tests), class (a laptop) or full (a GPU)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workbench.errors import WorkbenchError

VARIABLE = "WORKBENCH_PROFILE"
MEANINGS = {
    "smoke": "the smallest sizes, which show that every cell runs",
    "class": "sizes for a lesson on a laptop",
    "full": "real sizes, for a machine with a GPU",
}
ASSETS = Path(__file__).resolve().parents[2] / "assets"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The chosen size. Printed, it says what it means."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in MEANINGS:
            raise WorkbenchError(
                f"{VARIABLE} is {self.name!r}: expected {', '.join(MEANINGS)}. "
                f"Set it before the notebook starts, or leave it out for class."
            )

    def pick(self, *, smoke: T, lesson: T, full: T) -> T:
        """One of three values, by the profile; lesson is that of class."""
        return {"smoke": smoke, "class": lesson, "full": full}[self.name]

    def __str__(self) -> str:
        return f"profile {self.name}: {MEANINGS[self.name]}"


def read_profile(environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile of the environment, class where it names none. WorkbenchError on an unknown one."""
    return Profile(name=environment.get(VARIABLE) or "class")
