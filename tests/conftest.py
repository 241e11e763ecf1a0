"""What every test stands on: fixed seeds, few threads, no network beyond this machine, and loud skips."""

import contextlib
import ipaddress
import os
import random
import resource
import signal
import socket
from pathlib import Path

# Before any library reads them; the processes that tests start inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests compare bits
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch

from workbench import hardware
from workbench.doctor import find_chromium

# A shell starts background jobs deaf to Ctrl-C, and the processes that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Half a minute and more each, the longest first.
LONGEST = (
    "test_browser_training.py", "test_trainer.py", "test_watch.py", "test_shares.py", "03_training.ipynb",
    "test_processes.py", "test_kills.py", "test_faithfulness.py", "02_dataset.ipynb", "01_theory.ipynb",
    "test_background.py", "test_clip.py", "test_evaluate.py",
)  # fmt: skip
NO_CHROMIUM = "no chromium here; to run it: sudo apt-get install chromium"
NO_CUDA = "no CUDA GPU here"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A worker for each core, eight at most. A single file is run here: others would start for nothing."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # as xdist itself reads it
    single = len(config.args) == 1 and Path(config.args[0].partition("::")[0]).is_file()
    return 0 if single else min(8, hardware.usable_cores())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that all workers end together, and skip what this machine cannot run,
    each with the line that would let it run.
    """
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    without = {}
    if find_chromium() is None:
        without["browser"] = NO_CHROMIUM
    if not torch.cuda.is_available():
        without["gpu"] = NO_CUDA
    for item in items:
        for mark, reason in without.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once more, at the end, that the browser tests did not run."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if NO_CHROMIUM in str(r.longrepr)]
    if skipped:
        terminalreporter.section("browser tests did not run", yellow=True, bold=True)
        terminalreporter.line(f"{len(skipped)} skipped: {NO_CHROMIUM}")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The same random numbers in a test, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def loopback_only():
    """Refuse every connection that leaves this machine: no test may need the network, or tell it anything."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(call):
        def checked(self, address, *rest):
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
                raise PermissionError(f"a test tried to reach {address[0]}: tests may use loopback only")
            return call(self, address, *rest)

        return checked

    def resolve(host, *rest, **named):
        if host and not is_loopback(host):
            raise PermissionError(f"a test tried to look up {host!r}: tests may use loopback only")
        return getaddrinfo(host, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


def is_loopback(host: str | bytes) -> bool:
    """Whether this name or address stays on this machine; 0.0.0.0 and :: are where servers listen."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in ("localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that browser tests drive."""
    path = find_chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    return path


@pytest.fixture
def largest_file():
    """A context in which the kernel stops every write beyond n bytes of a file, much as a full disk would."""

    @contextlib.contextmanager
    def limited(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
