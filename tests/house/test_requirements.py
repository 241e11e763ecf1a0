"""What is installed: pyproject.toml, constraints.txt, environment.yml and the imports of the code agree."""

import ast
import importlib.util
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def load_requirements():
    spec = importlib.util.spec_from_file_location("requirements", Path(__file__).with_name("requirements.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Spoken through a library that we ask for, which decides their version: gradio's server, matplotlib's cycles,
# what the Hub's client raises when there is no network.
SPOKEN = {"starlette", "cycler", "httpx2", "packaging"}

requirements = load_requirements()
PROJECT = requirements.project()
EXTRAS = PROJECT["optional-dependencies"]
ASKED = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_conda_installs_what_pyproject_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert f"python{PROJECT['requires-python']}" in conda
    assert "pip" in conda
    assert pip["pip"] == ["--constraint constraints.txt", "--editable .", *PROJECT["dependencies"]]


def test_constraints_are_exact_versions_without_places_or_builds():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins == sorted(pins, key=lambda line: line.partition("==")[0])
    for line in pins:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


@pytest.mark.parametrize("line", ASKED)
def test_each_requirement_has_a_next_major_bound_and_a_constraint_within_it(line, constraints):
    requirement = Requirement(line)
    operators = {part.operator for part in requirement.specifier}
    assert operators == {">=", "<"}, (
        "a lower bound that was tested and an upper one at the next major version"
    )
    pinned = constraints[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"constraints.txt has {pinned}"
    upper = next(Version(part.version) for part in requirement.specifier if part.operator == "<")
    assert upper.major == Version(pinned).major + 1 or (upper.major, Version(pinned).major) == (0, 0)


def test_constraints_name_all_that_comes_along(constraints):
    """Every package that ours lead to is pinned. Its version may differ by a machine's own build of torch."""
    versions, _ = requirements.closure(ASKED)
    assert not set(versions) - set(constraints), "run: make constraints"


@pytest.mark.parametrize("folder", ["workbench", "tests"])
def test_all_imports_are_declared(folder):
    """A library that the code imports is named in pyproject.toml, not just brought by another."""
    owners = packages_distributions()
    allowed = {canonicalize_name(Requirement(line).name) for line in ASKED}
    allowed |= {"workbench", *SPOKEN}
    undeclared = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in top_level_imports(path):
            names = {canonicalize_name(owner) for owner in owners.get(name, [])}
            if name not in sys.stdlib_module_names and names and not names & allowed:
                undeclared.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert not undeclared


def top_level_imports(path: Path) -> set[str]:
    """Names of the packages that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
