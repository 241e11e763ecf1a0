"""An edit done: from plain values (`edits.py`) to a point and its picture, the same bits each time.

An edit starts from a picture (prompt and seed, or styles found for an uploaded one), goes some way towards a
second one, takes layers of others, and moves along named directions, in this order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents import directions as moving
from workbench.latents.captions import parse_marks, read
from workbench.latents.directions import Direction
from workbench.latents.edits import Edit, Mixed, from_json, of_recipe, to_json
from workbench.latents.mixing import mix_layers
from workbench.latents.paths import Curve, Key, between, curve, lerp
from workbench.latents.points import Points, draw, from_w, from_z
from workbench.models.mapping import Text
from workbench.noise import draw_z
from workbench.pipeline import Pipeline, Samples, clean_prompt

__all__ = [
    "Edit",
    "Mixed",
    "along",
    "apply",
    "check_model",
    "finish",
    "from_json",
    "of_recipe",
    "packed",
    "path",
    "replay",
    "to_json",
    "unpacked",
]


def apply(pipeline: Pipeline, directions: Sequence[Direction], edit: Edit) -> Points:
    """The point of an edit, one row. Without an edit it is that of `points(pipeline, prompt, seed)`.

    directions: all of the model, found by name. Raises WorkbenchError for a name that none has.
    """
    return finish(pipeline, directions, edit, path(pipeline, edit)(torch.tensor([edit.t])))


def along(pipeline: Pipeline, directions: Sequence[Direction], edit: Edit) -> Curve:
    """The path of an edit with everything else of it done at each place: t [N] -> N points.

    Raises WorkbenchError where the path leads nowhere.
    """
    if edit.still:
        raise WorkbenchError(
            f"The two pictures are alike in what the path {edit.kind!r} changes: change one of them, or take "
            "another path."
        )
    way = path(pipeline, edit)
    return lambda t: finish(pipeline, directions, edit, way(t))


def path(pipeline: Pipeline, edit: Edit) -> Curve:
    """The way between the two pictures alone; what it needs of them is made once, here.

    At t = 0 it is the first picture exactly. A way that leads nowhere stays there.
    """
    start = _start(pipeline, edit)
    moved = None if edit.still else _moved(pipeline, edit, start)

    def at(t: Tensor) -> Points:
        if moved is None or not t.any():
            return start[[0] * len(t)]
        return moved(t)

    return at


def finish(pipeline: Pipeline, directions: Sequence[Direction], edit: Edit, at: Points) -> Points:
    """What comes after the path: layers from elsewhere, then the directions. at: N points."""
    for mixed in edit.mixing:
        there = _end(pipeline, replace(mixed.key, negative=edit.negative), edit.truncation)
        at = mix_layers(pipeline.G, at, there, mixed.which)
    known = {direction.name: direction for direction in directions}
    for name, strength in edit.directions:
        if name not in known:
            raise WorkbenchError(
                f"There is no direction {name!r:.80} for {pipeline.name}: it was kept with other directions."
            )
        if strength:
            at = moving.apply(at, [(known[name], strength)])
    return at


def _start(pipeline: Pipeline, edit: Edit) -> Points:
    key = replace(edit.first, negative=edit.negative)
    if not edit.start:
        return _end(pipeline, key, edit.truncation)
    found = unpacked(edit.start, pipeline, read(pipeline, key.prompt, negative=key.negative))
    return _truncated(found, _mean(pipeline, key.prompt), edit.truncation)


def _end(pipeline: Pipeline, key: Key, truncation: float) -> Points:
    """The picture of a key: of a plain one exactly that of the pipeline."""
    text = read(pipeline, key.prompt, negative=key.negative)
    z = draw_z([key.seed], pipeline.G.config.z_dim)
    mean = None if truncation == 1.0 else _mean(pipeline, key.prompt)
    return from_z(pipeline, z, text, truncation=truncation, mean=mean)


def _moved(pipeline: Pipeline, edit: Edit, start: Points) -> Curve:
    a, b = (replace(key, negative=edit.negative) for key in (edit.first, edit.second))
    if edit.start:  # no seed leads to these styles, so that only the straight line is left
        end = _end(pipeline, b, edit.truncation)

        def straight(t: Tensor) -> Points:
            ws = lerp(start.ws, end.ws, t)
            if not start.texts:
                return Points(ws)
            return Points(ws, (between(start.texts[0], end.texts[0], t),) * len(start.texts))

        return straight
    way = curve(pipeline, [a, b], edit.kind)
    if edit.truncation == 1.0:
        return way
    means = [_mean(pipeline, key.prompt) for key in (a, a if edit.kind == "z" else b)]
    return lambda t: _truncated(way(t), lerp(*means, t), edit.truncation)


def _truncated(at: Points, mean: Tensor, truncation: float) -> Points:
    return (
        at if truncation == 1.0 else at.with_ws(torch.lerp(mean[:, None].expand_as(at.ws), at.ws, truncation))
    )


def _mean(pipeline: Pipeline, prompt: str) -> Tensor:
    return pipeline.w_mean(clean_prompt(parse_marks(prompt).text, pipeline.text_encoder).text)


def packed(at: Points) -> str:
    """A point found by inversion as text for `Edit.start`: its styles, a dot, and the rows of its caption.

    float16, so that they fit into a PNG's recipe. Without the part behind the dot the words are the prompt's.
    """
    parts = [at.ws[0]] + [text.t_local[0][text.mask[0]] for text in at.texts[:1]]
    return ".".join(
        base64.b64encode(part.detach().cpu().numpy().astype("<f2").tobytes()).decode("ascii")
        for part in parts
    )


def unpacked(start: str, pipeline: Pipeline, text: Text | None) -> Points:
    """The point of `packed` under the caption `text`; of another model's shape it is a WorkbenchError."""
    styles, _, words = start.partition(".")
    shape = (pipeline.G.num_ws, pipeline.G.config.w_dim)
    ws = _numbers(styles, shape, pipeline)
    if text is not None and words:
        rows = (int(text.mask.sum()), text.t_local.shape[-1])
        t_local = text.t_local.clone()
        t_local[text.mask] = _numbers(words, rows, pipeline)
        text = replace(text, t_local=t_local)
    return from_w(pipeline, ws[None], text)


def _numbers(written: str, shape: tuple[int, int], pipeline: Pipeline) -> Tensor:
    try:
        numbers = np.frombuffer(base64.b64decode(written, validate=True), dtype="<f2")
    except (binascii.Error, ValueError) as error:
        raise WorkbenchError("The styles kept in this edit are damaged: use the original file.") from error
    if numbers.size != shape[0] * shape[1]:
        raise WorkbenchError(
            f"This edit keeps {numbers.size} numbers where {pipeline.name} takes {shape[0] * shape[1]}: it "
            "was made with another model."
        )
    return torch.from_numpy(numbers.astype(np.float32)).view(shape).to(pipeline.device)


# --- as pictures --------------------------------------------------------------------------------------------


def replay(pipeline: Pipeline, directions: Sequence[Direction], edit: Edit) -> Samples:
    """The picture of an edit with its recipe: that of the plain picture and, where anything was done, `edit`.

    An edit of another model is refused before (`check_model`), where a recipe says which.
    """
    prompt = parse_marks(edit.first.prompt).text
    how = {"seed": edit.first.seed, "truncation": edit.truncation}
    if edit.plain:
        return pipeline(prompt, **how)
    samples = pipeline.undrawn(prompt, **how)
    samples.images = draw(pipeline, apply(pipeline, directions, edit), batch_size=1)
    samples.recipes = [{**samples.recipes[0], "edit": to_json(edit)}]
    return samples


def check_model(recipe: Mapping[str, Any], pipeline: Pipeline) -> None:
    """WorkbenchError for the recipe of another model: its styles and directions mean nothing here."""
    made = recipe.get("weight_hash")
    if made != pipeline.weight_hash:
        raise WorkbenchError(
            f"This picture was made by the model {str(recipe.get('model'))[:60]!r} ({str(made)[:10]}), this "
            f"one is {pipeline.name!r} ({pipeline.weight_hash[:10]}): an edit means nothing in another "
            "model. Start the app with that one."
        )
