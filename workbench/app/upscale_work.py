"""What the Upscale tab does, without the page: enlarge, compare two prompts, plan the tiles, make again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.app import upscale_view
from workbench.app.long_work import Tell
from workbench.app.magnifier import Magnifier
from workbench.app.upscale_given import Given, check_page, middle, read
from workbench.errors import WorkbenchError

# Torch comes with the model: imported inside the functions, the page is up before that.

SHOWN_SIDE = 2048  # of a side in the before/after slider: a browser has to hold two of them
PAIR_SIDE = 128  # of the input that two prompts are compared on
AUTOMATIC = "as large as fits"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a visitor asks for. tile: side in pixels of the input drawn at once, None for the usual one."""

    path: str | None
    prompt: str = ""
    factor: int = 4
    noise: float = 0.0
    seed: int = 0
    tile: int | None = None
    aura: bool = False


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over width × height pixels and how it is cut (`workbench.pipeline.tiles.Plan`).

    boxes: (left, top, right, bottom) in pixels of its input; seen, drawn: bytes of features; cells: side of
    the cells whose mean is kept, 1 for every pixel.
    """

    width: int
    height: int
    factor: int
    cut: Any
    boxes: tuple[tuple[int, int, int, int], ...]
    pieces: int
    seen: int
    drawn: int
    cells: int = 1


@dataclass(frozen=True, kw_only=True)
class Made:
    """An enlarged picture: the PNG with its recipe, what the slider shows, and the numbers.

    aura: AuraSR's picture, its slider and seconds, or None.
    """

    png: Path
    pair: tuple[Path, Path]
    given: Given
    passes: tuple[Pass, ...]
    size: tuple[int, int]
    seconds: float
    prompt: str
    notes: tuple[str, ...]
    aura: tuple[Path, tuple[Path, Path], float] | None = None


def asked(
    path: str | None, prompt: str, factor: Any, noise: Any, seed: Any, tile: Any, aura: bool = False
) -> Ask:
    """The controls of the page as an Ask; a seed or a tile that is none: WorkbenchError."""
    from workbench.noise import parse_seed

    side = None if tile in (None, "", AUTOMATIC) else tile
    if side is not None and not str(side).isdecimal():
        raise WorkbenchError(f"The tile is {str(side)[:40]!r}: choose a side in pixels, or {AUTOMATIC!r}.")
    return Ask(
        path=path, prompt=prompt or "", factor=int(factor or 0), noise=noise, seed=parse_seed(str(seed)),
        tile=None if side is None else int(side), aura=bool(aura),
    )  # fmt: skip


# --- enlarging ---


def enlarge(glass: Magnifier, ask: Ask, visitor: str = "") -> Iterator[tuple[str, Any]]:
    """Enlarge a picture: what `Stops.run` yields, HTML while it works and Made at the end."""
    return glass.stops.run(lambda tell: _enlarge(glass, ask, tell), visitor)


def _enlarge(glass: Magnifier, ask: Ask, tell: Tell) -> Made:
    from workbench.images import save_png
    from workbench.pipeline import passes
    from workbench.pipeline.keeping import slug

    tell(upscale_view.status_html("Reading the picture …"))
    stages = passes(glass.upscaler(), ask.factor)
    given = read(ask.path, glass.studio, ask.factor)
    plan = plans(glass, given.height, given.width, ask)
    made, seconds = _through(stages, given, ask, tell)
    beside, said = _beside(glass, given, ask, tell) if ask.aura else (None, [])
    # Only now, when all is drawn: others' jobs clear away a folder that is not written to for minutes.
    folder, stem = glass.studio.new_folder(), f"{slug(Path(given.name).stem)}-{ask.factor}x"
    alpha = _alpha(given, made.images)
    png = save_png(made.images, folder / f"{stem}.png", made.recipes[0], alpha=alpha)
    plain = _bicubic(given.images, ask.factor)
    pair, cut = _shown(plain, made.images, alpha, folder, "bicubic", png)
    notes = [*given.notes, *made.warnings]
    if cut:
        notes.append(f"The slider shows the middle {cut} px in their own size; the download is whole.")
    other = None
    if beside is not None:
        drawn, took = beside
        alpha = _alpha(given, drawn.images)
        file = save_png(drawn.images, folder / f"{stem}-aura-sr.png", drawn.recipes[0], alpha=alpha)
        other = (file, _shown(drawn.images, made.images, alpha, folder, "aura-sr", None)[0], took)
    notes += said
    tell(upscale_view.status_html("Written."))  # Stop was pressed while it was written, perhaps
    return Made(
        png=png, pair=pair, given=given, passes=plan, size=(made.images.shape[3], made.images.shape[2]),
        seconds=seconds, prompt=made.prompts[0], notes=tuple(dict.fromkeys(notes)), aura=other,
    )  # fmt: skip


def _through(stages: list[Any], given: Given, ask: Ask, tell: Tell, who: str = "") -> tuple[Any, float]:
    """(`workbench.pipeline.Chained`, seconds), telling each tile."""
    from workbench.pipeline import upscale

    over = 0  # passes that are done

    def progress(done: int, total: int) -> None:
        nonlocal over
        where = f", pass {over + 1} of {len(stages)}" if len(stages) > 1 else ""
        tell(upscale_view.progress_html(f"{who}Tile {done} of {total}{where} …", done, total))
        over += done == total

    tell(upscale_view.progress_html(f"{who}The network looks at the picture …", 0, 1))
    start = time.perf_counter()
    made = upscale(
        stages, given.images, ask.prompt, seed=ask.seed, noise=ask.noise, tile=ask.tile, progress=progress,
        inputs=[given.recipe],
    )  # fmt: skip
    return made, time.perf_counter() - start


def _beside(glass: Magnifier, given: Given, ask: Ask, tell: Tell) -> tuple[Any, list[str]]:
    """((`workbench.pipeline.Chained` of AuraSR, seconds), notes), or (None, [why there is none])."""
    from workbench.pipeline import passes

    try:
        stages = passes(glass.aura(), ask.factor)
    except WorkbenchError as error:
        return None, [str(error)]
    made, seconds = _through(stages, given, replace(ask, noise=0.0), tell, "AuraSR: ")
    return (made, seconds), made.warnings


def _bicubic(images: Any, factor: int) -> Any:
    """[1, 3, H, W] enlarged without a network, as Pillow does it."""
    import numpy as np
    from PIL import Image

    from workbench.images import from_uint8, to_uint8

    picture = Image.fromarray(to_uint8(images)[0])
    size = (picture.width * factor, picture.height * factor)
    return from_uint8(np.asarray(picture.resize(size, Image.Resampling.BICUBIC))[None])


def _alpha(given: Given, images: Any) -> Any:
    """The transparency of the picture at the size of what was made of it."""
    from PIL import Image

    size = (images.shape[3], images.shape[2])
    return None if given.alpha is None else given.alpha.resize(size, Image.Resampling.BICUBIC)


def _shown(before: Any, after: Any, alpha: Any, folder: Path, name: str, png: Path | None) -> tuple:
    """((file, file) for a slider, "W × H" of what it shows where it is not all).

    png: a file of `after`, which serves where nothing is cut off and nothing is transparent.
    """
    from PIL import Image

    from workbench.images import save_png, to_uint8

    height, width = after.shape[-2:]
    h, w = min(height, SHOWN_SIDE), min(width, SHOWN_SIDE)
    top, left = (height - h) // 2, (width - w) // 2
    whole = (h, w) == (height, width)
    files = []
    for images, which in ((before, f"{name}.png"), (after, f"{name}-after.png")):
        if images is after and png is not None and whole and alpha is None:
            files.append(png)
            continue
        picture = Image.fromarray(to_uint8(images[..., top : top + h, left : left + w])[0])
        if alpha is not None:
            seen = alpha.crop((left, top, left + w, top + h))
            picture = Image.composite(picture, Image.new("RGB", picture.size, "white"), seen)
        files.append(save_png(picture, folder / which))
    return (files[0], files[1]), "" if whole else f"{w} × {h}"


# --- tiles ---


def plans(glass: Magnifier, height: int, width: int, ask: Ask) -> tuple[Pass, ...]:
    """How each pass over a picture of height × width pixels is cut into tiles; nothing is drawn."""
    from workbench.pipeline import passes, tiles
    from workbench.pipeline.reduced import Reduced

    found = []
    check_page(height, width, ask.factor)
    for stage in passes(glass.upscaler(), ask.factor):
        up = stage.upscaler if isinstance(stage, Reduced) else stage
        config = getattr(getattr(up, "U", None), "config", None)
        if config is None:  # AuraSR in the place of ours cuts in its own way
            return ()
        each = up.U.compute_dtype.itemsize
        cut = tiles.plan(
            config, height, width, bytes_each=each, trunk_bytes=up.trunk_bytes, tile=ask.tile
        )  # fmt: skip
        seen, drawn = tiles.memory(config, height, width, cut, bytes_each=each)
        if cut.network is None:
            rows, columns = tiles.pieces(height, cut.piece), tiles.pieces(width, cut.piece)
        else:
            rows, columns = (
                tiles.overlapping(side, cut.network, cut.overlap, config.window) for side in (height, width)
            )
        boxes = tuple((left, top, right, bottom) for top, bottom in rows for left, right in columns)
        found.append(
            Pass(
                width=width, height=height, factor=stage.factor, cut=cut, boxes=boxes, seen=seen,
                drawn=drawn, pieces=tiles.count(height, width, cut, config.window),
                cells=config.factor // stage.factor,
            )
        )  # fmt: skip
        height, width = height * stage.factor, width * stage.factor
    return tuple(found)


# --- text changes the detail ---


def two_prompts(glass: Magnifier, ask: Ask, second: str, visitor: str = "") -> Iterator[tuple[str, Any]]:
    """The same small picture with two prompts: what `Stops.run` yields, HTML of the three at the end."""
    return glass.stops.run(lambda tell: _two_prompts(glass, ask, second, tell), visitor)


def _two_prompts(glass: Magnifier, ask: Ask, second: str, tell: Tell) -> str:
    from workbench.images import save_png

    upscaler = glass.upscaler()
    given = middle(read(ask.path, glass.studio, upscaler.factor), PAIR_SIDE)
    texts = (ask.prompt, second)
    if upscaler.read(texts[0]) == upscaler.read(texts[1]):
        raise WorkbenchError(
            f"Both prompts are read as “{upscaler.read(second)}”: write another second prompt, for example "
            "with another coat or light."
        )
    made = [
        _through([upscaler], given, replace(ask, prompt=text), tell, f"Prompt {number}: ")[0]
        for number, text in enumerate(texts, 1)
    ]
    folder, shown = glass.studio.new_folder(), []
    for number, drawn in enumerate(made, 1):
        png = save_png(drawn.images, folder / f"prompt-{number}.png", drawn.recipes[0])
        shown.append((upscale_view.file_uri(png), drawn.prompts[0]))
    apart = (made[0].images - made[1].images).abs()
    most = float(apart.max())
    louder = max(1, min(32, int(1 / most))) if most > 0 else 1
    picture = upscale_view.picture_uri((apart * louder - 1).clamp(-1, 1))
    return upscale_view.pair_html(
        shown, picture, louder, 127.5 * float(apart.mean()), 127.5 * most, [*given.notes, *_warned(made)]
    )


def _warned(made: list[Any]) -> list[str]:
    return list(dict.fromkeys(warning for drawn in made for warning in drawn.warnings))


# --- a PNG dropped back ---


def open_again(glass: Magnifier, png: str | Path, path: str | None) -> Any:
    """`workbench.pipeline.Remade` of an enlarged PNG; path: the picture that lies on the page.

    Raises WorkbenchError for a file without a recipe, and where the picture it was made of is needed.
    """
    from workbench.images import read_recipe
    from workbench.pipeline import remake

    recipe = read_recipe(png) or {}
    stages = [recipe]
    while isinstance(stages[-1].get("input"), dict):
        stages.append(stages[-1]["input"])
    if recipe and len(stages) == 1:
        raise WorkbenchError(f"{Path(png).name} was not enlarged here: the Create tab makes it again.")
    drawn = stages[-1].get("kind", "gan") == "gan" and bool(recipe)
    ups = [glass.upscaler()]
    if any(stage.get("sampler") == "AuraSR" for stage in stages):
        ups.append(glass.aura())
    picture = None if drawn or not recipe or not path else _meant(glass, path, stages[-1])
    pipeline = glass.studio.pipeline() if drawn else None
    return remake(png, pipeline, upscalers=ups, picture=picture)


def _meant(glass: Magnifier, path: str, recipe: dict[str, Any]) -> Any:
    """The picture on the page, or the middle of it where that is what was enlarged."""
    from workbench.images import from_uint8, to_uint8
    from workbench.pipeline.stage_recipes import picture_recipe

    given = read(path, glass.studio, 1)
    for picture in (given, middle(given, PAIR_SIDE)):
        images = from_uint8(to_uint8(picture.images))  # as the file holds it
        if picture_recipe(images[0])["pixel_hash"] == recipe.get("pixel_hash"):
            return images
    return given.images
