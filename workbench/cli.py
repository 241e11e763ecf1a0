"""The `workbench` command: one thin function a subcommand, calling what notebooks and app call.

Heavy imports stay inside the functions, so that --help answers at once and importing launches nothing.
"""

import errno
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

import workbench
from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parent.parent
DEMO_MODEL = "assets/models/shepherd-64"

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
def dataset_check(folder: Positional[Path]) -> None:
    """Look a data set folder through: missing, broken, tiny or doubled pictures, empty captions.

    Args:
        folder: The data set folder.
    """
    from workbench.datasets.checks import check_folder

    print(check_folder(folder))


@app.command(name="train-clip")
def train_clip(*, data: Path, out: Path = Path("runs/mini-clip"), seed: int = 0) -> None:
    """Train the mini-CLIP text and image towers on a Shepherd World data set.

    Args:
        data: Data set folder.
        out: Folder to write the model into.
        seed: Seed of weights and batches.
    """
    from workbench.training.clip import train_clip

    train_clip(data=data, out=out, seed=seed)


@app.command(name="train-judge")
def train_judge(*, out: Path = Path("runs/judge"), seed: int = 0) -> None:
    """Train the judge, which measures whether a prompt came true.

    Args:
        out: Folder to write the model into.
        seed: Seed of weights and renders.
    """
    from workbench.training.judge import train_judge

    train_judge(out=out, seed=seed)


@app.command(name="train")
def train(
    *,
    data: Path,
    out: Path,
    preset: str = "shepherd-64",
    images: Whole = None,
    seed: int = 0,
    resume: bool = False,
    device: Text = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
) -> None:
    """Train a GAN on a data set folder into a run folder. Ctrl-C saves; --resume goes on.

    Args:
        data: Data set folder with metadata.jsonl.
        out: Run folder: config, history, sample grids, checkpoints.
        preset: Sizes and schedule: shepherd-32, shepherd-64, …
        images: Real images to show D in all; the preset's number when left out.
        seed: Seed of weights, batches and noise.
        resume: Go on from the newest whole checkpoint in the run folder.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
        precision: auto measures the machine for a second.
    """
    from workbench.training.trainer import TrainConfig, train

    train(TrainConfig(data=data, out=out, preset=preset, images=images, seed=seed, resume=resume))


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
    for path in sample_to_folder(pipeline, prompt, out, seed=seed, count=count, truncation=truncation):
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
    as_json: AsJson = False,
) -> None:
    """Ask the judge how often each factor of a prompt came true, how far and how varied the pictures are.

    Args:
        model: Model folder or Hugging Face name.
        n: Number of prompts.
        seed: Seed of prompts and noise.
        truncation: 1 varies most.
        as_json: Print one JSON object.
    """
    from workbench.evaluation.faithfulness import evaluate, from_pipeline
    from workbench.evaluation.features import load_judge
    from workbench.pipeline import Pipeline

    pipeline = Pipeline.from_pretrained(find_model(model))
    result = evaluate(from_pipeline(pipeline, truncation=truncation), load_judge(), n=n, seed=seed)
    _print_result(result, as_json)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 2 a mistake that can be mended, 130 Ctrl-C.

    WorkbenchError and OSError become one line `error: …` on stderr, after a traceback if WORKBENCH_DEBUG=1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = app.cli(
            prog="workbench",
            description=workbench.__doc__,
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (`workbench figures | head`): nothing is wrong on our side.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (WorkbenchError, OSError) as error:
        if os.environ.get("WORKBENCH_DEBUG") == "1":
            traceback.print_exc()
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


def find_model(name: str) -> str:
    """A model folder by its path: from here, or from the project's folder, where the shipped ones are."""
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).is_dir() else name


def sentence(error: Exception) -> str:
    """One line for a person: what happened and, for a system's refusal, what to do."""
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split()) or type(error).__name__
    advice = {
        errno.ENOSPC: "Make room on that disk (df -h) or choose another folder, then run the command again.",
        errno.EDQUOT: "Make room in your quota or choose another folder, then run the command again.",
        errno.EACCES: "Choose a folder that you may write to, or change its permissions.",
        errno.EPERM: "Choose a folder that you may write to, or change its permissions.",
        errno.EROFS: "Choose a folder on a disk that can be written to.",
        errno.ENOENT: "Check the path.",
        errno.ENOTDIR: "Check the path: a part of it is a file.",
        errno.EISDIR: "Name a file, not a folder.",
        errno.EADDRINUSE: "Choose another port, e.g. --port 7861.",
    }.get(error.errno, "Mend that and run the command again.")
    where = f": {error.filename}" if error.filename is not None else ""
    return f"{error.strerror}{where}. {advice}"


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


if __name__ == "__main__":
    sys.exit(main())
