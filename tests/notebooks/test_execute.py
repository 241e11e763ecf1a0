"""The script that stores notebooks keeps what a page can show, and nothing of the moment."""

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("execute", Path(__file__).with_name("execute.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_live_parts_are_dropped_and_stills_stay(script):
    data = {
        script.LIVE_ONLY[0]: {"model_id": "x"},
        "image/gif": "R0lG",
        "image/jpeg": "abc",
        "text/plain": "a dog",
    }
    cell = new_code_cell(
        "draw()", outputs=[new_output("display_data", data)], metadata={"execution": {"t": 1}}
    )
    kept = script.clean(
        new_notebook(cells=[cell], metadata={"widgets": {"state": {}}, "kernelspec": {"name": "x"}})
    )
    assert kept.cells[0].outputs[0].data == {"image/jpeg": "abc", "text/plain": "a dog"}
    assert kept.cells[0].metadata == {}
    assert set(kept.metadata) == {"kernelspec", "language_info"}


def test_what_goes_to_stderr_is_named_with_its_cell(script):
    loud = new_code_cell("warn()", outputs=[new_output("stream", name="stderr", text="careful\n")])
    quiet = new_code_cell("say()", outputs=[new_output("stream", name="stdout", text="fine\n")])
    assert script.complaints(new_notebook(cells=[new_markdown_cell("# a"), quiet, loud])) == [
        "cell 2: careful"
    ]


def test_a_cell_that_fails_leaves_the_file_as_it_was(script, tmp_path):
    path = tmp_path / "broken.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print(1)"), new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        script.execute(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.ipynb"]
