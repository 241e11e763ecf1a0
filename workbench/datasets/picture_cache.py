"""Decoded pictures of a data set in one file that is mapped into memory, so that sets larger than it train.

`cache-<resolution>.safetensors`: `images` uint8 [N, R, R, 3], `partners` int64 [N], for shards also `rows`
(JSON as uint8); `cache-<resolution>-aspects.safetensors` holds `images` [P, 3] and `sizes` [N, 2] instead
(`aspects.py`). The metadata holds the key of what they were decoded from. It is written once, front to back,
under another name that becomes its own at the end, and read through a mapping of the file.

Legend: N pictures, R pixels a side, P pixels in all.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor

from workbench.datasets.writing import check_disk, size_text
from workbench.errors import WorkbenchError

# Room for the JSON in front of the pictures, whose number is known only when the last is written.
_HEADER_BYTES = 1024
_MOST_HEADER = 2**20
_DTYPES = {torch.uint8: "U8", torch.int64: "I64"}
_NUMPY = {"U8": np.uint8, "I64": np.int64}
_CHUNK_BYTES = 16 * 2**20

Item = TypeVar("Item")
Chunks = Callable[[], Iterable[np.ndarray]]
Rest = Callable[[], dict[str, Tensor]]


def cache_file(folder: Path, resolution: int, suffix: str = "") -> Path:
    """Where the decoded pictures of `folder` are kept."""
    return folder / f"cache-{resolution}{suffix}.safetensors"


def load_or_make(
    file: Path | None, key: str, resolution: int, chunks: Chunks, rest: Rest, *, count: int | None = None
) -> dict[str, Tensor]:
    """The tensors of the cache `file`, decoded and written first unless they are there under `key`.

    chunks: begins the decoding, uint8 [n, R, R, 3] or [p, 3] at a time; rest: called once they are through,
    the other tensors. count: N where it is known before. Of several processes one writes and the others wait
    for it. Where the file cannot be written, or is None, the pictures are held in memory; WorkbenchError when
    they do not fit there either.
    """
    if file is None:
        return _in_memory(resolution, chunks, rest, count)
    held = read(file, key)
    if held is not None:
        return held
    try:
        with _turn(file):
            # Another process may have made it while this one waited.
            held = read(file, key, warn=True)
            if held is None:
                if count is not None:
                    _check_room(file, count, resolution)
                write(file, key, chunks(), rest)
                held = read(file, key)
    except OSError as error:
        warnings.warn(
            f"{file} could not be written ({error}); the pictures are held in memory and decoded again next "
            "time.",
            stacklevel=3,
        )
    return _in_memory(resolution, chunks, rest, count) if held is None else held


def read(file: Path, key: str, *, warn: bool = False) -> dict[str, Tensor] | None:
    """The cached tensors, the pictures mapped and not read; None when there is no cache, or one of other
    pictures, or a damaged one (of which `warn` tells)."""
    if not file.is_file():
        return None
    try:
        header, start = _read_header(file)
        if header["__metadata__"]["key"] != key:
            return None
        return {
            name: _tensor(file, facts, start, mapped=name == "images")
            for name, facts in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        if warn:  # made again from the pictures: worth a word, not a stop
            warnings.warn(f"{file} cannot be read ({error}); it is made again.", stacklevel=4)
        return None


def _read_header(file: Path) -> tuple[dict, int]:
    """The JSON in front of the tensors, and where they begin; ValueError where the file is not whole."""
    with open(file, "rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8).ljust(8, b"\0"))
        if not 2 <= length <= _MOST_HEADER:
            raise ValueError("no safetensors header")
        header = json.loads(opened.read(length))
    ends = [facts["data_offsets"][1] for name, facts in header.items() if name != "__metadata__"]
    if file.stat().st_size != 8 + length + max(ends):
        raise ValueError("it is cut short")
    return header, 8 + length


def _tensor(file: Path, facts: dict, start: int, *, mapped: bool) -> Tensor:
    """The pictures as a view into the file (`mapped`), everything else read."""
    dtype, shape = _NUMPY[facts["dtype"]], tuple(facts["shape"])
    start += facts["data_offsets"][0]
    if not mapped:
        count = int(np.prod(shape))
        return torch.from_numpy(np.fromfile(file, dtype, count, offset=start).reshape(shape))
    # Read-only: the writable private mapping that safetensors makes has to fit into memory and swap.
    view = np.memmap(file, dtype, "r", start, shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(view)


def write(file: Path, key: str, chunks: Iterable[np.ndarray], rest: Rest) -> None:
    """Writes the cache whole or not at all, in one pass; only one chunk is in memory at a time.

    chunks: uint8 [n, R, R, 3] or [p, 3]; rest: the other tensors, asked for after the last chunk. Raises
    OSError.
    """
    part = file.with_name(f"{file.name}.part-{os.getpid()}")
    try:
        with open(part, "wb") as out:
            out.write(b" " * _HEADER_BYTES)
            count, shape = 0, ()
            for chunk in chunks:
                out.write(np.ascontiguousarray(chunk).data)
                count, shape = count + len(chunk), chunk.shape[1:]
            tensors = rest()
            for tensor in tensors.values():
                out.write(tensor.numpy().data)
            _write_header(out, key, {"images": ((count, *shape), "U8")} | _described(tensors))
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, file)
    finally:
        with contextlib.suppress(OSError):  # moved, or never made; the error on the way is the one to tell
            part.unlink()


def decode(
    items: Iterable[Item],
    picture: Callable[[Item], Image.Image | None],
    resolution: int,
    shape: Callable[[Image.Image, int], np.ndarray] | None = None,
    join: Callable[[list[np.ndarray]], np.ndarray] = np.stack,
) -> Iterator[tuple[list[Item], np.ndarray]]:
    """(items, uint8 [n, R, R, 3]) of some at a time, in order; an item whose picture is None is left out.

    shape: what becomes of a picture, `fit` when None; join: of several of these. Decoding leaves Python's
    lock, so threads help; their number changes nothing of the result.
    """

    def one(item: Item) -> np.ndarray | None:
        found = picture(item)
        return None if found is None else (shape or fit)(found, resolution)

    size = min(1024, max(16, _CHUNK_BYTES // (resolution**2 * 3)))
    items = iter(items)
    with ThreadPoolExecutor() as pool:
        while some := list(islice(items, size)):
            whole = [(item, pixels) for item, pixels in zip(some, pool.map(one, some), strict=True)]
            whole = [pair for pair in whole if pair[1] is not None]
            if whole:
                yield [item for item, _ in whole], join([pixels for _, pixels in whole])


def fit(picture: Image.Image, resolution: int) -> np.ndarray:
    """uint8 [R, R, 3] of an RGB picture: shorter side brought to R, antialiased, the centre cut out."""
    if picture.size != (resolution, resolution):
        picture = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def check_memory(count: int, resolution: int) -> None:
    """WorkbenchError when `count` pictures do not fit into free memory."""
    needed, free = count * resolution**2 * 3, psutil.virtual_memory().available
    if needed > 0.8 * free:
        raise WorkbenchError(
            f"{count} pictures of {resolution} px need {needed / 2**30:.1f} GiB of memory and "
            f"{free / 2**30:.1f} GiB are free. Choose a smaller resolution or fewer pictures, or keep the "
            "data set on a disk that takes its cache."
        )


def _in_memory(resolution: int, chunks: Chunks, rest: Rest, count: int | None) -> dict[str, Tensor]:
    if count is not None:
        check_memory(count, resolution)
    parts: list[np.ndarray] = []
    for chunk in chunks():
        parts.append(chunk)
        if count is None:
            check_memory(chunk.nbytes // (resolution**2 * 3), resolution)
    return {"images": torch.from_numpy(_joined(parts)), **rest()}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts as one array; each is let go as soon as it is copied."""
    parts = list(parts)
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), dtype=np.uint8)
    at = len(whole)
    while parts:
        part = parts.pop()
        whole[at - len(part) : at] = part
        at -= len(part)
    return whole


def _check_room(file: Path, count: int, resolution: int) -> None:
    """OSError when the disk has no room for the cache, before an hour of decoding shows it."""
    needed = count * resolution**2 * 3
    try:
        check_disk(file.parent, needed)
    except WorkbenchError as error:
        raise OSError(f"its {size_text(needed)} do not fit on the disk") from error


def _described(tensors: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (tuple(tensor.shape), _DTYPES[tensor.dtype]) for name, tensor in tensors.items()}


def _write_header(out: BinaryIO, key: str, described: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """The head of the safetensors format, in front of tensors that are already written one after another."""
    header: dict[str, dict] = {"__metadata__": {"key": key}}
    end = 0
    for name, (shape, dtype) in described.items():
        begin, end = end, end + int(np.prod(shape)) * (8 if dtype == "I64" else 1)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    out.seek(0)
    out.write(struct.pack("<Q", _HEADER_BYTES - 8) + text.ljust(_HEADER_BYTES - 8))


@contextlib.contextmanager
def _turn(file: Path) -> Iterator[None]:
    """One writer of `file` at a time; the lock ends with the process, however it ends.

    Whoever holds it removes what killed writers left.
    """
    with open(file.with_name(f".{file.stem}.lock"), "a") as handle:
        if _locked(handle):
            for left in file.parent.glob(f"{file.name}.part-*"):
                left.unlink(missing_ok=True)
        yield


def _locked(handle: TextIO) -> bool:
    """Waits for the lock; False on systems without any, where two writers write the same side by side."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True
