"""history.jsonl: one JSON object a line for everything that a run has to tell.

Kinds: "step" (losses and statistics, means since the line before), "sample" (a grid was written), "eval"
(measured by the judge), "event" (something to know, in words). Each line has `kind` and `cur_nimg`.
"""

import json
import math
import os
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.images import clear_os_error

NAME = "history.jsonl"
# Fields that hold wall-clock measurements: the only ones that differ between a run and the same run
# interrupted.
TIMES = ("seconds", "images_per_s")


class History:
    """Appends lines, each flushed.

    Survives a full disk: lines that could not be written wait and are tried again.
    """

    def __init__(self, run: Path) -> None:
        self.path = Path(run) / NAME
        self.waiting: list[bytes] = []
        self._size = self.path.stat().st_size if self.path.exists() else 0

    def append(self, line: dict) -> bool:
        """Write one line. False when the disk refused; the line is then kept for the next attempt."""
        if "kind" not in line or "cur_nimg" not in line:
            raise ValueError(f"a history line needs kind and cur_nimg, got {sorted(line)}")
        self.waiting.append(json.dumps(_plain(line), ensure_ascii=False, allow_nan=False).encode() + b"\n")
        try:
            self.flush()
        except OSError:
            return False
        return True

    def flush(self) -> None:
        """Write what waits.

        A refusal leaves the file as it was, whole lines only, and raises OSError in one sentence.
        """
        if not self.waiting:
            return
        data = b"".join(self.waiting)
        try:
            with open(self.path, "ab") as handle:
                handle.write(data)
                handle.flush()
        except OSError as error:
            if self.path.exists():
                os.truncate(self.path, self._size)
            raise clear_os_error(error, self.path) from error
        self._size += len(data)
        self.waiting.clear()

    def sync(self) -> None:
        """Write what waits and force the file to disk, so that a power cut takes none of it."""
        self.flush()
        if not self.path.exists():
            return
        try:
            with open(self.path, "ab") as handle:
                os.fsync(handle.fileno())
        except OSError as error:
            raise clear_os_error(error, self.path) from error

    @property
    def size(self) -> int:
        """Bytes written: a checkpoint notes it, so that a resumed run drops what came after."""
        return self._size

    def truncate(self, size: int) -> None:
        """Drop everything after byte `size`."""
        if size > self._size:
            raise WorkbenchError(
                f"{self.path} holds {self._size} bytes, and the checkpoint was written at {size}: the file "
                "was cut or replaced. "
                "Restore it, or start in a new folder."
            )
        if self._size > size:
            os.truncate(self.path, size)
        self._size = size
        self.waiting.clear()


def read_history(run: str | Path, kind: str | None = None, *, undone: bool = False) -> list[dict]:
    """The lines of a run (or of a history.jsonl), oldest first; a torn last line is left out.

    kind: only lines of this kind. undone: False leaves out the lines that a rollback took back (events always
    stay), so that `cur_nimg` never falls.
    """
    path = Path(run)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise WorkbenchError(
            f"There is no {NAME} in {run}: give the folder of a run, as `workbench train --out` made it."
        )
    lines: list[dict] = []
    texts = path.read_bytes().split(b"\n")  # a line that is being written may end within a letter
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts):  # no newline at its end: the writer was stopped inside this line
                continue
            raise WorkbenchError(
                f"Line {number} of {path} is no JSON ({error}): the file is damaged."
            ) from error
        if not isinstance(line, dict):
            raise WorkbenchError(
                f"Line {number} of {path} is {str(line)[:40]}, no object: the file is damaged."
            )
        if line.get("event") == "rollback" and not undone:
            try:
                lines = [
                    old for old in lines if old["kind"] == "event" or old["cur_nimg"] <= line["back_to_nimg"]
                ]
            except (KeyError, TypeError) as error:
                raise WorkbenchError(
                    f"Line {number} of {path} takes lines back and does not say which ({error!r}): the file "
                    "is damaged."
                ) from error
        lines.append(line)
    return [line for line in lines if kind is None or line["kind"] == kind]


def _plain(value: object) -> object:
    """JSON has no NaN: a number that is not finite is written as null, numpy and torch scalars as numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    number = float(value)
    return number if math.isfinite(number) else None
