"""One way in for every source of pictures: a data set folder, or WebDataset shards from anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from workbench.datasets import decode, pairing, picture_cache, world
from workbench.datasets.aspects import AspectTable, OwnAspects
from workbench.datasets.rows import METADATA_NAMES, read_folder
from workbench.datasets.shards.files import SHARD_SUFFIXES, find_shards, holds_shards, is_remote, local_path
from workbench.datasets.shards.filters import Filters
from workbench.datasets.shards.reading import Sample, picture_of, read_samples
from workbench.datasets.shards.report import ShardReport
from workbench.datasets.table import PictureTable, Squares, cache_place, check_size, read_table
from workbench.errors import WorkbenchError

_SCHEMA = 1


def open_table(
    source: str | Path,
    resolution: int,
    *,
    cache: bool | Path = True,
    filters: Filters | None = None,
    report: ShardReport | None = None,
    progress: bool = False,
    aspects: bool = False,
) -> PictureTable | AspectTable:
    """The pictures and captions of a data set folder or of shards, decoded once and kept.

    source: a data set folder (then `PictureTable.from_folder`), a folder of .tar shards, or whatever else
    `find_shards` takes. cache: keep the decoded pictures in `home_of(source)`, or in a folder that is given.
    Shards at addresses are fetched once and count as unchanged until that cache is deleted. filters, report:
    for shards, what is kept and what was left out. aspects: pictures keep their own, with `resolution` as the
    shorter side; an AspectTable where not all are square. Raises WorkbenchError.
    """
    form = OwnAspects() if aspects else Squares()
    if means_shards(source):
        return _from_shards(source, resolution, form, cache, filters or Filters(), report, progress)
    return read_table(source, resolution, form, cache=cache, progress=progress)


def means_shards(source: str | Path) -> bool:
    """Whether `source` is shards and no data set folder: a folder of .tar files without metadata, or a path,
    pattern or address that is no folder."""
    folder, text = Path(source), str(source)
    if folder.is_dir():
        return holds_shards(folder) and not any((folder / name).is_file() for name in METADATA_NAMES)
    return is_remote(text) or re.search(r"[{*?]", text) is not None or text.endswith(SHARD_SUFFIXES)


def home_of(source: str | Path) -> Path:
    """The folder in which what is made of a source is kept: the data set folder, or that of the first shard.

    Shards at addresses and from commands have one of their own in the user's cache (`$XDG_CACHE_HOME` or
    ~/.cache, there gigagan-workbench/shards). Raises WorkbenchError as `find_shards` does.
    """
    return _home(find_shards(source)) if means_shards(source) else Path(source)


def of_world(source: str | Path, resolution: int) -> bool:
    """Whether every picture of a source is a render of Shepherd World, by its metadata: what the judge knows.

    resolution: in which shards, which tell it only by being read, are decoded and kept. Raises WorkbenchError
    as `open_table` does, but looks at no picture of a folder.
    """
    if means_shards(source):
        return open_table(source, resolution).of_world
    return all(world.is_render(row.factors) for row in read_folder(source, check_pictures=False))


def _from_shards(
    source: str | Path,
    resolution: int,
    form: Squares | OwnAspects,
    cache: bool | Path,
    filters: Filters,
    report: ShardReport | None,
    progress: bool,
) -> PictureTable | AspectTable:
    check_size(1, resolution)
    report = ShardReport() if report is None else report
    shards = find_shards(source)
    rows: list[dict] = []

    def chunks() -> Iterator[np.ndarray]:
        rows.clear()
        form.begin()
        report.clear()  # a cache that cannot be written is followed by a second reading
        shown = tqdm(shards, desc="reading", unit=" shards", disable=not progress)
        samples = (sample for shard in shown for sample in read_samples(shard, report, filters))
        how = (lambda s: picture_of(s, report), resolution, form.shape, form.join)
        for kept, pixels in picture_cache.decode(samples, *how):
            rows.extend(_row(s) for s in kept)
            yield pixels
        report.refuse_unreached("Run it again, or leave that shard out.")
        report.kept = len(rows)
        if not rows:
            raise WorkbenchError(
                f"{source} gave no picture: {report.sentence()}. Mend the shards or loosen the filters."
            )

    def rest() -> dict[str, Tensor]:
        texts, known, groups = _columns(rows)
        files = [str(at) for at in range(len(rows))]
        told = json.dumps({"rows": rows, "report": report.to_json()}).encode()
        return {
            "partners": pairing.lonely_partners(texts, known, groups, files),
            "rows": torch.frombuffer(bytearray(told), dtype=torch.uint8),
            **form.rest(),
        }

    place = cache_place(resolution, _home(shards) if cache is True else cache, form.suffix)
    key = _key(shards, resolution, filters, form.key)
    held = picture_cache.load_or_make(place, key, resolution, chunks, rest)
    told = json.loads(held["rows"].numpy().tobytes())
    report.clear()
    report.add(ShardReport.from_json(told["report"]))
    texts, known, groups = _columns(told["rows"])
    about = {"texts": texts, "groups": groups, "known": known, "files": [str(at) for at in range(len(texts))]}
    # What was kept before `render` stood there tells it by the four factors alone.
    of_world = all(row.get("render", bool(row["known"])) for row in told["rows"])
    return form.table(held, resolution, **about, of_world=of_world)


def _row(sample: Sample) -> dict:
    """What is kept of a sample beside its pixels."""
    return {
        "text": sample.text,
        "known": pairing.known_factors(sample.columns),
        "render": world.is_render(sample.columns),
    }


def _columns(rows: list[dict]) -> tuple[list[str], list[dict[str, str]], Tensor]:
    texts, known = [row["text"] for row in rows], [row["known"] for row in rows]
    return texts, known, pairing.group_ids(texts, known)


def _home(shards: Sequence[str]) -> Path:
    """`home_of` for shards that are found."""
    if not is_remote(shards[0]):
        return local_path(shards[0]).parent
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:16]
    return Path(user) / "gigagan-workbench" / "shards" / name


def _key(shards: Sequence[str], resolution: int, filters: Filters, form: Sequence = ()) -> str:
    """A hash over all that the decoded pictures depend on, as far as this machine can see it."""
    facts: list = [_SCHEMA, decode.VERSION, resolution, asdict(filters), *form]
    for shard in shards:
        if is_remote(shard):
            facts.append(shard)
        else:
            stat = os.stat(local_path(shard))
            facts.append([Path(shard).name, stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
