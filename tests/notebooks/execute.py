"""Runs notebooks in place and stores them small: `make notebooks`, or this script with the names of some.

No widget state, no times, no progress bars. A cell that fails or writes to stderr leaves the file as it was.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from nbclient.cli import NbClientApp

ROOT = Path(__file__).resolve().parents[2]
# What a live notebook shows and a stored one does not: sliders, and films of a megabyte.
LIVE_ONLY = ("application/vnd.jupyter.widget-view+json", "image/gif")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SECONDS_A_CELL = 1800


def clean(notebook: dict) -> dict:
    """Keep what a static page shows: in place and returned."""
    notebook["metadata"] = METADATA
    for cell in notebook["cells"]:
        cell["metadata"] = {name: value for name, value in cell["metadata"].items() if name == "tags"}
        for output in cell.get("outputs", ()):
            for part in ("data", "metadata"):
                for mime in LIVE_ONLY:
                    output.get(part, {}).pop(mime, None)
    return notebook


def complaints(notebook: dict) -> list[str]:
    """What must not be stored: what cells wrote to stderr."""
    return [
        f"cell {number}: {''.join(output['text']).strip()}"
        for number, cell in enumerate(notebook["cells"])
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream" and output["name"] == "stderr"
    ]


def execute(path: Path) -> None:
    """Run one notebook in a fresh kernel, where it lies, and write it back whole."""
    beside = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    shutil.copy(path, beside)
    try:
        app = NbClientApp(inplace=True, kernel_name="python3", log_level="WARN")
        app.timeout = app.startup_timeout = SECONDS_A_CELL
        app.run_notebook(str(beside))
        notebook = json.loads(beside.read_text(encoding="utf-8"))
        if found := complaints(notebook):
            raise SystemExit(f"error: {path.name} was not stored; it writes to stderr:\n" + "\n".join(found))
        text = json.dumps(clean(notebook), indent=1, ensure_ascii=False, sort_keys=True)
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        started = time.perf_counter()
        execute(path)
        size = path.stat().st_size / 1000
        print(f"{path.name}: {time.perf_counter() - started:.0f} s, {size:.0f} kB", flush=True)
