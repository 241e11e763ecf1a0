"""Model folders of the diffusion lane: a baseline's, complete in itself, and a student's, beside a teacher.

A baseline: config.json (with the noise schedule as diffusers reads it), unet.safetensors, text_encoder/,
README.md. A student: config.json, lora.safetensors, README.md; its teacher lies where config.json says,
relative to the folder, or beside it under its name, and is known by the hash of its weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from workbench import recipe as recipes
from workbench.diffusion import lora, schedule
from workbench.diffusion.baseline import BaselineConfig, build
from workbench.diffusion.lora import LoraConfig
from workbench.diffusion.sampling import GUIDANCE, STEPS
from workbench.errors import WorkbenchError
from workbench.models.clip_io import read_json, read_tensors, write_folder, write_json
from workbench.pipeline import model_folder
from workbench.pipeline.card import page
from workbench.pipeline.model_folder import Kind

BASELINE = Kind(
    "diffusion-baseline", "unet.safetensors", "unet", BaselineConfig, build,
    "a diffusion model, which turns prompts into pictures step by step", "`workbench compare` takes it",
)  # fmt: skip
STUDENT, STUDENT_WEIGHTS = "diffusion-student", "lora.safetensors"
SCHEMA = model_folder.SCHEMA


def read(path_or_hub_name: str | Path) -> dict[str, Any]:
    """The parts of a DiffusionModel on the CPU, and "weight_hash" (None where adapters changed it)."""
    folder = model_folder.find_folder(path_or_hub_name)
    if (folder / "config.json").is_file() and read_json(folder / "config.json").get("kind") == STUDENT:
        return _read_student(folder)
    return _read_baseline(folder)


def _read_baseline(folder: Path) -> dict[str, Any]:
    config = model_folder.read_config(folder, BASELINE)
    if config.get("scheduler") != schedule.SETTINGS:
        raise WorkbenchError(
            f"{folder}/config.json has another noise schedule ({config.get('scheduler')}) than this version "
            f"samples by ({schedule.SETTINGS}): use the version that wrote it."
        )
    unet, weight_hash = model_folder.load_network(folder, config, BASELINE)
    return {
        "unet": unet,
        "config": BaselineConfig(**config[BASELINE.network]),
        "text_encoder": model_folder.load_text_encoder(folder),
        "card": {"name": folder.resolve().name, **config.get("card", {})},
        "weight_hash": weight_hash,
    }


def read_adapters(path_or_hub_name: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json of a student and its adapters by name, whoever its teacher is.

    Raises WorkbenchError for a folder of anything else, and for a damaged one.
    """
    folder = model_folder.find_folder(path_or_hub_name)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("kind") != STUDENT:
        raise WorkbenchError(f"{folder} is no few-step student: give the folder of one.")
    if config.get("schema") != SCHEMA:
        raise WorkbenchError(
            f"The student {folder} is of version {config.get('schema')!r}, but {SCHEMA} is read here: update "
            "the workbench or distil it again."
        )
    weights = folder / STUDENT_WEIGHTS
    if not weights.is_file():
        raise WorkbenchError(f"The student {folder} lacks {STUDENT_WEIGHTS}: copy the folder again.")
    found, expected = recipes.sha256(weights.read_bytes()), config.get("weights", {}).get(STUDENT_WEIGHTS)
    if found != expected:
        raise WorkbenchError(
            f"{weights} is not the file that config.json describes (SHA-256 {found[:10]}…, expected "
            f"{str(expected)[:10]}…): copy the folder again."
        )
    return config, read_tensors(weights)


def _read_student(folder: Path) -> dict[str, Any]:
    config, tensors = read_adapters(folder)
    told = config.get("teacher")
    if not isinstance(told, dict) or not {"name", "path", "weight_hash"} <= told.keys():
        raise WorkbenchError(f"{folder}/config.json names no teacher: copy the folder again.")
    place = _teacher_of(folder, told)
    parts, told = _read_baseline(place), {**told, "path": str(place.resolve())}
    if parts["weight_hash"] != told["weight_hash"]:
        raise WorkbenchError(
            f"The student {folder} was distilled from other weights than those of its teacher "
            f"{told['name']} here: get the teacher it was made with, or distil again."
        )
    settings = LoraConfig(**config["lora"])
    lora.attach(parts["unet"], settings)
    lora.load(parts["unet"], tensors, str(folder / STUDENT_WEIGHTS))
    adapters = lora.merged(parts["unet"])
    card = {"name": folder.resolve().name, **config.get("card", {})}
    return {
        **parts, "lora": settings, "adapters": adapters, "teacher": told, "card": card, "weight_hash": None
    }  # fmt: skip


def _teacher_of(folder: Path, told: Mapping[str, Any]) -> Path:
    places = [folder / str(told["path"]), folder.resolve().parent / str(told["name"])]
    for place in places:
        if (place / BASELINE.weights).is_file():
            return place
    raise WorkbenchError(
        f"The student {folder} needs its teacher {told['name']}, which is neither at {places[0]} nor at "
        f"{places[1]}: put the teacher's folder there."
    )


def write_baseline(
    path: str | Path, unet: nn.Module, config: BaselineConfig, text_encoder: Any, card: dict[str, Any], *,
    overwrite: bool,
) -> Path:  # fmt: skip
    """The folder of a baseline, in float16."""
    weights, _ = model_folder.pack(unet.state_dict())
    count = sum(p.numel() for p in unet.parameters())
    facts = {
        "schema": SCHEMA,
        "kind": BASELINE.name,
        "name": card["name"],
        BASELINE.network: config.to_json(),
        "scheduler": schedule.SETTINGS,
        "text_encoder": text_encoder.config,
        "card": card,
        "versions": recipes.library_versions(),
    }
    text = (
        f"A text-conditional diffusion model: a U-Net of {count:,} parameters, {config.resolution} × "
        f"{config.resolution} px, v-prediction on a cosine schedule that ends without signal."
    )
    return model_folder.write_folder(
        path, config=facts, weights=weights, text_encoder=text_encoder,
        readme=_card(card, text, f"steps={STEPS}, guidance={GUIDANCE}"), overwrite=overwrite, kind=BASELINE,
    )  # fmt: skip


def write_student(
    path: str | Path, adapters: Mapping[str, Tensor], settings: LoraConfig, teacher: dict[str, Any],
    card: dict[str, Any], *, overwrite: bool,
) -> Path:  # fmt: skip
    """The folder of a student: its adapters in float16, and who its teacher is."""
    weights, _ = model_folder.pack(adapters)
    place = Path(path).expanduser().resolve()
    told = {key: teacher[key] for key in ("name", "weight_hash")}
    told["path"] = os.path.relpath(Path(teacher["path"]).expanduser().resolve(), place)
    count = sum(p.numel() for p in adapters.values())
    text = (
        f"A few-step student of {told['name']}: low-rank adapters of {count:,} parameters on its frozen "
        "U-Net, 1 to 4 steps, without guidance."
    )

    def write(folder: Path) -> None:
        (folder / STUDENT_WEIGHTS).write_bytes(weights)
        (folder / "README.md").write_text(_card(card, text, "steps=2"), encoding="utf-8")
        facts = {
            "schema": SCHEMA, "kind": STUDENT, "name": card["name"], "lora": settings.to_json(),
            "teacher": told, "card": card, "weights": {STUDENT_WEIGHTS: recipes.sha256(weights)},
            "versions": recipes.library_versions(),
        }  # fmt: skip
        write_json(folder / "config.json", facts)

    return write_folder(place, write, overwrite=overwrite)


def _card(card: Mapping[str, Any], text: str, settings: str) -> str:
    lines = [
        text,
        "",
        "```python",
        "from workbench.diffusion.model import DiffusionModel",
        "",
        'model = DiffusionModel.from_pretrained("PATH")',
        f'model("a white shepherd sitting in the snow at night", seed=1, {settings}).images',
        "```",
    ]
    return page(card, "text-to-image", lines, ("diffusion",))
