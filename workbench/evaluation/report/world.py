"""A report's measurements of a model of Shepherd World: what the judge says, beside the held-out renders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from workbench.evaluation.complete import evaluate_completely
from workbench.evaluation.faithfulness import Generate
from workbench.evaluation.features import FACTOR_CLASSES, Judge
from workbench.evaluation.goals import GOALS, met
from workbench.evaluation.metrics.measuring import stated
from workbench.evaluation.metrics.record import Better, Measurement, share_error
from workbench.evaluation.metrics.resizing import described
from workbench.evaluation.metrics.sources import Facts, digest
from workbench.evaluation.reference import CACHE, REFERENCE_SEED, Progress, render_view
from workbench.evaluation.report.pictures import JudgeMeter, confusions, truth_of, worst

WORST = 12
# key of `evaluate_completely` -> (name, which way is better, figure whose goal it has)
MEASURES: dict[str, tuple[str, Better, str | None]] = {
    **{k: (f"faithfulness: {k}", "higher", f"faithfulness.{k}") for k in FACTOR_CLASSES},
    "all": ("faithfulness: all four factors", "higher", "faithfulness.all"),
    "frechet": ("Fréchet distance to held-out renders", "lower", None),
    "floor": ("Fréchet distance to held-out renders, floor", "stated", None),
    "ratio": ("Fréchet distance to held-out renders, over its floor", "lower", "frechet.ratio_to_floor"),
    "precision": ("precision against held-out renders", "higher", None),
    "recall": ("recall against held-out renders", "higher", "recall"),
    "density": ("density against held-out renders", "higher", None),
    "coverage": ("coverage of held-out renders", "higher", "coverage"),
    "geometry_ratio": ("geometry, distance over its floor", "lower", "geometry.ratio_to_floor"),
    "diversity": ("diversity over z, renders = 1", "stated", "diversity.ratio"),
}
_SHARES = ("all", *FACTOR_CLASSES)


@dataclass(frozen=True, kw_only=True)
class World:
    """measurements; found: all that `evaluate_completely` returns; confusion: factor -> [C, C]; worst:
    numbers of pictures, and what the judge names in each instead; real: the held-out renders' view; missed:
    goals that are not met, as sentences."""

    measurements: list[Measurement] = field(default_factory=list)
    found: dict = field(default_factory=dict)
    confusion: dict[str, Tensor] = field(default_factory=dict)
    worst: dict[int, dict[str, str]] = field(default_factory=dict)
    real: dict[str, Tensor] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)


def measure_world(
    generate: Generate,
    judge: Judge,
    meter: JudgeMeter,
    thumbnails: Tensor,
    own: Facts,
    known: list[dict[str, str]],
    *,
    seed: int,
    cache: Path | None = CACHE,
    progress: Progress | None = None,
) -> World:
    """All that the judge measures on pictures that a meter has seen: n of them, of prompts that name all four
    factors (known), with thumbnails [n, D]. generate draws the further ones that diversity needs."""
    truth, n = truth_of(known), len(known)
    view = meter.view(truth, thumbnails)
    settings = {"n": n, "seed": seed, "cache": cache, "progress": progress}
    found = evaluate_completely(generate, judge, **settings, seen=(view, own.resolution))
    resolution = min(own.resolution, judge.config.resolution)
    real = render_view(
        judge, n=n, world_seed=REFERENCE_SEED + seed, resolution=resolution, cache=cache, progress=progress
    )
    named = meter.state["named"]
    chosen = worst(truth, named, view["mid"], real["mid"], WORST)
    return World(
        measurements=_measurements(found, own, judge, seed),
        found=found,
        confusion=confusions(truth, named),
        worst={k: _seen_instead(truth[k], named[k]) for k in chosen},
        real=real,
        missed=missed_goals(found),
    )


def _seen_instead(truth: Tensor, named: Tensor) -> dict[str, str]:
    return {
        factor: names[named[k]]
        for k, (factor, names) in enumerate(FACTOR_CLASSES.items())
        if named[k] != truth[k]
    }


def renders(seed: int, resolution: int) -> Facts:
    """The held-out renders as a reference."""
    key = digest("held-out renders", REFERENCE_SEED + seed, resolution)
    return Facts(name="held-out renders", key=key, cache_key=key, resolution=resolution)


def _measurements(found: dict, own: Facts, judge: Judge, seed: int) -> list[Measurement]:
    n = found["n"]
    statement = stated(
        own, n, features="judge, mid-level", version=judge.version, n_reference=n,
        resizer=described(own.resolution, judge.config.resolution, "antialias"),
        reference=renders(seed, own.resolution),
    )  # fmt: skip
    out = []
    for key, (name, better, _) in MEASURES.items():
        value = found[key]
        spread = share_error(value, n) if key in _SHARES else None
        out.append(Measurement(name=name, value=value, better=better, statement=statement, spread=spread))
    return out


def missed_goals(found: dict) -> list[str]:
    """Sentences about the project's goals that a model does not meet."""
    said = []
    for key, (name, _, figure) in MEASURES.items():
        if figure is not None and met(found[key], GOALS[figure].goal) is False:
            said.append(f"{name} is {found[key]:.3g}, the goal is {GOALS[figure].goal}.")
    return said


def judge_is_right(judge: Judge, real: dict[str, Tensor]) -> dict[str, float]:
    """How often the judge itself names a factor of the held-out renders right: no model can be seen to do
    better."""
    right = real["right"].double().mean(dim=0)
    return {factor: right[k].item() for k, factor in enumerate(FACTOR_CLASSES)}


def class_shares(confusion: Tensor) -> Tensor:
    """Counts [C, C] -> shares of each row (0 for a row without pictures)."""
    return confusion.double() / confusion.sum(dim=1, keepdim=True).clamp_min(1)


def least_faithful(confusion: dict[str, Tensor], count: int = 5) -> list[tuple[str, str, float, int]]:
    """Classes whose prompts come true least often: (factor, class, share, pictures), the worst first."""
    rows = []
    for factor, table in confusion.items():
        shares = class_shares(table).diagonal()
        for k, name in enumerate(FACTOR_CLASSES[factor]):
            if table[k].sum() > 0:
                rows.append((factor, name, shares[k].item(), int(table[k].sum())))
    return sorted(rows, key=lambda row: row[2])[:count]
