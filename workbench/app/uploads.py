"""What people drop on the page, as a folder: single files side by side, an archive with the folders it has.

A browser sends files without their folders, so a tree of pictures comes as a ZIP.
"""

import errno
import lzma
import os
import re
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from workbench.errors import WorkbenchError

MOST_BYTES = 4 * 2**30  # unpacked
MOST_FILES = 50_000
_LONGEST_NAME = 255  # bytes; longer ones no file system takes
# What reading a damaged archive raises: each way of packing its own, and a name that is no text.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, UnicodeError)


def gathered(files: list[str], room: Path) -> Path:
    """`room` as a folder with all of the files: links to single ones, the contents of an archive.

    Of several archives each gets a folder of its own, so that no two files meet in one name; it is called by
    a number, which puts no word into captions from folder names. Raises WorkbenchError for no files, and for
    an archive that is broken, locked, too large, leads out or holds names that cannot be.
    """
    if not files:
        raise WorkbenchError("No pictures were given: drop pictures or a ZIP of a folder, then press again.")
    room.mkdir(parents=True, exist_ok=True)
    archives = [path for path in map(Path, files) if zipfile.is_zipfile(path)]
    for number, path in enumerate(archives, start=1):
        _unpack(path, room if len(archives) == 1 else room / str(number))
    for path in map(Path, files):  # after the archives: what is unpacked never lands in a link's file
        if path not in archives:
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
            members = [member for member in opened.infolist() if not member.filename.endswith("/")]
            _check(archive.name, members)
            for member in members:
                place = room / PurePosixPath(member.filename)
                place.parent.mkdir(parents=True, exist_ok=True)
                # the size that was checked is the size that is written, whatever the archive goes on to say
                with opened.open(member) as source, place.open("wb") as target:
                    shutil.copyfileobj(_Bounded(source, member.file_size), target)
                # Its sum in place of the time of unpacking: the same picture unpacked again is known as the
                # same, and an import that was stopped goes on.
                os.utime(place, ns=(1000 * member.CRC, 1000 * member.CRC))
    except _DAMAGE as error:
        why = str(error) or "it ends too early"
        raise WorkbenchError(f"{archive.name} is broken ({why}): pack the folder again.") from error
    except OSError as error:  # of bzip2 damage is one too, without a number
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        why = error.strerror or error
        raise WorkbenchError(f"{archive.name} cannot be unpacked ({why}): pack the folder again.") from error


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
    files = {PurePosixPath(member.filename) for member in members}
    for both in files & {folder for file in files for folder in file.parents if folder.parts}:
        raise WorkbenchError(
            f"{name} holds {str(both)!r} as a file and as a folder: rename one and pack again."
        )
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not path.parts or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
            said = "without a name" if not path.parts else f"of a name too long, {member.filename[:40]!r} …"
            raise WorkbenchError(f"{name} holds a file {said}: rename it and pack the folder again.")
        drive = re.match(r"[A-Za-z]:", path.parts[0])  # but a time of day is in many a screenshot's name
        if path.is_absolute() or ".." in path.parts or drive:
            raise WorkbenchError(
                f"{name} holds {member.filename!r}, which leads out of the archive: pack the folder again."
            )
        if member.flag_bits & 1:
            raise WorkbenchError(f"{name} is locked with a password: pack the folder without one.")
