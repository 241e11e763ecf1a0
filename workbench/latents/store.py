"""Directions on disk: directions.json says what they are, directions.safetensors holds their numbers.

The folder names the model by the hash of its weights; with another model the directions are refused, because
nothing would tell from the picture that they mean nothing there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import clear_os_error, write_whole
from workbench.latents.directions import Direction, Effect, Move
from workbench.pipeline import Pipeline

SCHEMA = 1
KIND = "gigagan-directions"
FACTS, NUMBERS = "directions.json", "directions.safetensors"
FOLDER = "latents"  # beside the model it belongs to
_PARTS = ("vector", "basis", "gate")


def folder_of(model_folder: str | Path) -> Path:
    """Where the directions of a model folder lie."""
    return Path(model_folder) / FOLDER


def save_directions(folder: str | Path, directions: Sequence[Direction], pipeline: Pipeline) -> Path:
    """Write the directions of a model, each file whole or not at all; returns the folder. Numbers in fp16."""
    folder = Path(folder)
    names = [direction.name for direction in directions]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise WorkbenchError(f"Two directions are called {doubled[0]!r}: give each a name of its own.")
    tensors: dict[str, Tensor] = {}
    shared: dict[int, str] = {}  # a basis that several directions share is stored once
    rows = [_facts(direction, tensors, shared, k) for k, direction in enumerate(directions)]
    page = {
        "schema": SCHEMA,
        "kind": KIND,
        "model": pipeline.name,
        "weight_hash": pipeline.weight_hash,
        "directions": rows,
    }
    text = json.dumps(page, indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise clear_os_error(error, folder) from error
    data = save({key: value.half().contiguous() for key, value in tensors.items()})
    write_whole(folder / NUMBERS, lambda handle: handle.write(data))
    write_whole(folder / FACTS, lambda handle: handle.write(text.encode()))
    return folder


def load_directions(folder: str | Path, pipeline: Pipeline) -> list[Direction]:
    """The directions in a folder, for this model.

    Raises WorkbenchError for a folder without them, a damaged one (also by numbers that are not finite or
    layers that the model lacks), another schema, and for directions of another model (by the hash of its
    weights).
    """
    folder = Path(folder)
    if not (folder / FACTS).is_file() or not (folder / NUMBERS).is_file():
        raise WorkbenchError(
            f"{folder} holds no directions ({FACTS} and {NUMBERS}): find some with `workbench directions`."
        )
    try:
        page = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / NUMBERS, device=str(pipeline.device))
    except (ValueError, SafetensorError) as error:
        raise WorkbenchError(f"The directions in {folder} are damaged ({error}): find them again.") from error
    if not isinstance(page, dict) or page.get("kind") != KIND or page.get("schema") != SCHEMA:
        raise WorkbenchError(
            f"{folder / FACTS} is no file of directions that this version reads (kind {KIND}, schema "
            f"{SCHEMA}): find them again."
        )
    if page.get("weight_hash") != pipeline.weight_hash:
        raise WorkbenchError(
            f"The directions in {folder} were made for the model {str(page.get('model'))[:60]!r} "
            f"({str(page.get('weight_hash'))[:10]}), this one is {pipeline.name!r} "
            f"({pipeline.weight_hash[:10]}): they would mean nothing here. Find its own with "
            "`workbench directions`."
        )
    try:
        if spoilt := [key for key, numbers in tensors.items() if not numbers.isfinite().all()]:
            raise ValueError(f"{spoilt[0]} holds numbers that are not finite")
        return [_direction(row, tensors, pipeline.G.num_ws) for row in page["directions"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WorkbenchError(
            f"The directions in {folder} are damaged ({error!r:.120}): find them again."
        ) from error


def _facts(direction: Direction, tensors: dict[str, Tensor], shared: dict[int, str], k: int) -> dict:
    """JSON of a direction; its tensors go into `tensors` and are named there."""

    def kept(tensor: Tensor | None, name: str) -> str | None:
        if tensor is None:
            return None
        key = shared.setdefault(id(tensor), f"{k}.{name}")
        tensors[key] = tensor
        return key

    def move(own: Move | None, name: str) -> dict | None:
        return own and {part: kept(getattr(own, part), f"{name}.{part}") for part in _PARTS}

    return {
        "name": direction.name,
        "source": direction.source,
        "layers": list(direction.layers),
        "w": move(direction.w, "w"),
        "t": move(direction.t, "t"),
        "words": kept(direction.words, "words"),
        "strengths": list(direction.strengths),
        "suggested": direction.suggested,
        "target": direction.target,
        "value": direction.value,
        "facts": direction.facts,
        "effect": direction.effect and asdict(direction.effect),
    }


def _direction(row: dict, tensors: dict[str, Tensor], num_ws: int) -> Direction:
    def tensor(key: str | None) -> Tensor | None:
        return None if key is None else tensors[key].float()

    def move(own: dict | None) -> Move | None:
        return own and Move(**{part: tensor(own[part]) for part in _PARTS})

    if not set(row["layers"]) <= set(range(num_ws)):
        raise ValueError(f"{row['name']!r:.40} moves layers beyond the model's {num_ws}")
    return Direction(
        **{
            **row,
            "layers": tuple(row["layers"]),
            "strengths": tuple(row["strengths"]),
            "w": move(row["w"]),
            "t": move(row["t"]),
            "words": tensor(row["words"]),
            "effect": row["effect"] and Effect(**row["effect"]),
        }
    )
