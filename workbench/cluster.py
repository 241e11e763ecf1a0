"""Ray, wherever the workbench uses it: the connection, how workers share machines, and a word between them.

A cluster of this machine alone has no dashboard, takes little memory and tells its makers nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

INSTALL = "pip install workbench[cluster]"
# What travels through Ray's shared memory here is pictures and sentences; it would take 30 % of all memory.
_OBJECT_STORE_BYTES = 256 * 2**20
# Read by Ray when it is imported or a job begins. Else it reports to its makers, measures itself, keeps
# workers behind all else on this machine and in a folder of its own, gives them a minute to start (a busy
# machine needs longer), writes logs that nobody reads and takes Ctrl-C for itself.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_worker_niceness": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


# --- the connection ---


@contextlib.contextmanager
def ray_cluster(
    address: str | None, cores: int, *, instead: str | None = "leave --ray out"
) -> Iterator[tuple[Any, int]]:
    """(ray, cores of the cluster), connected meanwhile. address None: a cluster of this machine's `cores`.

    A connection that the calling program has already is used and stays. instead: what else can be done where
    Ray is not installed. Raises WorkbenchError there, and where Ray does not answer.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        or_else = f", or {instead}" if instead else ""
        raise WorkbenchError(f"Ray is not installed here: run `{INSTALL}`{or_else}.") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            _reach(address)
            ray.init(**_place(address, cores), log_to_driver=False, logging_level="error")
        except Exception as error:  # among others a bare Exception, where a busy machine starts too slowly
            raise WorkbenchError(
                f"Ray does not answer at {address or 'this machine'} ({last_line(error)}). Check the "
                "address (`ray status` tells it), or leave --ray-address out to use this machine alone."
            ) from error
    try:
        yield ray, int(ray.cluster_resources().get("CPU", 1))
    finally:
        if ours:
            ray.shutdown()


def _place(address: str | None, cores: int) -> dict[str, object]:
    """Arguments of ray.init."""
    if address is not None:
        return {"address": address}
    # "local": else RAY_ADDRESS, or the note that a cluster left in /tmp, would take us elsewhere.
    return {
        "address": "local",
        "num_cpus": cores,
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE_BYTES,
    }


def _reach(address: str | None) -> None:
    """Raises OSError where nobody listens at "host:port" or "ray://host:port": Ray tries for minutes."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d{1,5})", address or "")
    if found:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


def last_line(error: BaseException) -> str:
    """The cause at the end of what Ray says, which tells the whole way to it."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


# --- who gets what ---


def cores_each(machines: Sequence[tuple[int, int]], workers: int, *, gpu: bool = False) -> int:
    """The most cores that each of `workers` can have; 0 where the machines cannot hold so many.

    machines: (cores, GPUs) of each. A worker lives on one machine, and with `gpu` it has a GPU to itself.
    """
    for each in range(max((cores for cores, _ in machines), default=0), 0, -1):
        if sum(min(cores // each, gpus if gpu else cores) for cores, gpus in machines) >= workers:
            return each
    return 0


def machines(ray: Any) -> list[tuple[int, int]]:
    """(cores, GPUs) of each machine of the cluster."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in found]


def everywhere(path: str | Path) -> str:
    """A path as a worker finds it, whatever its folder; names and addresses pass as they are."""
    return str(Path(path).resolve()) if Path(path).exists() else str(path)


# --- a word between the command and its workers ---


class Board:
    """What workers and command tell each other: to stop, and notes by name.

    It lives in a Ray actor of its own, which ends with the command, however that ends.
    """

    def __init__(self) -> None:
        self._stopping = False
        self._notes: dict[str, object] = {}

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping

    def note(self, name: str, value: object) -> None:
        self._notes[name] = value

    def notes(self) -> dict[str, object]:
        return self._notes


def new_board(ray: Any) -> Any:
    """The handle of a new `Board`; it takes no core."""
    return ray.remote(num_cpus=0)(Board).remote()


@contextlib.contextmanager
def heeding(board: Any, *, every_s: float = 0.5) -> Iterator[threading.Event]:
    """In a worker: an event that is set once the board says stop, or is gone."""
    import ray

    stop, over = threading.Event(), threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            try:
                if not ray.get(board.stopping.remote()):
                    continue
            except ray.exceptions.RayError:  # the command is gone: save what there is
                pass
            stop.set()
            return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        over.set()
        watcher.join()
