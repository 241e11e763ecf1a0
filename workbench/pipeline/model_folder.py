"""The model folder: config.json, generator.safetensors, text_encoder/ and a README.md card, on disk or on
the Hub.

Only safetensors and JSON are read; nothing in a model folder can run code. The weights lie there in float16.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from workbench import hub
from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.images import clear_os_error
from workbench.models.clip_io import load_strict, read_json, read_tensors, write_json
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.text import TextEncoder

SCHEMA = 1
KIND = "gigagan-pipeline"
WEIGHTS = "generator.safetensors"
OWN_ENTRIES = ("config.json", WEIGHTS, "text_encoder", "README.md")
HUB_PATTERNS = ["*.safetensors", "*.json", "README.md"]
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


# --- reading ---


def find_folder(path_or_hub_name: str | Path) -> Path:
    """The local folder of a model: a path that exists, or a snapshot of `owner/name` from the Hub."""
    path = Path(path_or_hub_name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise WorkbenchError(f"{path} is a file: give the folder that holds config.json and {WEIGHTS}.")
    if isinstance(path_or_hub_name, str) and hub.NAME.fullmatch(path_or_hub_name):
        return _download(path_or_hub_name)
    raise WorkbenchError(
        f"There is no model folder {path}: check the path, or give a Hub name such as owner/model."
    )


def _download(name: str) -> Path:
    """The newest snapshot of a Hub model, or the cached one: safetensors, JSON and the card alone."""
    import httpx2  # what the Hub's client speaks through, and raises
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_PATTERNS))
    except HFValidationError as error:
        raise WorkbenchError(f"{name} is no folder here and no valid Hub name: check the path.") from error
    except (LocalEntryNotFoundError, ConnectionError, httpx2.TransportError) as error:
        raise WorkbenchError(
            f"{name} is no folder here, and the Hugging Face Hub cannot be reached to look for it there: "
            "check the path or the network."
        ) from error
    except HfHubHTTPError as error:
        raise WorkbenchError(
            f"{name} is no folder here, and the Hugging Face Hub refused it (status {hub.status_of(error)}): "
            "check the name, or log in with `hf auth login` when the model is private."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json after checks: a missing, damaged, foreign or other-version folder is a WorkbenchError."""
    names = {entry.name for entry in folder.iterdir()}
    pickles = sorted(name for name in names if name.lower().endswith(_PICKLES))
    if pickles and WEIGHTS not in names:
        raise WorkbenchError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when opened and is "
            f"never read: get the model as {WEIGHTS}."
        )
    config = read_json(folder / "config.json") if "config.json" in names else {}
    needed = ("config.json", WEIGHTS, *(("text_encoder",) if reads_text(config) else ()))
    if missing := [name for name in needed if name not in names]:
        raise WorkbenchError(
            f"The model folder {folder} lacks {', '.join(missing)}: it is no model folder or was half "
            "copied; copy it again."
        )
    if config.get("kind") != KIND:
        kind = config.get("kind")
        raise WorkbenchError(
            f"{folder}/config.json is of the kind {kind!r}: expected {KIND!r}, a model folder."
        )
    schema = config.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        newer = isinstance(schema, int) and schema > SCHEMA
        advice = "update the workbench" if newer else "save the model again with this version"
        raise WorkbenchError(
            f"The model folder {folder} is of version {schema!r}, but {SCHEMA} is read here: {advice}."
        )
    for key in ("card", "weights"):
        if not isinstance(config.get(key, {}), dict):
            raise WorkbenchError(
                f"{folder}/config.json holds {str(config[key])[:40]!r} as {key}: expected an object; "
                "copy the folder again."
            )
    return config


def reads_text(config: Mapping[str, Any]) -> bool:
    """Whether the model of a config.json reads prompts; one without text has no text encoder beside it."""
    generator = config.get("generator")
    return not isinstance(generator, dict) or generator.get("text_dim", "") is not None


def load_generator(folder: Path, config: Mapping[str, Any]) -> tuple[Generator, str]:
    """G in float32 on the CPU, and the SHA-256 of its file. Shapes are checked before G takes memory."""
    path = folder / WEIGHTS
    try:
        generator_config = GeneratorConfig(**config.get("generator", {}))
    except WorkbenchError as error:
        raise WorkbenchError(f"{folder}/config.json describes no generator: {error}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise WorkbenchError(
            f"{folder}/config.json describes a generator this version does not know ({error}): "
            "update the workbench or save the model again."
        ) from error
    state = read_tensors(path)  # names a truncated file
    found = _file_hash(path)
    expected = config.get("weights", {}).get(WEIGHTS)
    if expected is not None and expected != found:
        raise WorkbenchError(
            f"{path} is not the file that config.json describes (SHA-256 {found[:10]}…, expected "
            f"{str(expected)[:10]}…): it was changed or copied from another model; copy the folder again."
        )
    spoilt = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if spoilt is not None:
        raise WorkbenchError(f"{path} holds NaN or infinity in {spoilt}: use a save from before that.")
    check_shapes(_shapes_of(generator_config, folder), state, path)
    with torch.random.fork_rng(devices=[]):  # fresh weights draw from the caller's generator
        generator = Generator(generator_config)
    load_strict(generator, state, str(path))
    return generator.eval().requires_grad_(False), found


def _shapes_of(config: GeneratorConfig, folder: Path) -> Mapping[str, Tensor]:
    """The state of a generator without its memory."""
    try:
        with torch.device("meta"):
            return Generator(config).state_dict()
    except (RuntimeError, TypeError, OverflowError) as error:  # numbers that torch cannot even count
        raise WorkbenchError(
            f"{folder}/config.json describes a generator larger than any machine: copy the folder again."
        ) from error


def check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Keys and shapes, strictly; the first that differs is named with both shapes."""
    wrong = []
    for key in dict.fromkeys([*expected, *found]):
        sides = [list(side[key].shape) if key in side else "nothing" for side in (expected, found)]
        if sides[0] != sides[1]:
            wrong.append((key, *sides))
    if wrong:
        key, want, have = wrong[0]
        more = f" ({len(wrong) - 1} more differ)" if len(wrong) > 1 else ""
        raise WorkbenchError(
            f"{path} does not fit its config.json at {key}: expected {want}, found {have}{more}. "
            "The files come from different models: copy the folder again."
        )


def load_text_encoder(folder: Path) -> TextEncoder:
    """The frozen text tower of a model folder."""
    with torch.random.fork_rng(devices=[]):
        return TextEncoder.from_pretrained(folder / "text_encoder")


def _file_hash(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# --- writing ---


def pack(state: Mapping[str, Tensor]) -> tuple[bytes, bool]:
    """The bytes of generator.safetensors, and whether they hold `state` exactly.

    float16, but for tensors with values beyond its range (65,504), which stay float32. Same state, same
    bytes.
    """
    packed, exact = {}, True
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        if value.is_floating_point():
            half = value.half()
            if torch.isfinite(half).all():
                exact = exact and torch.equal(half.to(value.dtype), value)
                value = half
            elif not torch.isfinite(value).all():
                raise WorkbenchError(f"G holds NaN or infinity in {key}: save an earlier checkpoint.")
        packed[key] = value
    return save(packed, metadata={"format": "pt"}), exact


def pack_exactly(state: Mapping[str, Tensor]) -> bytes:
    """The bytes of `state` in its own precision; for hashes of weights that float16 would round."""
    exact = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    return save(exact, metadata={"format": "pt"})


def write_folder(
    folder: str | Path,
    *,
    config: Mapping[str, Any],
    weights: bytes,
    text_encoder: TextEncoder | None,
    readme: str,
    overwrite: bool,
) -> Path:
    """Write all of it beside its place, then move it there. An existing folder with files is refused, or with
    `overwrite` exchanged as a whole if it is a model folder; what else lies in it (samples) stays."""
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file: choose another folder for the model.")
    full = folder.is_dir() and any(folder.iterdir())
    if full and not overwrite:
        raise WorkbenchError(f"{folder} holds files and is not overwritten: choose an empty or new folder.")
    if full and not (folder / "config.json").is_file():
        raise WorkbenchError(f"{folder} holds files but no model: choose an empty or new folder.")
    tag = uuid.uuid4().hex[:8]
    beside, old = folder.with_name(f"{folder.name}.tmp-{tag}"), folder.with_name(f"{folder.name}.old-{tag}")
    try:
        beside.mkdir(parents=True)
        (beside / WEIGHTS).write_bytes(weights)
        if text_encoder is not None:
            text_encoder.save_pretrained(beside / "text_encoder")
        (beside / "README.md").write_text(readme, encoding="utf-8")
        described = {**config, "weights": {WEIGHTS: recipes.sha256(weights)}}
        write_json(beside / "config.json", described)
        if folder.is_dir():
            os.replace(folder, old)
        os.replace(beside, folder)
        if old.is_dir():
            for entry in [entry for entry in old.iterdir() if entry.name not in OWN_ENTRIES]:
                os.replace(entry, folder / entry.name)
    except (OSError, SafetensorError) as error:
        if old.is_dir() and not folder.exists():
            os.replace(old, folder)
        if isinstance(error, SafetensorError):  # how safetensors reports a full disk
            raise OSError(
                f"Cannot write {folder} ({error}): free some space or choose another folder."
            ) from error
        raise clear_os_error(error, folder) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def card_text(card: Mapping[str, Any], *, parameters: int, resolution: int, text: bool = True) -> str:
    """README.md of a model folder: front matter for the Hub, then what the card says.

    Short facts are lines of one list, longer texts and nested values have a section each. text: whether the
    model reads prompts.
    """
    name = card.get("name", "model")
    task, kind = (
        ("text-to-image", "A text-conditional")
        if text
        else ("unconditional-image-generation", "An unconditional")
    )
    call = '"a white shepherd sitting in the snow at night", ' if text else '"", '
    tags = json.dumps(["gigagan", "gan", task])
    license_name = json.dumps(card.get("license", "mit"))
    front = f"---\nlicense: {license_name}\npipeline_tag: {task}\ntags: {tags}\n---\n"
    lines = [
        f"# {name}",
        "",
        f"{kind} GAN (GigaGAN, Kang et al. 2023): {resolution} × {resolution} px, "
        f"{parameters:,} parameters in the generator, weights in float16.",
        "",
        "```python",
        "from workbench.pipeline import Pipeline",
        "",
        'pipe = Pipeline.from_pretrained("PATH_OR_HUB_NAME")',
        f"pipe({call}seed=1, truncation=0.8).images",
        "```",
    ]
    facts = {key: value for key, value in card.items() if key not in ("name", "license")}
    short = [key for key, value in facts.items() if _is_short(value)]
    if short:
        lines += ["", "## How it was made", ""]
    for key in short:
        value = facts.pop(key)
        said = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        lines.append(f"- **{key.replace('_', ' ').capitalize()}**: {said}")
    for key, value in facts.items():
        text = value
        if not isinstance(value, str):
            text = "```json\n" + json.dumps(value, indent=2, ensure_ascii=False) + "\n```"
        lines += ["", f"## {key.replace('_', ' ').capitalize()}", "", text]
    return front + "\n".join(lines) + "\n"


def _is_short(value: object) -> bool:
    """Whether a card's value fits into a line."""
    return not isinstance(value, Mapping | Sequence) or (
        isinstance(value, str) and len(value) <= 80 and "\n" not in value
    )


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
    """Create `owner/name` on the Hub if need be and upload the folder; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with hub.clear_errors(repo_id, lambda: f"{repo_id} was not uploaded"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a GigaGAN model")
    return getattr(done, "repo_url", None) or f"https://huggingface.co/{repo_id}"
