"""Where shards are and how their bytes come: local files, patterns, and addresses through webdataset.

A tar is read front to back, once, so that a pipe will do. Its header blocks are checked as they pass: tarfile
alone takes a damaged or missing one for the end, and what lies behind it would be lost without a word.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from workbench.errors import WorkbenchError

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MOST_SHARDS = 1_000_000
_MOST_HEADER = 2**20  # bytes of a long name or of PAX records, which tarfile reads whole
_COPY = "copy the shard again from where it came, or pack it again"
# What curl's exit status means, for those that people meet.
_CURL = {
    3: "the address is malformed",
    6: "the host cannot be found",
    7: "the host refuses the connection",
    18: "the transfer ended early",
    22: "the server answers with an error, such as 404",
    28: "the server is too slow",
    56: "the connection broke off",
}
_CURL_FOR_GOOD = (3, 22)  # a shard that is not there is left out and named


class BrokenShard(WorkbenchError):
    """A shard that cannot be read on. why: in few words; advice: what to do; member: where, "" if unknown;
    again: whether it may be well the next time."""

    def __init__(self, why: str, advice: str = _COPY, member: str = "", *, again: bool = False) -> None:
        self.why, self.advice, self.member, self.again = why, advice, member, again
        super().__init__(f"{why}: {advice}.")


@dataclass(frozen=True)
class Member:
    """One member of a tar. size: bytes; plain: whether it is a file; content: its bytes, None where they were
    not asked for."""

    name: str
    size: int
    plain: bool
    content: bytes | None


# --- where they are ---


def find_shards(source: str | Path | Sequence[str | Path]) -> list[str]:
    """Paths or addresses of the shards that `source` means, in order.

    source: a folder of .tar (.tar.gz, .tgz) files, one such file, a pattern with * ? or {000..099}, an
    address (http, https, hf, gs, file) or `pipe:` and a shell command, or several of these. Raises
    WorkbenchError when there is none, or a local one of a pattern is missing.
    """
    if not isinstance(source, str | Path):
        if not source:
            raise WorkbenchError(
                "No shards were named: give a folder of .tar files, a pattern or an address."
            )
        return [shard for one in source for shard in find_shards(one)]
    if Path(source).is_dir():
        return _in_folder(Path(source))
    if Path(source).is_file():
        return [_as_path(source)]
    text = str(source)
    names = _expanded(text) if "{" in text else [text]
    return [shard for name in names for shard in _located(name)]


def holds_shards(folder: Path) -> bool:
    """Whether there are shards in the folder itself."""
    return folder.is_dir() and any(entry.name.endswith(SHARD_SUFFIXES) for entry in folder.iterdir())


def is_remote(shard: str) -> bool:
    """Whether webdataset has to open it: an address, or a command."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", shard) is not None and not shard.startswith("file:")


def public_name(source: str | Path) -> str:
    """A source's name as it may stand in a model's card: an address without user, password and query, of a
    command its first word alone, because either may hold a key."""
    text = str(source)
    if not is_remote(text):
        return text
    if text.startswith("pipe:"):
        return f"pipe:{(text[5:].split() or [''])[0]} …"
    return re.sub(r"(?<=://)[^/@]*@", "", text).partition("?")[0]


def local_path(shard: str) -> Path:
    """The path of a shard that is not remote, without `file://`."""
    return Path(re.sub(r"^file:(//)?", "", shard))


def _as_path(path: str | Path) -> str:
    """The path of a file that is there, so that its name is never taken for a command or an address."""
    return f"./{path}" if is_remote(str(path)) else str(path)


def _in_folder(folder: Path) -> list[str]:
    found = sorted(_as_path(entry) for entry in folder.iterdir() if entry.name.endswith(SHARD_SUFFIXES))
    if not found:
        raise WorkbenchError(f"{folder} holds no shards: expected files that end in .tar, .tar.gz or .tgz.")
    return found


def _expanded(pattern: str) -> list[str]:
    try:
        from braceexpand import UnbalancedBracesError, braceexpand
    except ImportError as error:
        raise WorkbenchError(
            f"The pattern {pattern} needs webdataset: `pip install workbench[cluster]`."
        ) from error
    try:
        found = list(islice(braceexpand(pattern), _MOST_SHARDS + 1))
    except UnbalancedBracesError as error:
        raise WorkbenchError(
            f"The braces of {pattern} do not close: expected shard-{{000..099}}.tar."
        ) from error
    if len(found) > _MOST_SHARDS:
        raise WorkbenchError(f"{pattern} means more than {_MOST_SHARDS:,} shards: give a shorter range.")
    return found


def _located(name: str) -> list[str]:
    if is_remote(name):
        scheme = name.split(":")[0]
        known = _schemes()
        if scheme not in known:
            raise WorkbenchError(f"{name} cannot be opened: expected a path or one of {', '.join(known)}.")
        return [name]
    path = str(local_path(name))
    found = sorted(map(_as_path, glob.glob(path))) if re.search(r"[*?]", path) else [path]
    missing = [one for one in found if not Path(one).is_file()]
    if missing or not found:
        raise WorkbenchError(f"There is no shard {(missing or [path])[0]}: check the path or the pattern.")
    return found


def _schemes() -> list[str]:
    try:
        from webdataset.gopen import gopen_schemes
    except ImportError as error:
        raise WorkbenchError(
            "Shards at an address or from a command need webdataset: `pip install workbench[cluster]`."
        ) from error
    return sorted(name for name in gopen_schemes if not name.startswith("_"))


# --- how their bytes come ---


def members(shard: str, wanted: Callable[[str, int], bool]) -> Iterator[Member]:
    """The members of a shard in order; `wanted(name, size)` says whose content is read.

    Raises BrokenShard when it cannot be opened or read on, with the member at which it broke.
    """
    with _opened(shard) as stream:
        member = ""
        try:
            # ignore_zeros: archives joined by `cat` are read on behind the first one's end.
            archive = _Archive.open(fileobj=_unzipped(stream), mode="r|*", ignore_zeros=True)
            while (header := archive.next()) is not None:
                archive.members.clear()  # it would keep every header of the shard
                member = header.name
                content = None
                if header.isreg() and wanted(header.name, header.size):
                    content = archive.extractfile(header).read()
                if not header.isdir():
                    yield Member(header.name, header.size, header.isreg(), content)
                member = ""
            if not archive.ended:
                raise BrokenShard("the tar ends early, without the mark of its end")
        except (BrokenShard, GeneratorExit):
            raise
        except Exception as error:
            # Met by damaged bytes tarfile raises what it likes: ReadError, zlib.error, ValueError …
            text = " ".join(str(error).split())[:120] or type(error).__name__
            early = re.search("unexpected end|truncated|ended before", text)
            why = "the tar ends early" if early else f"the tar is damaged ({text})"
            raise BrokenShard(why, member=member) from error


def _unzipped(stream: io.BufferedReader) -> BinaryIO:
    """The bytes within gzip, with its checksum, which tarfile would pass over; other bytes as they are."""
    return gzip.GzipFile(fileobj=stream) if stream.peek(2)[:2] == b"\x1f\x8b" else stream


class _Header(tarfile.TarInfo):
    """A header block that does not pass for the end of the archive when it is damaged."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        header = super().frombuf(buf, encoding, errors)
        long = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        long += (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if header.type in long and header.size > _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, archive):
        try:
            header = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            archive.ended = True  # a block of zeros, the proper end
            raise
        except tarfile.EmptyHeaderError:
            raise  # no block at all: the end of the file, proper or not
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        archive.ended = False
        return header


class _Archive(tarfile.TarFile):
    tarinfo = _Header
    ended = False  # whether the block read last marks the end


@contextlib.contextmanager
def _opened(shard: str) -> Iterator[io.BufferedReader]:
    """The stream of a shard's bytes. A command that failed is the reason, whatever the tar looks like."""
    if not is_remote(shard):
        try:
            stream = open(local_path(shard), "rb")  # noqa: SIM115
        except OSError as error:
            why = f"it cannot be opened ({error.strerror})"
            raise BrokenShard(why, "check the path and its permissions") from error
        with stream:
            yield stream
        return
    from webdataset.gopen import gopen

    try:
        stream = gopen(shard)
    except Exception as error:
        raise BrokenShard(f"it cannot be opened ({error})", "check the address", again=True) from error
    try:
        # Of a command its output itself: webdataset's own `read` gives up what is left in the pipe when the
        # command has failed. Its status is looked at when everything is read.
        yield getattr(stream, "stream", stream)
    except BrokenShard as error:
        raise _failed(shard, stream) or error from error
    except GeneratorExit:
        _close(stream)  # nobody wants the rest: a command that complains of it is right, and no failure
        raise
    else:
        failed = _failed(shard, stream)
        if failed:
            raise failed


def _failed(shard: str, stream) -> BrokenShard | None:
    """Waits for the command behind a stream; its failure, if it ended with one."""
    _close(stream)
    status = getattr(stream, "status", 0)
    if not status or status in stream.ignore_status:
        return None
    if shard.startswith("pipe:"):
        why = f"its command ended with status {status}"
        return BrokenShard(why, "run the command by hand to see why", again=True)
    why = _CURL.get(status, f"the program that fetches it ended with status {status}")
    advice = "check the address and the network, then run it again"
    return BrokenShard(why, advice, again=status not in _CURL_FOR_GOOD)


def _close(stream) -> None:
    with contextlib.suppress(OSError):  # raised for the status, which the caller looks at
        stream.close()
