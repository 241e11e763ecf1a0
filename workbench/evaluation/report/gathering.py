"""Everything that a report says of a model, measured in one pass over its pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.faithfulness import Generate, from_pipeline
from workbench.evaluation.features import Judge, load_judge
from workbench.evaluation.metrics.diversity import PairDistance, diversity
from workbench.evaluation.metrics.extractor import Extractor, state_hash
from workbench.evaluation.metrics.extractors import from_judge, load_extractor, local_clip
from workbench.evaluation.metrics.measuring import Found, check_enough, clip_score, distances, stated
from workbench.evaluation.metrics.meters import ClipScoreMeter, FeatureMeter, Meter
from workbench.evaluation.metrics.questions import WORLD, Question, QuestionMeter, answered
from workbench.evaluation.metrics.record import Measurement, share_error
from workbench.evaluation.metrics.sources import Pictures, open_pictures
from workbench.evaluation.metrics.statistics import Statistics, statistics_of
from workbench.evaluation.metrics.streaming import CACHE, stream
from workbench.evaluation.metrics.subjects import drawn_for, knows_the_world, prompts_for
from workbench.evaluation.metrics.team import ALONE, Team
from workbench.evaluation.perceptual import CLIP_FOLDER, Kind, perceptual_distance
from workbench.evaluation.reference import Progress
from workbench.evaluation.report.pictures import JudgeMeter, Neighbours, ThumbnailMeter, neighbours
from workbench.evaluation.report.timing import Undisturbed, time_model
from workbench.evaluation.report.world import World, measure_world
from workbench.evaluation.variety import memory as memory_of
from workbench.models.clip_io import Clip
from workbench.pipeline import Pipeline

GROUPS, SIZE = 16, 4  # prompts and z of the perceptual diversity


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a report measures with. extractor: whose distance to the data is stated, the judge's own where it
    is None; judge: None for data that is not of the world; clip: scores captions and answers questions, or
    None; distance: for diversity, or None; questions: those of the world where it is None."""

    judge: Judge | None = None
    extractor: Extractor | None = None
    clip: Clip | None = None
    distance: PairDistance | None = None
    questions: Sequence[Question] | None = None

    def __post_init__(self) -> None:
        if self.judge is None and self.extractor is None:
            raise WorkbenchError(
                "There are neither a judge nor features to measure with: name features, such as clip."
            )

    @property
    def features(self) -> Extractor:
        return from_judge(self.judge) if self.extractor is None else self.extractor


def load_tools(
    *,
    judge: str | Path | None = None,
    features: str | None = None,
    weights: str | Path | None = None,
    clip: str | Path = CLIP_FOLDER,
    distance: Kind = "auto",
    device: str = "cpu",
) -> Tools:
    """What a report measures with, by name: folder of the judge, the shipped one when None; features as of
    `load_extractor`, the judge's own when None; a CLIP's folder or name; a perceptual distance."""
    return Tools(
        judge=load_judge(judge, device),
        extractor=None if features is None else load_extractor(features, weights=weights, device=device),
        clip=local_clip(str(clip), device=device),
        distance=perceptual_distance(distance),
    )


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What was found. measurements, warnings; world: None for other data; source: the model's pictures;
    data: the reference's; nearest: of each picture among the data's; fresh: the same distances of held-out
    renders, where there are any; memory: `variety.memorised`; speed: None where it was not timed; minutes:
    that all took."""

    measurements: list[Measurement]
    warnings: list[str]
    world: World | None
    source: Pictures = field(repr=False)
    data: Pictures = field(repr=False)
    nearest: Neighbours = field(repr=False)
    fresh: Tensor | None = field(repr=False, default=None)
    memory: dict[str, float] = field(default_factory=dict)
    speed: dict | None = None
    minutes: float = 0.0


def gather(
    pipeline: Pipeline,
    data: str | Path,
    tools: Tools,
    *,
    n: int = 5000,
    seed: int = 0,
    truncation: float = 1.0,
    timed: bool = True,
    undisturbed: Undisturbed = nullcontext,
    cache: Path | None = CACHE,
    fresh: bool = False,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Gathered | None:
    """Measure a model against a data set folder, which is taken for its training set.

    n: pictures that are drawn, of prompts of the world where the data says its factors, else of its captions;
    undisturbed: as of `time_model`. An interrupted call goes on where it was. None in every process of a team
    but the first. WorkbenchError as of its parts; pictures that are not finite: then nothing is reported.
    """
    start = time.perf_counter()
    reference = open_pictures(data, resolution=pipeline.G.config.resolution)
    check_enough(reference)
    of_world = tools.judge is not None and knows_the_world(reference)
    prompts, known = prompts_for(reference, n, seed)
    source = drawn_for(pipeline, prompts, known, seed=seed, truncation=truncation)
    source.batch(0, 1)  # a broken model is told before anything else is done
    speed = time_model(pipeline, prompts, undisturbed=undisturbed) if timed and team.is_main else None
    meters = _meters(tools, source, of_world, pipeline.text_encoder is not None and bool(reference.texts))
    settings = {"cache": cache, "team": team, "progress": progress}
    stream(source, list(meters.values()), **settings, fresh=fresh, what="drawing and measuring")
    there = _seen_of_data(reference, tools.features, settings, fresh)
    if not team.is_main:
        return None
    found = _against_data(meters, source, tools, there[0])
    if "score" in meters and tools.clip.name == pipeline.text_encoder.config["name"]:
        found.warnings.append(
            f"{tools.clip.name} reads the prompts for this model and may have taken part in its training: "
            "its score and its answers flatter. Read them only beside those of another CLIP or of the judge."
        )
    world = None
    if of_world:
        kept = {"cache": _render_cache(cache), "progress": progress}
        draw = from_pipeline(pipeline, truncation=truncation)
        world = _of_world(tools.judge, meters, source, draw, seed, kept)
        found.measurements.extend(world.measurements)
    found.measurements.extend(_by_clip(meters, source, tools))
    found.measurements.extend(_spread_inside_prompts(pipeline, prompts, known, tools, seed, truncation))
    own = meters["thumbnails"].state["thumbnails"]
    nearest, memory, renders = neighbours(own, there[1]), {}, None
    if world is not None:
        renders = neighbours(world.real["thumbnails"], there[1]).distance
        memory = memory_of(nearest.distance, renders)
        found.measurements.append(_memorised(memory, source, reference))
    return Gathered(
        measurements=found.measurements, warnings=found.warnings, world=world, source=source, data=reference,
        nearest=nearest, fresh=renders, memory=memory, speed=speed,
        minutes=(time.perf_counter() - start) / 60,
    )  # fmt: skip


def _of_world(
    judge: Judge, meters: dict[str, Meter], source: Pictures, draw: Generate, seed: int, kept: dict
) -> World:
    small = meters["thumbnails"].state["thumbnails"]
    return measure_world(
        draw, judge, meters["judge"], small, source.facts, list(source.known), seed=seed, **kept
    )


def _render_cache(cache: Path | None) -> Path | None:
    from workbench.evaluation.reference import CACHE as RENDERS

    return None if cache is None else RENDERS if cache == CACHE else cache


def _meters(tools: Tools, source: Pictures, of_world: bool, worded: bool) -> dict[str, Meter]:
    n, resolution = len(source), source.facts.resolution
    meters: dict[str, Meter] = {"thumbnails": ThumbnailMeter(n, resolution)}
    if of_world:
        meters["judge"] = JudgeMeter(tools.judge, n)
    if not of_world or tools.extractor is not None:
        meters["features"] = FeatureMeter(tools.features, n, resolution)
    if tools.clip is not None and worded:
        version = state_hash(tools.clip.model.state_dict())
        questions = WORLD if tools.questions is None else tools.questions
        meters["score"] = ClipScoreMeter(tools.clip, version)
        if questions:
            meters["questions"] = QuestionMeter(tools.clip, questions, version)
    return meters


def _seen_of_data(
    reference: Pictures, extractor: Extractor, settings: dict, fresh: bool
) -> tuple[Statistics, Tensor]:
    """Statistics of the data, kept where there is a cache, and thumbnails, which take but a reading."""
    statistics = statistics_of(reference, extractor, **settings, fresh=fresh, what="measuring the data")
    small = ThumbnailMeter(len(reference), reference.facts.resolution)
    stream(reference, [small], **settings | {"cache": None}, what="looking at the data")
    return statistics, small.state["thumbnails"]


def _against_data(meters: dict[str, Meter], source: Pictures, tools: Tools, reference: Statistics) -> Found:
    """Distances to the data, by features that the judge's meter has already where they are its own."""
    extractor = tools.features
    meter = meters.get("features")
    if meter is None:
        mid = meters["judge"].state["mid"]
        meter = FeatureMeter(extractor, len(mid), source.facts.resolution)
        meter.take(mid, 0)
    return distances(Statistics.of(meter, source.facts), reference, extractor)


def _by_clip(meters: dict[str, Meter], source: Pictures, tools: Tools) -> list[Measurement]:
    found = []
    if "score" in meters:
        found.append(clip_score(meters["score"], source.facts))
    if "questions" in meters:
        asked = sum(table.sum().item() for table in meters["questions"].state.values())
        found += answered(meters["questions"], source.facts) if asked or tools.questions else []
    return found


def _spread_inside_prompts(
    pipeline: Pipeline,
    prompts: Sequence[str],
    known: Sequence[dict],
    tools: Tools,
    seed: int,
    truncation: float,
) -> list[Measurement]:
    """Several z of a few prompts, with noise beyond that of the pass."""
    if tools.distance is None:
        return []
    texts = [text for text in prompts[:GROUPS] for _ in range(SIZE)]
    facts = [one for one in known[:GROUPS] for _ in range(SIZE)]
    several = drawn_for(pipeline, texts, facts, seed=seed, truncation=truncation)
    return [diversity(several, tools.distance, groups=GROUPS, size=SIZE)]


def _memorised(memory: dict[str, float], source: Pictures, data: Pictures) -> Measurement:
    share, n = memory["memorised_share"], len(source)
    statement = stated(
        source.facts, n, features="thumbnails of 32 px", version="1", resizer="box means",
        reference=data.facts, n_reference=len(data),
    )  # fmt: skip
    return Measurement(
        name="memorised share", value=share, spread=share_error(share, n), better="lower",
        statement=statement,
    )  # fmt: skip


def closest(nearest: Neighbours, count: int) -> list[int]:
    """Numbers of the pictures that are nearest to one of the data, the nearest first."""
    return torch.argsort(nearest.distance)[:count].tolist()
