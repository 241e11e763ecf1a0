"""Subcommands of the latent room."""

import json
from pathlib import Path

from tyro.conf import Positional

from workbench.commands.common import (
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
    say_progress,
    show,
)


@app.command(name="invert")
def invert(
    picture: Positional[Path],
    *,
    model: str = DEMO_MODEL,
    prompt: Text = None,
    out: Path = Path("inverted"),
    steps: Whole = None,
    seconds: float = 60.0,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Find the point of the latent space whose picture is nearest to a given one.

    Args:
        picture: Any picture file; its middle square is taken.
        model: Model folder or Hugging Face name.
        prompt: What the picture shows; guessed for a model of Shepherd World when left out.
        out: Folder for original.png and inverted.png.
        steps: Steps of the optimisation; 150 when left out.
        seconds: Stop after that long with the best so far.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.images import check_place, save_png
    from workbench.latents import inversion
    from workbench.latents.encoder import encoder_of
    from workbench.pipeline import Pipeline

    check_place(out)
    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    found = inversion.invert(
        pipeline,
        picture,
        prompt=prompt,
        steps=steps,
        seconds=seconds,
        encoder=encoder_of(pipeline, find_model(model)),
        progress=say_progress,
    )
    out.mkdir(parents=True, exist_ok=True)
    save_png(inversion.prepare(picture, pipeline.G.config.resolution), out / "original.png")
    path = save_png(found.image, out / "inverted.png")
    said = ("psnr", "start_psnr", "distance", "distance_name", "prompt", "seconds", "steps", "verdict")
    print_result({**{name: getattr(found, name) for name in said}, "picture": str(path)}, as_json)


@app.command(name="train-encoder")
def train_encoder(
    *,
    model: str = DEMO_MODEL,
    out: File = None,
    images: int = 12_800,
    seed: int = 0,
    device: Text = None,
) -> None:
    """Fit the encoder that inversion starts from, to pictures of the model's own: minutes, in closed form.

    Args:
        model: Model folder or Hugging Face name.
        out: Folder for encoder.json and encoder.safetensors; the model's own `latents` when left out.
        images: Pictures to draw and learn from.
        seed: Seed of captions and noise.
        device: cpu or cuda; cuda where there is one when left out.
    """
    from workbench.images import check_place
    from workbench.latents.encoder_fit import train_encoder
    from workbench.latents.store import folder_of
    from workbench.pipeline import Pipeline

    folder = folder_of(find_model(model)) if out is None else out
    check_place(folder)
    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    train_encoder(pipeline, folder, images=images, seed=seed, progress=say_progress)
    print(folder)


@evaluate.command(name="inversion")
def evaluate_inversion(
    *,
    model: str = DEMO_MODEL,
    n: int = 10,
    seed: int = 0,
    steps: Whole = None,
    seconds: float = 60.0,
    draws: bool = False,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Invert held-out pictures of the model and renders, prompts not told, and say how near it came.

    Args:
        model: Model folder or Hugging Face name.
        n: Number of pictures of each kind.
        seed: Seed of their prompts and noise.
        steps: Steps of each inversion; 150 when left out.
        seconds: Longest time of each.
        draws: Start from the best of 48 draws, as a model without an encoder does.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.latents.encoder import encoder_of
    from workbench.latents.recovery import measure_recovery
    from workbench.pipeline import Pipeline

    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    encoder = None if draws else encoder_of(pipeline, find_model(model))
    print_result(
        measure_recovery(
            pipeline, n=n, seed=seed, steps=steps, seconds=seconds, encoder=encoder, progress=say_progress
        ),
        as_json,
    )


@app.command(name="directions")
def directions(
    *,
    model: str = DEMO_MODEL,
    out: File = None,
    n: int = 200,
    judge: str = JUDGE,
    device: Text = None,
) -> None:
    """Find the directions of a Shepherd World model, measure each, and keep them beside the model.

    Args:
        model: Model folder or Hugging Face name.
        out: Folder for directions.json and directions.safetensors; the model's own `latents` when left out.
        n: Held-out samples on which each direction is measured.
        judge: Folder of the judge that measures.
        device: cpu or cuda; cuda where there is one when left out.
    """
    from workbench.evaluation.features import load_judge
    from workbench.images import check_place
    from workbench.latents.finding import find_directions
    from workbench.latents.store import folder_of, save_directions
    from workbench.latents.tables import directions_table
    from workbench.pipeline import Pipeline

    folder = folder_of(find_model(model)) if out is None else out
    check_place(folder)
    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    found = find_directions(pipeline, load_judge(find_model(judge)), n=n, progress=say_progress)
    print(save_directions(folder, found, pipeline))
    show(directions_table(found))


@evaluate.command(name="edits")
def evaluate_edits(
    *,
    model: str = DEMO_MODEL,
    n: int = 200,
    pairs: int = 3,
    directions: File = None,
    judge: str = JUDGE,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Score every kind of edit on held-out samples: did it change what it should, and that alone?

    Args:
        model: Model folder or Hugging Face name.
        n: Samples of each edit.
        pairs: Paths of each kind.
        directions: Folder of directions; the model's own when left out.
        judge: Folder of the judge that measures.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.features import load_judge
    from workbench.latents.scores import evaluate_edits
    from workbench.latents.store import folder_of, load_directions
    from workbench.latents.tables import edits_table
    from workbench.pipeline import Pipeline

    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    own = load_directions(directions or folder_of(find_model(model)), pipeline)
    scores = evaluate_edits(
        pipeline, load_judge(find_model(judge)), own, n=n, pairs=pairs, progress=say_progress
    )
    if as_json:
        print(json.dumps(scores))
    else:
        show(edits_table(scores))


@bench.command(name="edit")
def bench_edit(*, model: str = DEMO_MODEL, device: Text = None, as_json: AsJson = False) -> None:
    """Measure the time from a moved slider to the new picture, in milliseconds.

    Args:
        model: Model folder or Hugging Face name.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.latents.scores import time_edit
    from workbench.latents.store import folder_of, load_directions
    from workbench.pipeline import Pipeline

    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    print_result(time_edit(pipeline, load_directions(folder_of(find_model(model)), pipeline)), as_json)
