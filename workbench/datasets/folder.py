"""A data set folder: pictures with captions on disk, read from anywhere, written for Shepherd World.

The layout is Hugging Face's `imagefolder`, so `datasets.load_dataset("imagefolder", data_dir=…)` reads it
too:

    metadata.jsonl        one JSON object a picture: file_name, text, then whatever else is known (the
    world's factors) images/000000.png …   the pictures; any name and any depth will do for a folder of
    one's own dataset.json          written folders only: world version, seed, resolution, count (pictures
    that metadata.jsonl names) README.md             written folders only: the data card
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from workbench.datasets import captions, world
from workbench.datasets.rows import Row, read_folder, read_picture
from workbench.errors import WorkbenchError
from workbench.images import clear_os_error, to_uint8, write_whole
from workbench.noise import check_seed

__all__ = ["Progress", "Row", "picture_name", "read_folder", "write_text", "write_world"]

SCHEMA = 1
# Raise it whenever a picture or a caption of the same (seed, index) changes; a set is never grown with
# another world's.
WORLD_VERSION = 1
_BESIDE = r"\.tmp-[0-9a-f]+"
Progress = bool | Callable[[int, int], None]

_CARD = """\
---
license: mit
task_categories: [text-to-image]
language: [en]
tags: [synthetic, shepherd-world]
---

# Shepherd World

German shepherds in a small three-dimensional world, ray-marched from signed distance functions and
captioned from the very factors they were drawn from: coat, pose, scene and light by name, and the view, the
place, the size, the head, the tail and the tongue as numbers.

- **Source**: drawn by the GigaGAN workbench (`workbench dataset world`); no photograph and no other model
took part.
  `dataset.json` holds the version, the seed, the resolution and the count, from which the same files are
  made again.
- **Licence**: MIT, like the workbench.
- **Layout**: Hugging Face `imagefolder`; each line of `metadata.jsonl` holds `file_name`, `text` and every
factor. - **Limits**: one breed, five coats, three poses, five scenes and three lights; English captions
from fixed sentence
  forms. It is made to check claims exactly, not to stand for photographs.
"""


def write_world(
    path: str | Path,
    *,
    count: int,
    seed: int,
    resolution: int = 64,
    workers: int | None = None,
    batch: int = 16,
    progress: Progress = True,
) -> Path:
    """Draws pictures 0 … count-1 of Shepherd World `seed` into the folder at `path`, and returns it.

    Interrupted at any point, the same call goes on: whole pictures stay, and the files are in the end the
    same to the bit. A larger count grows the set. workers: processes with one thread each (None: one a
    core; 1: none, the drawing happens here), which a script starts under `if __name__ == "__main__":` as
    Python asks. progress: a bar, or a function of (done, count), or False. Raises WorkbenchError when the
    folder holds something else or cannot be written.
    """
    _check_request(count=count, seed=seed, resolution=resolution, workers=workers, batch=batch)
    folder = Path(path)
    recipe = {
        "schema": SCHEMA,
        "kind": "shepherd-world",
        "world_version": WORLD_VERSION,
        "seed": seed,
        "resolution": resolution,
    }
    try:
        _refuse_other_contents(folder, recipe, count)
        folder.mkdir(parents=True, exist_ok=True)
        with _only_writer(folder):
            _write(folder, recipe, count, workers or _cores(), batch, progress)
    except OSError as error:
        # Without a file name it is a sentence already, by write_whole.
        clear = clear_os_error(error, error.filename) if error.filename else error
        raise WorkbenchError(f"{clear} Pictures drawn so far are kept.") from error
    except BrokenProcessPool as error:
        raise WorkbenchError(
            "A drawing process ended without a word: for want of memory, or because the calling script has "
            'no `if __name__ == "__main__":`. Whole pictures are kept; run the same command again to go on, '
            "with workers=1 if need be."
        ) from error
    return folder


def picture_name(index: int) -> str:
    """Where picture `index` of a written set lies in its folder."""
    return f"images/{index:06d}.png"


def write_text(path: Path, text: str) -> None:
    """Writes `path` whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def _cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_request(*, count: int, seed: int, resolution: int, workers: int | None, batch: int) -> None:
    check_seed(seed)
    for name, value, low, high in (
        ("count", count, 1, 10_000_000),
        ("resolution", resolution, 16, 2048),
        ("workers", workers, 1, 1024),
        ("batch", batch, 1, 4096),
    ):
        if name == "workers" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WorkbenchError(f"{name} is {value!r}: expected a whole number from {low} to {high}.")


def _refuse_other_contents(folder: Path, recipe: dict, count: int) -> None:
    """Lets pass: nothing, an empty folder, a set of the same recipe. Reads only."""
    if folder.exists() and not folder.is_dir():
        raise WorkbenchError(f"{folder} is a file. Expected a folder to write the data set into.")
    if not folder.exists() or not _visible(folder):
        return
    known = folder / "dataset.json"
    if not known.is_file():
        # Killed on its very first write, a run leaves only that.
        if all(re.fullmatch(r"dataset\.json" + _BESIDE, entry.name) for entry in _visible(folder)):
            return
        raise WorkbenchError(
            f"{folder} already holds {_visible(folder)[0].name} and is no set of Shepherd World. "
            "Nothing was written; choose another folder."
        )
    held = _read_recipe(known)
    for key, value in recipe.items():
        if held.get(key) != value:
            raise WorkbenchError(
                f"{folder} holds a set with {key.replace('_', ' ')} {held.get(key)!r}, not {value!r}. "
                "Nothing was written; choose another folder."
            )
    own = re.compile(
        r"(dataset\.json|metadata\.jsonl|README\.md|images|cache-\d+\.safetensors)" + f"({_BESIDE})?"
    )
    pictures = re.compile(r"\d{6,}\.png" + f"({_BESIDE})?")
    images = folder / "images"
    foreign = [entry for entry in _visible(folder) if not own.fullmatch(entry.name)]
    inside = _visible(images) if images.is_dir() else []
    foreign += [entry for entry in inside if not pictures.fullmatch(entry.name)]
    if foreign:
        raise WorkbenchError(
            f"{folder} also holds {foreign[0].relative_to(folder)}, which is not the set's. "
            "Nothing was written; move it away or choose another folder."
        )
    drawn = max((int(entry.stem) + 1 for entry in inside if entry.suffix == ".png"), default=0)
    if max(drawn, held["count"]) > count:
        raise WorkbenchError(
            f"{folder} holds {max(drawn, held['count'])} pictures already, more than the {count} asked "
            "for. Nothing was written; ask for at least as many or choose another folder."
        )


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_recipe(path: Path) -> dict:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkbenchError(
            f"{path} cannot be read ({error}). Nothing was written; choose another folder."
        ) from error
    if not isinstance(held, dict) or not isinstance(held.get("count"), int):
        raise WorkbenchError(
            f"{path} is no data set of Shepherd World. Nothing was written; choose another folder."
        )
    return held


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Holds the folder against a second writer; the lock ends with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows; two writers of one recipe write the same bytes
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkbenchError(
                f"Another process is writing into {folder}. Wait for it or choose another folder."
            ) from error
        yield
    finally:
        os.close(handle)


def _refuse_other_world(folder: Path, recipe: dict) -> None:
    """Draws picture 0 again: what another world drew under this version must not be mixed in.

    One grey level of mean difference is allowed, for another machine's rounding.
    """
    first = folder / picture_name(0)
    if not _whole(first, recipe["resolution"]):
        return
    drawn = to_uint8(world.render([world.draw_factors(recipe["seed"], 0)], recipe["resolution"]))[0]
    apart = np.abs(drawn.astype(np.int16) - np.asarray(read_picture(first))).mean()
    if apart > 1:
        raise WorkbenchError(
            f"{first} is not what this version of the world draws for seed {recipe['seed']} ({apart:.1f} "
            "grey "
            "levels apart). Nothing was written; choose another folder."
        )


def _write(folder: Path, recipe: dict, count: int, workers: int, batch: int, progress: Progress) -> None:
    _refuse_other_world(folder, recipe)
    for stale in [*_visible(folder), *(_visible(folder / "images") if (folder / "images").is_dir() else [])]:
        if re.search(_BESIDE + "$", stale.name):
            stale.unlink(missing_ok=True)  # left by a writer that was killed; we hold the lock
    if not (folder / "dataset.json").exists():
        write_text(folder / "dataset.json", _json(recipe | {"count": 0}))
    if not (folder / "README.md").exists():
        write_text(folder / "README.md", _CARD)
    (folder / "images").mkdir(exist_ok=True)
    missing = [
        index for index in range(count) if not _whole(folder / picture_name(index), recipe["resolution"])
    ]
    chunks = [missing[at : at + batch] for at in range(0, len(missing), batch)]
    with _reporter(progress, count, done=count - len(missing)) as report:
        if workers == 1 or len(chunks) <= 1:
            for chunk in chunks:
                report(_draw(folder, recipe["seed"], recipe["resolution"], chunk))
        else:
            _draw_in_processes(folder, recipe, chunks, min(workers, len(chunks)), report)
    lines = (_json_line(recipe["seed"], index) for index in range(count))
    write_text(folder / "metadata.jsonl", "".join(lines))
    write_text(folder / "dataset.json", _json(recipe | {"count": count}))


def _draw_in_processes(
    folder: Path, recipe: dict, chunks: list[list[int]], workers: int, report: Callable[[int], None]
) -> None:
    # spawn: a fork would copy torch's thread pool in whatever state it is in.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        jobs = [pool.submit(_draw, folder, recipe["seed"], recipe["resolution"], chunk) for chunk in chunks]
        try:
            for job in as_completed(jobs):
                report(job.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, once
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent tells nobody, and its pool would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _draw(folder: Path, seed: int, resolution: int, indices: list[int]) -> int:
    """Draws and writes the pictures `indices`; returns how many."""
    pictures = to_uint8(world.render([world.draw_factors(seed, index) for index in indices], resolution))
    for index, picture in zip(indices, pictures, strict=True):
        file = folder / picture_name(index)
        beside = file.with_name(f"{file.name}.tmp-{os.getpid()}")
        # Through memory: of a full disk Pillow's own writer says "encoder error -2", with no reason.
        coded = io.BytesIO()
        Image.fromarray(picture).save(coded, format="PNG")
        try:
            beside.write_bytes(coded.getbuffer())
            os.replace(beside, file)
        except OSError as error:
            raise clear_os_error(error, file) from error  # what a write raises names no file
        finally:
            beside.unlink(missing_ok=True)
    return len(indices)


def _whole(file: Path, resolution: int) -> bool:
    """Whether `file` is a whole picture of ours, to be kept."""
    try:
        return file.is_file() and read_picture(file).size == (resolution, resolution)
    except WorkbenchError:
        return False  # cut short by a power loss, say: drawn again


def _json_line(seed: int, index: int) -> str:
    factors = world.draw_factors(seed, index)
    row = {"file_name": picture_name(index), "text": captions.caption(factors, seed, index)} | asdict(factors)
    return json.dumps(row) + "\n"


def _json(value: dict) -> str:
    return json.dumps(value, indent=2) + "\n"


@contextlib.contextmanager
def _reporter(progress: Progress, count: int, done: int) -> Iterator[Callable[[int], None]]:
    if callable(progress):

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress(done, count)

        tell(0)
        yield tell
    else:
        with tqdm(total=count, initial=done, desc="drawing", unit=" pictures", disable=not progress) as bar:
            yield bar.update
