"""Runs notebooks in place and stores them small: `python tests/notebooks/execute.py` (make notebooks).

No widget state, no times, no progress bars. A cell that fails or writes to stderr leaves the file.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
# What a live notebook shows and a stored one does not: sliders, and films of a megabyte.
LIVE_ONLY = ("application/vnd.jupyter.widget-view+json", "image/gif")
SECONDS_A_CELL = 1800


def clean(notebook: NotebookNode) -> NotebookNode:
    """Keep what a static page shows: in place and returned."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags"})
        for output in cell.get("outputs", ()):
            for part in ("data", "metadata"):
                for mime in LIVE_ONLY:
                    output.get(part, {}).pop(mime, None)
    return notebook


def complaints(notebook: NotebookNode) -> list[str]:
    """What must not be stored: what cells wrote to stderr."""
    return [
        f"cell {number}: {output.text.strip()}"
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and output.name == "stderr"
    ]


def execute(path: Path) -> None:
    """Run one notebook in a fresh kernel, where it lies, and write it back whole."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        startup_timeout=SECONDS_A_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
    )
    client.execute()
    if found := complaints(notebook):
        raise SystemExit(f"error: {path.name} was not stored; it writes to stderr:\n" + "\n".join(found))
    beside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        nbformat.write(clean(notebook), beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb")):
        started = time.perf_counter()
        execute(path)
        print(
            f"{path.name}: {time.perf_counter() - started:.0f} s, {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )
