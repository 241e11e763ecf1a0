"""Checkpoints: `checkpoints/step-<cur_nimg>/`, written aside, then renamed.

Safetensors for tensors, JSON for the rest.

A folder of that name is always whole: every file's length and CRC-32 stand in its state.json, which is
checked before anything is loaded. The last good checkpoint is never touched while a new one is written.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.images import clear_os_error
from workbench.training import migrations

FOLDER = "checkpoints"
_STATE = "state.json"
Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One that is whole. state: JSON facts as saved, `cur_nimg` among them."""

    folder: Path
    state: dict

    @property
    def cur_nimg(self) -> int:
        return self.state["cur_nimg"]

    def tensors(self) -> dict[str, Tensors]:
        """All tensors by part ("G", "opt_G", ...), on the CPU."""
        return {
            name.removesuffix(".safetensors"): load((self.folder / name).read_bytes())
            for name in self.state["files"]
        }


def write(run: Path, parts: Mapping[str, Tensors], state: dict) -> Path:
    """Save `parts` and `state` (JSON, with cur_nimg) as the checkpoint of that image count.

    Returns its folder.

    OSError (disk full, no permission) comes as one sentence; what was half-written is gone then and older
    checkpoints are as they were.
    """
    root = Path(run) / FOLDER
    final = root / f"step-{state['cur_nimg']:09d}"
    aside = root / f"tmp-{final.name}-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        files = {
            f"{name}.safetensors": _write_file(aside / f"{name}.safetensors", save(_plain(tensors)))
            for name, tensors in parts.items()
        }
        text = json.dumps({"schema": migrations.CURRENT, **state, "files": files}, indent=1, allow_nan=False)
        _write_file(aside / _STATE, text.encode())
        _put_in_place(aside, final)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise clear_os_error(error, final) from error
    return final


def list_checkpoints(run: str | Path) -> list[Path]:
    """Folders of finished checkpoints, oldest first."""
    return sorted(p for p in (Path(run) / FOLDER).glob("step-*") if (p / _STATE).is_file())


def read(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, after its files' lengths and checksums were compared; one of an earlier
    version as this one would have written it.

    Raises WorkbenchError for one that is damaged, or of a later version.
    """
    try:
        state = json.loads((folder / _STATE).read_text())
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"The checkpoint {folder} cannot be read ({error}): delete this folder and resume."
        ) from error
    schema = state.get("schema") if isinstance(state, dict) else None
    if schema not in range(1, migrations.CURRENT + 1):
        later = isinstance(schema, int) and schema > migrations.CURRENT
        raise WorkbenchError(
            f"The checkpoint {folder} has schema {schema!r}, and this workbench reads 1 to "
            f"{migrations.CURRENT}: "
            + ("a later version wrote it; update the workbench." if later else "it is none of ours.")
        )
    for name, (length, checksum) in state["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != length or zlib.crc32(path.read_bytes()) != checksum:
            raise WorkbenchError(
                f"The checkpoint {folder} is damaged ({name} is missing or changed): delete this folder "
                "and resume; the one before it is used then."
            )
    return Checkpoint(folder=folder, state=migrations.to_current(state))


def newest(run: str | Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole (None when there is none), and a sentence for each damaged one
    passed over.
    """
    complaints = []
    for folder in reversed(list_checkpoints(run)):
        try:
            return read(folder), complaints
        except WorkbenchError as error:
            complaints.append(str(error))
    return None, complaints


def put_aside(run: str | Path) -> list[str]:
    """Rename the checkpoints that cannot be read to damaged-…, newest first, down to one that is whole; a
    sentence for each. Only for the one process that holds the run.

    Else the name of such a folder would count as the newest checkpoint: nothing would be saved at its image
    count, and whole ones below it would be deleted as the older ones.
    """
    said = []
    for folder in reversed(list_checkpoints(run)):
        try:
            read(folder)
            break
        except WorkbenchError as error:
            aside = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(folder, aside)
            said.append(f"{str(error).split(': ')[0]}. It was put aside as {aside.name}.")
    return said


def newest_nimg(run: str | Path) -> int | None:
    """Image count of the newest finished checkpoint, without opening it."""
    folders = list_checkpoints(run)
    return int(folders[-1].name.removeprefix("step-")) if folders else None


def best(run: str | Path) -> Checkpoint | None:
    """The whole checkpoint with the smallest `frechet_ratio` of those that were evaluated."""
    rated = [(ratio, folder) for folder in list_checkpoints(run) if (ratio := _ratio(folder)) is not None]
    for _, folder in sorted(rated):
        try:
            return read(folder)
        except WorkbenchError:  # damaged: the next best serves
            continue
    return None


def prune(run: str | Path, keep: int) -> list[Path]:
    """Delete all but the `keep` newest and the best by `frechet_ratio`.

    Returns what was deleted. Clears leftovers too.
    """
    folders = list_checkpoints(run)
    rated = [(ratio, folder) for folder in folders if (ratio := _ratio(folder)) is not None]
    kept = set(folders[-keep:]) | ({min(rated)[1]} if rated else set())
    gone = [folder for folder in folders if folder not in kept]
    for folder in gone:
        _remove(folder)
    return gone


def drop_after(run: str | Path, cur_nimg: int) -> None:
    """Delete the checkpoints beyond `cur_nimg`: of a stretch that was rolled back."""
    for folder in list_checkpoints(run):
        if int(folder.name.removeprefix("step-")) > cur_nimg:
            _remove(folder)


def clear_leftovers(run: str | Path) -> None:
    """Remove what writers that were killed left aside. Only for the one process that holds the run."""
    for folder in (Path(run) / FOLDER).glob("tmp-*"):
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- modules and optimisers as flat tensors


def module_tensors(module: nn.Module) -> Tensors:
    """Parameters and persistent buffers by name."""
    return dict(module.state_dict())


def load_module(module: nn.Module, tensors: Tensors, name: str) -> None:
    """Strict: a mismatch names the tensor with the shape expected and the shape found."""
    own = module.state_dict()
    for key in sorted(own.keys() | tensors.keys()):
        want = list(own[key].shape) if key in own else "nothing"
        found = list(tensors[key].shape) if key in tensors else "nothing"
        if want != found:
            raise WorkbenchError(
                f"The checkpoint does not fit this model: {name}.{key} is {found}, expected {want}. "
                "Resume with the version and preset that wrote it, or start in a new folder."
            )
    module.load_state_dict(tensors)  # copies in place: memory format and device stay the module's


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> Tensors:
    """State of an optimiser as "<parameter>/<field>" -> tensor; names: id(parameter) -> name."""
    return {
        f"{names[id(p)]}/{field}": torch.as_tensor(value)
        for p, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, names: Mapping[int, str]) -> None:
    """Put back what `optimizer_tensors` gave.

    Learning rates are the trainer's to set. Raises WorkbenchError.
    """
    fields: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, field = key.rpartition("/")
        fields.setdefault(name, {})[field] = value
    parameters = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
    if stray := sorted(set(fields) - set(parameters)):
        raise WorkbenchError(
            f"The checkpoint's optimiser knows {stray[0]}, which this model lacks: "
            "resume with the version that wrote it."
        )
    optimizer.state.clear()
    on_device = {
        id(p): bool(group.get("fused") or group.get("capturable"))
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, saved in fields.items():
        p = parameters[name]
        optimizer.state[p] = {field: _like(value, p, on_device[id(p)]) for field, value in saved.items()}


def parameter_names(modules: Mapping[str, nn.Module]) -> dict[int, str]:
    """id(parameter) -> "<module>.<name>"."""
    return {
        id(p): f"{part}.{name}" for part, module in modules.items() for name, p in module.named_parameters()
    }


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no floating tensor holds NaN or infinity (one synchronisation)."""
    floating = [t.detach() for t in tensors if t.is_floating_point() and t.numel()]
    if not floating:
        return True
    # The largest magnitude, not the 2-norm: squares of large but finite weights would overflow.
    largest = torch._foreach_norm(floating, float("inf"))
    return bool(torch.stack([value.float() for value in largest]).isfinite().all())


def _like(value: Tensor, p: Tensor, on_device: bool) -> Tensor:
    """A saved field beside its parameter: same device and memory layout.

    Adam's step count, a scalar, lives on the CPU unless the optimiser is fused or capturable
    (`on_device`).
    """
    if value.shape != p.shape or value.dim() == 0:
        return value.to(p.device, copy=True) if on_device else value.clone()
    return torch.empty_like(p, dtype=value.dtype, requires_grad=False).copy_(value)


def _plain(tensors: Tensors) -> Tensors:
    """Tensors as safetensors takes them: on the CPU, contiguous, no two on one memory."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        plain[name] = value.clone() if value.untyped_storage().data_ptr() in seen else value
        seen.add(plain[name].untyped_storage().data_ptr())
    return plain


def _write_file(path: Path, data: bytes) -> tuple[int, int]:
    """Write and force to disk; (length, CRC-32)."""
    with open(path, "xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    return len(data), zlib.crc32(data)


def _put_in_place(aside: Path, final: Path) -> None:
    """Rename; one of the same name (damaged, or of a training that was rolled back) makes room first."""
    if final.exists():
        _remove(final)
    os.rename(aside, final)
    if os.name == "posix":
        handle = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(folder: Path) -> None:
    """Rename before deleting: a half-deleted checkpoint must not look like one."""
    gone = folder.with_name(f"tmp-{folder.name}-gone-{os.getpid()}")
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _ratio(folder: Path) -> float | None:
    try:
        return json.loads((folder / _STATE).read_text()).get("frechet_ratio")
    except (OSError, ValueError):
        return None
