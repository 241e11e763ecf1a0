"""A process that draws a data set, killed while it does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 300  # reached only on a machine with much else to do


def kill_while_drawing(
    script: str, target: Path, *, pictures: int = 6, look: Callable[[int], object] = lambda pid: None
) -> object:
    """Run `script` until `target` holds that many pictures, then SIGKILL it; what `look` found at its
    process number just before.
    """
    run = subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        until = time.monotonic() + PATIENCE_S
        while len(list(target.glob("images/*.png"))) < pictures and time.monotonic() < until:
            assert run.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        return look(run.pid)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
