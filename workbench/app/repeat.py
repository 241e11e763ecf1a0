"""The lines of Python and of the shell that repeat what the page did."""

import json
import pprint
import shlex
import textwrap
from typing import Any


def python_line(model: str, prompt: str, seed: int, count: int, truncation: float, of: int = 1) -> str:
    """Python that makes the same pictures."""
    name, text = (json.dumps(value, ensure_ascii=False) for value in (model, prompt))
    more, chosen = "", ""
    if of > 1:
        more = ", Chooser\nfrom workbench.pipeline.choosing import clip_of\n"
        beside = json.dumps(f"{model}/text_encoder", ensure_ascii=False)
        chosen = f'pipe = Chooser(pipe, clip_of(pipe, [{beside}, "assets/models/mini-clip"]), of={of})\n'
    return (
        f"from workbench.pipeline import Pipeline{more}\n"
        f"pipe = Pipeline.from_pretrained({name})\n{chosen}"
        f"samples = pipe({text}, seed={seed}, count={count}, truncation={truncation:g})"
    )


def shell_line(model: str, prompt: str, seed: int, count: int, truncation: float, of: int = 1) -> str:
    """The command that makes the same pictures."""
    chosen = f" --best-of {of}" if of > 1 else ""
    return (
        f"workbench sample --model {shlex.quote(model)} --prompt {shlex.quote(prompt)} "
        f"--seed {seed} --count {count} --truncation {truncation:g}{chosen} --out pictures"
    )


def upscale_python(model: str, base: str, ask: Any, given: Any) -> str:
    """Python that enlarges the same picture.

    model, base: the upscaler's folder and that of the model whose pictures it enlarges; ask, given:
    `workbench.app.upscale_work.Ask`, `workbench.app.upscale_given.Given`.
    """
    up, drawer, text = (json.dumps(value, ensure_ascii=False) for value in (model, base, ask.prompt))
    settings = f"seed={ask.seed}, noise={ask.noise:g}" + (f", tile={ask.tile}" if ask.tile else "")
    if given.drawn:
        recipe = given.recipe
        prompt = json.dumps(recipe["prompt"], ensure_ascii=False)
        first, second = "from workbench.pipeline import Pipeline, Upscaler, passes, upscale", ""
        small = (
            f"small = Pipeline.from_pretrained({drawer})({prompt}, seed={recipe['seed']}, "
            f"truncation={recipe.get('truncation', 1.0):g})"
        )
        picture, settings = "small.images", settings + ", inputs=small.recipes"
    else:
        first = "from pathlib import Path\n\nfrom workbench.pipeline import Upscaler, passes, upscale"
        second = "\nfrom workbench.pipeline.picture_files import load_tensor"
        small = f"small = load_tensor(Path({json.dumps(given.name, ensure_ascii=False)}))"
        picture = "small"
    return (
        f"{first}{second}\n\nup = Upscaler.from_pretrained({up})\n{small}\n"
        f"made = upscale(passes(up, {ask.factor}), {picture}, {text}, {settings})"
    )


def upscale_shell(model: str, base: str, ask: Any, given: Any) -> str:
    """The command that enlarges the same picture."""
    recipe = given.recipe
    same = (recipe.get("prompt"), recipe.get("seed"), recipe.get("truncation", 1.0)) == (
        ask.prompt, ask.seed, 1.0)  # fmt: skip
    source = f"--from {shlex.quote(base)}" if given.drawn and same else shlex.quote(given.name)
    tile = f" --tile {ask.tile}" if ask.tile else ""
    return (
        f"workbench upscale {source} --model {shlex.quote(model)} --prompt {shlex.quote(ask.prompt)} "
        f"--factor {ask.factor} --seed {ask.seed} --noise {ask.noise:g}{tile} --out upscaled"
    )


def edit_lines(model: str, edit: dict[str, Any], picture: str) -> str:
    """Python that makes the picture of an edit (`workbench.latents.edits.to_json`) again.

    picture: name of its PNG, which the edit is read from where it is too long to be written out.
    """
    name = json.dumps(model, ensure_ascii=False)
    directed, found = bool(edit.get("directions")), bool(edit.get("start"))
    lines = ["from workbench.images import read_recipe"] if found else []
    lines.append(f"from workbench.latents import session{', store' if directed else ''}")
    lines += [
        "from workbench.latents.points import draw",
        "from workbench.pipeline import Pipeline",
        "",
        f"pipe = Pipeline.from_pretrained({name})",
    ]
    if directed:
        lines.append(f"directions = store.load_directions(store.folder_of({name}), pipe)")
    if found:
        lines.append(f"edit = session.of_recipe(read_recipe({json.dumps(picture)}))")
    else:
        written = textwrap.indent(pprint.pformat(edit, width=88, sort_dicts=False), "    ")
        lines.append(f"edit = session.from_json(\n{written}\n)")
    lines.append(f"picture = draw(pipe, session.apply(pipe, {'directions' if directed else '[]'}, edit))")
    return "\n".join(lines)
