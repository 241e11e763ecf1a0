"""What the subcommands share: their tree, where shipped things lie, how a result is printed."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg
from tyro.extras import SubcommandApp

from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[2]
DEMO_MODEL = "assets/models/shepherd-64"
UPSCALER = "assets/models/shepherd-up4"
CLIP = "assets/models/mini-clip"
JUDGE = "assets/models/judge"
STOPPED = 130  # the exit status of Ctrl-C
_ENDLESS = 10_000  # columns

app = SubcommandApp()
dataset = SubcommandApp()
evaluate = SubcommandApp()
bench = SubcommandApp()
app.command(dataset, name="dataset", help="Draw and check data sets.")
app.command(evaluate, name="evaluate", help="Measure a model.")
app.command(bench, name="bench", help="Measure speed, count parameters.")

Whole = Annotated[int | None, arg(metavar="INT")]
Text = Annotated[str | None, arg(metavar="STR")]
AsJson = Annotated[bool, arg(name="json")]
File = Annotated[Path | None, arg(metavar="PATH")]


def find_model(name: str | None) -> str | None:
    """A model folder by its path: from here, or from the project's folder, where the shipped ones are."""
    if name is None:
        return None
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).is_dir() else name


def find_file(file: Path | None) -> Path | None:
    """A file by its path: from here, or from the project's folder, where the shipped plans are."""
    if file is None:
        return None
    return ROOT / file if not file.exists() and (ROOT / file).is_file() else file


def say_progress(done: int, total: int, what: str) -> None:
    """One line on stderr that rewrites itself, so that stdout holds the result alone."""
    print(f"\r{what}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A sentence for the person at the terminal, on stderr, above a progress bar that may stand there."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def room() -> int:
    """Columns that a table may take: those of the terminal, or enough for any where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _ENDLESS


def show(table: object) -> None:
    """A rich table on stdout, whole: in a terminal that is too narrow its words are folded, never cut, and
    the names in its first column hold out longest. Raises BrokenPipeError as print does.
    """
    from rich.console import Console
    from rich.protocol import rich_cast
    from rich.table import Table

    class Told(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich would leave by status 1: a reader that has seen enough is no mistake

    table = rich_cast(table)
    if isinstance(table, Table):
        for column in table.columns:
            column.overflow = "fold"
        names = table.columns[0]
        names.no_wrap = max((len(str(cell)) for cell in names.cells), default=0) <= room() // 2
    Told(width=room()).print(table)


def check_file(file: Path | None) -> None:
    """WorkbenchError, before long work, where a file that will be written has no place."""
    from workbench.images import check_place

    if file is not None:
        check_place(file.parent)
        if file.is_dir():
            raise WorkbenchError(f"{file} is a folder: give the name of a file.")


def print_result(result: dict, as_json: bool) -> None:
    """A result as one JSON object, or as one name and value a line."""
    if as_json:
        print(json.dumps(result))
        return
    width = max(len(name) for name in result)
    for name, value in result.items():
        print(f"{name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")
