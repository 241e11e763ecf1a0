"""The exact version of every package that pyproject.toml asks for, and of all that these bring.

Prints constraints.txt from the environment it runs in, which `make constraints` sets up with all extras.
"""

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
HEADER = """\
# The exact versions this project is tested with: make app and make test install with `-c constraints.txt`.
# Made by `make constraints` from an environment that passes the tests. pyproject.toml holds the ranges.
"""


def project() -> dict:
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def closure(asked: list[str]) -> tuple[dict[str, str], set[str]]:
    """Installed versions by canonical name of all that `asked` leads to, and the names not installed."""
    todo = [Requirement(text) for text in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    found: dict[str, str] = {}
    missing: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        # A local part (+cpu, +cu132) names a build, which differs between machines.
        found[name] = installed.version.partition("+")[0]
        for line in installed.requires or []:
            inner = Requirement(line)
            extras = {"", *requirement.extras}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(inner)
    return found, missing


if __name__ == "__main__":
    table = project()
    extras = [line for lines in table["optional-dependencies"].values() for line in lines]
    versions, absent = closure([*table["dependencies"], *extras])
    if absent:
        raise SystemExit(f"error: not installed here: {', '.join(sorted(absent))}. Install all extras first.")
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(versions.items())))
