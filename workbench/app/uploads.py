"""What people drop on the page, as a folder: single files side by side, an archive with the folders it has.

A browser sends files without their folders, so a tree of pictures comes as a ZIP.
"""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from workbench.errors import WorkbenchError

MOST_BYTES = 4 * 2**30  # unpacked
MOST_FILES = 50_000


def gathered(files: list[str], room: Path) -> Path:
    """A folder under `room` with all of the files: links to single ones, the contents of archives.

    Raises WorkbenchError for no files, and for an archive that is broken, locked, too large or leads out.
    """
    if not files:
        raise WorkbenchError("No pictures were given: drop pictures or a ZIP of a folder, then press again.")
    room.mkdir(parents=True, exist_ok=True)
    for path in map(Path, files):
        if zipfile.is_zipfile(path):
            _unpack(path, room)
        else:
            _free(room, path.name).symlink_to(path)
    return room


def _free(room: Path, name: str) -> Path:
    """A place for a file of this name: two of one name are two files."""
    place, number = room / name, 2
    while place.exists() or place.is_symlink():
        place, number = room / f"{Path(name).stem}-{number}{Path(name).suffix}", number + 1
    return place


def _unpack(archive: Path, room: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check(archive.name, members)
            for member in members:
                place = room / PurePosixPath(member.filename)
                place.parent.mkdir(parents=True, exist_ok=True)
                # the size that was checked is the size that is written, whatever the archive goes on to say
                with opened.open(member) as source, place.open("wb") as target:
                    shutil.copyfileobj(_Bounded(source, member.file_size), target)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise WorkbenchError(f"{archive.name} is broken ({error}): pack the folder again.") from error


class _Bounded:
    """A file of which no more is read than was declared."""

    def __init__(self, file, size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(min(self.left, size) if size >= 0 else self.left)
        self.left -= len(data)
        return data


def _check(name: str, members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    if len(members) > MOST_FILES or total > MOST_BYTES:
        raise WorkbenchError(
            f"{name} holds {len(members):,} files of {total / 2**30:.1f} GiB: expected at most "
            f"{MOST_FILES:,} of {MOST_BYTES // 2**30} GiB on this page. `workbench dataset folder` takes any."
        )
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise WorkbenchError(
                f"{name} holds {member.filename!r}, which leads out of the archive: pack the folder again."
            )
        if member.flag_bits & 1:
            raise WorkbenchError(f"{name} is locked with a password: pack the folder without one.")
