"""Data sets on this computer as the page shows them: where they are, what they hold, the jobs that make them.

A job runs in a thread of its own and is asked to stop by an event; what it made until then stays, and the
same job goes on from there.
"""

import html
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

_LOOK_S = 0.3  # between two looks at a job's progress
_SHOWN = 60
_FEW_VALUES = 12  # columns with more different values get no bars


# --- where they are ---


class Sets:
    """Data set folders under `root` (two levels deep), and where new ones go."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self) -> dict[str, Path]:
        """Name relative to the root -> folder, the newest first."""
        if not self.root.is_dir():
            return {}
        files = [file for depth in ("*", "*/*") for file in self.root.glob(f"{depth}/metadata.*")]
        found = [file.parent for file in files if file.name in ("metadata.jsonl", "metadata.csv")]
        newest = sorted(set(found), key=lambda folder: folder.stat().st_mtime, reverse=True)
        return {folder.relative_to(self.root).as_posix(): folder for folder in newest}

    def get(self, name: str) -> Path:
        """The folder of a name; WorkbenchError when it is gone."""
        folder = self.list().get(name)
        if folder is None:
            raise WorkbenchError(
                f"The data set {name!r} is gone from {self.root}: press Refresh to see what is there."
            )
        return folder

    def place(self, name: str) -> Path:
        """Where a new set of this name is written. Raises WorkbenchError for a name that is no plain word."""
        clean = str(name).strip()
        if not re.fullmatch(r"[\w][\w .-]{0,60}", clean) or clean.endswith("."):
            raise WorkbenchError(
                f"The name is {clean[:40]!r}: expected letters, digits, dashes or dots, for example my-dogs."
            )
        return self.root / "datasets" / clean.replace(" ", "-")


# --- jobs ---


@dataclass
class Job:
    """What a thread is doing. result or error is set when it is done."""

    stop: threading.Event = field(default_factory=threading.Event)
    done: int = 0
    total: int = 0
    result: Any = None
    error: Exception | None = None

    @property
    def ending(self) -> bool:
        """Whether a stop was asked for, or the app itself ends and waits for this thread."""
        return self.stop.is_set() or not threading.main_thread().is_alive()

    def tell(self, done: int, total: int) -> None:
        """Progress, as the data set functions report it; ends the work where it is to end."""
        self.done, self.total = done, total
        if self.ending:
            raise Stopped


class Stopped(Exception):
    """A job was asked to end."""


class Jobs:
    """One data set job for each visitor (and part of the page, where the name says that too)."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def run(self, work: Callable[[Job], Any], visitor: str) -> Iterator[Job]:
        """Start `work` in a thread and yield its job now and then, the last time when it is done.

        Closing the iterator asks the work to stop. Raises what the work raises.
        """
        job = self._jobs[visitor] = Job()
        thread = threading.Thread(target=self._do, args=(work, job), name="dataset-job")
        thread.start()
        try:
            while thread.is_alive():
                yield job
                thread.join(_LOOK_S)
        finally:
            job.stop.set()
            if self._jobs.get(visitor) is job:
                del self._jobs[visitor]
        if job.error is not None and not isinstance(job.error, Stopped):
            raise job.error
        yield job

    @staticmethod
    def _do(work: Callable[[Job], Any], job: Job) -> None:
        try:
            job.result = work(job)
        except Exception as error:  # noqa: BLE001 - handed to the page's own thread, which raises it
            job.error = error

    def stop(self, visitor: str) -> bool:
        """Ask a visitor's job to end; False where there is none."""
        job = self._jobs.get(visitor)
        if job is None:
            return False
        job.stop.set()
        return True


def status_html(sentence: str) -> str:
    """A sentence in the place of a job's progress, which a screen reader says."""
    return f'<p class="wb-status" role="status">{html.escape(sentence)}</p>'


def progress_html(job: Job, began: float, doing: str) -> str:
    """A bar, how many of how many, and the time left."""
    if not job.total:
        return status_html(f"{doing} …")
    share = job.done / job.total
    spent = time.perf_counter() - began
    left = f", about {spent / share * (1 - share):.0f} s left" if 0.02 < share < 1 and spent > 2 else ""
    return (
        f'<p class="wb-status" role="status">{doing}: {job.done:,} of {job.total:,}{left}</p>'
        f'<progress class="wb-progress" max="1" value="{share:.4f}" aria-label="{doing}"></progress>'
    )


# --- what a set holds ---


def seen(shelf: Sets, name: str) -> tuple[str, list[tuple[Any, str]], str]:
    """(summary, sheet, status) of a set; what is wrong with it is its status, and the rest is shown."""
    summary, sheet = "", []
    try:
        folder = shelf.get(name)
        summary = summary_html(folder)
        sheet = pictures(folder)
    except (WorkbenchError, OSError) as error:
        return summary, sheet, status_html(str(error))
    return summary, sheet, ""


def pictures(folder: Path, count: int = _SHOWN) -> list[tuple[Any, str]]:
    """(picture, caption) of up to `count` whole pictures, spread evenly over the set."""
    from workbench.datasets.rows import read_folder, read_picture

    rows = read_folder(folder, check_pictures=False)
    shown = []
    for k in range(min(count, len(rows))):
        row = rows[k * len(rows) // min(count, len(rows))]
        try:
            shown.append((read_picture(folder / row.file_name), row.text))
        except WorkbenchError as error:
            raise WorkbenchError(
                f"{error} Press “Check it” to see all that is wrong with the set."
            ) from error
    return shown


def summary_html(folder: Path) -> str:
    """How many pictures and captions, the shares of columns of few values, and the line that trains on it."""
    from workbench.datasets.rows import read_folder

    rows = read_folder(folder, check_pictures=False)
    tiles = {
        "pictures": f"{len(rows):,}",
        "different captions": f"{len({row.text for row in rows}):,}",
        "words a caption": f"{sum(len(row.text.split()) for row in rows) / len(rows):.1f}",
    }
    cells = "".join(f"<div><dd>{value}</dd><dt>{name}</dt></div>" for name, value in tiles.items())
    line = f"workbench train --data {shlex.quote(str(folder))} --out runs/my-run --preset shepherd-64"
    return (
        f'<dl class="wb-tiles wb-wide">{cells}</dl>{_bars(rows)}'
        f'<p class="wb-hint">Train on it: <code>{html.escape(line)}</code></p>'
    )


def _bars(rows: list[Any]) -> str:
    """A block of bars for each column with a few different words."""
    columns: dict[str, dict[str, int]] = {}
    for row in rows:
        for name, value in row.factors.items():
            if isinstance(value, str):
                columns.setdefault(name, {}).setdefault(value, 0)
                columns[name][value] += 1
    blocks = []
    for name, counts in columns.items():
        if not 2 <= len(counts) <= _FEW_VALUES:
            continue
        most = max(counts.values())
        lines = "".join(
            f'<dt>{html.escape(value)}</dt><dd><i style="width:{100 * count / most:.1f}%"></i></dd>'
            f"<dd>{count:,}</dd>"
            for value, count in sorted(counts.items(), key=lambda item: -item[1])
        )
        blocks.append(f'<section><h4>{html.escape(name)}</h4><dl class="wb-bars">{lines}</dl></section>')
    return f'<div class="wb-columns">{"".join(blocks)}</div>' if blocks else ""


def report_html(folder: Path, tokenizer: Any, job: Job) -> str:
    """The check's report page, in a frame of its own that may run nothing."""
    import tempfile

    from workbench.datasets.check.report import write_report
    from workbench.datasets.check.running import check_folder

    found = check_folder(folder, tokenizer=tokenizer, progress=job.tell, stop=lambda: job.ending)
    with tempfile.TemporaryDirectory() as room:
        page = write_report(found, room).read_text(encoding="utf-8")
    title = 'class="wb-report" sandbox title="Report of the check"'
    return f'<iframe {title} srcdoc="{html.escape(page)}"></iframe>'
