"""One call for one command: what is measured opened, streamed, and held against its reference."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import psutil
import torch

from workbench.datasets.writing import check_whole_number
from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.extractor import Extractor, state_hash
from workbench.evaluation.metrics.extractors import local_clip
from workbench.evaluation.metrics.kernel import SUBSETS
from workbench.evaluation.metrics.measuring import Found, check_enough, clip_score, distances
from workbench.evaluation.metrics.meters import ClipScoreMeter, FeatureMeter
from workbench.evaluation.metrics.questions import WORLD, QuestionMeter, answered, read_questions
from workbench.evaluation.metrics.record import Measurement
from workbench.evaluation.metrics.sources import Facts, Pictures, open_pictures
from workbench.evaluation.metrics.statistics import Statistics, statistics_of
from workbench.evaluation.metrics.streaming import BATCH, CACHE, stream
from workbench.evaluation.metrics.subjects import Prompts, drawn_for, prompts_for
from workbench.evaluation.metrics.team import ALONE, Team
from workbench.evaluation.reference import Progress
from workbench.models.clip_io import Clip
from workbench.pipeline import Pipeline

DRAWN = 5000  # pictures of a model where no number is given


def measure(
    extractor: Extractor,
    reference: str | Path,
    *,
    model: str | None = None,
    pictures: str | Path | None = None,
    clip: str | None = None,
    n: int | None = None,
    n_reference: int | None = None,
    resolution: int | None = None,
    prompts: Prompts = "auto",
    seed: int = 0,
    truncation: float = 1.0,
    subsets: int = SUBSETS,
    device: str | None = None,
    cache: Path | None = CACHE,
    fresh: bool = False,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Found:
    """Distances of a model's pictures, or of those of a folder, to a reference, and their CLIP score.

    reference: pictures, or a file of `Statistics`. Raises WorkbenchError unless one of model and pictures is
    given, and as its parts do.
    """
    if (model is None) == (pictures is None):
        raise WorkbenchError("Give either a model or a folder of pictures to measure, and not both.")
    check_whole_number("subsets", subsets, 1, 10_000)
    settings = {"cache": cache, "team": team, "progress": progress}
    pipeline = None if model is None else Pipeline.from_pretrained(model, device=device)
    if pipeline is not None and resolution not in (None, pipeline.G.config.resolution):
        raise WorkbenchError(
            f"{pipeline.name} draws {pipeline.G.config.resolution} px, --resolution is {resolution}: "
            "expected the same, or none. The reference is brought to the model's size."
        )
    kept = Path(reference) if str(reference).endswith(".safetensors") else None
    side = resolution if pipeline is None else pipeline.G.config.resolution
    held = Statistics.load(kept, extractor) if kept else None
    there = None if kept else open_pictures(reference, resolution=side, count=n_reference)
    if pipeline is not None:
        texts, known = prompts_for(there, DRAWN if n is None else n, seed, prompts)
        source = drawn_for(pipeline, texts, known, seed=seed, truncation=truncation)
    else:
        source = open_pictures(pictures, resolution=resolution, count=n)
    for one in (source, there):
        if one is not None:
            check_enough(one)
    meter = FeatureMeter(extractor, len(source), source.facts.resolution)
    meters = [meter]
    if clip is not None:
        loaded = local_clip(clip, device=device or "cpu")
        meters.append(ClipScoreMeter(loaded, state_hash(loaded.model.state_dict())))
    stream(source, meters, **settings, fresh=fresh)
    own = Statistics.of(meter, source.facts)
    if held is None:
        held = statistics_of(there, extractor, **settings, fresh=fresh)
    found = distances(own, held, extractor, subsets=subsets)
    if clip is not None:
        found.measurements.append(clip_score(meters[1], source.facts))
    return found


def ask(
    clip: Clip,
    pictures: str | Path,
    questions: str | Path | None = None,
    *,
    resolution: int | None = None,
    n: int | None = None,
    cache: Path | None = CACHE,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Faithfulness by questions of a captioned set; the world's where no file of others is given."""
    source = open_pictures(pictures, resolution=resolution, count=n)
    asked = WORLD if questions is None else read_questions(questions)
    meter = QuestionMeter(clip, asked, state_hash(clip.model.state_dict()))
    stream(source, [meter], cache=cache, team=team, progress=progress, what="asking")
    return answered(meter, source.facts)


def time_features(extractor: Extractor, *, resolution: int = 64, count: int = 4000) -> dict:
    """Speed of a pass and its memory: {"n", "features_per_s", "memory_growth_mib", "features", "threads"}.

    Pictures of noise that cost nothing to read. memory_growth_mib: what the process holds after `count`
    pictures beyond what it held after a quarter of them. Raises WorkbenchError for fewer than 4 batches.
    """
    check_whole_number("resolution", resolution, 1, 4096)
    if count < 4 * BATCH:
        raise WorkbenchError(f"count is {count}: expected {4 * BATCH} pictures or more.")
    noise = torch.randint(0, 256, (BATCH, 3, resolution, resolution), dtype=torch.uint8)
    facts = Facts(name="noise", key="noise", cache_key="noise", resolution=resolution)
    source = Pictures(facts=facts, count=count, read=lambda first, stop: noise[: stop - first])
    meter = FeatureMeter(extractor, count, resolution, most=count // 4)
    meter.add(source.batch(0, BATCH))  # what is made once is made here
    held = []

    def look(done: int, total: int, what: str) -> None:
        if done == total or (not held and done >= total // 4):
            gc.collect()
            held.append(psutil.Process().memory_info().rss / 2**20)

    meter = FeatureMeter(extractor, count, resolution, most=count // 4)
    meter.state["rows"].fill_(0)  # a page that nothing was written to is not held yet
    start = time.perf_counter()
    stream(source, [meter], cache=None, progress=look)
    taken = time.perf_counter() - start
    return {
        "n": count, "features_per_s": count / taken, "memory_growth_mib": held[-1] - held[0],
        "features": extractor.name, "threads": torch.get_num_threads(),
    }  # fmt: skip
