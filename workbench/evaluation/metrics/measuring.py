"""Distances between two sets of pictures, each with its statement, and warnings where a number misleads."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.extractor import Extractor
from workbench.evaluation.metrics.kernel import SUBSET_SIZE, SUBSETS, kernel_distance
from workbench.evaluation.metrics.meters import ClipScoreMeter
from workbench.evaluation.metrics.record import Measurement, Statement
from workbench.evaluation.metrics.sources import Facts, Pictures
from workbench.evaluation.metrics.statistics import Statistics
from workbench.evaluation.variety import NEIGHBOURS, manifold

FEW = 2_000  # pictures below which a Fréchet distance is mostly its own bias


@dataclass(frozen=True, kw_only=True)
class Found:
    """measurements, and warnings: sentences that belong beside them wherever they are shown."""

    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Measurement:
        return next(one for one in self.measurements if one.name == name)


def stated(
    own: Facts, n: int, *, features: str, version: str, resizer: str, settings: dict | None = None,
    reference: Facts | None = None, n_reference: int | None = None,
) -> Statement:  # fmt: skip
    """The statement of n pictures of `own`, against a reference where there is one."""
    how = f"{own.how}, then {resizer}" if own.how else resizer
    if reference is not None and reference.how != own.how:
        how += f"; reference {reference.how or 'as it is'}"
    return Statement(
        n=n,
        n_reference=n_reference,
        resolution=own.resolution,
        resizer=how,
        features=features,
        features_version=version,
        reference="" if reference is None else reference.name,
        reference_key="" if reference is None else reference.key,
        seed=own.seed,
        truncation=own.truncation,
        pictures=own.name,
        model=own.key,
        settings=settings or {},
    )


def check_enough(pictures: Pictures) -> None:
    """WorkbenchError, before anything is measured, for a set that has no distance to another."""
    if len(pictures) < 2:
        raise WorkbenchError(
            f"{pictures.facts.name} holds {len(pictures)} picture: a distance needs 2 at least, and some "
            "hundreds to mean something. Name a larger set."
        )


def distances(
    own: Statistics,
    reference: Statistics,
    extractor: Extractor,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    neighbours: int = NEIGHBOURS,
) -> Found:
    """Fréchet and kernel distance, precision, recall, density, coverage of two sets, and the floor: how far
    the reference's even pictures lie from its odd ones, at half its n.

    They are called FID and KID where the features are published Inception's, else by the features' name.
    Raises WorkbenchError where the two were taken of different features, or resized from different sizes.
    """
    _same_features(own, reference, extractor)
    settings = {"own": own.facts, "n": own.n, "features": own.features, "version": own.version,
                "resizer": own.resizer, "reference": reference.facts, "n_reference": reference.n}  # fmt: skip
    name, found = extractor.distance_name, []
    found.append(
        Measurement(
            name=name,
            value=own.moments.distance(reference.moments),
            better="lower",
            statement=stated(**settings),
        )
    )
    if min(reference.even.count, reference.odd.count) >= 2:
        halves = {**settings, "own": reference.facts, "n": reference.even.count,
                  "n_reference": reference.odd.count}  # fmt: skip
        floor = reference.even.distance(reference.odd)
        found.append(
            Measurement(name=f"{name}, floor", value=floor, better="stated", statement=stated(**halves))
        )
    kernel = kernel_distance(own.rows, reference.rows, subsets=subsets, size=subset_size)
    drawn = {"subsets": kernel.subsets, "subset_size": kernel.size}
    found.append(
        Measurement(
            name=extractor.kernel_name,
            value=kernel.mean,
            spread=kernel.std if kernel.subsets > 1 else None,
            better="lower",
            statement=stated(**settings, settings=drawn),
        )
    )
    if min(len(own.rows), len(reference.rows)) > neighbours:
        balls = manifold(reference.rows, own.rows, k=neighbours)
        used = {"neighbours": neighbours, "rows": len(own.rows), "reference_rows": len(reference.rows)}
        found += [
            Measurement(
                name=f"{measure} (features {own.features})",
                value=value,
                better="higher",
                statement=stated(**settings, settings=used),
            )
            for measure, value in vars(balls).items()
        ]
    return Found(measurements=found, warnings=cautions(own, reference, extractor))


def _same_features(own: Statistics, reference: Statistics, extractor: Extractor) -> None:
    for what, statistics in (("pictures", own), ("reference", reference)):
        if (statistics.features, statistics.version) != (extractor.name, extractor.version):
            raise WorkbenchError(
                f"The {what} were measured with features {statistics.features} {statistics.version}: "
                f"expected {extractor.name} {extractor.version}. Measure both sides with the same."
            )
    if (own.facts.resolution, own.resizer) != (reference.facts.resolution, reference.resizer):
        smaller = min(own.facts.resolution, reference.facts.resolution)
        raise WorkbenchError(
            f"The pictures have {own.facts.resolution} px ({own.resizer}), the reference "
            f"{reference.facts.resolution} px ({reference.resizer}): a distance between them would measure "
            f"the resizing. Expected one size; give --resolution {smaller}."
        )


def cautions(own: Statistics, reference: Statistics, extractor: Extractor) -> list[str]:
    """Sentences about n, rank and shared pictures that belong beside a distance."""
    said = []
    for what, statistics in (("reference", reference), ("measured set", own)):
        if statistics.n <= statistics.dims:
            missed = statistics.dims - statistics.n + 1
            said.append(
                f"The {what} holds {statistics.n:,} pictures for {statistics.dims:,} features: its "
                f"covariance has rank {statistics.n - 1:,} at most, so the distance misses {missed:,} "
                "directions or more. Take more pictures than features, or read it only beside a "
                "distance of the same n."
            )
    if min(own.n, reference.n) < FEW:
        said.append(
            f"{extractor.distance_name} is unreliable below {FEW:,} pictures (here "
            f"{min(own.n, reference.n):,}): its bias depends on n and on the model. Look at "
            f"{extractor.kernel_name} first."
        )
    if own.facts.key == reference.facts.key:
        said.append("Both sides are the same pictures: every distance is 0 by construction and says nothing.")
    return said


def clip_score(meter: ClipScoreMeter, own: Facts) -> Measurement:
    """The CLIP score that a meter gathered of a whole source."""
    mean, error = meter.mean
    return Measurement(
        name=f"CLIP score ({meter.clip.name})",
        value=mean,
        spread=error,
        better="higher",
        statement=stated(
            own,
            round(meter.state["sums"][0].item()),
            features=f"CLIP {meter.clip.name}",
            version=meter.version,
            resizer=f"bicubic to {meter.clip.image_size} px",
        ),
    )
