"""Folders as tests compare them."""

from pathlib import Path


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The bytes of every file by its place in the folder, but for files of the names in `without`."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name not in without)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
