"""The script that stores notebooks keeps what a page can show, and nothing of the moment."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from nbclient.exceptions import CellExecutionError


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("execute", Path(__file__).with_name("execute.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(*cells: dict, **metadata) -> dict:
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def code(source: str, *outputs: dict, **metadata) -> dict:
    cell = {"cell_type": "code", "id": f"cell-{len(source)}", "source": source, "metadata": metadata}
    return cell | {"outputs": list(outputs), "execution_count": None}


def test_live_parts_are_dropped_and_stills_stay(script):
    data = {"image/gif": "R0lG", "image/jpeg": "abc", "text/plain": "a dog"} | {
        script.LIVE_ONLY[0]: {"model_id": "x"}
    }
    shown = {"output_type": "display_data", "data": data, "metadata": {"image/jpeg": {"width": 2}}}
    cell = code("draw()", shown, execution={"shell.execute_reply": "now"}, tags=["parameters"])
    kept = script.clean(notebook(cell, widgets={"state": {}}, kernelspec={"name": "mine"}))
    assert kept["cells"][0]["outputs"][0]["data"] == {"image/jpeg": "abc", "text/plain": "a dog"}
    assert kept["cells"][0]["metadata"] == {"tags": ["parameters"]}
    assert kept["metadata"] == script.METADATA


def test_what_goes_to_stderr_is_named_with_its_cell(script):
    quiet, loud = (
        code(name, {"output_type": "stream", "name": name, "text": ["careful\n"]})
        for name in ("stdout", "stderr")
    )
    prose = {"cell_type": "markdown", "source": "# a", "metadata": {}}
    assert script.complaints(notebook(prose, quiet, loud)) == ["cell 2: careful"]


def test_a_cell_that_fails_leaves_the_file_as_it_was(script, tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text(json.dumps(notebook(code("print(1)"), code("1 / 0"))))
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        script.execute(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.ipynb"]
