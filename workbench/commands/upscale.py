"""Subcommands around the upscaler: enlarge files, enlarge what another model draws."""

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from workbench.commands.common import (
    DEMO_MODEL,
    UPSCALER,
    AsJson,
    File,
    Text,
    Whole,
    app,
    bench,
    find_model,
    print_result,
    say,
    say_progress,
)
from workbench.errors import WorkbenchError

Source = Annotated[str | None, arg(name="from", metavar="MODEL")]


@app.command(name="upscale")
def upscale(
    picture: Positional[File] = None,
    *,
    out: Path = Path("upscaled"),
    prompt: Text = None,
    factor: Whole = None,
    model: str = UPSCALER,
    seed: int = 0,
    noise: float = 0.0,
    tile: Whole = None,
    overwrite: bool = False,
    source: Source = None,
    count: int = 1,
    device: Text = None,
) -> int:
    """Enlarge a picture, all pictures of a folder, or a film; with --from, what a model draws of a prompt.

    A folder that was interrupted goes on where it stopped when the same line is run again. Animations stay
    animations. Pictures are written as PNG with the recipe that makes them again.

    Args:
        picture: Picture, folder or film to enlarge.
        out: File or folder to write.
        prompt: What the picture shows; else its line in metadata.jsonl, a .txt beside it, its own recipe.
        factor: What each side is multiplied by; between powers of the model's own, drawn larger and averaged.
        model: Upscaler folder or Hugging Face name, or aura-sr.
        seed: Another seed draws other detail.
        noise: Noise put on the input: the more, the more is drawn anew.
        tile: Side in pixels of the input that is drawn at once; smaller takes less memory.
        overwrite: Replace files that are there.
        source: Instead of files: what draws the prompt, a GAN folder or Hub name, or diffusers:FOLDER.
        count: With --from, number of pictures; picture k is that of seed + k.
        device: cpu or cuda; cuda where there is one when left out.
    """
    from workbench.pipeline import passes
    from workbench.pipeline.loading import load_upscaler
    from workbench.pipeline.upscale_files import Job

    if (picture is None) == (source is None):
        given = "nothing" if picture is None else f"both {picture} and --from {source}"
        raise WorkbenchError(
            f"There is {given} to enlarge: give a picture, folder or film, or --from a model that draws."
        )
    if picture is not None and not picture.exists():
        raise WorkbenchError(f"There is nothing at {picture}: check the path.")
    upscaler = load_upscaler(find_model(model), device=device)
    job = Job(
        upscalers=passes(upscaler, upscaler.factor if factor is None else factor),
        prompt=prompt,
        seed=seed,
        noise=noise,
        tile=tile,
        overwrite=overwrite,
    )
    if source is not None:
        return _drawn(source, job, out, count, device)
    return _folder(picture, out, job) if picture.is_dir() else _one(picture, out, job)


@bench.command(name="upscale")
def bench_upscale(
    *,
    model: str = UPSCALER,
    base: str = DEMO_MODEL,
    factors: bool = False,
    paper: bool = False,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Measure the milliseconds to enlarge a picture, alone and after the model that draws it, and what tiles
    differ.

    Args:
        model: Upscaler folder or Hugging Face name.
        base: Model that draws the small pictures.
        factors: Time and peak memory for a megapixel of each factor too, by networks of random weights.
        paper: On a CUDA GPU, the paper's networks with random weights instead, to 512 and 1024 px.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    import json

    from workbench.evaluation import enlarging
    from workbench.pipeline import Pipeline, Upscaler

    if paper:
        return print_result(enlarging.time_paper_networks(), as_json)
    upscaler = Upscaler.from_pretrained(find_model(model), device=device)
    pipeline = Pipeline.from_pretrained(find_model(base), device=device)
    result = enlarging.time_upscale(upscaler, pipeline)
    result["tile_max_diff"] = enlarging.tile_difference(upscaler)
    if factors:
        result["factors"] = enlarging.measure_factors(device=device)
        if not as_json:
            return print(json.dumps(result, indent=2))
    print_result(result, as_json)


def _one(path: Path, out: Path, job) -> int:
    """A picture or a film."""
    from workbench.pipeline.upscale_files import upscale_file
    from workbench.pipeline.upscale_film import is_film, upscale_film

    enlarge = upscale_film if is_film(path) else upscale_file
    written, warnings = enlarge(path, out, job, lambda done, total: say_progress(done, total, path.name))
    _warn(warnings)
    print(written)
    return 0


def _folder(folder: Path, out: Path, job) -> int:
    """All pictures; 1 where some could not be enlarged."""
    from workbench.pipeline.upscale_files import upscale_folder

    report = upscale_folder(
        folder, out, job, lambda done, total, name: say_progress(done, total, str(folder))
    )
    _warn(report.warnings)
    for name, why in report.failed.items():
        say(f"not enlarged: {name}: {why}")
    if report.kept:
        say(f"{len(report.kept)} were there already, made the same way.")
    if report.other:
        say(
            f"{len(report.other)} files are there that were made otherwise, as {report.other[0]}: they stay. "
            "Choose another folder, or add --overwrite."
        )
    for path in report.done:
        print(path)
    return 1 if report.failed or report.other else 0


def _drawn(source: str, job, out: Path, count: int, device: str | None) -> int:
    """Pictures of a prompt, drawn and enlarged."""
    from workbench.pipeline.loading import load_source
    from workbench.pipeline.upscale_drawn import draw_to_folder

    if job.prompt is None:
        raise WorkbenchError("--from draws a prompt, and none is given: add --prompt.")
    drawing = load_source(source if source.startswith("diffusers:") else find_model(source), device=device)
    saved = draw_to_folder(drawing, out, job, count, lambda done, total: say_progress(done, total, "drawing"))
    _warn(saved.warnings)
    for path in saved.paths:
        print(path)
    return 0


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
