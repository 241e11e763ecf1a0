"""From a picture to the w that may have made it: where inversion starts.

Ridge regression in closed form, on what the frozen image tower of the shipped mini-CLIP sees: the map of its
third stage, where things still have places, and its embedding. What it gives is M's mean w of the caption
plus a move: the caption already says what is shown, the picture where and from which side. Nothing but the
model is required, which draws the pictures that are learnt from (`encoder_fit.py`). Letters: N pictures, S
pixels a side, C channels of the map, c principal ones, P places of it, F = c P + e features, k parts of w,
r draws.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.evaluation.perceptual import CLIP_FOLDER
from workbench.images import clear_os_error, write_whole
from workbench.latents.store import FOLDER
from workbench.models.text import load_clip
from workbench.models.vision_aided import ImageTower
from workbench.pipeline import Pipeline

__all__ = ["Encoder", "EncoderConfig", "Eyes", "encoder_of", "load_encoder", "save_encoder", "the_eyes"]

SCHEMA = 2
KIND = "gigagan-encoder"
FACTS, NUMBERS = "encoder.json", "encoder.safetensors"
TAP = "layer3"
AGAIN = "train one for this model with `workbench train-encoder`"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Size of the encoder. channels: principal channels of the map, c; parts: of w that are told, k; draws:
    directions of w in which it says how far it may be off, r.
    """

    channels: int = 96
    parts: int = 40
    draws: int = 48

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise WorkbenchError(f"{name} is {value!r}: expected a whole number above 0.")


@dataclass(frozen=True)
class Eyes:
    """A frozen image tower. name and weight_hash say whose; shape (C, P, e) of what it gives."""

    tower: ImageTower
    name: str
    weight_hash: str
    shape: tuple[int, int, int]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] in [-1, 1] -> (map [N, C, P], embedding [N, e]), on the CPU."""
        maps, embeddings = zip(*(self.tower(part) for part in x.cpu().split(32)), strict=True)
        return torch.cat([layer[0].flatten(2) for layer in maps]), torch.cat(embeddings)


@cache
def the_eyes() -> Eyes:
    """Those of the shipped mini-CLIP."""
    return open_eyes(CLIP_FOLDER)


def open_eyes(clip_folder: str | Path) -> Eyes:
    """The image tower of a CLIP. The hash is that of names, shapes and float32 values of its weights."""
    clip = load_clip(clip_folder)
    tower = ImageTower(clip, (TAP,), torch.float32)
    digest = sha256()
    for name, value in sorted(clip.model.visual.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.float().contiguous().cpu().numpy().tobytes())
    with torch.no_grad():
        maps, embedding = tower(torch.zeros(1, 3, clip.image_size, clip.image_size))
    _, channels, height, width = maps[0].shape
    return Eyes(tower, clip.name, digest.hexdigest(), (channels, height * width, embedding.shape[1]))


def features(eyes: Eyes, x: Tensor, channels: Tensor) -> Tensor:
    """[N, 3, S, S] in [-1, 1], principal channels [c, C] -> [N, F]."""
    seen, embedding = eyes(x)
    return torch.cat([(channels @ seen).flatten(1), embedding], dim=1)


class Encoder(nn.Module):
    """picture [N, 3, S, S] in [-1, 1], mean w of its caption [N, w_dim] -> w [N, w_dim].

    Buffers: channels [c, C]; mean, scale [F]; weight [F, k]; basis [k, w_dim]; offset [w_dim]; spread
    [r, w_dim], deviations of the true w about what is said. All hold values of fp16, so that the file is
    exact.
    """

    def __init__(self, config: EncoderConfig, w_dim: int, eyes: Eyes):
        """Zeros, which say the caption's mean. Raises WorkbenchError for a size beyond w's or the map's."""
        super().__init__()
        self.config, self._eyes = config, (eyes,)  # in a tuple: never part of the state
        if config.channels > eyes.shape[0] or max(config.parts, config.draws) > w_dim:
            raise WorkbenchError(
                f"w has {w_dim} numbers and the map of {eyes.name} {eyes.shape[0]} channels, not "
                f"{config.parts} parts, {config.draws} draws and {config.channels} channels: ask for less."
            )
        for name, shape in self.shapes(config, w_dim, eyes).items():
            self.register_buffer(name, torch.zeros(shape))
        self.scale += 1

    @staticmethod
    def shapes(config: EncoderConfig, w_dim: int, eyes: Eyes) -> dict[str, tuple[int, ...]]:
        """Buffer -> shape."""
        channels, places, embed = eyes.shape
        numbers = config.channels * places + embed
        return {
            "channels": (config.channels, channels),
            "mean": (numbers,),
            "scale": (numbers,),
            "weight": (numbers, config.parts),
            "basis": (config.parts, w_dim),
            "offset": (w_dim,),
            "spread": (config.draws, w_dim),
        }

    @property
    def eyes(self) -> Eyes:
        """What it sees by."""
        return self._eyes[0]

    def fill(self, **values: Tensor) -> Encoder:
        """Set buffers, rounded to fp16."""
        for name, value in values.items():
            getattr(self, name).copy_(value.half())
        return self

    def move(self, numbers: Tensor) -> Tensor:
        """Features [N, F] -> the move from the caption's mean, [N, w_dim]."""
        numbers = numbers.to(self.mean)
        return self.offset + (numbers - self.mean) / self.scale @ self.weight @ self.basis

    def forward(self, x: Tensor, w_mean: Tensor) -> Tensor:
        return w_mean + self.move(features(self.eyes, x, self.channels.cpu()))


# --- on disk ------------------------------------------------------------------------------------------------


def encoder_of(pipeline: Pipeline, model_folder: str | Path) -> Encoder | None:
    """The encoder beside a model, None where none lies there."""
    folder = Path(model_folder) / FOLDER
    return load_encoder(folder, pipeline) if (folder / FACTS).is_file() else None


def save_encoder(folder: str | Path, encoder: Encoder, pipeline: Pipeline, facts: dict | None = None) -> Path:
    """Write encoder.json and encoder.safetensors (fp16), each whole or not at all; returns the folder."""
    folder = Path(folder)
    page = {
        "schema": SCHEMA,
        "kind": KIND,
        "model": pipeline.name,
        "weight_hash": pipeline.weight_hash,
        "eyes": encoder.eyes.name,
        "eyes_hash": encoder.eyes.weight_hash,
        "config": asdict(encoder.config),
        "training": facts or {},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise clear_os_error(error, folder) from error
    data = save({name: value.half().contiguous().cpu() for name, value in encoder.state_dict().items()})
    write_whole(folder / NUMBERS, lambda handle: handle.write(data))
    text = json.dumps(page, indent=1) + "\n"
    write_whole(folder / FACTS, lambda handle: handle.write(text.encode()))
    return folder


def load_encoder(folder: str | Path, pipeline: Pipeline, *, eyes: Eyes | None = None) -> Encoder:
    """The encoder in a folder, for this model and these eyes (the shipped mini-CLIP's when None).

    Raises WorkbenchError for a folder without one, a damaged one, and one that was fitted to another model or
    saw by other eyes (by the hash of the weights).
    """
    folder, eyes = Path(folder), eyes or the_eyes()
    page = _page(folder)
    if page.get("weight_hash") != pipeline.weight_hash:
        raise WorkbenchError(
            f"The encoder in {folder} was trained for the model {str(page.get('model'))[:60]!r} "
            f"({str(page.get('weight_hash'))[:10]}), this one is {pipeline.name!r} "
            f"({pipeline.weight_hash[:10]}): what it says would mean nothing here. Delete it or {AGAIN}."
        )
    if page.get("eyes_hash") != eyes.weight_hash:
        raise WorkbenchError(
            f"The encoder in {folder} sees by the image tower of {str(page.get('eyes'))[:60]!r} "
            f"({str(page.get('eyes_hash'))[:10]}), the one here is {eyes.name!r} ({eyes.weight_hash[:10]}): "
            f"its features are others. Delete it or {AGAIN}."
        )
    try:
        tensors = load_file(folder / NUMBERS)
        encoder = Encoder(EncoderConfig(**page["config"]), pipeline.G.config.w_dim, eyes)
    except (KeyError, TypeError, SafetensorError, WorkbenchError) as error:
        what = " ".join(str(error).split())[:120]
        raise WorkbenchError(f"The encoder in {folder} is damaged ({what}): {AGAIN}.") from error
    _check_tensors(folder, encoder.state_dict(), tensors)
    encoder.load_state_dict({name: value.float() for name, value in tensors.items()})
    return encoder.eval().to(pipeline.device)


def _page(folder: Path) -> dict:
    """encoder.json, of this schema."""
    if not (folder / FACTS).is_file() or not (folder / NUMBERS).is_file():
        raise WorkbenchError(f"{folder} holds no encoder ({FACTS} and {NUMBERS}): {AGAIN}.")
    try:
        page = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkbenchError(f"The encoder in {folder} is damaged ({error}): {AGAIN}.") from error
    if not isinstance(page, dict) or page.get("kind") != KIND or page.get("schema") != SCHEMA:
        raise WorkbenchError(
            f"{folder / FACTS} is no encoder that this version reads (kind {KIND}, schema {SCHEMA}): {AGAIN}."
        )
    return page


def _check_tensors(folder: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Exactly the expected names, shapes and finite fp16 numbers."""
    for name in [*expected, *found]:
        shapes = [list(side[name].shape) if name in side else "nothing" for side in (expected, found)]
        if shapes[0] != shapes[1]:
            raise WorkbenchError(
                f"The encoder in {folder} is damaged at {name}: expected {shapes[0]}, found {shapes[1]}. "
                f"Delete it or {AGAIN}."
            )
        if found[name].dtype != torch.float16 or not found[name].isfinite().all():
            raise WorkbenchError(
                f"The encoder in {folder} is damaged at {name}: expected finite fp16 numbers: {AGAIN}."
            )
