"""What a reading of shards met: counts, and by name everything that was left out, with what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace

from workbench.datasets.shards.files import public_name
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. shard: its path or address; key: the sample or member, "" for the whole shard;
    reason: what is wrong and what became of it; advice: what to do; again: whether it may be well the next
    time, as with a network that was down."""

    shard: str
    key: str
    reason: str
    advice: str
    again: bool = False


@dataclass
class ShardReport:
    """Counts and findings of one reading; a finding is noted once, however often its shard is read.

    kept: samples handed on; filtered: samples that a filter left out, by reason; unread: members that are
    neither picture nor caption nor JSON, by suffix; findings: keys are the set.
    """

    kept: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    findings: dict[Finding, None] = field(default_factory=dict)

    def note(self, shard: str, key: str, reason: str, advice: str, *, again: bool = False) -> None:
        """Adds a finding; names are shown as text, whatever bytes they are."""
        self.findings[Finding(printable(shard), printable(key), reason, advice, again)] = None

    def clear(self) -> None:
        """Forgets everything, before the same is read anew."""
        self.kept = 0
        for part in (self.filtered, self.unread, self.findings):
            part.clear()

    def add(self, other: ShardReport) -> None:
        """Adds all that another reading met."""
        self.kept += other.kept
        self.filtered.update(other.filtered)
        self.unread.update(other.unread)
        self.findings.update(other.findings)

    def for_others(self) -> ShardReport:
        """The same without the keys that an address or a command may hold, as a set that travels keeps it."""
        found = dict.fromkeys(replace(each, shard=public_name(each.shard)) for each in self.findings)
        return replace(self, findings=found)

    def to_json(self) -> dict:
        """Plain values, from which `from_json` makes the same report."""
        return {
            "kept": self.kept,
            "filtered": dict(self.filtered),
            "unread": dict(self.unread),
            "findings": [asdict(finding) for finding in self._sorted()],
        }

    @classmethod
    def from_json(cls, values: dict) -> ShardReport:
        """The report that `to_json` wrote."""
        found = dict.fromkeys(Finding(**finding) for finding in values["findings"])
        return cls(values["kept"], Counter(values["filtered"]), Counter(values["unread"]), found)

    def text(self, most: int = 20) -> str:
        """For a terminal: the counts, then each kind of finding with its number, examples and advice."""
        lines = [f"{self.kept} samples kept"]
        lines += [f"{number} left out: {reason}" for reason, number in self.filtered.most_common()]
        if self.unread:
            suffixes = ", ".join(f"{number} × .{suffix}" for suffix, number in self.unread.most_common())
            lines.append(f"not read, being neither picture nor caption nor JSON: {suffixes}")
        kinds = Counter((finding.reason, finding.advice) for finding in self.findings)
        for (reason, advice), number in kinds.most_common(most):
            lines.append(f"{number} × {reason}: {advice}")
            where = [f for f in self._sorted() if (f.reason, f.advice) == (reason, advice)]
            lines += [f"    {finding.shard}  {finding.key}".rstrip() for finding in where[:3]]
        if len(kinds) > most:
            lines.append(f"and {len(kinds) - most} more kinds of findings")
        return "\n".join(lines)

    def sentence(self) -> str:
        """The counts and the three most frequent reasons in one line, for an error."""
        parts = [f"{self.kept} samples kept"]
        parts += [f"{number} left out for {reason}" for reason, number in self.filtered.most_common(3)]
        kinds = Counter(finding.reason for finding in self.findings)
        example = {finding.reason: f"{finding.shard} {finding.key}".strip() for finding in self.findings}
        parts += [f"{number} × {reason} ({example[reason]})" for reason, number in kinds.most_common(3)]
        return ", ".join(parts)

    def refuse_unreached(self, kept: str) -> None:
        """WorkbenchError when a shard could not be fetched: what is made without it would stay without it.

        kept: what is there already, as a sentence.
        """
        for finding in self.findings:
            if finding.again:
                why = finding.reason.partition(";")[0]
                raise WorkbenchError(f"{finding.shard} could not be read to its end: {why}. {kept}")

    def _sorted(self) -> list[Finding]:
        """By shard and key: threads note in no fixed order."""
        return sorted(self.findings, key=lambda finding: (finding.shard, finding.key))


def printable(text: str) -> str:
    """The text with whatever is no character shown as an escape: names in a tar are bytes."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
