"""A training that is asked to end and goes on saving for minutes, which `background` takes for its own."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PROGRAM = """
import signal, sys, time
from pathlib import Path
heard = Path(sys.argv[2]) / "heard"
for name in ("SIGTERM", "SIGINT"):
    signal.signal(getattr(signal, name), lambda *_, name=name: heard.open("a").write(name + " "))
(heard.parent / "ready").touch()
time.sleep(600)
"""


@contextmanager
def saving_slowly(run: Path) -> Iterator[Path]:
    """Within it such a process trains in `run`; gives the file of the signals that it heard."""
    (run / ".process").mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen([sys.executable, "-c", _PROGRAM, "workbench.training.background", str(run)])
    try:
        end = time.monotonic() + 60
        while not (run / "ready").exists():
            assert time.monotonic() < end, "the process never listened"
            time.sleep(0.05)
        began = psutil.Process(child.pid).create_time()
        facts = {"pid": child.pid, "began": began, "run": str(run), "host": platform.node(), "asked": None}
        (run / ".process" / "start.json").write_text(json.dumps(facts))
        yield run / "heard"
    finally:
        child.kill()
        child.wait()
