"""Three ways to draw pictures of Shepherd World by number: here, in processes of this machine, with Ray.

Every picture on a CPU is drawn by one thread, so all three write the same bits; a GPU rounds in its own way.
Each way skips nothing and writes whole files; `report` is told how many pictures were just finished.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.cluster import last_line
from workbench.datasets import writing
from workbench.datasets.world.drawing import render
from workbench.datasets.world.factors import WORLD_VERSION, draw_factors
from workbench.datasets.writing import picture_name
from workbench.errors import WorkbenchError
from workbench.images import to_uint8

Report = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What is drawn: pictures of Shepherd World `seed`, `resolution` pixels a side, into `folder`/images."""

    folder: Path
    seed: int
    resolution: int


# --- here ---


def draw_here(canvas: Canvas, indices: Sequence[int], *, device: str = "cpu") -> int:
    """Draws and writes the pictures `indices` in this process; returns how many."""
    pictures = _pictures(canvas.seed, canvas.resolution, indices, device)
    files = [canvas.folder / picture_name(index) for index in indices]
    if device == "cpu":
        for file, picture in zip(files, pictures, strict=True):
            writing.write_picture(file, picture)
    else:
        # A GPU draws faster than one core can code PNG.
        with ThreadPoolExecutor() as pool:
            list(pool.map(writing.write_picture, files, pictures))
    return len(indices)


def _pictures(seed: int, resolution: int, indices: Sequence[int], device: str = "cpu") -> np.ndarray:
    """uint8 [N, H, W, 3]."""
    factors = [draw_factors(seed, index) for index in indices]
    with _one_thread() if device == "cpu" else contextlib.nullcontext():
        return to_uint8(render(factors, resolution, device=device))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """torch splits its sums among threads, and their number would show in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# --- processes of this machine ---


def draw_in_processes(canvas: Canvas, chunks: list[list[int]], workers: int, report: Report) -> None:
    """Draws and writes the pictures of all chunks in `workers` processes, which end with this one.

    A script calls it under `if __name__ == "__main__":`, as Python asks. Raises WorkbenchError when one of
    them dies.
    """
    # spawn: a fork would copy torch's thread pool in whatever state it is in.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    with pool:
        try:
            for job in as_completed([pool.submit(draw_here, canvas, chunk) for chunk in chunks]):
                report(job.result())
        except BrokenProcessPool as error:
            raise WorkbenchError(
                "A drawing process ended without a word: for want of memory, or because the calling script "
                'has no `if __name__ == "__main__":`. Whole pictures are kept; run the same command again to '
                "go on, with workers=1 if need be."
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, once
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent tells nobody, and its pool would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


# --- Ray ---


def draw_with_ray(canvas: Canvas, chunks: list[list[int]], cluster: tuple[Any, int], report: Report) -> None:
    """Has the cluster of `workbench.cluster.ray_cluster` draw all chunks, and writes the pictures here.

    Workers share no disk with us: they send PNG files back. A lost machine's chunks are drawn again by
    others. Every machine needs the same version of workbench. Raises WorkbenchError when a worker fails.
    """
    ray, cores = cluster
    draw = ray.remote(num_cpus=1, max_retries=5)(_png_files)
    waiting, running = iter(chunks), {}

    def start() -> None:
        chunk = next(waiting, None)
        if chunk is not None:
            running[draw.remote(WORLD_VERSION, canvas.seed, canvas.resolution, chunk)] = chunk

    try:
        for _ in range(2 * cores):  # one to draw and one to come, so that pictures do not pile up here
            start()
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            chunk = running.pop(done)
            start()
            for index, content in zip(chunk, ray.get(done), strict=True):
                writing.write_bytes(canvas.folder / picture_name(index), content)
            report(len(chunk))
    except ray.exceptions.RayError as error:
        raise WorkbenchError(
            f"A Ray worker could not draw ({last_line(error)}). Every machine of the cluster needs this "
            "version of workbench. Pictures drawn so far are kept; run the same command again."
        ) from error


def _png_files(version: int, seed: int, resolution: int, indices: list[int]) -> list[bytes]:
    """What a Ray worker does, on whichever machine. version: of the world that the driver draws."""
    if version != WORLD_VERSION:
        raise WorkbenchError(f"a worker has version {WORLD_VERSION} of the world, not {version}")
    return [writing.png_bytes(picture) for picture in _pictures(seed, resolution, indices)]
