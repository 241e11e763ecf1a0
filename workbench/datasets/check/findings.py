"""What a check found: findings, each with how much it matters and what to do, and the verdict over all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from workbench.datasets.check.looks import Look
from workbench.datasets.tree import shown

Level = Literal["problem", "warning", "note"]
LEVELS: tuple[Level, ...] = ("problem", "warning", "note")
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found.

    kind: a short name that stays the same between versions; level: "problem" (training stops or suffers),
    "warning" (it may) or "note" (good to know); what: in words, with how many; suggestion: what to do; names:
    all files, lines or words concerned; files: their pictures where a name says more than the file.
    """

    kind: str
    level: Level
    what: str
    suggestion: str
    names: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `checks.check_folder` found.

    count: whole pictures that the metadata names; sizes: (width, height) -> pictures; modes: colour mode in
    the file -> pictures; captions: different captions; texts: name -> first caption; kinds: column -> value
    -> rows; looks: one a file looked at; findings: problems first.
    """

    path: Path
    count: int
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    captions: int = 0
    texts: dict[str, str] = field(default_factory=dict, repr=False)
    kinds: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    looks: tuple[Look, ...] = field(default=(), repr=False)
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """No problem; warnings and notes are allowed."""
        return not self.of_level("problem")

    @property
    def whole(self) -> tuple[Look, ...]:
        """The pictures of the set that can be decoded."""
        return tuple(look for look in self.looks if not look.trouble and look.name in self.texts)

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)

    @property
    def verdict(self) -> str:
        """One sentence: whether the set is fit for training."""
        problems, warnings, notes = (len(self.of_level(level)) for level in LEVELS)
        if problems:
            first = self.findings[0].what
            return f"Not fit for training yet: {_many(problems, 'problem')}; begin with “{first}”."
        if warnings:
            return f"Fit for training with care: {_many(warnings, 'warning')}, {_many(notes, 'note')}."
        if notes:
            return f"Fit for training: no problem and no warning, {_many(notes, 'note')}."
        return "Fit for training: nothing to mend."

    def text(self) -> str:
        """The report for a terminal: a summary, two lines for each finding, the verdict."""
        lines = [f"{shown(str(self.path))}: {self.count} pictures, {self.captions} different captions"]
        if self.sizes:
            sizes = sorted(self.sizes.items(), key=lambda item: -item[1])
            named = ", ".join(f"{width}×{height} ({count})" for (width, height), count in sizes[:3])
            more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
            modes = ", ".join(f"{mode} ({count})" for mode, count in sorted(self.modes.items()))
            lines.append(f"sizes: {named}{more}; colour modes: {modes}")
        for finding in self.findings:
            names = ", ".join(shown(name) for name in finding.names[:_EXAMPLES])
            more = ", …" if len(finding.names) > _EXAMPLES else ""
            lines.append(f"{finding.level}: {finding.what}" + (f" ({names}{more})" if names else ""))
            lines.append(f"  → {finding.suggestion}")
        return "\n".join([*lines, self.verdict])

    def to_json(self) -> dict:
        """The whole report without pixels, fit for json.dumps; names are all there."""
        return {
            "path": str(self.path),
            "pictures": self.count,
            "captions": self.captions,
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.items()},
            "modes": self.modes,
            "kinds": self.kinds,
            "broken": {look.name: look.trouble for look in self.looks if look.trouble},
            "findings": [asdict(finding) for finding in self.findings],
            "ok": self.ok,
            "verdict": self.verdict,
        }


def _many(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
