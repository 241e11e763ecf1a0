"""Subcommands that use a model, and the machine's own report."""

import sys
from pathlib import Path

from tyro.conf import Positional

from workbench.commands.common import CLIP, DEMO_MODEL, UPSCALER, File, Text, app, find_model, print_json
from workbench.errors import WorkbenchError


@app.command(name="sample")
def sample(
    *,
    prompt: str,
    model: str = DEMO_MODEL,
    seed: int = 0,
    count: int = 1,
    truncation: float = 1.0,
    best_of: int = 1,
    clip: Text = None,
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
        best_of: Draw so many for each picture, and keep the one that a CLIP finds nearest to the prompt.
        clip: CLIP folder or open_clip name that chooses; that of the model when left out.
        out: Folder to write into.
        device: cpu or cuda; cuda where there is one when left out.
    """
    from workbench.images import check_place
    from workbench.models.clip_io import load_clip
    from workbench.pipeline import Chooser, Pipeline, sample_to_folder
    from workbench.pipeline.choosing import clip_of

    check_place(out)
    model = find_model(model)
    pipeline = Pipeline.from_pretrained(model, device=device)
    if best_of != 1:
        if clip is None:
            judge = clip_of(pipeline, [Path(model) / "text_encoder", find_model(CLIP)])
        else:
            judge = load_clip(find_model(clip), device=pipeline.device)
        pipeline = Chooser(pipeline, judge, best_of)
    saved = sample_to_folder(pipeline, prompt, seed=seed, count=count, truncation=truncation, out=out)
    for warning in saved.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for path in saved.paths:
        print(path)


@app.command(name="gallery")
def gallery(*, model: str = DEMO_MODEL, out: Path, device: Text = None) -> None:
    """Draw the two contact sheets of a model: 36 random prompts, and six prompts with six seeds each.

    Args:
        model: Model folder or Hugging Face name.
        out: Folder for samples.png and seeds.png; sheets of the same name there are replaced.
        device: cpu or cuda; cuda where there is one when left out.
    """
    from workbench.evaluation.gallery import many_prompts, many_seeds
    from workbench.images import check_place, save_png
    from workbench.pipeline import Pipeline

    check_place(out)
    pipeline = Pipeline.from_pretrained(find_model(model), device=device)
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in (("samples.png", many_prompts), ("seeds.png", many_seeds)):
        sheet, prompts = draw(pipeline)
        print(save_png(sheet, out / name), *prompts, sep="\n  ")


@app.command(name="open-picture")
def open_picture(
    picture: Positional[Path],
    *,
    again: bool = False,
    model: str = DEMO_MODEL,
    upscaler: str = UPSCALER,
    enlarged: File = None,
) -> int:
    """Print the recipe that a PNG of this workbench carries; --again makes the picture again and compares.

    Args:
        picture: PNG file.
        again: Make the picture again by its recipe and say whether it matches.
        model: Model folder or Hugging Face name to make it with.
        upscaler: Model that enlarged it, where one did: as in upscale --model.
        enlarged: The picture that was enlarged, where nobody drew it.
    """
    from workbench.images import read_recipe

    recipe = read_recipe(picture)
    if recipe is None:
        raise WorkbenchError(
            f"{picture} carries no recipe (a screenshot, a re-saved copy): give the original."
        )
    print_json(recipe)
    if not again:
        return 0
    remade = _made_again(picture, recipe, model, upscaler, enlarged)
    print(remade)
    return 1 if remade.verdict == "different" else 0


def _made_again(picture: Path, recipe: dict, model: str, upscaler: str, enlarged: Path | None):
    """Only the models that the recipe names are loaded."""
    from workbench.pipeline import Pipeline, remake
    from workbench.pipeline.loading import load_upscaler
    from workbench.pipeline.picture_files import load_tensor

    stages = [recipe]
    while "input" in stages[-1]:
        stages.append(stages[-1]["input"])
    drawn = stages[-1].get("kind", "gan") == "gan"
    return remake(
        picture,
        Pipeline.from_pretrained(find_model(model)) if drawn else None,
        upscalers=[load_upscaler(find_model(upscaler))] if len(stages) > 1 else [],
        picture=None if enlarged is None else load_tensor(enlarged),
    )


@app.command(name="app")
def launch_app(
    *,
    model: str = DEMO_MODEL,
    upscaler: str = UPSCALER,
    diffusion: Text = None,
    student: Text = None,
    host: str = "127.0.0.1",
    port: int = 7860,
) -> None:
    """Open the app on a model and print its address. It answers on this machine alone unless told otherwise.

    Args:
        model: Model folder or Hugging Face name.
        upscaler: Upscaler folder or Hugging Face name; without it the app draws small pictures alone.
        diffusion: Diffusion model that races against the GAN; the newest under runs/ when left out.
        student: Its few-step student; the newest under runs/ when left out.
        host: Address to listen on.
        port: Port to listen on.
    """
    from workbench.app.server import launch

    racing = {"diffusion": diffusion, "student": student}
    launch(model=find_model(model), upscaler=find_model(upscaler), **racing, host=host, port=port)


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
