"""Subcommands that measure any set of pictures: distances, questions, reports and their comparison."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from workbench.commands.common import (
    CLIP,
    DEMO_MODEL,
    JUDGE,
    AsJson,
    File,
    Text,
    Whole,
    bench,
    check_file,
    evaluate,
    find_model,
    print_result,
    say,
    say_progress,
    show,
)

First = Annotated[Path, arg(metavar="FIRST")]
Second = Annotated[Path, arg(metavar="SECOND")]


@evaluate.command(name="distance")
def evaluate_distance(
    *,
    reference: str,
    model: Text = None,
    pictures: Text = None,
    features: str = "judge",
    weights: File = None,
    resizer: Text = None,
    resolution: Whole = None,
    n: Whole = None,
    n_reference: Whole = None,
    prompts: Literal["auto", "world", "captions"] = "auto",
    clip_score: Text = None,
    seed: int = 0,
    truncation: float = 1.0,
    subsets: int = 100,
    out: File = None,
    fresh: bool = False,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Measure how far pictures lie from a reference: Fréchet and kernel distance, precision, recall.

    Called FID and KID with Inception's published features alone. Each number says what it depends on. What is
    interrupted goes on by the same line; `accelerate launch --multi_gpu` shares it, among CPUs too.

    Args:
        reference: Data set folder, folder of pictures, shards, or a file of statistics (.safetensors).
        model: Model folder or Hugging Face name whose pictures are measured.
        pictures: A folder or shards to measure instead of a model.
        features: judge, inception, clip, clip:NAME (open_clip) or timm:NAME.
        weights: Local file of the features' weights; nothing is ever downloaded.
        resizer: How pictures come to the features' size, such as tf1 or clean; their own way when left out.
        resolution: Bring all pictures to this size first; needed for shards and mixed sizes.
        n: Number of pictures: all of a folder, 5000 of a model when left out.
        n_reference: Number of reference pictures; all when left out.
        prompts: Of a model: the world's, the reference's captions, or what fits.
        clip_score: CLIP folder or open_clip name that scores captions too; none when left out.
        seed: Seed of prompts and noise.
        truncation: Of a model; 1 varies most.
        subsets: Random subsets of the kernel distance.
        out: JSON file for the numbers, for `evaluate compare`.
        fresh: Measure all again instead of using what an earlier run kept.
        device: cpu or cuda for the features and the model; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench import hardware
    from workbench.evaluation.metrics import extractors, team, working

    check_file(out)
    device = hardware.choose_device(device)
    extractor = extractors.load_extractor(features, weights=weights, resizer=resizer, device=device)
    processes = team.Team.from_environment()
    settings = {"n": n, "n_reference": n_reference, "resolution": resolution, "prompts": prompts}
    settings |= {"seed": seed, "truncation": truncation, "subsets": subsets, "device": device, "fresh": fresh}
    settings |= {"model": find_model(model), "pictures": pictures, "clip": find_model(clip_score)}
    found = working.measure(extractor, reference, **settings, team=processes, progress=say_progress)
    if processes.is_main:
        _show(found.measurements, found.warnings, out, as_json)


@evaluate.command(name="questions")
def evaluate_questions(
    *,
    pictures: str,
    questions: File = None,
    clip: str = CLIP,
    weights: Text = None,
    resolution: Whole = None,
    n: Whole = None,
    out: File = None,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Ask a CLIP what the pictures of a captioned set show, and count how often the caption is right.

    Ask it of true pictures, too: that is its own error.

    Args:
        pictures: Data set folder or shards with captions.
        questions: JSON file of questions; those of Shepherd World when left out.
        clip: CLIP folder or open_clip name.
        weights: open_clip's tag, or a safetensors file.
        resolution: Bring all pictures to this size first.
        n: Number of pictures; all when left out.
        out: JSON file for the numbers, for `evaluate compare`.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench import hardware
    from workbench.evaluation.metrics import working
    from workbench.evaluation.metrics.extractors import local_clip
    from workbench.evaluation.metrics.team import Team

    check_file(out)
    loaded = local_clip(find_model(clip), weights, hardware.choose_device(device))
    settings = {"resolution": resolution, "n": n, "team": Team.from_environment()}
    found = working.ask(loaded, pictures, questions, **settings, progress=say_progress)
    if settings["team"].is_main:
        _show(found, [], out, as_json)


@evaluate.command(name="compare")
def evaluate_compare(
    first: Annotated[First, arg(name="")],
    second: Annotated[Second, arg(name="")],
    /,
    *,
    across: tuple[str, ...] = (),
    as_json: AsJson = False,
) -> None:
    """Hold two reports or files of measurements against each other, number by number.

    Refused, with all differences named, where they were not measured alike.

    Args:
        first: Folder of a report, its report.json, or what `evaluate distance --out` wrote.
        second: The other one.
        across: What may differ because it is what is studied, such as truncation.
        as_json: Print one JSON object.
    """
    from rich.table import Table

    from workbench.evaluation.metrics.record import compare_files

    found = compare_files(first, second, across=across)
    if as_json:
        print_result(
            {one.name: {"first": one.first, "second": one.second, "verdict": one.verdict}
             for one in found.comparisons}, as_json,
        )  # fmt: skip
        return
    table = Table("measure", "first", "second", "difference", "verdict")
    for one in found.comparisons:
        numbers = f"{one.first:.4g}", f"{one.second:.4g}", f"{one.difference:+.3g}"
        table.add_row(one.name, *numbers, one.verdict)
    show(table)
    for which, names in (("first", found.only_first), ("second", found.only_second)):
        if names:
            say(f"only in the {which}: {', '.join(names)}")


@evaluate.command(name="report")
def evaluate_report(
    *,
    model: str = DEMO_MODEL,
    data: Path,
    out: Path,
    n: int = 5000,
    seed: int = 0,
    truncation: float = 1.0,
    features: Text = None,
    weights: File = None,
    clip: str = CLIP,
    distance: Literal["auto", "lpips", "clip"] = "auto",
    judge: str = JUDGE,
    fresh: bool = False,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model in every way and write report.html, report.json and plots.

    Interrupted, the same line goes on; a model whose pictures are not finite gives an error and no report.

    Args:
        model: Model folder or Hugging Face name.
        data: Its training set: distances, and the nearest pictures.
        out: Folder for the report.
        n: Number of pictures to draw.
        seed: Seed of prompts and noise.
        truncation: 1 varies most.
        features: Of the distance to the data, as in `evaluate distance`; the judge's when left out.
        weights: Local file of the features' weights.
        clip: CLIP folder or open_clip name, for scores and questions.
        distance: Perceptual distance for diversity; auto is LPIPS where its weights are at hand.
        judge: Folder of the judge; it is asked where the data says its factors.
        fresh: Measure all again instead of using what an earlier run kept.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench import hardware
    from workbench.evaluation.metrics.team import Team
    from workbench.evaluation.report.gathering import gather, load_tools
    from workbench.evaluation.report.writing import write_report
    from workbench.images import check_place
    from workbench.pipeline import Pipeline

    check_place(out)
    device = hardware.choose_device(device)
    named = {"judge": find_model(judge), "features": features, "weights": weights, "clip": find_model(clip)}
    tools = load_tools(**named, distance=distance, device=device)
    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    settings = {"n": n, "seed": seed, "truncation": truncation, "fresh": fresh, "progress": say_progress}
    found = gather(pipeline, data, tools, **settings, team=Team.from_environment())
    if found is None:
        return
    page = write_report(found, out)
    if as_json:
        numbers = {one.name: one.value for one in found.measurements}
        print_result({"n": n, "minutes": found.minutes, **numbers, "page": str(page)}, as_json)
    else:
        _show(found.measurements, found.warnings, None, as_json)
        say(f"{page} ({found.minutes:.1f} minutes)")


@bench.command(name="features")
def bench_features(
    *, features: str = "judge", resolution: int = 64, count: int = 4000, as_json: AsJson = False
) -> None:
    """Measure how many pictures a second an evaluation's pass takes in, and whether its memory grows.

    Args:
        features: As in `evaluate distance`.
        resolution: Side of a picture in pixels.
        count: Number of pictures; a quarter of them is measured first, for the memory.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.metrics.extractors import load_extractor
    from workbench.evaluation.metrics.working import time_features

    print_result(time_features(load_extractor(features), resolution=resolution, count=count), as_json)


def _show(found: list, warnings: list[str], out: Path | None, as_json: bool) -> None:
    """Print measurements with their statements, warnings to stderr; keep them in a file where one is
    named."""
    import json

    from workbench.evaluation.metrics.record import write_measurements

    if out is not None:
        write_measurements(out, found, warnings=warnings)
    if as_json:
        print(json.dumps({"measurements": [one.to_json() for one in found], "warnings": warnings}))
    else:
        for one in found:
            print(one)
    for warning in warnings:
        say(f"warning: {warning}")
