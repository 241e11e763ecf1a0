"""A data set folder drawn by Flux.1 Schnell: prompts from templates, every picture with its prompt and seed.

Picture i of seed s has one prompt and one noise seed, so a resumed run and another batch ask for the same;
on a GPU another batch rounds differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from workbench.datasets import writing
from workbench.datasets.flux import pipeline
from workbench.datasets.flux.pipeline import MODEL, STEPS, Offload
from workbench.datasets.flux.templates import Templates
from workbench.datasets.writing import Progress, picture_name
from workbench.errors import WorkbenchError
from workbench.noise import check_seed

if TYPE_CHECKING:
    from diffusers import FluxPipeline

SCHEMA = 1
_NAME = "a set drawn by Flux"
_KEPT = "Pictures drawn so far are kept; run the same command again to go on."


@dataclass(frozen=True, kw_only=True)
class FluxConfig:
    """What a set is drawn from; a bad value raises WorkbenchError.

    model, revision: a folder, or a name on the Hugging Face Hub and its version. native: side in pixels at
    which Flux draws, which `resolution` is reduced from (Lanczos); Flux composes well from 512 on.
    """

    count: int = 5000
    seed: int = 0
    resolution: int = 256
    native: int = 512
    model: str = MODEL
    revision: str | None = None
    templates: Templates = field(default_factory=Templates)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        writing.check_whole_number("count", self.count, 1, 10_000_000)
        writing.check_whole_number("resolution", self.resolution, 16, 2048)
        writing.check_whole_number("native size", self.native, 16, 2048)
        if self.native % 16:
            raise WorkbenchError(f"native size is {self.native}: expected a multiple of 16.")
        if self.native < self.resolution:
            raise WorkbenchError(
                f"native size is {self.native}, smaller than the resolution {self.resolution}: pictures are "
                "reduced and never enlarged. Give a native size of at least the resolution."
            )


def write_flux(
    path: str | Path,
    config: FluxConfig,
    *,
    device: str | None = None,
    offload: Offload | None = None,
    batch: int | None = None,
    download: bool = False,
    progress: Progress = True,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Draws `config.count` captioned pictures into the folder at `path`, and returns it.

    Interrupted at any point, the same call goes on: whole pictures stay, the others get the prompts and seeds
    they would have had. device: the GPU; "cpu" has to be asked for. offload, batch: chosen from the GPU's
    free memory. download: let the Hub be asked for missing weights. progress, say: as in `write_world`.
    Raises WorkbenchError: no GPU, no weights, another set in the folder, no room on the disk.
    """
    say = say or (lambda text: None)
    if batch is not None:
        writing.check_whole_number("batch", batch, 1, 256)
    folder = Path(path)
    if folder.is_file():
        raise WorkbenchError(f"{folder} is a file. Expected a folder to write the data set into.")
    device = pipeline.choose_device(device, config.count, config.native)
    weights, commit = pipeline.find_weights(config.model, config.revision, download=download)
    recipe = _recipe(config, commit)
    with writing.clear_errors(_KEPT):
        writing.refuse_other_contents(folder, recipe, config.count, name=_NAME)
        folder.mkdir(parents=True, exist_ok=True)
        with writing.only_writer(folder):
            writing.open_set(folder, recipe, card(config, commit))
            missing = writing.missing_pictures(folder, config.count, (config.resolution,) * 2)
            if missing:
                needed = _guessed_bytes(config, len(missing))
                writing.check_disk(folder, needed)
                say(f"{len(missing):,} pictures to draw, about {writing.size_text(needed)} on disk.")
                pipe = pipeline.load(weights, config.model, config.revision, device)
                way = pipeline.settle(pipe, device, config.native, offload=offload, batch=batch)
                say(f"On {device}, offload {way.offload}, {way.batch} at once; two batches tell the time.")
                with writing.reporter(progress, config.count, config.count - len(missing)) as report:
                    _draw(folder, config, pipe, way.batch, missing, report, say)
            rows = (_row(config, recipe, index) for index in range(config.count))
            writing.close_set(folder, recipe, rows, config.count)
    return folder


def card(config: FluxConfig, commit: str | None) -> str:
    """The data card of a set: which model drew it, under which licence, from what words."""
    schnell, model = config.model == MODEL, _model_name(config.model)
    version = f"version `{commit}`" if commit else "a local folder"
    first = config.templates.prompt(config.seed, 0).caption
    return writing.data_card(
        title="Pictures by Flux",
        tags=["synthetic", "flux"],
        licence="apache-2.0" if schnell else "other",
        licence_note="That of FLUX.1 [schnell], whose terms leave its pictures to whoever makes them."
        if schnell
        else f"Whatever the model {model} allows: look at its card before publishing.",
        about=f"Pictures drawn from written prompts such as “{first}”.",
        source=f"Drawn by {model} ({version}) in {STEPS} steps at {config.native} px, reduced to "
        f"{config.resolution} px (`workbench dataset flux`). Each line of `metadata.jsonl` holds the prompt "
        "and the seed, from which diffusers draws the picture again.",
        limits="A model drew what the prompts ask for; no one looked whether every picture shows it. It "
        "inherits the habits and gaps of that model's own training pictures.",
    )


def _recipe(config: FluxConfig, commit: str | None) -> dict:
    return {
        "schema": SCHEMA,
        "kind": "flux",
        "model": _model_name(config.model),
        "revision": commit,
        "steps": STEPS,
        "seed": config.seed,
        "resolution": config.resolution,
        "native_size": config.native,
        "templates": config.templates.digest(),
    }


def _model_name(model: str) -> str:
    """A name on the Hub, or that of a folder without the path to it, which is nobody else's business."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def _guessed_bytes(config: FluxConfig, count: int) -> float:
    """Of a photograph as PNG, about two bytes a pixel; known better once the first ones are there."""
    return 2.0 * config.resolution**2 * count


def _draw(
    folder: Path,
    config: FluxConfig,
    pipe: FluxPipeline,
    batch: int,
    missing: list[int],
    report: Callable[[int], None],
    say: Callable[[str], None],
) -> None:
    """Draws the missing pictures, and writes no other.

    Batches lie on a fixed grid and are drawn whole, so an interruption does not change which pictures stand
    together, and with it their last bits.
    """
    wanted = set(missing)
    starts = sorted({index // batch * batch for index in missing})
    for number, at in enumerate(starts):
        begun = time.perf_counter()
        indices = range(at, min(at + batch, config.count))
        prompts = [config.templates.prompt(config.seed, index) for index in indices]
        texts, seeds = [one.prompt for one in prompts], [one.seed for one in prompts]
        pictures = pipeline.generate(pipe, texts, seeds, config.native)
        written = [index for index in indices if index in wanted]
        for index in written:
            picture = Image.fromarray(pictures[index - at])
            if config.resolution != config.native:
                picture = picture.resize((config.resolution,) * 2, Image.Resampling.LANCZOS)
            writing.write_picture(folder / picture_name(index), picture)
        report(len(written))
        # The first batch bears what is slow but once; where there is a second, its time tells more.
        if number == min(1, len(starts) - 1) and len(starts) > 1:
            _estimate(folder, written, time.perf_counter() - begun, len(starts) - number - 1, batch, say)


def _estimate(
    folder: Path, written: list[int], seconds: float, batches: int, batch: int, say: Callable[[str], None]
) -> None:
    """Says what the batches to come will take; WorkbenchError where the disk cannot hold them."""
    size = sum((folder / picture_name(index)).stat().st_size for index in written) / len(written)
    needed = size * batches * batch
    say(
        f"About {writing.time_text(seconds * batches)} more at {seconds / batch:.2g} s a picture, and "
        f"{writing.size_text(needed)} on disk."
    )
    writing.check_disk(folder, needed)


def _row(config: FluxConfig, recipe: dict, index: int) -> dict:
    """The line of picture `index` in metadata.jsonl."""
    prompt = config.templates.prompt(config.seed, index)
    made = {"prompt": prompt.prompt, "seed": prompt.seed} | {
        key: recipe[key] for key in ("model", "revision")
    }
    return {"file_name": picture_name(index), "text": prompt.caption} | made | prompt.factors
