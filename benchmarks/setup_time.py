"""Seconds from `make app` in a fresh clone to a page that answers: the first time, and the second.

    python benchmarks/setup_time.py

Clones the committed state into a temporary folder, so nothing here is touched. Packages come from wherever
pip is set to look; run it twice and quote the second for a warm package cache. Needs some 8 GB of disk.
"""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 1800


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def seconds_to_page(folder: Path) -> float:
    """Start `make app`, wait for the page, stop it. RuntimeError when it ends or takes too long."""
    port = free_port()
    start = time.perf_counter()
    app = subprocess.Popen(
        ["make", "app", f"PORT={port}"], cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while time.perf_counter() - start < LIMIT_S:
            if app.poll() is not None:
                raise RuntimeError(f"make app ended with {app.returncode}: {app.stdout.read()[-2000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                    if page.status == 200 and page.read():
                        return time.perf_counter() - start
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise RuntimeError(f"no page within {LIMIT_S} s")
    finally:
        if app.poll() is None:
            os.killpg(app.pid, signal.SIGINT)
            app.wait(timeout=60)


def main() -> None:
    """Measure both and print one JSON object."""
    with tempfile.TemporaryDirectory(prefix="workbench-clone-") as scratch:
        folder = Path(scratch) / "workbench"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        result = {"first_s": seconds_to_page(folder), "second_s": seconds_to_page(folder)}
    print(json.dumps({name: round(value, 1) for name, value in result.items()}))


if __name__ == "__main__":
    main()
