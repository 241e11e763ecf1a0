"""Shepherd World as a data set folder: resumable, and the same to the bit however many cores drew it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from workbench import hardware
from workbench.cluster import ray_cluster
from workbench.datasets import writing
from workbench.datasets.rows import read_picture
from workbench.datasets.world import captions, workers
from workbench.datasets.world.drawing import render
from workbench.datasets.world.factors import WORLD_VERSION, draw_factors
from workbench.datasets.world.workers import Canvas, Report
from workbench.datasets.writing import Progress, picture_name
from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.noise import check_seed

SCHEMA = 1
_NAME = "a set of Shepherd World"
# Pictures that are timed before the rest begins, and how few are not worth it.
_TIMED, _FEW = 4, 32
_ROW_BYTES = 700  # a line of metadata.jsonl


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Draw with Ray. address: of a running cluster, "auto" or "10.0.0.5:6379" say; None starts one here."""

    address: str | None = None


def write_world(
    path: str | Path,
    *,
    count: int,
    seed: int,
    resolution: int = 64,
    workers: int | None = None,
    batch: int = 16,
    device: str = "cpu",
    ray: Ray | None = None,
    progress: Progress = True,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Draws pictures 0 … count-1 of Shepherd World `seed` into the folder at `path`, and returns it.

    Interrupted at any point, the same call goes on: whole pictures stay, and the files are in the end the
    same to the bit. A larger count grows the set. workers: processes with one thread each (None: one a
    core; 1: none, the drawing happens here), which a script starts under `if __name__ == "__main__":` as
    Python asks. device: "cuda" draws here, on the GPU, equal within its rounding. ray: other machines draw,
    the same bits. progress: a bar, or a function of (done, count), or False. say: is told the time and the
    disk that a longer work takes, measured on its first pictures. Raises WorkbenchError when the folder
    holds something else or cannot be written, or the disk is too small.
    """
    _check_request(count=count, seed=seed, resolution=resolution, workers=workers, batch=batch)
    device = hardware.choose_device(device)
    if ray is not None and device != "cpu":
        raise WorkbenchError(f"Ray's workers draw on CPUs, not on {device!r}: leave the device or Ray out.")
    folder = Path(path)
    recipe = {
        "schema": SCHEMA,
        "kind": "shepherd-world",
        "world_version": WORLD_VERSION,
        "seed": seed,
        "resolution": resolution,
    }
    work = _Work(
        canvas=Canvas(folder=folder, seed=seed, resolution=resolution),
        workers=workers or hardware.usable_cores(),
        batch=batch,
        device=device,
        ray=ray,
        say=say or (lambda text: None),
    )
    with writing.clear_errors():
        writing.refuse_other_contents(folder, recipe, count, name=_NAME)
        folder.mkdir(parents=True, exist_ok=True)
        with writing.only_writer(folder):
            _refuse_other_world(folder, recipe)
            writing.open_set(folder, recipe, card())
            missing = writing.missing_pictures(folder, count, (resolution, resolution))
            with writing.reporter(progress, count, done=count - len(missing)) as report:
                work.draw(missing, report)
            writing.close_set(folder, recipe, (_row(seed, index) for index in range(count)), count)
    return folder


def card() -> str:
    """The data card of a Shepherd World set."""
    return writing.data_card(
        title="Shepherd World",
        tags=["synthetic", "shepherd-world"],
        licence="mit",
        licence_note="Like the workbench that draws it.",
        about="German shepherds in a small three-dimensional world, ray-marched from signed distance "
        "functions and captioned from the very factors they were drawn from: coat, pose, scene and light by "
        "name, and the view, the place, the size, the head, the tail and the tongue as numbers.",
        source="Drawn by the GigaGAN workbench (`workbench dataset world`); no photograph and no other model "
        "took part. `dataset.json` holds the version, the seed, the resolution and the count, from which "
        "the same files are made again.",
        limits="One breed, five coats, three poses, five scenes and three lights; English captions from "
        "fixed sentence forms. It is made to check claims exactly, not to stand for photographs.",
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """How the pictures are drawn: by whom, in what portions, and who is told how long it takes."""

    canvas: Canvas
    workers: int
    batch: int
    device: str
    ray: Ray | None
    say: Callable[[str], None]

    def draw(self, missing: list[int], report: Report) -> None:
        """Draws the pictures `missing`; those it times first are the first of them."""
        if not missing:
            return
        if self.ray is None:
            here = self.device != "cpu" or self.workers == 1 or len(missing) <= self.batch
            drawers = self.device if self.device != "cpu" else _cores(1 if here else self.workers)
            rest = self._estimate(missing, report, 1 if here else self.workers, drawers)
            if here:
                for chunk in self._chunks(rest):
                    report(workers.draw_here(self.canvas, chunk, device=self.device))
            else:
                chunks = self._chunks(rest)
                workers.draw_in_processes(self.canvas, chunks, min(self.workers, len(chunks)), report)
            return
        with ray_cluster(self.ray.address, self.workers, instead="draw without --ray") as cluster:
            rest = self._estimate(missing, report, cluster[1], f"Ray's {_cores(cluster[1])}")
            workers.draw_with_ray(self.canvas, self._chunks(rest), cluster, report)

    def _estimate(self, missing: list[int], report: Report, at_once: int, drawers: str) -> list[int]:
        """Draws the first few pictures, says what the rest will take, and returns the rest.

        Raises WorkbenchError where the disk cannot hold it.
        """
        if len(missing) < _FEW:
            return missing
        first, timed, rest = missing[:1], missing[1 : 1 + _TIMED], missing[1 + _TIMED :]
        report(workers.draw_here(self.canvas, first, device=self.device))  # whatever is slow but once
        start = time.perf_counter()
        report(workers.draw_here(self.canvas, timed, device=self.device))
        seconds = (time.perf_counter() - start) / _TIMED * len(rest) / at_once
        sizes = [(self.canvas.folder / picture_name(index)).stat().st_size for index in timed]
        needed = (sum(sizes) / _TIMED + _ROW_BYTES) * len(rest)
        self.say(
            f"{len(rest):,} pictures of {self.canvas.resolution} px to draw: about "
            f"{writing.time_text(seconds)} on {drawers}, {writing.size_text(needed)} on disk."
        )
        writing.check_disk(self.canvas.folder, needed)
        return rest

    def _chunks(self, indices: list[int]) -> list[list[int]]:
        return [indices[at : at + self.batch] for at in range(0, len(indices), self.batch)]


def _cores(count: int) -> str:
    return f"{count} core" + "s" * (count != 1)


def _check_request(*, count: int, seed: int, resolution: int, workers: int | None, batch: int) -> None:
    check_seed(seed)
    for name, value, low, high in (
        ("count", count, 1, 10_000_000),
        ("resolution", resolution, 16, 2048),
        ("workers", workers, 1, 1024),
        ("batch", batch, 1, 4096),
    ):
        if name != "workers" or value is not None:
            writing.check_whole_number(name, value, low, high)


def _refuse_other_world(folder: Path, recipe: dict) -> None:
    """Draws picture 0 again: what another world drew under this version must not be mixed in.

    One grey level of mean difference is allowed, for another machine's rounding.
    """
    first = folder / picture_name(0)
    if not writing.is_whole(first, (recipe["resolution"], recipe["resolution"])):
        return
    drawn = to_uint8(render([draw_factors(recipe["seed"], 0)], recipe["resolution"]))[0]
    apart = np.abs(drawn.astype(np.int16) - np.asarray(read_picture(first))).mean()
    if apart > 1:
        raise WorkbenchError(
            f"{first} is not what this version of the world draws for seed {recipe['seed']} ({apart:.1f} "
            "grey levels apart). Nothing was written; choose another folder."
        )


def _row(seed: int, index: int) -> dict:
    """The line of picture `index` in metadata.jsonl: place, caption, every factor."""
    factors = draw_factors(seed, index)
    return {"file_name": picture_name(index), "text": captions.caption(factors, seed, index)} | asdict(
        factors
    )
