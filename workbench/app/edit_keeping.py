"""What the Edit tab takes in and gives out.

A picture with its recipe, a film of the way, an edited PNG opened again, an upload found in the model.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from workbench.app import repeat
from workbench.app.edit_work import Lab
from workbench.app.long_work import Stopped, Tell
from workbench.errors import WorkbenchError

# Torch and the latents come with the model: imported inside the functions, the page is up before that.

_TOGETHER = 4  # pictures of a film between two looks at Stop, and before others may use the model


def keep(lab: Lab, edit: Any) -> tuple[list[str], str]:
    """([PNG with its recipe, the recipe as JSON], lines of Python that repeat the edit)."""
    from workbench import recipe as recipes
    from workbench.images import read_recipe, save_png
    from workbench.latents import session
    from workbench.pipeline.keeping import slug

    pipeline = lab.studio.pipeline()
    with lab.studio.alone():
        samples = session.replay(pipeline, lab.directions()[0], edit)
    stem = f"{slug(samples.prompts[0])}-{edit.first.seed}{'' if edit.plain else '-edited'}"
    folder = lab.studio.new_folder()
    png = save_png(samples.images, folder / f"{stem}.png", samples.recipes[0])
    page = json.loads(recipes.encode(read_recipe(png)))
    facts = folder / f"{stem}.json"
    facts.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [str(png), str(facts)], repeat.edit_lines(lab.studio.model, session.to_json(edit), png.name)


def answer(lab: Lab, page: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(the PNG of an edit with its recipe inside, as a data address; the recipe) of an edit as JSON.

    Raises WorkbenchError for an edit that is damaged or that cannot be drawn.
    """
    from workbench.images import read_recipe
    from workbench.latents import session

    files, _ = keep(lab, session.from_json(page))
    data = base64.b64encode(Path(files[0]).read_bytes()).decode("ascii")
    return f"data:image/png;base64,{data}", read_recipe(files[0]) or {}


def open_again(lab: Lab, png: str | Path) -> tuple[Any, Any]:
    """(the edit in a PNG, `workbench.pipeline.Remade`): drawn again and compared.

    Raises WorkbenchError for no picture, one without a recipe, a damaged edit, and one of another model.
    """
    from workbench.images import read_recipe
    from workbench.latents import session
    from workbench.pipeline import remake

    pipeline = lab.studio.pipeline()
    recipe = read_recipe(png)
    if recipe is not None:
        session.check_model(recipe, pipeline)
    directions = lab.directions()[0]

    def replay(recipe: dict[str, Any]) -> Any:
        return session.replay(pipeline, directions, session.of_recipe(recipe))

    with lab.studio.alone():
        remade = remake(png, pipeline, replay=replay)
    return session.of_recipe(remade.recipe), remade


def film(lab: Lab, edit: Any, kind: str, frames: int, back: bool, visitor: str) -> Iterator[tuple[str, Any]]:
    """Make a GIF or an MP4 of the path at even speed: what `Stops.run` yields, the file at the end."""
    return lab.stops.run(lambda tell: _film(lab, edit, kind, frames, back, tell), visitor)


def _film(lab: Lab, edit: Any, kind: str, frames: int, back: bool, tell: Tell) -> tuple[str, float]:
    """(file, largest step over mean step)."""
    import torch

    from workbench.latents import film, pace, session
    from workbench.latents.points import draw
    from workbench.video import check_encoder

    save = {"GIF": film.save_gif, "MP4": film.save_mp4}[kind]
    if kind == "MP4":
        check_encoder()
    tell("Reading the path …")
    pipeline = lab.studio.pipeline()
    way = session.along(pipeline, lab.directions()[0], edit)
    passes = 0

    def drawn(at: Any) -> Any:
        nonlocal passes
        passes += 1
        parts = []
        for k in range(0, len(at), _TOGETHER):
            tell(f"Evening out the speed, pass {passes} of at most {pace.ROUNDS + 1}: picture {k + 1} of "
                 f"{len(at)} …")  # fmt: skip
            with lab.studio.alone():
                parts.append(draw(pipeline, at[k : k + _TOGETHER]))
        return torch.cat(parts)

    paced = pace.walk(pipeline, way, frames, distance=_distance(), drawn=drawn)
    tell(f"Writing the {kind} …")
    path = lab.studio.new_folder() / f"walk.{kind.lower()}"
    save(paced.frames, path, back=back)
    tell("Written.")  # Stop was pressed while it was written, perhaps
    return str(path), paced.max_step_ratio


def find(
    lab: Lab, edit: Any, path: str | None, prompt: str, seconds: float, visitor: str
) -> Iterator[tuple[str, Any]]:
    """Find an uploaded picture in the model: what `Stops.run` yields, at the end (the edit that begins
    with it, `latents.inversion.Inverted`, the picture as it was taken [1, 3, S, S]).
    """
    return lab.stops.run(lambda tell: _find(lab, edit, path, prompt, seconds, tell), visitor)


def _find(lab: Lab, edit: Any, path: str | None, prompt: str, seconds: float, tell: Tell) -> tuple:
    from workbench.latents import inversion, session

    if not path:
        raise WorkbenchError("There is no picture yet: drop one first.")
    pipeline = lab.studio.pipeline()
    target = inversion.prepare(path, pipeline.G.config.resolution)
    tell("Looking for a place to start …")

    def progress(done: int, of: int, what: str) -> bool:
        lab.studio.give_way()
        try:
            tell(f"Step {done} of {of}: {what} …")
        except Stopped:
            return False  # with the best so far
        return True

    how = {"prompt": prompt.strip() or None, "seconds": float(seconds), "progress": progress}
    encoder = lab.encoder()
    with lab.studio.alone():  # with a turn for others after each step
        found = inversion.invert(pipeline, target, encoder=encoder, **how)
    start = session.packed(found.at)
    first = replace(edit.first, prompt=found.prompt)
    return replace(edit.before, first=first, negative="", truncation=1.0, start=start), found, target


@cache
def _distance() -> Any:
    from workbench.evaluation.perceptual import FeatureDistance

    return FeatureDistance()
