"""Training on two local Ray workers: the bits of two processes started by hand, whatever is killed.

Each start of Ray takes some ten seconds, so what can end a run is tried on one run after the other.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny_run

from workbench.errors import WorkbenchError
from workbench.training import checkpoint
from workbench.training.history import NAME, read_history
from workbench.training.launch import _room, launch

SCRIPT = Path(tiny_run.__file__).with_name("ray_run.py")
IMAGES = 960  # 120 steps: time enough to be interrupted
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None,
    reason="no ray here; to run it: pip install workbench[cluster]",
)


@pytest.fixture(scope="module")
def by_hand(inputs, tmp_path_factory) -> Path:
    """The run of two processes that were started without Ray."""
    out = tmp_path_factory.mktemp("by-hand") / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = tiny_run.start_pair(inputs, out, port, images=IMAGES)
    for process in pair:
        process.join(600)
        process.kill()
    assert [process.exitcode for process in pair] == [0, 0]
    return out


def start(inputs: tuple[Path, Path], out: Path) -> subprocess.Popen:
    """The command in a group of its own, as a terminal starts it."""
    line = [str(word) for word in (sys.executable, SCRIPT, "train", *inputs, out, str(IMAGES))]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """(exit status, what it said on stderr)."""
    said = process.communicate(timeout=900)[1]
    return process.returncode, said


def reach(process: subprocess.Popen, run: Path, cur_nimg: int, seconds: float = 600.0) -> None:
    """Wait until the history has come to cur_nimg, with the process alive."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if (run / NAME).is_file() and any(line["cur_nimg"] >= cur_nimg for line in read_history(run, "step")):
            return
        time.sleep(0.05)
    raise AssertionError(f"not at {cur_nimg} images: {process.poll()}")


def holders(run: Path) -> list[int]:
    """The processes that hold the lock of the run: its first worker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            open_files = {os.readlink(link) for link in (process / "fd").iterdir()}
        except OSError:  # ended meanwhile
            continue
        if str(run / ".lock") in open_files:
            found.append(int(process.name))
    return found


def wait_for_nobody(run: Path, seconds: float = 120.0) -> None:
    """Until no process holds the run."""
    end = time.monotonic() + seconds
    while holders(run):
        assert time.monotonic() < end, "workers outlive their command"
        time.sleep(0.2)


@pytest.mark.long
@needs_ray
def test_two_ray_workers_make_the_run_of_two_processes(inputs, by_hand, same_run, tmp_path):
    status, said = finish(start(inputs, tmp_path / "run"))
    assert status == 0, said
    same_run(by_hand, tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]  # nothing of Ray's own is left


@pytest.mark.long
@needs_ray
def test_ctrl_c_a_killed_command_and_a_killed_worker_cost_nothing(inputs, by_hand, same_run, tmp_path):
    run = tmp_path / "run"
    process = start(inputs, run)
    reach(process, run, 48)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
    status, said = finish(process)
    assert status == 130 and "Finishing this step, then saving" in said, said
    stopped = checkpoint.newest_nimg(run)
    assert 48 <= stopped < IMAGES and (run / "model/config.json").is_file()

    process = start(inputs, run)
    reach(process, run, stopped + 72)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    wait_for_nobody(run)
    killed = checkpoint.newest_nimg(run)
    assert stopped <= killed < IMAGES

    process = start(inputs, run)
    reach(process, run, killed + 72)
    (first,) = holders(run)
    os.kill(first, signal.SIGKILL)
    status, said = finish(process)
    assert status == 0, said
    same_run(by_hand, run)


@pytest.mark.long
@needs_ray
def test_what_a_worker_refuses_is_told_by_the_command(tmp_path, inputs):
    status, said = finish(start((tmp_path / "nowhere", inputs[1]), tmp_path / "run"))
    assert status == 1 and "WorkbenchError" in said and "nowhere" in said.splitlines()[-1], said


def test_workers_get_gpus_where_there_are_some():
    assert _room([(8, 0)], None, None) == (False, 1, 8)
    assert _room([(8, 0), (8, 0)], None, "cpu") == (False, 2, 8)
    assert _room([(16, 2), (16, 2)], None, None) == (True, 4, 8)
    assert _room([(16, 2)], 4, "cpu") == (False, 4, 4)


@pytest.mark.parametrize(
    ("machines", "workers", "device", "said"),
    [
        (
            [(2, 0)],
            3,
            None,
            "3 Ray workers find no room: the cluster has 2 cores, and each takes a core",
        ),
        ([(8, 1)], 2, None, "has 8 cores and 1 GPUs, and each takes a core and a GPU"),
        ([(2, 0)], 1, "cuda", "The device is cuda, and the Ray cluster has no GPU"),
    ],
)
def test_a_cluster_without_room_is_told(machines, workers, device, said):
    with pytest.raises(WorkbenchError, match=said):
        _room(machines, workers, device)


def test_mistakes_are_told_before_ray_starts(inputs, tmp_path):
    config = tiny_run.tiny_config()
    with pytest.raises(WorkbenchError, match="number of Ray workers is 0: expected 1 or more"):
        launch(config, inputs[0], tmp_path / "run", workers=0, clip=inputs[1])
    (tmp_path / "letter.txt").write_text("")
    with pytest.raises(WorkbenchError, match="holds other files"):
        launch(config, inputs[0], tmp_path, clip=inputs[1])
