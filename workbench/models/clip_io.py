"""CLIP models on disk and by name: one call for our own folders and for open_clip's published models.

A CLIP folder holds `config.json` ({"schema": 1, "kind": "clip", "model_cfg": open_clip's own config, …}),
`model.safetensors` and `vocabulary.json`. Pickle files are never read. N pictures are [N, 3, H, W] in [-1,
1].
"""

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.images import clear_os_error
from workbench.models.factored import Factors, packed, unpacked
from workbench.models.fp16 import compact_state
from workbench.models.tokens import BpeTokenizer, Tokenizer, check_captions, tokenizer_from_json

SCHEMA = 1
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")


@dataclass
class Clip:
    """A CLIP model with what its inputs need.

    model: open_clip.CLIP or CustomTextCLIP. image_size: pixels a side. model_cfg: open_clip's config of the
    model. mean, std: a channel each, for pictures in [0, 1], as in open_clip. factors: of weights that are
    products of two thin ones, by their names (`workbench.models.factored`).
    """

    model: nn.Module
    tokenizer: Tokenizer
    image_size: int
    name: str
    model_cfg: dict
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    facts: dict = field(default_factory=dict)
    factors: dict[str, Factors] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    def normalise(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, 3, image_size, image_size] as the image tower wants it.
        Differentiable.
        """
        if pictures.shape[-2:] != (self.image_size, self.image_size):
            size = (self.image_size, self.image_size)
            pictures = F.interpolate(pictures, size, mode="bicubic", antialias=True, align_corners=False)
        mean = pictures.new_tensor(self.mean).view(1, -1, 1, 1)
        std = pictures.new_tensor(self.std).view(1, -1, 1, 1)
        return ((pictures + 1) / 2 - mean) / std

    def encode_image(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> L2-normalised embeddings [N, embed_dim]."""
        return F.normalize(self.model.encode_image(self.normalise(pictures)).float(), dim=-1)

    def encode_text(self, captions: list[str]) -> Tensor:
        """N > 0 captions -> L2-normalised embeddings [N, embed_dim]. Raises WorkbenchError as TextEncoder."""
        check_captions(captions)
        tokens = self.tokenizer(captions).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)


def build_clip(
    model_cfg: dict, tokenizer: Tokenizer, *, name: str = "clip", device: str | torch.device = "cpu"
) -> Clip:
    """A CLIP with fresh weights from open_clip's `model_cfg` (embed_dim, vision_cfg, text_cfg, …)."""
    text_cfg = model_cfg.get("text_cfg", {}) if isinstance(model_cfg, dict) else None
    if not isinstance(text_cfg, dict):
        raise WorkbenchError(
            f"The model_cfg of {name} is {str(model_cfg)[:60]!r}: expected an object with embed_dim, "
            "vision_cfg and text_cfg as open_clip names them. Get the model folder again."
        )
    cfg = deepcopy(model_cfg)
    custom = cfg.pop("custom_text", False)
    if text_cfg.get("vocab_size", 49408) != tokenizer.vocab_size:
        raise WorkbenchError(
            f"The text tower of {name} has {text_cfg.get('vocab_size', 49408)} tokens, its vocabulary "
            f"{tokenizer.vocab_size}: they belong to different models. Get the model folder again."
        )
    try:
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**cfg)
    except (TypeError, KeyError, AttributeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise WorkbenchError(
            f"The model_cfg of {name} is none that open_clip {open_clip.__version__} can build "
            f"({str(error)[:120]}). Expected embed_dim, vision_cfg and text_cfg as open_clip names them."
        ) from error
    size = model.visual.image_size
    size = size[0] if isinstance(size, tuple | list) else size
    return Clip(model.to(device), tokenizer, size, name, deepcopy(model_cfg))


def check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str | Path) -> None:
    """Keys and shapes, strictly. Raises WorkbenchError for the first that differs, with both shapes."""
    wrong = []
    for key in dict.fromkeys([*expected, *found]):
        sides = [list(side[key].shape) if key in side else "nothing" for side in (expected, found)]
        if sides[0] != sides[1]:
            wrong.append((key, *sides))
    if wrong:
        key, want, have = wrong[0]
        more = f" ({len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
        raise WorkbenchError(
            f"{where} does not fit its config.json at {key}: expected {want}, found {have}{more}. "
            "The files come from different models: copy the folder again."
        )


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copy `state` into `module`. Raises WorkbenchError as `check_shapes` does."""
    check_shapes(module.state_dict(), state, where)
    module.load_state_dict(state)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file as float32 (integers stay). Raises WorkbenchError for a half-copied file."""
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise WorkbenchError(
            f"{path} can't be read as safetensors ({error}): it was copied by half or is another kind of "
            "file. Get the folder again."
        ) from error
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def read_json(path: Path) -> dict:
    """A JSON object. Raises WorkbenchError for a damaged file."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WorkbenchError(f"{path} is no readable JSON ({error}): get the folder again.") from error
    if not isinstance(facts, dict):
        raise WorkbenchError(
            f"{path} holds a {type(facts).__name__}: expected a JSON object. Get the folder again."
        )
    return facts


def check_folder(folder: Path, kind: str, files: tuple[str, ...]) -> dict:
    """config.json of a folder of our format, after refusing what isn't one: missing, half-copied, pickle,
    other kind.
    """
    if not folder.is_dir():
        raise WorkbenchError(
            f"There is no folder {folder}: expected a {kind} folder with {', '.join(files)}."
        )
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in PICKLES)
    if pickles:
        raise WorkbenchError(
            f"{folder} holds {pickles[0]}, a pickle file, which can run code when it is opened. "
            "Only safetensors are read: convert it with its author's tool, or delete it."
        )
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise WorkbenchError(
            f"{folder} lacks {', '.join(missing)}: it is no {kind} folder or was copied by half. "
            f"Expected {', '.join(files)}; copy the whole folder again."
        )
    config = read_json(folder / "config.json")
    if config.get("schema") != SCHEMA or config.get("kind") != kind:
        raise WorkbenchError(
            f"{folder}/config.json has schema {config.get('schema')!r} and kind {config.get('kind')!r}: "
            f"expected schema {SCHEMA} and kind {kind!r}. Update the workbench or choose another folder."
        )
    return config


def write_folder(folder: str | Path, write: Callable[[Path], None], *, overwrite: bool = False) -> Path:
    """Let `write` fill a folder beside `folder`, then move it in place; a folder with files is refused.

    With overwrite, entries of the same name (subfolders as a whole) are replaced and all others stay. A full
    disk or a missing permission is an OSError of one sentence, and the folder is as it was.
    """
    folder = Path(folder).expanduser()
    place = Path(os.path.abspath(folder))  # "." has a name only so
    if folder.exists() and not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file: expected a folder that is new or empty.")
    full = folder.is_dir() and any(folder.iterdir())
    if full and not overwrite:
        raise WorkbenchError(
            f"{folder} already holds files, and nothing is overwritten: choose a new or empty folder."
        )
    tag = uuid.uuid4().hex[:8]
    beside = place.parent / f"{place.name}.tmp-{tag}"
    try:
        beside.mkdir(parents=True)
        write(beside)
        if full or place == Path.cwd():  # a process whose own folder is replaced stands in none
            _exchange(beside, place, place.parent / f"{place.name}.old-{tag}")
        else:
            os.replace(beside, place)
    except OSError as error:
        raise clear_os_error(error, folder) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _exchange(beside: Path, folder: Path, old: Path) -> None:
    """Move the entries of `beside` into `folder`, config.json last.

    What they replace waits in `old`, and goes back if one cannot be moved.
    """
    old.mkdir()
    paths = sorted(beside.iterdir(), key=lambda p: p.name == "config.json")
    try:
        for path in paths:
            if (folder / path.name).exists():
                os.replace(folder / path.name, old / path.name)  # a folder cannot be replaced while full
            os.replace(path, folder / path.name)
    except OSError:
        for path in paths:
            if not path.exists():
                os.replace(folder / path.name, path)
        for path in old.iterdir():
            os.replace(path, folder / path.name)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """A state as safetensors, fp16 where exact. As bytes: only the owner could read save_file's files."""
    path.write_bytes(save(compact_state(state)))


def write_json(path: Path, facts: dict) -> None:
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def save_clip(clip: Clip, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a CLIP folder: fp16 where that loses nothing (see round_to_fp16), else fp32; factors as such."""

    def write(path: Path) -> None:
        write_tensors(path / "model.safetensors", packed(clip.model.state_dict(), clip.factors))
        write_json(path / "vocabulary.json", clip.tokenizer.to_json())
        config = {"schema": SCHEMA, "kind": "clip", "name": clip.name, "image_size": clip.image_size}
        config |= {"mean": list(clip.mean), "std": list(clip.std), "model_cfg": clip.model_cfg, **clip.facts}
        write_json(path / "config.json", config)

    return write_folder(folder, write, overwrite=overwrite)


def _load_folder(folder: Path, device: str | torch.device) -> Clip:
    config = check_folder(folder, "clip", ("config.json", "model.safetensors", "vocabulary.json"))
    known = {"schema", "kind", "name", "image_size", "mean", "std", "model_cfg"}
    if not known <= set(config):
        raise WorkbenchError(
            f"{folder}/config.json lacks {', '.join(sorted(known - set(config)))}: get the folder again."
        )
    for name in ("mean", "std"):
        if not _is_channels(config[name], low=0.0 if name == "std" else -math.inf):
            raise WorkbenchError(
                f"{folder}/config.json holds {str(config[name])[:40]!r} as {name}: expected three numbers, "
                "one a channel (std above 0). Get the folder again."
            )
    words = folder / "vocabulary.json"
    tokenizer = tokenizer_from_json(read_json(words), str(words))
    clip = build_clip(config["model_cfg"], tokenizer, name=str(config["name"]))
    state, clip.factors = unpacked(read_tensors(folder / "model.safetensors"))
    load_strict(clip.model, state, str(folder / "model.safetensors"))
    clip.mean, clip.std = tuple(config["mean"]), tuple(config["std"])
    clip.facts = {key: value for key, value in config.items() if key not in known}
    clip.model.to(device).eval().requires_grad_(False)
    return clip


def _is_channels(values: object, low: float) -> bool:
    """Whether it is three finite numbers above `low`."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) and low < v < math.inf for v in values)
    )


def _find_weights(name: str, pretrained: str, tag_cfg: dict) -> Path:
    """The safetensors file of a published model, from the Hub's cache or the Hub."""
    repo, filename = os.path.split(tag_cfg.get("hf_hub", ""))
    if not repo:
        raise WorkbenchError(
            f"{name} with {pretrained!r} is published as a pickle file alone: choose another tag."
        )
    filename = Path(filename or "open_clip_model.safetensors").with_suffix(".safetensors").name
    try:
        return Path(hf_hub_download(repo, filename))
    except (OSError, ValueError, httpx2.TransportError) as error:  # no network, offline, not in the cache
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WorkbenchError(
            f"The weights of {name} ({pretrained}) can't be had: {repo}/{filename} is not in the cache of "
            f"the Hugging Face Hub and can't be downloaded ({reason}). Connect this machine, or fetch them "
            "elsewhere and pass the safetensors file as pretrained; the shipped assets/models/mini-clip "
            "needs no download."
        ) from error


def _load_published(name: str, pretrained: str | None, device: str | torch.device) -> Clip:
    cfg = open_clip.get_model_config(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None and "openai" in tags:
        pretrained = "openai"
    if pretrained is None:
        raise WorkbenchError(
            f"{name} needs the name of its weights (pretrained): one of {', '.join(tags) or 'a file'}."
        )
    text_cfg = cfg["text_cfg"]
    if text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name") or "siglip" in name.lower():
        raise WorkbenchError(
            f"{name} has a text tower that isn't CLIP's: choose one with open_clip's BPE, as ViT-L-14."
        )
    tag_cfg = open_clip.get_pretrained_cfg(name, pretrained)
    path = Path(pretrained)
    if tag_cfg:
        path = _find_weights(name, pretrained, tag_cfg)
        cfg["quick_gelu"] = cfg.get("quick_gelu", False) or tag_cfg.get("quick_gelu", False)
    elif not path.is_file():
        raise WorkbenchError(
            f"{pretrained!r} is neither a file nor weights of {name}: "
            f"expected one of {', '.join(tags) or 'no tags'}."
        )
    if path.suffix.lower() != ".safetensors":
        raise WorkbenchError(
            f"{path} is no safetensors file, and pickle files are not read: convert it first."
        )
    clip = build_clip(cfg, BpeTokenizer(text_cfg.get("context_length", 77)), name=f"{name}/{pretrained}")
    load_strict(clip.model, read_tensors(path), str(path))
    clip.mean = tuple(tag_cfg.get("mean") or open_clip.OPENAI_DATASET_MEAN)
    clip.std = tuple(tag_cfg.get("std") or open_clip.OPENAI_DATASET_STD)
    clip.model.to(device).eval().requires_grad_(False)
    return clip


def load_clip(
    name_or_folder: str | Path, pretrained: str | None = None, device: str | torch.device = "cpu"
) -> Clip:
    """A frozen CLIP in eval mode, from a folder of ours or by open_clip's name.

    name_or_folder: a CLIP folder, or a name such as "ViT-L-14". pretrained: open_clip's tag ("openai", the
    default where it exists) or a safetensors file; for names alone. Raises WorkbenchError for anything that
    can't be loaded whole.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return _load_folder(folder, device)
    if folder.is_file():
        what = "a pickle file, which is never read" if folder.suffix.lower() in PICKLES else "a file"
        raise WorkbenchError(
            f"{folder} is {what}: expected a CLIP folder or an open_clip name such as ViT-L-14."
        )
    if str(name_or_folder) in open_clip.list_models():
        return _load_published(str(name_or_folder), pretrained, device)
    raise WorkbenchError(
        f"{str(name_or_folder)!r} is neither a folder nor a model of open_clip: expected a CLIP folder such "
        "as assets/models/mini-clip, or a name such as ViT-L-14."
    )
