"""What a notebook has to be before it is shown to a class, read from the stored files."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PICTURES = {"image/png", "image/jpeg"}
# Names that hold a digit and are no measured number.
NAMES = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|^# \d\d|\b[LR][12]\b|^\d\. ", re.MULTILINE)

pytestmark = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def joined(value: dict) -> SimpleNamespace:
    """A cell or an output by attributes, its lists of lines as one text."""
    lines = {name: "".join(part) for name, part in value.items() if name in ("source", "text")}
    data = {mime: "".join(part) for mime, part in value.get("data", {}).items()}
    return SimpleNamespace(**{**value, **lines, "data": data})


def cells_of(path: Path) -> list[SimpleNamespace]:
    return [joined(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def code_of(path: Path) -> list[SimpleNamespace]:
    return [cell for cell in cells_of(path) if cell.cell_type == "code"]


def outputs_of(path: Path) -> list[SimpleNamespace]:
    return [joined(output) for cell in code_of(path) for output in cell.outputs]


def test_it_opens_with_what_it_shows_needs_and_takes(path):
    first = cells_of(path)[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {path.stem[:2]} · ")
    for word in ("**Shows**", "**Needs**", "**Takes**"):
        assert word in first.source


def test_the_second_cell_chooses_profile_and_seed(path):
    second = cells_of(path)[1]
    assert second.cell_type == "code"
    assert "profile, seed = read_profile(), " in second.source


def test_cells_are_short_and_prose_comes_before_code(path):
    cells = cells_of(path)
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15, f"cell {number}"
    kinds = "".join(cell.cell_type[0] for cell in cells)
    assert "ccc" not in kinds, "three code cells in a row: say first what is about to happen"


def test_names_live_in_the_workbench(path):
    """A notebook defines at most a helper of a few lines; no class, nothing private of a room."""
    for number, cell in enumerate(code_of(path)):
        assert not re.search(r"^\s*class ", cell.source, re.MULTILINE), f"code cell {number}"
        for body in re.findall(r"^def .*?(?=^\S|\Z)", cell.source, re.MULTILINE | re.DOTALL):
            assert len(body.strip().splitlines()) <= 6, f"code cell {number}"
        assert not re.search(r"\w\._[a-z]", cell.source), f"code cell {number} reaches for a private name"


def test_prose_types_no_number(path):
    """Numbers come from data: what a text states as one goes stale."""
    for number, cell in enumerate(cells_of(path)):
        if cell.cell_type == "markdown":
            left = NAMES.sub("", cell.source)
            assert not re.search(r"\d", left), f"cell {number}: {re.findall(r'.{0,20}[0-9].{0,10}', left)}"


def test_it_ends_with_things_to_try(path):
    last = cells_of(path)[-1]
    assert last.cell_type == "markdown"
    assert last.source.startswith("## Try this")
    assert len(re.findall(r"^\d\. \*\*", last.source, re.MULTILINE)) >= 3


def test_it_is_stored_executed_from_top_to_bottom_at_class_size(path):
    cells = code_of(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert joined(cells[0].outputs[0]).text.startswith("profile class")


def test_it_holds_no_error_no_warning_and_no_progress_bar(path):
    for output in outputs_of(path):
        assert output.output_type != "error"
        if output.output_type == "stream":
            assert output.name == "stdout"
            assert "\r" not in output.text
            assert "%|" not in output.text


def test_it_is_small_and_its_names_are_stable(path):
    assert path.stat().st_size <= 200_000
    stored = json.loads(path.read_text())
    assert set(stored["metadata"]) == {"kernelspec", "language_info"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in stored["cells"])
    text = path.read_text()
    assert "widget-view" not in text
    assert "/tmp" not in text
    assert not re.search(r" at 0x[0-9a-f]{6,}", text)


def test_every_picture_has_words_beside_it(path):
    shown = [output for output in outputs_of(path) if PICTURES & set(output.data)]
    assert len(shown) >= 8
    for output in shown:
        assert len(output.data["text/plain"].split()) >= 3
        assert not output.data["text/plain"].startswith("<")
