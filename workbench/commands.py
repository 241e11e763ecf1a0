"""The subcommands of `workbench`: one thin function each, calling what notebooks and app call.

Heavy imports stay inside the functions, so that --help answers at once and importing launches nothing.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parent.parent
DEMO_MODEL = "assets/models/shepherd-64"
CLIP = "assets/models/mini-clip"
STOPPED = 130  # the exit status of Ctrl-C

app = SubcommandApp()
dataset = SubcommandApp()
evaluate = SubcommandApp()
bench = SubcommandApp()
app.command(dataset, name="dataset", help="Draw and check data sets.")
app.command(evaluate, name="evaluate", help="Measure a model.")
app.command(bench, name="bench", help="Measure speed.")

Whole = Annotated[int | None, arg(metavar="INT")]
Text = Annotated[str | None, arg(metavar="STR")]
AsJson = Annotated[bool, arg(name="json")]


@dataset.command(name="world")
def dataset_world(
    *,
    out: Path,
    count: int = 20_000,
    seed: int = 0,
    resolution: int = 64,
    workers: Whole = None,
) -> None:
    """Draw a Shepherd World data set: pictures, captions, factors. Resumes where it stopped.

    Args:
        out: Folder to write (imagefolder layout: metadata.jsonl and images/).
        count: Number of pictures.
        seed: Picture i of seed s is always the same picture.
        resolution: Side of a picture in pixels.
        workers: Processes that draw; all cores when left out.
    """
    from workbench.datasets.folder import write_world

    folder = write_world(out, count=count, seed=seed, resolution=resolution, workers=workers)
    print(f"{count} pictures of {resolution} px in {folder}")


@dataset.command(name="check")
def dataset_check(folder: Positional[Path]) -> int:
    """Look a data set folder through: missing, broken, tiny or doubled pictures, empty captions.

    Args:
        folder: The data set folder.
    """
    from workbench.datasets.checks import check_folder

    found = check_folder(folder)
    print(found.text())
    return 0 if found.ok else 1


@app.command(name="train-clip")
def train_clip(
    *,
    data: Path,
    out: Path = Path("runs/mini-clip"),
    images: Whole = None,
    seed: int = 0,
    resume: bool = False,
    device: Text = None,
) -> int:
    """Train the mini-CLIP text and image towers on a Shepherd World data set. Ctrl-C saves.

    Args:
        data: Data set folder.
        out: Folder to write the model into; new or empty.
        images: Pictures to show in all; enough for 97 % zero-shot when left out.
        seed: Seed of weights and batches.
        resume: Go on with the training that was begun for this folder.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
    """
    from workbench.training.clip import train_clip

    train_clip(data, out, images=images, seed=seed, resume=resume, device=device)
    return 0


@app.command(name="train-judge")
def train_judge(
    *,
    out: Path = Path("runs/judge"),
    images: int = 9000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Train the judge, which measures whether a prompt came true. Ctrl-C saves; the same line goes on.

    Args:
        out: Folder to write the model into.
        images: Renders to train on.
        seed: Seed of weights and batches.
        overwrite: Replace a judge that is there.
    """
    from workbench.training.judge import train_judge

    train_judge(out, images=images, seed=seed, overwrite=overwrite)


@app.command(name="train")
def train(
    *,
    data: Path,
    out: Path,
    preset: str = "shepherd-64",
    images: Whole = None,
    seed: Whole = None,
    batch_size: Whole = None,
    resume: Literal["auto", "never", "extend"] = "auto",
    pause_at: Whole = None,
    clip: str = CLIP,
    device: Text = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
) -> int:
    """Train a GAN on a data set folder into a run folder. Ctrl-C saves; the same line goes on.

    Args:
        data: Data set folder with metadata.jsonl.
        out: Run folder: config, history, sample grids, checkpoints.
        preset: Sizes and schedule: shepherd-32, shepherd-64, …
        images: Real images to show D in all; the preset's number when left out.
        seed: Seed of weights, batches and noise; the preset's when left out.
        batch_size: Pictures a step, over all processes; even; the preset's when left out.
        resume: auto goes on with a run of the same settings, never wants a fresh folder, extend
            goes on with changed settings, e.g. more images.
        pause_at: Stop after that many images, to go on later; schedules do not move.
        clip: CLIP folder or open_clip name whose text tower reads the captions.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
        precision: auto measures the machine for a second.
    """
    from workbench.training.config import TrainConfig
    from workbench.training.trainer import train

    asked = {"images": images, "seed": seed, "batch_size": batch_size, "precision": precision}
    config = TrainConfig.for_preset(preset, **{k: v for k, v in asked.items() if v is not None})
    result = train(config, data, out, clip=clip, device=device, resume=resume, stop_after_nimg=pause_at)
    return STOPPED if result.reason == "stopped" else 0


@app.command(name="gif")
def gif(run: Positional[Path]) -> None:
    """Make training.gif from the sample grids of a run.

    Args:
        run: Run folder.
    """
    from workbench.training.gif import write_gif

    print(write_gif(run))


@app.command(name="sample")
def sample(
    *,
    prompt: str,
    model: str = DEMO_MODEL,
    seed: int = 0,
    count: int = 1,
    truncation: float = 1.0,
    out: Path = Path("samples"),
    device: Text = None,
) -> None:
    """Turn a prompt into pictures, each a PNG that carries its recipe.

    Args:
        prompt: What to draw, e.g. "a white shepherd sitting in the snow at night".
        model: Model folder or Hugging Face name.
        seed: Picture k is the picture of seed + k.
        count: Number of pictures.
        truncation: 1 varies most, 0 gives the prompt's mean picture.
        out: Folder to write into.
        device: cpu, cuda, mps; the best there is when left out.
    """
    from workbench.pipeline import Pipeline, sample_to_folder

    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    saved = sample_to_folder(pipeline, prompt, seed=seed, count=count, truncation=truncation, out=out)
    for warning in saved.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for path in saved.paths:
        print(path)


@app.command(name="open-picture")
def open_picture(picture: Positional[Path]) -> None:
    """Print the recipe that a PNG of this workbench carries.

    Args:
        picture: PNG file.
    """
    from workbench.images import read_recipe

    recipe = read_recipe(picture)
    if recipe is None:
        raise WorkbenchError(
            f"{picture} carries no recipe: it was not made by this workbench, or was saved again."
        )
    _print_json(recipe)


@evaluate.command(name="faithfulness")
def evaluate_faithfulness(
    *,
    model: str = DEMO_MODEL,
    n: int = 2000,
    seed: int = 0,
    truncation: float = 1.0,
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Ask the judge how often each factor of a prompt came true, how far and how varied the pictures are.

    Args:
        model: Model folder or Hugging Face name.
        n: Number of prompts.
        seed: Seed of prompts and noise.
        truncation: 1 varies most.
        device: cpu, cuda, mps; the best there is when left out.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.faithfulness import evaluate, from_pipeline
    from workbench.evaluation.features import load_judge
    from workbench.pipeline import Pipeline

    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    generate = from_pipeline(pipeline, truncation=truncation)
    _print_result(evaluate(generate, load_judge(), n=n, seed=seed, progress=_say_progress), as_json)


@evaluate.command(name="judge")
def evaluate_judge(*, n: int = 2000, seed: int = 0, as_json: AsJson = False) -> None:
    """Ask how often the shipped judge is right, on held-out renders.

    Args:
        n: Half the number of renders.
        seed: Seed of the renders.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.faithfulness import evaluate_judge
    from workbench.evaluation.features import load_judge

    _print_result(evaluate_judge(load_judge(), n=n, seed=seed, progress=_say_progress), as_json)


@app.command(name="figures")
def figures(*, run: Text = None) -> None:
    """Print the table of figures, or measure one again and show old and new.

    Args:
        run: Id of a figure to measure again, e.g. faithfulness.coat.
    """
    from rich.console import Console

    from workbench.evaluation.figures import rerun, table

    Console().print(table() if run is None else rerun(run))


@app.command(name="doctor")
def doctor(*, port: int = 7860) -> int:
    """Say what this machine has, what will run where, and how to mend what is missing.

    Args:
        port: Port that the app would use.
    """
    from workbench.doctor import examine, report

    text, status = report(examine(port=port))
    print(text)
    return status


@app.command(name="app")
def launch_app(*, model: str = DEMO_MODEL, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Open the app on a model and print its address. It answers on this machine alone unless told otherwise.

    Args:
        model: Model folder or Hugging Face name.
        host: Address to listen on.
        port: Port to listen on.
    """
    from workbench.app.server import launch

    launch(model=find_model(model), host=host, port=port)


@bench.command(name="step")
def bench_step(*, preset: str = "shepherd-64", as_json: AsJson = False) -> None:
    """Measure training throughput and where the time of a step goes.

    Args:
        preset: Sizes to measure.
        as_json: Print one JSON object.
    """
    from workbench.training.bench import step

    _print_result(step(preset=preset), as_json)


def find_model(name: str) -> str:
    """A model folder by its path: from here, or from the project's folder, where the shipped ones are."""
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).is_dir() else name


def _say_progress(done: int, total: int, what: str) -> None:
    """One line on stderr that rewrites itself, so that stdout holds the result alone."""
    print(f"\r{what}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_result(result: dict, as_json: bool) -> None:
    """A result as one JSON object, or as one name and value a line."""
    if as_json:
        print(json.dumps(result))
        return
    width = max(len(name) for name in result)
    for name, value in result.items():
        print(f"{name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")
