"""Feature statistics of a set of pictures on a disk: one side of a distance, bound to its features.

Letters: N pictures, F features, K kept rows. A file of other features, or of other weights of the same
network, is refused: its numbers would mean nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.distances import Moments
from workbench.evaluation.metrics.extractor import Extractor
from workbench.evaluation.metrics.meters import KEPT, FeatureMeter
from workbench.evaluation.metrics.resizing import described
from workbench.evaluation.metrics.sources import Facts, Source, digest
from workbench.evaluation.metrics.streaming import CACHE, stream
from workbench.evaluation.metrics.team import ALONE, Team
from workbench.evaluation.reference import Progress
from workbench.images import write_whole

SCHEMA = 1
KIND = "feature-statistics"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """even, odd: moments of the even and of the odd pictures; rows: features [K, F] float32 of a bounded few;
    features, version, resizer: the extractor's; facts: the pictures'."""

    even: Moments
    odd: Moments
    rows: Tensor
    features: str
    version: str
    resizer: str
    facts: Facts

    @property
    def n(self) -> int:
        return self.even.count + self.odd.count

    @property
    def dims(self) -> int:
        return len(self.even.total)

    @property
    def moments(self) -> Moments:
        """Of all pictures."""
        return self.even + self.odd

    @classmethod
    def of(cls, meter: FeatureMeter, facts: Facts) -> Statistics:
        """What a meter gathered of a whole source."""
        extractor = meter.extractor
        return cls(
            even=meter.moments("even"),
            odd=meter.moments("odd"),
            rows=meter.state["rows"],
            features=extractor.name,
            version=extractor.version,
            resizer=described(facts.resolution, extractor.side, extractor.resizer),
            facts=facts,
        )

    def save(self, path: str | Path) -> Path:
        """Write `path` (safetensors) and beside it the same facts as JSON, for people."""
        path = Path(path)
        facts = {
            "schema": SCHEMA, "kind": KIND, "features": self.features, "version": self.version,
            "resizer": self.resizer, "dims": self.dims, "n": self.n, "kept": len(self.rows),
            "even": self.even.count, "odd": self.odd.count, "pictures": asdict(self.facts),
        }  # fmt: skip
        tensors = {"rows": self.rows.contiguous()}
        for half, moments in (("even", self.even), ("odd", self.odd)):
            tensors |= {f"{half}.total": moments.total, f"{half}.outer": moments.outer}
        data, text = save(tensors, metadata={"facts": json.dumps(facts)}), json.dumps(facts, indent=1) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda handle: handle.write(data))
        write_whole(path.with_suffix(".json"), lambda handle: handle.write(text.encode()))
        return path

    @classmethod
    def load(cls, path: str | Path, extractor: Extractor) -> Statistics:
        """What `save` wrote. Raises WorkbenchError where it was made with another network than `extractor`,
        other weights or another resizer, and where the file is missing or damaged."""
        path = Path(path)
        if not path.is_file():
            raise WorkbenchError(f"There is no {path}: expected feature statistics. Check the path.")
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("facts", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, ValueError) as error:
            raise WorkbenchError(f"{path} is damaged ({error}): make it again.") from error
        if facts.get("kind") != KIND or facts.get("schema") != SCHEMA:
            raise WorkbenchError(
                f"{path} says kind {facts.get('kind')!r}, schema {facts.get('schema')!r}: expected {KIND!r}, "
                f"{SCHEMA}. Make the statistics with this version."
            )
        pictures = Facts(**facts["pictures"])
        now = (extractor.name, extractor.version,
               described(pictures.resolution, extractor.side, extractor.resizer))  # fmt: skip
        then = facts["features"], facts["version"], facts["resizer"]
        if now != then:
            raise WorkbenchError(
                f"{path} holds statistics of other features: {', '.join(then)}; expected {', '.join(now)}. "
                "Distances between features of two networks mean nothing. Give the pictures themselves."
            )
        halves = []
        for half in ("even", "odd"):
            moments = Moments(facts["dims"])
            moments.count = facts[half]
            moments.total, moments.outer = tensors[f"{half}.total"], tensors[f"{half}.outer"]
            halves.append(moments)
        return cls(
            even=halves[0], odd=halves[1], rows=tensors["rows"], features=then[0], version=then[1],
            resizer=then[2], facts=pictures,
        )  # fmt: skip


def statistics_of(
    source: Source,
    extractor: Extractor,
    *,
    most: int = KEPT,
    cache: Path | None = CACHE,
    fresh: bool = False,
    team: Team = ALONE,
    progress: Progress | None = None,
    what: str = "measuring the reference",
) -> Statistics:
    """Statistics of a source, from the cache where the same pictures, features and resizer were measured.

    A kept file is named by the features' fingerprint and the pictures'; damaged, or with fresh, it is
    measured again. Memory is [F, F] and at most `most`
    rows, however many pictures.
    """
    resolution = source.facts.resolution
    key = digest(SCHEMA, source.facts.cache_key, len(source), extractor.key(resolution), most)
    place = None if cache is None else Path(cache) / f"statistics-{extractor.version}-{key}.safetensors"
    held = None if fresh or place is None else _held(place, extractor)
    if team.main_says(held is not None):
        return held or Statistics.load(place, extractor)  # which says what is wrong with this process's view
    meter = FeatureMeter(extractor, len(source), resolution, most=most)
    stream(source, [meter], cache=cache, fresh=fresh, team=team, progress=progress, what=what)
    found = Statistics.of(meter, source.facts)
    if place is not None and team.is_main:
        found.save(place)
    return found


def _held(place: Path, extractor: Extractor) -> Statistics | None:
    """What a cache holds; None where that is nothing, or nothing that can be read."""
    try:
        return Statistics.load(place, extractor)
    except WorkbenchError:
        return None
