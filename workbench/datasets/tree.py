"""Every file below a folder, once: links are followed and loops are not, and nothing is left out silently."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.datasets.rows import PICTURE_SUFFIXES

Stop = threading.Event | Callable[[], bool] | None


@dataclass(frozen=True)
class Entry:
    """One name below a folder.

    name: its path relative to the folder, with forward slashes; trouble: why it is no file that can be read,
    or ""; advice: what to do then; size: bytes; changed: time of the last change in ns.
    """

    name: str
    trouble: str = ""
    advice: str = ""
    size: int = 0
    changed: int = 0


def walk(folder: Path) -> Iterator[Entry]:
    """The files below `folder`, sorted by name folder by folder; of folders only those with something wrong.

    Each folder is read once: a link to one inside is named, one to a folder outside is followed.
    """
    root, seen, waiting = os.path.realpath(folder), set(), [""]
    while waiting:
        under = waiting.pop()
        try:
            names = sorted(os.listdir(folder / under))
        except OSError as error:
            yield Entry(under, f"the folder cannot be read ({error.strerror})", "mend its permissions")
            continue
        deeper = []
        for name in names:
            place = f"{under}/{name}" if under else name
            entry = _look(folder / place, place, root, seen)
            if entry is None:
                deeper.append(place)
                if is_picture_name(name):
                    entry = Entry(
                        place, "a folder with a picture's name", "rename it; what lies in it is read"
                    )
            if entry is not None:
                yield entry
        waiting += reversed(deeper)


def stopped(stop: Stop) -> bool:
    """Whether the caller wants the work to end: an Event that is set, or a function that says True."""
    return stop is not None and (stop.is_set() if isinstance(stop, threading.Event) else stop())


def shown(name: str) -> str:
    """A file name or a line fit to print on one line: control signs and broken characters escaped."""
    name = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in name
    )
    return name.encode("utf-8", "backslashreplace").decode()


def is_picture_name(name: str) -> bool:
    """Whether the suffix is one of a picture."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def _look(path: Path, place: str, root: str, seen: set[tuple[int, int]]) -> Entry | None:
    """What one name is; None for a folder to go into."""
    try:
        facts = path.stat()
    except OSError as error:
        return Entry(place, *_no_way(path, error))
    if stat.S_ISREG(facts.st_mode):
        return Entry(place, size=facts.st_size, changed=facts.st_mtime_ns)
    if not stat.S_ISDIR(facts.st_mode):
        return Entry(place, "a pipe, a socket or a device, not a file", "take it out")
    if path.is_symlink():
        real = os.path.realpath(path)
        if f"{root}/".startswith(f"{real.rstrip('/')}/"):
            return Entry(place, "a link back to a folder above it", "take the link out")
        if real.startswith(f"{root}/") or (facts.st_dev, facts.st_ino) in seen:
            return Entry(place, "a link to a folder that is read already", "nothing, or take the link out")
        seen.add((facts.st_dev, facts.st_ino))
    return None


def _no_way(path: Path, error: OSError) -> tuple[str, str]:
    if error.errno == errno.ELOOP:
        return "a link that leads to itself", "take the link out"
    if path.is_symlink() and error.errno == errno.ENOENT:
        return f"a link to {os.readlink(path)}, where nothing is", "put the file back or take the link out"
    return f"it cannot be opened ({error.strerror})", "mend its permissions"
