"""Subcommands that measure: models, speed, and the table of figures."""

from pathlib import Path
from typing import Literal

from workbench.commands.common import (
    CLIP,
    DEMO_MODEL,
    JUDGE,
    AsJson,
    File,
    Text,
    Whole,
    app,
    bench,
    evaluate,
    find_model,
    print_result,
    room,
    say_progress,
    show,
)
from workbench.errors import WorkbenchError


@evaluate.command(name="faithfulness")
def evaluate_faithfulness(
    *,
    model: str = DEMO_MODEL,
    n: int = 2000,
    seed: int = 0,
    truncation: float = 1.0,
    judge: str = JUDGE,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Ask the judge how often each factor of a prompt came true, how far and how varied the pictures are.

    Args:
        model: Model folder or Hugging Face name.
        n: Number of prompts.
        seed: Seed of prompts and noise.
        truncation: 1 varies most.
        judge: Folder of the judge.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.faithfulness import evaluate, from_pipeline
    from workbench.evaluation.features import load_judge
    from workbench.pipeline import Pipeline

    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    generate = from_pipeline(pipeline, truncation=truncation)
    print_result(
        evaluate(generate, load_judge(find_model(judge)), n=n, seed=seed, progress=say_progress), as_json
    )


@evaluate.command(name="all")
def evaluate_all(
    *,
    model: str = DEMO_MODEL,
    n: int = 5000,
    seed: int = 0,
    data: File = None,
    judge: str = JUDGE,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model of Shepherd World in every way: prompts, distance, variety, geometry, memory.

    Args:
        model: Model folder or Hugging Face name.
        n: Number of prompts.
        seed: Seed of prompts and noise.
        data: The model's training set, to look for pictures learnt by heart; not looked for when left out.
        judge: Folder of the judge.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.complete import evaluate_completely
    from workbench.evaluation.faithfulness import from_pipeline
    from workbench.evaluation.features import load_judge
    from workbench.pipeline import Pipeline

    generate = from_pipeline(Pipeline.from_pretrained(find_model(model), device=device))
    seen = load_judge(find_model(judge))
    print_result(
        evaluate_completely(generate, seen, n=n, seed=seed, data=data, progress=say_progress), as_json
    )


@evaluate.command(name="upsampler")
def evaluate_upsampler(
    *,
    data: Path,
    model: Text = None,
    baseline: Text = None,
    beside: Text = None,
    n: int = 5000,
    seed: int = 0,
    out: File = None,
    fresh: bool = False,
    distance: Literal["auto", "lpips", "clip"] = "auto",
    clip: str = CLIP,
    judge: str = JUDGE,
    device: Text = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure an upsampler of Shepherd World against bicubic, Lanczos and the true render.

    Interrupted, the same line goes on where it was.

    Args:
        data: Held-out renders at the large size, with captions and factors.
        model: Upscaler folder or Hugging Face name; the classical ways alone when left out.
        baseline: The same network trained on the L1 loss alone.
        beside: One more model of the same factor: aura-sr, a folder with its weights, or an upscaler's.
        n: Number of pictures, the first of the set.
        seed: Seed of the noise; picture k has seed + k.
        out: Folder for the report, and for figures.json where there is a model; none when left out.
        fresh: Measure all again instead of using what an earlier run kept.
        distance: Perceptual distance; auto is LPIPS where its weights are at hand, else CLIP features.
        clip: CLIP folder or open_clip name, for its features.
        judge: Folder of the judge.
        device: cpu or cuda, for the networks; cuda where there is one when left out.
        precision: Of the upsamplers; auto measures the machine for a second.
        as_json: Print one JSON object.
    """
    from workbench import hardware
    from workbench.evaluation.features import load_judge
    from workbench.evaluation.perceptual import perceptual_distance
    from workbench.evaluation.upsampling import evaluate_upsampling
    from workbench.evaluation.upsampling_beside import load_methods
    from workbench.evaluation.upsampling_report import record, table
    from workbench.images import check_place

    if out is not None:
        check_place(out)
    folders = [find_model(folder) for folder in (model, baseline, beside)]
    methods, factor = load_methods(*folders, device=device, precision=precision)
    settings = {"factor": factor, "n": n, "seed": seed}
    seen = load_judge(find_model(judge), hardware.choose_device(device))
    far = perceptual_distance(distance, clip=find_model(clip))
    result = evaluate_upsampling(methods, data, seen, far, **settings, fresh=fresh, progress=say_progress)
    if out is not None:
        record(result, methods, data, out, model=model, baseline=baseline, beside=beside)
    if as_json:
        print_result(result, as_json)
    else:
        show(table(result))


@evaluate.command(name="judge")
def evaluate_judge(*, judge: str = JUDGE, n: int = 2000, seed: int = 0, as_json: AsJson = False) -> None:
    """Ask how often the judge itself is right, on held-out renders.

    Args:
        judge: Folder of the judge.
        n: Half the number of renders.
        seed: Seed of the renders.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.faithfulness import evaluate_judge
    from workbench.evaluation.features import load_judge

    print_result(
        evaluate_judge(load_judge(find_model(judge)), n=n, seed=seed, progress=say_progress), as_json
    )


@evaluate.command(name="clip")
def evaluate_clip(
    *, model: str = CLIP, n: int = 5000, seed: int = 1_000_003, as_json: AsJson = False
) -> None:
    """Ask a CLIP for each factor of held-out renders, zero-shot.

    Args:
        model: CLIP folder or open_clip name.
        n: Number of renders.
        seed: Seed of their world; the training data's is another.
        as_json: Print one JSON object.
    """
    from workbench.datasets.loading import PictureTable
    from workbench.models.text import load_clip
    from workbench.training.zero_shot import zero_shot

    clip = load_clip(find_model(model))
    table = PictureTable.from_world(seed, n, clip.image_size, progress=True)
    print_result({"n": n, **zero_shot(clip, table.images.float() / 127.5 - 1, table.known)}, as_json)


@app.command(name="figures")
def figures(*, run: Text = None, record: bool = False) -> None:
    """Print the table of figures, or measure some again and show old and new.

    Args:
        run: Id of a figure to measure again, e.g. faithfulness.coat; all for every one that this machine can.
        record: Write what was measured into assets/reports/figures.json.
    """
    from workbench.evaluation import figures, remaking

    if run is None and record:
        raise WorkbenchError("There is nothing to record: name a figure by --run, or give --run all.")
    if run is None:
        show(figures.table(dated=room() >= 104))
    elif run != "all":
        show(remaking.rerun(run, record=record))
    else:
        for one in remaking.remake(record=record):
            print(f"{one.command}: {one.skipped or f'{one.seconds:.0f} s'}")
            if one.figures:
                show(remaking.table(list(one.figures)))


@bench.command(name="sample")
def bench_sample(*, model: str = DEMO_MODEL, device: Text = None, as_json: AsJson = False) -> None:
    """Measure the time from a prompt to one picture, in milliseconds.

    Args:
        model: Model folder or Hugging Face name.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.speed import time_sample
    from workbench.pipeline import Pipeline

    print_result(time_sample(Pipeline.from_pretrained(find_model(model), device=device)), as_json)


@bench.command(name="world")
def bench_world(*, resolution: int = 64, count: int = 96, as_json: AsJson = False) -> None:
    """Measure the core seconds of one Shepherd World picture, and the minutes of a set of 5,000.

    The minutes are extrapolated from `count` pictures that all cores draw and write.

    Args:
        resolution: Side of a picture in pixels.
        count: Number of pictures to draw, each with other factors; 225 has every combination.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.speed import time_world, time_world_set

    drawn = time_world(resolution=resolution, count=count)
    print_result(drawn | time_world_set(resolution=resolution, count=count), as_json)


@bench.command(name="loader")
def bench_loader(
    *,
    data: str,
    resolution: int = 64,
    batch_size: int = 32,
    clip: str = CLIP,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast batches come from a data set, beside how fast the fastest preset takes them.

    Args:
        data: Data set folder or shards, as in train; decoded once into a temporary folder.
        resolution: Side of a picture in pixels.
        batch_size: Pictures a batch and a training step.
        clip: CLIP folder or open_clip name, for the training step.
        device: cpu, cuda, mps, for the training step; the best there is when left out.
        as_json: Print one JSON object.
    """
    from workbench.training.bench_loader import loader

    clip = find_model(clip)
    print_result(
        loader(data, clip=clip, resolution=resolution, batch_size=batch_size, device=device), as_json
    )


@bench.command(name="params")
def bench_params(*, preset: str = "gigagan-64", as_json: AsJson = False) -> None:
    """Count the parameters of each part of a preset, beside the paper's totals.

    Args:
        preset: Sizes to count.
        as_json: Print one JSON object.
    """
    import json

    from workbench.models import params, presets

    counted = params.count(presets.preset(preset))
    if as_json:
        print(json.dumps(counted.to_json()))
    else:
        show(counted)


@bench.command(name="shards")
def bench_shards(*, preset: str = "gigagan-64", as_json: AsJson = False) -> None:
    """Count what each of N GPUs holds of a preset's training, whole or in shards (ZeRO-1 to ZeRO-3).

    Args:
        preset: Sizes to count.
        as_json: Print one JSON object, with the units that are gathered at once.
    """
    import json

    from workbench.models import presets
    from workbench.training import sharding

    planned = sharding.plan(presets.preset(preset))
    if as_json:
        print(json.dumps(planned.to_json()))
    else:
        show(planned)


@bench.command(name="step")
def bench_step(
    *,
    preset: str = "shepherd-64",
    clip: str = CLIP,
    batch_size: Whole = None,
    profile: bool = False,
    device: Text = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure training throughput: whole steps of D and G with all losses.

    Args:
        preset: Sizes to measure.
        clip: CLIP folder or open_clip name.
        batch_size: Pictures a step; the preset's when left out.
        profile: Profile the operators too, to see where the time goes.
        device: cpu, cuda, mps; the best there is when left out.
        precision: auto measures the machine for a second.
        as_json: Print one JSON object.
    """
    import json

    from workbench.training.bench import step

    speed = step(
        preset,
        clip=find_model(clip),
        device=device,
        precision=precision,
        batch_size=batch_size,
        profiled=profile,
    )
    if as_json:
        print(json.dumps(speed.to_json()))
    else:
        show(speed)


@bench.command(name="overhead")
def bench_overhead(
    *,
    preset: str = "shepherd-64",
    images: int = 4000,
    data: File = None,
    clip: str = CLIP,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Measure the share of a run's time that logging, monitor and grids take, and its peak memory.

    Args:
        preset: Sizes and intervals of the run.
        images: Length of the run; grids come four times as often in its first 20,000 images.
        data: Data set folder; 512 pictures are drawn for it when left out.
        clip: CLIP folder or open_clip name.
        device: cpu, cuda, mps; the best there is when left out.
        as_json: Print one JSON object.
    """
    from workbench.training.bench_overhead import overhead

    print_result(overhead(preset, images=images, data=data, clip=find_model(clip), device=device), as_json)
