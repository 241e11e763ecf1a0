"""The model folder: config.json, one network's safetensors, text_encoder/ and a README.md card, on disk or on
the Hub.

Only safetensors and JSON are read; nothing in a model folder can run code. The weights lie there in float16.
Two kinds share it: a GAN (generator.safetensors) and an upscaler (upsampler.safetensors).
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from workbench import hub
from workbench import recipe as recipes
from workbench.errors import WorkbenchError
from workbench.images import clear_os_error
from workbench.models.clip_io import check_shapes, load_strict, read_json, read_tensors, write_json
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.text import TextEncoder
from workbench.models.upsampler import Upsampler, UpsamplerConfig


@dataclass(frozen=True)
class Kind:
    """What a model folder can hold.

    name: its kind in config.json; weights: the file of its network; network: the network's part of the config
    and its name in sentences; config, build: the classes; what: the model in words, where: what takes it.
    """

    name: str
    weights: str
    network: str
    config: Callable[..., Any]
    build: Callable[..., nn.Module]
    what: str
    where: str


SCHEMA = 1
WEIGHTS = "generator.safetensors"
GAN = Kind(
    "gigagan-pipeline", WEIGHTS, "generator", GeneratorConfig, Generator,
    "a GAN, which turns prompts into pictures", "`workbench sample` takes it",
)  # fmt: skip
UPSCALER = Kind(
    "gigagan-upscaler", "upsampler.safetensors", "upsampler", UpsamplerConfig, Upsampler,
    "an upscaler, which makes pictures larger", "`workbench upscale` takes it",
)  # fmt: skip
KINDS = {kind.name: kind for kind in (GAN, UPSCALER)}
# kinds that a room above reads: what they are in words
ELSEWHERE = {
    "diffusion-baseline": "a diffusion model, which turns prompts into pictures step by step",
    "diffusion-student": "the few-step student of a diffusion model",
}
_LINK_BYTES = 500
OWN_ENTRIES = ("config.json", *(kind.weights for kind in KINDS.values()), "text_encoder", "README.md")
HUB_PATTERNS = ["*.safetensors", "*.json", "README.md"]
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


# --- reading ---


def find_folder(path_or_hub_name: str | Path) -> Path:
    """The local folder of a model: a path that exists, or a snapshot of `owner/name` from the Hub."""
    path = Path(path_or_hub_name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise WorkbenchError(f"{path} is a file: give the folder that holds config.json and the weights.")
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


def read_config(folder: Path, kind: Kind = GAN) -> dict[str, Any]:
    """config.json after checks: a missing, damaged, foreign or other-version folder, or one of another kind,
    is a WorkbenchError.
    """
    names = {entry.name for entry in folder.iterdir()}
    pickles = sorted(name for name in names if name.lower().endswith(_PICKLES))
    if pickles and kind.weights not in names:
        raise WorkbenchError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when opened and is "
            f"never read: get the model as {kind.weights}."
        )
    config = read_json(folder / "config.json") if "config.json" in names else {}
    other = KINDS.get(str(config.get("kind")), kind)
    if other is not kind:
        raise WorkbenchError(
            f"{folder} holds {other.what}: expected {kind.what}. Give another folder; {other.where}."
        )
    if (named := str(config.get("kind"))) in ELSEWHERE and named != kind.name:
        raise WorkbenchError(
            f"{folder} holds {ELSEWHERE[named]}: expected {kind.what}. Give another folder; `workbench "
            "compare` takes it."
        )
    needed = ("config.json", kind.weights, *(("text_encoder",) if reads_text(config, kind) else ()))
    if missing := [name for name in needed if name not in names]:
        raise WorkbenchError(
            f"The model folder {folder} lacks {', '.join(missing)}: it is no model folder or was half "
            "copied; copy it again."
        )
    if config.get("kind") != kind.name:
        raise WorkbenchError(
            f"{folder}/config.json is of the kind {config.get('kind')!r}: expected {kind.name!r}, a model "
            "folder."
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


def reads_text(config: Mapping[str, Any], kind: Kind = GAN) -> bool:
    """Whether the model of a config.json reads prompts; one without text has no text encoder beside it."""
    network = config.get(kind.network)
    return not isinstance(network, dict) or network.get("text_dim", "") is not None


def load_network(folder: Path, config: Mapping[str, Any], kind: Kind = GAN) -> tuple[Any, str]:
    """The network in float32 on the CPU, and the SHA-256 of its file. Shapes are checked before it takes
    memory.
    """
    path = folder / kind.weights
    try:
        network_config = kind.config(**config.get(kind.network, {}))
    except WorkbenchError as error:
        raise WorkbenchError(f"{folder}/config.json describes no {kind.network}: {error}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise WorkbenchError(
            f"{folder}/config.json describes a {kind.network} this version does not know ({error}): "
            "update the workbench or save the model again."
        ) from error
    state = read_tensors(path)  # names a truncated file
    found = _file_hash(path)
    expected = config.get("weights", {}).get(kind.weights)
    if expected is not None and expected != found:
        raise WorkbenchError(
            f"{path} is not the file that config.json describes (SHA-256 {found[:10]}…, expected "
            f"{str(expected)[:10]}…): it was changed or copied from another model; copy the folder again."
        )
    spoilt = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if spoilt is not None:
        raise WorkbenchError(f"{path} holds NaN or infinity in {spoilt}: use a save from before that.")
    check_shapes(_shapes_of(kind, network_config, folder), state, path)
    with torch.random.fork_rng(devices=[]):  # fresh weights draw from the caller's generator
        network = kind.build(network_config)
    load_strict(network, state, str(path))
    return network.eval().requires_grad_(False), found


def _shapes_of(kind: Kind, config: Any, folder: Path) -> Mapping[str, Tensor]:
    """The state of a network without its memory."""
    try:
        with torch.device("meta"):
            return kind.build(config).state_dict()
    except (RuntimeError, TypeError, OverflowError) as error:  # numbers that torch cannot even count
        raise WorkbenchError(
            f"{folder}/config.json describes a {kind.network} larger than any machine: copy the folder again."
        ) from error


def load_text_encoder(folder: Path) -> TextEncoder:
    """The frozen text tower of a model folder, in it or where its link leads.

    Raises WorkbenchError for a link to nothing.
    """
    place = folder / "text_encoder"
    if place.is_file() and place.stat().st_size < _LINK_BYTES:
        # git without symbolic links, as on Windows, writes a link as a file that holds its target
        place = folder / place.read_text(encoding="utf-8", errors="replace").strip()
    if not place.is_dir():
        raise WorkbenchError(
            f"The text encoder of {folder} is a link, and what it leads to is not beside it: copy the model "
            "with what its links mean (cp -rL), or the folder that it lies in."
        )
    with torch.random.fork_rng(devices=[]):
        return TextEncoder.from_pretrained(place)


def _file_hash(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# --- writing ---


def pack(state: Mapping[str, Tensor]) -> tuple[bytes, bool]:
    """The bytes of the network's safetensors, and whether they hold `state` exactly.

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
                raise WorkbenchError(
                    f"The weights hold NaN or infinity in {key}: save an earlier checkpoint."
                )
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
    kind: Kind = GAN,
) -> Path:
    """Write all of it beside its place, then move it there. An existing folder with files is refused, or with
    `overwrite` exchanged as a whole if it is a model folder; what else lies in it (samples) stays."""
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file: choose another folder for the model.")
    if folder.name in ("", ".."):  # the folder is exchanged as a whole, from beside it
        raise WorkbenchError(
            f"{folder} is no name of a folder: a model is written beside it and moved there. Give it a name, "
            f"such as {folder / 'model'}."
        )
    full = folder.is_dir() and any(folder.iterdir())
    if full and not overwrite:
        raise WorkbenchError(f"{folder} holds files and is not overwritten: choose an empty or new folder.")
    if full and not (folder / "config.json").is_file():
        raise WorkbenchError(f"{folder} holds files but no model: choose an empty or new folder.")
    tag = uuid.uuid4().hex[:8]
    beside, old = folder.with_name(f"{folder.name}.tmp-{tag}"), folder.with_name(f"{folder.name}.old-{tag}")
    try:
        beside.mkdir(parents=True)
        (beside / kind.weights).write_bytes(weights)
        if text_encoder is not None:
            text_encoder.save_pretrained(beside / "text_encoder")
        (beside / "README.md").write_text(readme, encoding="utf-8")
        described = {**config, "weights": {kind.weights: recipes.sha256(weights)}}
        write_json(beside / "config.json", described)
        if folder.is_dir():
            os.replace(folder, old)
        os.replace(beside, folder)
        if old.is_dir():
            for entry in [e for e in old.iterdir() if e.name not in (*OWN_ENTRIES, kind.weights)]:
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


def upload(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
    """Create `owner/name` on the Hub if need be and upload the folder; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with hub.clear_errors(repo_id, lambda: f"{repo_id} was not uploaded"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a GigaGAN model")
    return getattr(done, "repo_url", None) or f"https://huggingface.co/{repo_id}"
