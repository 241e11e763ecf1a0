"""What a picture says about how it was made: two text keys of a PNG, written, read and checked.

`parameters` is the plain line other programs read; `workbench` is our JSON. Both are data: they are parsed,
never evaluated.
"""

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench.errors import WorkbenchError

SCHEMA_NAME = "gigagan-workbench-picture"
SCHEMA_VERSION = 1  # raised only when an older reader would misunderstand; new fields alone do not raise it
PLAIN_KEY = "parameters"
RECIPE_KEY = "workbench"
MAX_BYTES = 64 * 1024
MAX_STAGES = 8  # recipes inside each other: a picture, and what was enlarged again and again

_NUMBER = (int, float)
# field -> accepted types. Other fields of a file are ignored, so that a newer minor writer does no harm.
FIELDS: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "prompt": (str,),
    "seed": (int,),
    "index": (int,),
    "truncation": _NUMBER,
    "guidance": _NUMBER,
    "steps": (int,),
    "sampler": (str,),
    "size": (list, tuple),
    "model": (str,),
    "weight_hash": (str,),
    "config_hash": (str,),
    "noise_hash": (str,),
    "pixel_hash": (str,),
    "dtype": (str,),
    "device": (str,),
    "cpu": (str,),
    "threads": (int,),
    "versions": (dict,),
    "promise": (str,),
    "factor": (int,),  # of an upscaled picture: what one side was multiplied by
    "cells": (int,),  # drawn so many times larger than that, then the mean of cells x cells pixels; absent: 1
    "noise": _NUMBER,  # deviation of the noise on its input
    "tile": (int,),  # side of the overlapping tiles that the whole network saw, absent where it saw the input
    "input": (dict,),  # the recipe of the picture that was enlarged; of one nobody drew its size and hash
    "chosen": (dict,),  # of how many candidates it was kept, and by whom: `workbench.pipeline.choosing`
    "edit": (dict,),  # what was done in the latent space after that: `workbench.latents.session`
}


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of what decides the pixels: this package, torch, open_clip."""
    found = {}
    for name in ("workbench", "torch", "open_clip_torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that was not installed
            found[name] = "not installed"
    return found


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def hash_json(value: object) -> str:
    """SHA-256 of a JSON value in one canonical spelling (sorted keys, no spaces)."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())


def encode(recipe: Mapping[str, Any]) -> str:
    """The JSON of the `workbench` key, `schema` first. An unknown field or wrong type is a WorkbenchError."""
    checked = _checked(recipe, where="The recipe to save", strict=True)
    text = json.dumps(
        {"schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION}, **checked},
        ensure_ascii=False,
        allow_nan=False,
    )
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise WorkbenchError(
            f"The recipe takes {size} bytes and at most {MAX_BYTES} are stored: shorten the prompt."
        )
    return text


def decode(text: str, where: str = "The recipe") -> dict[str, Any]:
    """The known fields of a `workbench` key. Damaged, oversized or from a newer schema: WorkbenchError."""
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise WorkbenchError(
            f"{where} is {size} bytes long and at most {MAX_BYTES} are read: it was not written here."
        )
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WorkbenchError(
            f"{where} is damaged ({type(error).__name__}): ask for the original PNG."
        ) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, dict) or schema.get("name") != SCHEMA_NAME:
        raise WorkbenchError(
            f"{where} is not of the kind {SCHEMA_NAME!r}: only pictures made here can be read."
        )
    found = schema.get("version")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise WorkbenchError(
            f"{where} has the schema version {str(found)[:20]!r}, expected a whole number: it is damaged."
        )
    if found > SCHEMA_VERSION:
        raise WorkbenchError(
            f"{where} was written by a newer version (schema {found}; this one reads up to "
            f"{SCHEMA_VERSION}): update the workbench to read it."
        )
    return _checked(data, where=where, strict=False)


def plain_line(recipe: Mapping[str, Any]) -> str:
    """The text of the `parameters` key: the prompt, then one line of settings that other programs read."""
    width, height = recipe.get("size", (0, 0))
    versions = recipe.get("versions", {})
    settings = {
        "Steps": recipe.get("steps", 1),
        "Sampler": recipe.get("sampler", "GigaGAN"),
        "CFG scale": recipe.get("guidance", 1),
        "Seed": recipe.get("seed"),
        "Size": f"{width}x{height}",
        "Model hash": str(recipe.get("weight_hash", ""))[:10],
        "Model": recipe.get("model"),
        "Truncation": recipe.get("truncation"),
        "Upscale": recipe.get("factor"),
        "Version": f"gigagan-workbench {versions.get('workbench', '')}".strip(),
    }
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value not in (None, ""))
    return f"{recipe.get('prompt', '')}\n{line}"


def _quoted(value: object) -> str:
    """A value as other readers of the line expect it: quoted when it holds a separator."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"\n') else text


def _checked(data: Mapping[str, Any], *, where: str, strict: bool, stage: int = 1) -> dict[str, Any]:
    """Known fields of `data`, types checked; unknown ones are an error when `strict` (our own writing)."""
    if stage > MAX_STAGES:
        raise WorkbenchError(f"{where} nests more than {MAX_STAGES} recipes: it is damaged.")
    unknown = [name for name in data if name not in FIELDS and name != "schema"]
    if strict and unknown:
        raise WorkbenchError(
            f"{where} holds the unknown field {unknown[0]!r}: expected one of {', '.join(FIELDS)}."
        )
    checked = {}
    for name, types in FIELDS.items():
        if name not in data:
            continue
        value = data[name]
        if (
            not isinstance(value, types)
            or isinstance(value, bool)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            wanted = "/".join(kind.__name__ for kind in types)
            raise WorkbenchError(
                f"{where} has {str(value)[:40]!r} as {name}, expected {wanted}: it is damaged."
            )
        checked[name] = value
    if "input" in checked:
        checked["input"] = _checked(checked["input"], where=where, strict=strict, stage=stage + 1)
    size = checked.get("size")
    if size is not None and (
        len(size) != 2 or not all(type(side) is int and 0 < side < 2**16 for side in size)
    ):
        raise WorkbenchError(
            f"{where} has {str(size)[:40]!r} as size, expected [width, height]: it is damaged."
        )
    return checked


def _no_constant(name: str) -> float:
    """NaN and Infinity are no JSON; a recipe that holds them was not written here."""
    raise ValueError(f"{name} is not allowed")
