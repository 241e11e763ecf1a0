"""Subcommands of `workbench dataset`: make, check and carry data sets."""

from pathlib import Path

from tyro.conf import Positional

from workbench.commands.common import Whole, dataset


@dataset.command(name="world")
def dataset_world(
    *,
    out: Path,
    count: int = 20_000,
    seed: int = 0,
    resolution: int = 64,
    workers: Whole = None,
) -> None:
    """Draw a Shepherd World data set: pictures, captions, factors. Resumes where it stopped.

    Args:
        out: Folder to write (imagefolder layout: metadata.jsonl and images/).
        count: Number of pictures.
        seed: Picture i of seed s is always the same picture.
        resolution: Side of a picture in pixels.
        workers: Processes that draw; all cores when left out.
    """
    from workbench.datasets.folder import write_world

    folder = write_world(out, count=count, seed=seed, resolution=resolution, workers=workers)
    print(f"{count} pictures of {resolution} px in {folder}")


@dataset.command(name="check")
def dataset_check(folder: Positional[Path]) -> int:
    """Look a data set folder through: missing, broken, tiny or doubled pictures, empty captions.

    Args:
        folder: The data set folder.
    """
    from workbench.datasets.checks import check_folder

    found = check_folder(folder)
    print(found.text())
    return 0 if found.ok else 1
