"""The command line: help kept as text, mistakes in one line and status 2, imports that launch nothing."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from workbench import cli, commands
from workbench.errors import WorkbenchError

SNAPSHOT = Path(__file__).with_name("cli_help.txt")
COMMANDS = [
    [],
    ["dataset"],
    ["dataset", "world"],
    ["dataset", "flux"],
    ["dataset", "folder"],
    ["dataset", "check"],
    ["dataset", "split"],
    ["dataset", "shards"],
    ["dataset", "shards", "pack"],
    ["dataset", "shards", "unpack"],
    ["dataset", "publish"],
    ["train-clip"],
    ["train-judge"],
    ["train"],
    ["ablate"],
    ["trials"],
    ["sweep"],
    ["gif"],
    ["diffusion"],
    ["diffusion", "train"],
    ["diffusion", "distill"],
    ["compare"],
    ["sample"],
    ["upscale"],
    ["open-picture"],
    ["directions"],
    ["train-encoder"],
    ["invert"],
    ["evaluate"],
    ["evaluate", "faithfulness"],
    ["evaluate", "judge"],
    ["evaluate", "clip"],
    ["evaluate", "all"],
    ["evaluate", "upsampler"],
    ["evaluate", "edits"],
    ["evaluate", "inversion"],
    ["evaluate", "distance"],
    ["evaluate", "questions"],
    ["evaluate", "compare"],
    ["evaluate", "report"],
    ["figures"],
    ["bench"],
    ["bench", "sample"],
    ["bench", "upscale"],
    ["bench", "edit"],
    ["bench", "world"],
    ["bench", "step"],
    ["bench", "loader"],
    ["bench", "params"],
    ["bench", "shards"],
    ["bench", "overhead"],
    ["bench", "features"],
    ["doctor"],
    ["app"],
]


def help_text(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--help"])
    assert stopped.value.code == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return "\n".join(line.rstrip() for line in shown.strip().splitlines())


def run(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "workbench.cli", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_is_what_the_snapshot_says(capsys, monkeypatch):
    """Changed on purpose? WORKBENCH_UPDATE_SNAPSHOTS=1 writes the new text: read its diff."""
    monkeypatch.setenv("COLUMNS", "100")
    pages = [
        f"$ workbench {' '.join([*words, '--help'])}\n{help_text(words, capsys)}\n" for words in COMMANDS
    ]
    shown = "\n".join(pages)
    if os.environ.get("WORKBENCH_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(shown)
    assert shown == SNAPSHOT.read_text()


def test_help_answers_within_a_second_and_loads_no_torch():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys, workbench.cli; assert not {'torch', 'gradio', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert run("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor seconds of both runs, so that a busy machine does not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0


def test_no_command_shows_the_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 0
    assert "train-clip" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "nonsense"),
        (["sample"], "--prompt"),
        (["sample", "--prompt", "a dog", "--seed", "1.5"], "--seed"),
        (["sample", "--prompt", "a dog", "--count", "many"], "--count"),
        (["train", "--data", "d", "--out", "o", "--presets", "x"], "--presets"),
    ],
)
def test_a_line_that_cannot_be_read_is_explained_and_exits_with_two(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_mistake_is_one_line_on_stderr_and_debug_shows_where(capsys, monkeypatch):
    assert cli.main(["doctor", "--port", "99999"]) == 2
    assert capsys.readouterr() == ("", "error: The port is 99999: expected 1 to 65535.\n")
    monkeypatch.setenv("WORKBENCH_DEBUG", "1")
    assert cli.main(["doctor", "--port", "99999"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("error: The port is 99999: expected 1 to 65535.\n")


def test_evaluate_alone_is_the_whole_report(capsys):
    assert cli.main(["evaluate", "--model", "nowhere", "--data", "neither", "--out", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "nowhere" in error  # as `evaluate report` says it
    assert cli.main(["evaluate", "report", "--model", "nowhere", "--data", "neither", "--out", "x"]) == 2
    assert capsys.readouterr().err == error


def test_a_pause_before_the_first_image_is_refused(capsys, tmp_path):
    out = tmp_path / "run"
    assert cli.main(["train", "--data", "d", "--out", str(out), "--pause-at", "0"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("error: --pause-at is '0': expected a whole number of at least 1") and "2kimg" in said
    )
    assert not out.exists()


def test_the_exit_status_reaches_the_shell():
    done = run("doctor", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: The port is 0: expected 1 to 65535.\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (WorkbenchError("count is 0:\n  expected 1 or more."), "count is 0: expected 1 or more."),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b.png"),
            "No space left on device: a/b.png. Make room",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/out"),
            "Permission denied: /out. Choose a folder",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "No such file: x. Check the path."),
        (OSError(errno.EIO, "Input/output error"), "Input/output error. Mend that"),
        (
            OSError("Cannot write x: the disk is full; make room."),
            "Cannot write x: the disk is full; make room.",
        ),
        (WorkbenchError(), "WorkbenchError"),
    ],
)
def test_errors_become_one_sentence(error, expected):
    sentence = cli.sentence(error)
    assert sentence.startswith(expected)
    assert "\n" not in sentence


def test_a_missing_picture_is_named(tmp_path, capsys):
    assert cli.main(["open-picture", str(tmp_path / "none.png")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "none.png" in said


def test_control_c_ends_with_130_and_the_same_line_goes_on(tmp_path):
    """What was drawn when Ctrl-C came is kept."""
    words = ["dataset", "world", "--out", str(tmp_path / "set"), "--resolution", "16", "--workers", "1"]
    running = subprocess.Popen(
        [sys.executable, "-m", "workbench.cli", *words, "--count", "50000"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("set/images/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "Traceback" not in said
    assert list(tmp_path.glob("set/images/*.png"))


def test_control_c_in_the_first_moment_is_no_traceback_either():
    """While the command line itself is read in, which takes some tenths of a second."""
    code = (
        "import os, signal, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tyro': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from workbench.cli import main\n"
        "sys.exit(main(['--help']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_too_little_memory_is_one_line_that_says_what_to_do(kind, monkeypatch, capsys):
    def allocate(port):
        if kind == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 TiB.")
        return torch.empty(2**58)  # a real refusal of the allocator

    monkeypatch.setattr("workbench.doctor.examine", allocate)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("error: There is not enough memory for this. Make the batch")


def test_other_runtime_errors_are_not_hidden(monkeypatch):
    def fail(port):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("workbench.doctor.examine", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        cli.main(["doctor"])


def test_a_reader_that_goes_away_is_no_error():
    """`workbench … | head` closes our stdout before we are done."""
    code = (
        "import time; from workbench import cli, doctor; print(flush=True); time.sleep(0.5); "
        "doctor.examine = lambda port: [doctor.Finding(topic='x', text='y' * 100_000)]; cli.main(['doctor'])"
    )
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -n 1', shell=True, capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""


def test_what_ships_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commands.find_model("workbench") == str(commands.common.ROOT / "workbench")
    assert commands.find_model("owner/name") == "owner/name"
    plan = Path("benchmarks/recipe.json")
    assert commands.common.find_file(plan) == commands.common.ROOT / plan
    assert commands.common.find_file(Path("nowhere.json")) == Path("nowhere.json")
    (tmp_path / "workbench").mkdir()
    assert commands.find_model("workbench") == "workbench"
