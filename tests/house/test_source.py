"""Rules of the house that a linter does not know: sizes, no pickle, no word of one machine."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "workbench").rglob("*.py"))
TEXTS = {".py", ".md", ".toml", ".txt", ".yml", ".json", ".jsonl", ".ipynb", ".css", ".html", ".js", ""}
SKIPPED = {".git", ".venv", "runs", "__pycache__", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def files(folder: Path):
    """Every file of the repository, without environments, caches and runs."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and entry.name not in SKIPPED and not entry.is_symlink():
            yield from files(entry)
        elif entry.is_file():
            yield entry


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_fits_in_a_head(path):
    """At most 400 lines a module and 60 a function, docstrings included, and each module says what it is."""
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "a module opens with what it is about"
    assert len(source.splitlines()) <= 400
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno + 1 > 60}
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_no_code_comes_in_with_data(path):
    """No pickle by any name: weights are safetensors, facts are JSON.

    torch.load is for weights that only others publish (LPIPS), by its restricted reader, which runs nothing.
    """
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not unsafe & {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in unsafe
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "torch.load" and "weights_only=True" in map(ast.unparse, node.keywords):
                continue
            assert called not in ("torch.load", "torch.save", "eval", "exec", "np.load")


def test_the_repository_speaks_of_the_project_alone():
    """No path of one machine and no package index in what is committed."""
    # Written in parts, so that this file does not find itself.
    foreign = re.compile(
        "|".join(("/" + "work/(main|shared|tmp)", "/" + "root/", "/" + "tmp/brief", "--" + "index-url"))
    )
    found = {}
    for path in files(ROOT):
        if path.suffix not in TEXTS:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture without a suffix, or weights
        hits = sorted({match.group() for match in foreign.finditer(text)})
        if hits:
            found[str(path.relative_to(ROOT))] = hits
    assert not found
