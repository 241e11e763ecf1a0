"""Flux.1 Schnell through diffusers: its weights found or asked for, fitted into the GPU's memory, and run.

Weights are safetensors from this machine's disk; only `download=True` lets the Hugging Face Hub be asked, and
no code that lies beside weights is ever run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from workbench import hardware
from workbench.datasets.writing import size_text, time_text
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from diffusers import FluxPipeline

MODEL = "black-forest-labs/FLUX.1-schnell"
STEPS = 4  # what Schnell is distilled to, without guidance
# Of a pipeline's folder: configurations, weights and vocabularies, no code and no second copy of the weights.
_FILES = ["model_index.json", "*/*.json", "*/*.safetensors", "*/*.model", "*/*.txt"]
_DOWNLOAD_BYTES = 34e9
_WORDS = 256  # tokens of T5
_PARAMETERS = 11.9e9  # of Schnell's transformer
# Memory beside the weights in bf16: for one picture of 512 px (most of it where the VAE decodes), and once.
_PICTURE_BYTES, _ONCE_BYTES = 1.5e9, 1.0e9
_LARGEST_BATCH = 16

Offload = Literal["none", "model", "sequential"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a pipeline runs in a GPU's memory.

    offload: "none" keeps all weights there, "model" the network at work, "sequential" the layer at work.
    batch: pictures at once.
    """

    offload: Offload
    batch: int


def fit(
    parts: dict[str, int],
    free: float,
    native: int,
    *,
    offload: Offload | None = None,
    batch: int | None = None,
) -> Fit:
    """The fastest way that `free` bytes allow for pictures of `native` pixels a side.

    parts: bytes of each network's weights. offload and batch: chosen already where given.
    """
    largest = max(parts.values())
    held = {"none": sum(parts.values()), "model": largest, "sequential": min(largest, _ONCE_BYTES)}
    picture = _PICTURE_BYTES * (native / 512) ** 2
    if offload is None:
        fitting = [way for way, size in held.items() if size + _ONCE_BYTES + picture <= free]
        offload = fitting[0] if fitting else "sequential"
    room = (free - held[offload] - _ONCE_BYTES) / picture
    return Fit(offload=offload, batch=batch or max(1, min(_LARGEST_BATCH, int(room))))


def find_weights(
    model: str, revision: str | None = None, *, download: bool = False
) -> tuple[Path, str | None]:
    """(folder, commit) of a pipeline: `model` is a folder, or a name on the Hub whose files are in its cache.

    commit: the Hub's hash of that version, None for a folder of one's own. download: fetch what is missing.
    Raises WorkbenchError with the command that brings the weights.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise WorkbenchError(
                f"{folder} holds no model_index.json: expected a pipeline saved by diffusers."
            )
        return folder, folder.name if folder.parent.name == "snapshots" else None
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    try:
        found = Path(
            snapshot_download(model, revision=revision, allow_patterns=_FILES, local_files_only=not download)
        )
    except (OSError, ValueError) as error:  # what the Hub's client raises are these two
        raise WorkbenchError(_no_weights(model, revision, error if download else None)) from error
    if not (found / "model_index.json").is_file():
        raise WorkbenchError(_no_weights(model, revision, None))
    return found, found.name


def load(folder: Path, model: str, revision: str | None, device: str) -> FluxPipeline:
    """The pipeline of `find_weights`' folder, in main memory: bfloat16 for a GPU, float32 for a CPU.

    model, revision: as the user named them, for the message. Raises WorkbenchError when it is not whole, or
    is another kind of pipeline.
    """
    from diffusers import FluxPipeline

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    try:
        pipe = FluxPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if Path(model).is_dir():
            raise WorkbenchError(f"{model} cannot be loaded as a Flux pipeline: {cause}") from error
        raise WorkbenchError(
            f"{_no_weights(model, revision, None)} What is there cannot be loaded: {cause}"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def settle(
    pipe: FluxPipeline, device: str, native: int, *, offload: Offload | None = None, batch: int | None = None
) -> Fit:
    """Moves the pipeline to the device, as much of it as fits there, and returns how."""
    if not device.startswith("cuda"):
        pipe.to(device)
        return Fit(offload="none", batch=batch or 1)
    parts = {name: _bytes(part) for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    chosen = fit(parts, torch.cuda.mem_get_info(device)[0], native, offload=offload, batch=batch)
    if chosen.offload == "none":
        pipe.to(device)
    elif chosen.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)
    return chosen


@torch.inference_mode()
def generate(pipe: FluxPipeline, prompts: list[str], seeds: list[int], native: int) -> np.ndarray:
    """uint8 [N, native, native, 3]; each picture has noise of its own seed, whatever its batch."""
    pictures = pipe(
        prompts,
        height=native,
        width=native,
        num_inference_steps=STEPS,
        guidance_scale=0.0,
        max_sequence_length=_WORDS,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        output_type="np",
    ).images
    if not np.isfinite(pictures).all():
        raise WorkbenchError(
            "Flux gave pictures that are no numbers. Its weights or this GPU's bfloat16 are at fault: try "
            "other weights, or --device cpu with a count of 1."
        )
    return (pictures * 255).round().astype(np.uint8)


def choose_device(device: str | None, count: int, native: int) -> str:
    """The device asked for, or the GPU; without one WorkbenchError says how long a CPU would take."""
    if device is not None or torch.cuda.is_available():
        return hardware.choose_device(device)
    tokens = (native / 16) ** 2 + _WORDS
    gflop = 2e-9 * _PARAMETERS * tokens * STEPS  # a multiplication and an addition for each weight and token
    seconds = gflop / hardware.probe("cpu").conv_gflops["fp32"]
    raise WorkbenchError(
        f"There is no CUDA GPU here, and on this CPU Flux would take about {time_text(seconds)} a picture, "
        f"{time_text(seconds * count)} for {count:,}, in {size_text(4 * (_PARAMETERS + 5e9))} of memory. Run "
        "the same command on a machine with a GPU, or force it with --device cpu and a small --count."
    )


def _bytes(part: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in part.parameters())


def _no_weights(model: str, revision: str | None, error: Exception | None) -> str:
    """Where the weights of `model` are not, why, and the command that brings them."""
    command = f"hf download {model}" + (f" --revision {revision}" if revision else "")
    size = ""
    if model == MODEL:
        command += " --exclude flux1-schnell.safetensors --exclude ae.safetensors"
        size = f" ({size_text(_DOWNLOAD_BYTES)})"
    why = "are not on this machine"
    if error is not None:
        why = f"could not be fetched ({(str(error).strip() or type(error).__name__).splitlines()[0][:200]})"
    return (
        f"The weights of {model} {why}. Bring them once with `{command}`{size}, after `hf auth login` where "
        "the Hub asks who you are; or add --download to this command, or give --model a folder with them."
    )
