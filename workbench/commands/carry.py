"""Subcommands of `workbench dataset` that carry sets: in two, to shards and back, to the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from workbench.commands.common import Whole, dataset

shard_sets = SubcommandApp()
dataset.command(shard_sets, name="shards", help="Carry a data set to WebDataset shards and back.")

Number = Annotated[float | None, arg(metavar="FLOAT")]


@dataset.command(name="split")
def dataset_split(folder: Positional[Path], *, out: Path, share: float = 0.1) -> None:
    """Write a data set as two, of which training never sees the second. A set that grows moves no picture.

    Args:
        folder: The data set folder; it is only read.
        out: New folder; training/ and held-out/ in it are data sets.
        share: Share of the pictures to hold out.
    """
    from workbench.datasets.splitting import write_split

    training, held_out = write_split(folder, out, share)
    print(f"{training} pictures in {out / 'training'}, {held_out} in {out / 'held-out'}")


@shard_sets.command(name="pack")
def shards_pack(folder: Positional[Path], *, out: Path, per_shard: int = 1000) -> None:
    """Write a data set folder as WebDataset tar shards, the same bytes each time. Resumes where it stopped.

    Args:
        folder: The data set folder.
        out: Folder to write the shards into; `workbench train --data` takes it as it is.
        per_shard: Pictures a shard.
    """
    from workbench.datasets.shards.packing import pack

    print(f"shards in {pack(folder, out, per_shard=per_shard)}")


@shard_sets.command(name="unpack")
def shards_unpack(
    source: Positional[list[str]],
    *,
    out: Path,
    min_size: Whole = None,
    min_aesthetic: Number = None,
    min_similarity: Number = None,
    max_nsfw: Number = None,
    missing: Literal["drop", "keep"] = "drop",
) -> int:
    """Make a data set folder of WebDataset shards. Exit status 1 when something was broken and left out.

    Args:
        source: Shards: a folder, .tar files, a pattern such as shard-{000..099}.tar, addresses, or
            "pipe:" and a shell command that writes a tar.
        out: Folder to write; its dataset.json keeps what was left out. Resumes where it stopped.
        min_size: Least pixels of a picture's shorter side.
        min_aesthetic: Least aesthetic score in the sample's JSON.
        min_similarity: Least similarity of picture and caption in the sample's JSON.
        max_nsfw: Greatest probability of being unsafe in the sample's JSON, 0 to 1.
        missing: What becomes of a sample without a score that is asked for.
    """
    from workbench.datasets.shards.filters import Filters
    from workbench.datasets.shards.packing import unpack

    filters = Filters(
        min_size=min_size,
        min_aesthetic=min_aesthetic,
        min_similarity=min_similarity,
        max_nsfw=max_nsfw,
        missing=missing,
    )
    report = unpack(source, out, filters=filters)
    print(f"{out}: {report.text()}")
    return 1 if report.findings else 0


@dataset.command(name="publish")
def dataset_publish(
    folder: Positional[Path],
    *,
    repo: str,
    private: bool = False,
    shards: bool = False,
    per_shard: int = 1000,
    dry_run: bool = False,
) -> None:
    """Bring a data set's card up to date and upload the set to the Hugging Face Hub.

    Args:
        folder: The data set folder.
        repo: Name on the Hub, owner/name; made if it is not there.
        private: Make it visible to its owner alone.
        shards: Upload WebDataset shards, packed into a folder beside this one, in place of single files.
        per_shard: Pictures a shard.
        dry_run: List the files; write and send nothing.
    """
    from workbench.datasets.publishing import publish
    from workbench.datasets.writing import size_text

    done = publish(folder, repo, private=private, per_shard=per_shard if shards else None, dry_run=dry_run)
    if dry_run:
        print("\n".join(done.files))
    what = f"{len(done.files)} files, {size_text(done.size)}"
    print(f"{what}: nothing was sent" if done.address is None else f"{what}: {done.address}")
