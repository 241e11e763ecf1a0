"""What was done to an edit, so that it can be undone: plain values, changed only by making new ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workbench.latents.edits import Edit

MOST_STEPS = 100
ONE_GESTURE_S = 1.5  # a slider that goes on moving within this time makes one step of all its moves


@dataclass(frozen=True, kw_only=True)
class History:
    """now, with the steps before it (oldest first) and those undone (next first).

    what, when: the control that made the last step and its time in seconds.
    """

    now: Edit
    past: tuple[Edit, ...] = ()
    future: tuple[Edit, ...] = ()
    what: str = ""
    when: float = 0.0

    def changed(self, edit: Edit, what: str = "", when: float = 0.0) -> History:
        """With one step more; the moves of one gesture with a slider are one step. No change is no step."""
        if edit == self.now:
            return self
        same = what != "" and what == self.what and 0 <= when - self.when < ONE_GESTURE_S
        past = self.past if same else (*self.past, self.now)[-MOST_STEPS:]
        return History(now=edit, past=past, what=what, when=when)

    def undone(self) -> History:
        """One step back; the beginning stays."""
        if not self.past:
            return self
        return replace(self, now=self.past[-1], past=self.past[:-1], future=(self.now, *self.future), what="")

    def redone(self) -> History:
        """One step forward again; the newest stays."""
        if not self.future:
            return self
        return replace(self, now=self.future[0], past=(*self.past, self.now), future=self.future[1:], what="")
