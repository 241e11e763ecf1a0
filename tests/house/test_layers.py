"""The contract between rooms holds, and it would notice an import that goes upwards."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = [
    sys.executable,
    "-c",
    "from importlinter.cli import lint_imports_command as lint; lint()",
    "--no-cache",
]


def lint(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*LINT, "--no-logo"], cwd=folder, capture_output=True, text=True, timeout=120)


def test_rooms_import_downwards_only():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("errors", "hardware"),
        ("noise", "images"),
        ("datasets", "models"),
        ("pipeline", "training"),
        ("app", "cli"),
    ],
)
def test_an_import_upwards_or_aside_breaks_the_contract(tmp_path, lower, upper):
    package = tmp_path / "workbench"
    package.mkdir()
    for name in ("__init__", "errors", "hardware", "cluster", "hub", lower, upper):
        (package / f"{name}.py").touch()
    (package / f"{lower}.py").write_text(f"import workbench.{upper}\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = lint(tmp_path)
    assert done.returncode == 1
    assert f"workbench.{lower} is not allowed to import workbench.{upper}" in done.stdout


def test_a_room_outside_the_plan_breaks_the_contract(tmp_path):
    package = tmp_path / "workbench"
    package.mkdir()
    for name in ("__init__", "errors", "hardware", "cluster", "hub", "attic"):
        (package / f"{name}.py").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = lint(tmp_path)
    assert done.returncode != 0
    assert "attic" in done.stdout
