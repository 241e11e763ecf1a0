"""The Makefile says what is missing, and does not install twice."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with what the set-up reads, without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    return subprocess.run(
        ["make", *words], cwd=folder, env=inherited, capture_output=True, text=True, timeout=60
    )


def fake_python(folder: Path, body: str) -> str:
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("target", ["app", "test", "lab"])
def test_a_python_that_is_not_there_is_named_with_the_line_that_installs_it(clone, target):
    done = make(clone, target, "PYTHON=python9.9")
    assert done.returncode != 0
    assert "error: there is no python9.9" in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


def test_an_old_python_is_refused_with_its_version(clone):
    old = fake_python(clone, 'case "$1" in -V) echo Python 3.9.2;; -c) exit 1;; esac')
    done = make(clone, "app", f"PYTHON={old}")
    assert done.returncode != 0
    assert "is Python 3.9.2, and 3.11 or newer is needed" in done.stderr
    assert "make app PYTHON=python3.12" in done.stderr


def test_a_debian_without_python3_venv_gets_the_line_that_installs_it(clone):
    bare = fake_python(clone, 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac')
    done = make(clone, "app", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "python3-venv is missing. Install it: sudo apt-get install python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_fresh_set_up_is_not_made_again_until_the_requirements_change(clone):
    def plan(target: str) -> str:
        done = make(clone, "-n", target)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "pip install" in plan("app")
    key = make(clone, "-s", "key").stdout.strip()
    (clone / ".venv").mkdir()
    (clone / ".venv" / f".ready-app-{key}").touch()
    assert "pip install" not in plan("app")
    assert "pip install" not in plan("lab")
    assert "pip install" in plan("test")
    os.utime(clone / "pyproject.toml")  # a git checkout changes times, not requirements
    assert "pip install" not in plan("app")
    with (clone / "constraints.txt").open("a") as file:
        file.write("numpy==0\n")
    assert "pip install" in plan("app")


@pytest.mark.parametrize(
    ("target", "held", "missing"),
    [
        ("ship", "shepherd-64", "runs/demo/second/shepherd-64"),
        ("ship-race", "shepherd-64-student", "runs/other/shepherd-64-student"),
    ],
)
def test_what_ships_stays_where_there_is_nothing_to_put_in_its_place(clone, target, held, missing):
    (clone / ".venv").mkdir()
    (clone / ".venv" / f".ready-app-{make(clone, '-s', 'key').stdout.strip()}").touch()
    (clone / "assets" / "models" / held).mkdir(parents=True)
    (clone / "runs" / "other" / "shepherd-64-diffusion" / "model").mkdir(parents=True)  # one of two
    done = make(clone, target, "RACE_LAPS=runs/demo runs/other")
    assert done.returncode == 2
    assert f"error: {missing} is no finished run: make demo-models" in done.stderr
    assert (clone / "assets" / "models" / held).is_dir()


def test_help_names_every_command():
    shown = make(ROOT, "help").stdout
    for target in ("app", "lab", "test", "test-long", "demo-models", "clean"):
        assert f"make {target}" in shown


def test_the_ci_script_is_sound_and_runs_the_tests():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")
