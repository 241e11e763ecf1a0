"""A measured number with everything that it depends on; two are compared only where all of that agrees.

A Fréchet distance moves with the number of pictures, the resizer, the features and the reference at least as
much as with the model, so none of these may be lost on the way from the measurement to a table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from workbench.errors import WorkbenchError
from workbench.images import write_whole

SCHEMA = 1
KIND = "measurements"
FILES = ("report.json", "measurements.json")  # looked for in a folder
Better = Literal["lower", "higher", "stated"]
# What is compared, and so may differ. Everything else has to agree.
SUBJECT = ("pictures", "model")
ERRORS = 2.0  # standard errors below which two values are not told apart


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a number was measured of, against, and with.

    n, n_reference: pictures on either side (None: no reference); resolution: pixels of a side as the pictures
    came; resizer: how they were brought to the features' size; features, features_version: name and
    fingerprint of the network; reference, reference_key: name and fingerprint of the other side; seed, of
    noise and prompts, and truncation: None where nothing was drawn; settings: what else the number depends
    on; pictures, model: name and fingerprint of what was measured.
    """

    n: int
    n_reference: int | None
    resolution: int
    resizer: str
    features: str
    features_version: str
    reference: str
    reference_key: str
    seed: int | None
    truncation: float | None
    pictures: str
    model: str
    settings: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number. spread: its standard error or the deviation over subsets, None where it is not known;
    better: which way a better model moves it. Raises WorkbenchError for a value that is not finite.
    """

    name: str
    value: float
    better: Better
    statement: Statement
    spread: float | None = None

    def __post_init__(self) -> None:
        for what, number in (("value", self.value), ("spread", self.spread)):
            if number is not None and not math.isfinite(number):
                raise WorkbenchError(
                    f"The {what} of {self.name} is {number}: expected a finite number. Look at the pictures "
                    "it was measured on; nothing was reported."
                )

    def __str__(self) -> str:
        s = self.statement
        spread = "" if self.spread is None else f" ± {self.spread:.2g}"
        against = "" if s.n_reference is None else f", against {s.n_reference:,} of {s.reference}"
        drawn = "" if s.seed is None else f", seed {s.seed}, truncation {s.truncation:g}"
        return (
            f"{self.name} {self.value:.4g}{spread} (n {s.n:,}{against}; {s.resolution} px, {s.resizer}; "
            f"features {s.features} {s.features_version}{drawn}; {s.pictures} {s.model})"
        )

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object, where: str) -> Measurement:
        """Back from to_json's form; fields that this version does not know are left out."""
        try:
            said = dict(data)
            stated = {name: said["statement"][name] for name in _names(Statement)}
            return cls(**{**{k: said[k] for k in _names(cls)}, "statement": Statement(**stated)})
        except (KeyError, TypeError, ValueError) as error:
            raise WorkbenchError(
                f"{where} holds a measurement without {error}: expected what `workbench evaluate` writes. "
                "Measure again."
            ) from error


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind)]


def disagreements(a: Statement, b: Statement, *, across: Sequence[str] = ()) -> list[str]:
    """In what two statements differ beside their subject, as "n: 1000 and 5000".

    across: fields that may differ because they are what is studied, such as "truncation". Raises
    WorkbenchError for a field that there is not.
    """
    unknown = sorted(set(across) - set(_names(Statement)))
    if unknown:
        raise WorkbenchError(
            f"{', '.join(unknown)} is no field of a statement: expected of {', '.join(_names(Statement))}."
        )
    found = []
    for name in _names(Statement):
        one, other = getattr(a, name), getattr(b, name)
        if name not in SUBJECT and name not in across and one != other:
            found.append(f"{name}: {one} and {other}")
    return found


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two values of one name. difference: second - first; error: of the difference, None where not known."""

    name: str
    first: float
    second: float
    error: float | None
    better: Better

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def verdict(self) -> str:
        """In words: which is better, and whether the difference is beyond its error."""
        if self.difference == 0:
            return "equal"
        if self.error is not None and abs(self.difference) < ERRORS * self.error:
            return "no difference beyond the error"
        if self.better == "stated":
            return "second is higher" if self.difference > 0 else "second is lower"
        second = (self.difference < 0) == (self.better == "lower")
        known = "" if self.error is not None else ", error not known"
        return f"{'second' if second else 'first'} is better{known}"


def share_error(share: float, n: int) -> float:
    """Standard error of a share that was counted on n pictures, after one more of each kind (Laplace): so a
    share of 0 or 1 has an error, too."""
    p = (share * n + 1) / (n + 2)
    return (p * (1 - p) / (n + 3)) ** 0.5


def compare(a: Measurement, b: Measurement, *, across: Sequence[str] = ()) -> Comparison:
    """Hold two measurements against each other.

    Raises WorkbenchError that names every difference where they were not measured alike: another name, n,
    resolution, resizer, features, reference, seed, truncation or setting. across: as in `disagreements`.
    """
    found = [] if a.name == b.name else [f"name: {a.name} and {b.name}"]
    found += disagreements(a.statement, b.statement, across=across)
    if found:
        raise WorkbenchError(
            f"{a.name} of {a.statement.pictures} and of {b.statement.pictures} do not compare; they differ "
            f"in {'; '.join(found)}. Measure both alike."
        )
    known = a.spread is not None and b.spread is not None
    error = math.hypot(a.spread, b.spread) if known else None
    return Comparison(name=a.name, first=a.value, second=b.value, error=error, better=a.better)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All that two files have in common, and the names that only one of them has."""

    comparisons: list[Comparison]
    only_first: list[str]
    only_second: list[str]


def compare_files(first: str | Path, second: str | Path, *, across: Sequence[str] = ()) -> Compared:
    """Compare two reports or files of measurements, name by name.

    Raises WorkbenchError where a file is missing or no such file, where any two do not compare, and where
    nothing is in both.
    """
    mine, theirs = ({one.name: one for one in read_measurements(path)} for path in (first, second))
    common = [name for name in mine if name in theirs]
    if not common:
        raise WorkbenchError(
            f"{first} ({', '.join(mine)}) and {second} ({', '.join(theirs)}) have no measurement in common: "
            "expected at least one. Measure both with the same features."
        )
    return Compared(
        comparisons=[compare(mine[name], theirs[name], across=across) for name in common],
        only_first=[name for name in mine if name not in theirs],
        only_second=[name for name in theirs if name not in mine],
    )


def write_measurements(path: str | Path, found: Sequence[Measurement], **more: object) -> Path:
    """A JSON file of measurements, whole or not at all; more: other entries beside them."""
    body = {"schema": SCHEMA, "kind": KIND, **more, "measurements": [one.to_json() for one in found]}
    text = json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, lambda handle: handle.write(text.encode()))


def read_measurements(path: str | Path) -> list[Measurement]:
    """The measurements of a file, or of a folder's report. Raises WorkbenchError where there are none."""
    path = Path(path)
    if path.is_dir():
        inside = [path / name for name in FILES if (path / name).is_file()]
        if not inside:
            raise WorkbenchError(
                f"{path} holds neither {' nor '.join(FILES)}: expected a report's folder. Write one with "
                "`workbench evaluate report`."
            )
        path = inside[0]
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkbenchError(f"There is no {path}: give a report's folder or its report.json.") from None
    except ValueError as error:
        raise WorkbenchError(f"{path} is not readable JSON ({error}). Measure again.") from error
    if not isinstance(data, dict) or data.get("kind") != KIND or data.get("schema") != SCHEMA:
        raise WorkbenchError(
            f"{path} is no file of measurements of this version (schema {SCHEMA}): give a report.json or "
            "what `workbench evaluate distance --out` wrote."
        )
    return [Measurement.from_json(one, str(path)) for one in data.get("measurements", [])]
