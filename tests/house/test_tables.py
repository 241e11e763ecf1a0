"""Tables of the commands: whole in a pipe and in a narrow terminal, and no error where a reader leaves."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from rich.table import Table

from workbench.commands import common
from workbench.evaluation.goals import GOALS

FIGURES = [sys.executable, "-m", "workbench.cli", "figures"]


def in_a_terminal(line: list[str], columns: int) -> str:
    """What a command prints to a terminal of that many columns, without its colours."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    running = subprocess.Popen(line, stdout=its, env=environment)
    os.close(its)
    shown = b""
    try:
        while read := os.read(ours, 65536):
            shown += read
    except OSError:  # Linux says so that the other side is closed
        pass
    os.close(ours)
    assert running.wait(300) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "")


def test_the_figures_are_whole_in_a_pipe_and_in_80_columns():
    piped = subprocess.run(FIGURES, capture_output=True, text=True, timeout=300, check=True).stdout
    narrow = in_a_terminal(FIGURES, 80)
    for shown in (piped, narrow):
        told = {line.split("│")[1].strip() for line in shown.splitlines() if "│" in line}
        assert set(GOALS) <= told
    assert max(map(len, narrow.splitlines())) <= 80
    assert "date" in piped and "date" not in narrow


def test_a_narrow_table_is_folded_and_never_cut(capsys, monkeypatch):
    monkeypatch.setattr(common, "room", lambda: 30)
    table = Table("name", "what")
    table.add_row("a.name.longer.than.half.of.it", "awordthatislongerthanthetable")
    common.show(table)
    shown = capsys.readouterr().out
    cells = [line.split("│")[1:3] for line in shown.splitlines() if "│" in line]
    assert max(map(len, shown.splitlines())) <= 30 and "…" not in shown
    assert "".join(name.strip() for name, _ in cells) == "a.name.longer.than.half.of.it"
    assert "".join(what.strip() for _, what in cells) == "awordthatislongerthanthetable"


def test_a_reader_of_a_table_may_leave():
    """`workbench figures | true`, with the status of the command and not of `true`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(FIGURES, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
