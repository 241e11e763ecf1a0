"""A data set folder to WebDataset shards and back: the same bytes each time, whole files, resumable.

000000.tar …      per sample 000000.png (or .jpg, .webp), 000000.txt, 000000.json with the other columns
shards.json       count, pictures a shard, hash of the metadata; written last, `shards` lists the files
README.md         the folder's card, where it has one
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from workbench.datasets import writing
from workbench.datasets.rows import Row, find_metadata, read_folder, read_picture
from workbench.datasets.shards.files import find_shards, is_remote, local_path, public_name
from workbench.datasets.shards.filters import Filters
from workbench.datasets.shards.reading import Sample, picture_of, read_samples
from workbench.datasets.shards.report import ShardReport, printable
from workbench.datasets.writing import Progress
from workbench.errors import WorkbenchError
from workbench.images import write_whole

SCHEMA = 1
KIND = "webdataset"
FACTS = "shards.json"
_AS_THEY_ARE = (".png", ".jpg", ".jpeg", ".webp")  # what readers of shards know; the rest becomes PNG
_PARTS = ".unpacked"  # what is known of finished shards, until the last one is
_NAME = "a set unpacked from shards"


# --- folder to shards ---


def pack(folder: str | Path, out: str | Path, *, per_shard: int = 1000, progress: Progress = True) -> Path:
    """Writes the data set folder as shards of `per_shard` samples into `out`, and returns it.

    The same folder gives the same bytes. Interrupted, the same call goes on: shards that are there and newer
    than their pictures stay. Raises WorkbenchError for a folder with broken pictures or rows, an `out` that
    holds something else, a full disk.
    """
    folder, out = Path(folder), Path(out)
    writing.check_whole_number("per_shard", per_shard, 1, 1_000_000)
    rows = read_folder(folder)
    metadata = find_metadata(folder)
    facts = {
        "schema": SCHEMA,
        "kind": KIND,
        "count": len(rows),
        "per_shard": per_shard,
        "metadata": hashlib.sha256(metadata.read_bytes()).hexdigest(),
    }
    _refuse_other_shards(out, facts)
    parts = [rows[at : at + per_shard] for at in range(0, len(rows), per_shard)]
    with writing.clear_errors("Shards packed so far are kept."):
        out.mkdir(parents=True, exist_ok=True)
        with writing.only_writer(out), writing.reporter(progress, len(rows), 0, "packing") as report:
            _clear_leftovers(out)
            writing.write_text(out / FACTS, writing.json_text(facts))
            for number, part in enumerate(parts):
                _pack_shard(folder, metadata, out / shard_name(number), part, number * per_shard)
                report(len(part))
            if (folder / "README.md").is_file():
                shutil.copyfile(folder / "README.md", out / "README.md")
            named = [shard_name(number) for number in range(len(parts))]
            writing.write_text(out / FACTS, writing.json_text(facts | {"shards": named}))
    return out


def shard_name(number: int) -> str:
    """The file name of shard `number`."""
    return f"{number:06d}.tar"


def _refuse_other_shards(out: Path, facts: dict) -> None:
    """Lets pass no folder, an empty one, and one with shards of the same data. Reads only."""
    if out.exists() and not out.is_dir():
        raise WorkbenchError(f"{out} is a file: expected a folder to write the shards into.")
    held = out / FACTS
    if not out.exists() or not any(not entry.name.startswith(".") for entry in out.iterdir()):
        return
    try:
        found = json.loads(held.read_text(encoding="utf-8"))
        same = {name: found.get(name) for name in facts} == facts
    except (OSError, ValueError, AttributeError):
        same = False  # no list of shards, or a damaged one: not ours to write over
    if not same:
        raise WorkbenchError(
            f"{out} holds something else than shards of this data set as it is now and --per-shard. Nothing "
            "was packed; delete it if it may go, or choose another folder."
        )


def _clear_leftovers(out: Path) -> None:
    for entry in out.glob("*.tmp-*"):
        entry.unlink(missing_ok=True)


def _pack_shard(folder: Path, metadata: Path, file: Path, rows: Sequence[Row], first: int) -> None:
    sources = [metadata, *(folder / row.file_name for row in rows)]
    newest = max(source.stat().st_mtime_ns for source in sources)
    if not file.is_file() or file.stat().st_mtime_ns <= newest:
        write_whole(file, lambda handle: _write_tar(handle, folder, rows, first))


def _write_tar(handle: BinaryIO, folder: Path, rows: Sequence[Row], first: int) -> None:
    # USTAR, owned by nobody, at time 0: the bytes depend on the samples alone.
    with tarfile.open(fileobj=handle, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for at, row in enumerate(rows, start=first):
            for suffix, content in _files_of(folder, row):
                member = tarfile.TarInfo(f"{at:06d}{suffix}")
                member.size, member.mode = len(content), 0o644
                archive.addfile(member, io.BytesIO(content))


def _files_of(folder: Path, row: Row) -> Iterator[tuple[str, bytes]]:
    file = folder / row.file_name
    suffix = file.suffix.lower()
    if suffix in _AS_THEY_ARE:
        yield suffix, file.read_bytes()
    else:
        yield ".png", writing.png_bytes(read_picture(file))
    yield ".txt", printable(row.text).encode()
    # A lone surrogate becomes the JSON escape of itself.
    columns = json.dumps(row.factors, ensure_ascii=False).encode("utf-8", errors="backslashreplace")
    yield ".json", columns


# --- shards to folder ---


def unpack(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    filters: Filters | None = None,
    progress: bool = True,
) -> ShardReport:
    """Writes the samples of shards as a data set folder into `out`, and returns what was met.

    source: what `find_shards` takes. Pictures keep their bytes and are numbered as they come. A picture that
    does not decode, a sample without caption, a shard that breaks off: left out and named in the report,
    which `dataset.json` keeps. A shard that could not be fetched stops the work. Interrupted, the same call
    goes on with the shard that it was at. Raises WorkbenchError when there is nothing to unpack, `out` holds
    something else, or the disk is full.
    """
    out, filters = Path(out), filters or Filters()
    shards = find_shards(source)
    recipe = {
        "schema": SCHEMA,
        "kind": "shards",
        "shards": [_identity(shard) for shard in shards],
        "filters": asdict(filters),
    }
    _refuse_other_set(out, recipe)
    report = ShardReport()
    with writing.clear_errors("Shards unpacked so far are kept."):
        out.mkdir(parents=True, exist_ok=True)
        with writing.only_writer(out):
            held = writing.read_recipe(out, name=_NAME) if (out / "metadata.jsonl").is_file() else {}
            if "report" in held:  # the last that is written
                return ShardReport.from_json(held["report"])
            writing.open_set(out, recipe, _card(shards))
            (out / _PARTS).mkdir(exist_ok=True)
            rows: list[dict] = []
            shown = tqdm(shards, desc="unpacking", unit=" shards", disable=not progress)
            for number, shard in enumerate(shown):
                part = _unpack_shard(shard, out, out / _PARTS / f"{number:06d}.json", len(rows), filters)
                rows += part["rows"]
                report.add(ShardReport.from_json(part["report"]))
            if not rows:
                raise WorkbenchError(
                    f"The shards gave no picture: {report.sentence()}. Mend the shards or loosen the filters."
                )
            told = recipe | {"report": report.for_others().to_json()}
            writing.close_set(out, told, rows, len(rows))
            shutil.rmtree(out / _PARTS)
    return report


def _identity(shard: str) -> str | list:
    """What tells a shard from another: an address, or the name and size of a file, wherever it lies.

    dataset.json travels with the set, so of an address or a command that may hold a key it has a hash.
    """
    if is_remote(shard):
        name = public_name(shard)
        return name if name == shard else [name, hashlib.sha256(shard.encode()).hexdigest()[:16]]
    path = local_path(shard)
    return [path.name, path.stat().st_size]


def _refuse_other_set(out: Path, recipe: dict) -> None:
    if out.exists() and not out.is_dir():
        raise WorkbenchError(f"{out} is a file: expected a folder to write the data set into.")
    if not out.exists() or not any(not entry.name.startswith(".") for entry in out.iterdir()):
        return
    held = writing.read_recipe(out, name=_NAME) if (out / "dataset.json").is_file() else {}
    other = next((name for name, value in recipe.items() if held.get(name) != value), None)
    if other:
        raise WorkbenchError(
            f"{out} holds something else than the set of these shards and filters (its {other} differ). "
            "Nothing was written; choose another folder."
        )


def _unpack_shard(shard: str, out: Path, done: Path, first: int, filters: Filters) -> dict:
    """Rows and report of one shard, from the note of an earlier call or by writing its pictures."""
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    report, rows = ShardReport(), []
    for sample in _whole(read_samples(shard, report, filters), report):
        name = writing.picture_name(first + len(rows), sample.suffix)
        writing.write_bytes(out / name, sample.picture)
        columns = {key: value for key, value in sample.columns.items() if key not in ("file_name", "text")}
        rows.append({"file_name": name, "text": sample.text} | columns)
    report.refuse_unreached(
        "Shards before it are kept; run the same command again to go on, or leave that shard out."
    )
    report.kept = len(rows)
    part = {"rows": rows, "report": report.to_json()}
    writing.write_text(done, json.dumps(part))
    return part


def _whole(samples: Iterator[Sample], report: ShardReport) -> Iterator[Sample]:
    """The samples whose picture decodes, in order."""
    with ThreadPoolExecutor() as pool:
        while some := list(islice(samples, 64)):
            decoded = pool.map(lambda sample: picture_of(sample, report) is not None, some)
            yield from (sample for sample, whole in zip(some, decoded, strict=True) if whole)


def _card(shards: Sequence[str]) -> str:
    """The card that lies beside local shards, or one that says what is known."""
    beside = None if is_remote(shards[0]) else local_path(shards[0]).with_name("README.md")
    if beside is not None and beside.is_file():
        return beside.read_text(encoding="utf-8", errors="replace")
    return writing.data_card(
        title="Pictures from shards",
        tags=["text-to-image"],
        licence="unknown",
        licence_note="Ask where the shards came from.",
        about="Pictures and captions unpacked from WebDataset shards.",
        source=f"{len(shards)} shards, the first `{printable(public_name(shards[0]))}`; `dataset.json` lists "
        "them, with the filters that were used and everything that was left out.",
        limits="as those of the source; nothing was looked at by a person.",
    )
