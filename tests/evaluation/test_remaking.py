"""Figures measured again: one by its id, all by their commands, each command once."""

import pytest
from rich.console import Console

from workbench.errors import WorkbenchError
from workbench.evaluation import figures, remaking


def printed(thing) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


def test_rerun_shows_old_and_new(tmp_path):
    path = tmp_path / "figures.json"
    # Semicolons and $ reach the program as they are: no shell takes part.
    program = (
        "import json; print('warming up'); print(json.dumps({'coat': 0.995, 'note': '$HOME; x'}, indent=1))"
    )
    command = f'python -c "{program}"'
    figures.record("faithfulness.coat", 0.5, command=command, path=path)
    again = remaking.rerun("faithfulness.coat", path=path)
    assert (again.old, again.new, again.met) == (0.5, 0.995, True)
    line = next(row for row in printed(again).splitlines() if "faithfulness.coat" in row)
    assert "0.5 " in line and "0.995" in line and "yes" in line
    assert figures.read(path)["faithfulness.coat"]["value"] == 0.5


def test_a_nested_value_is_found_by_its_path(tmp_path):
    path = tmp_path / "figures.json"
    command = 'python -c "print(\'{\\"G\\": {\\"total_M\\": 650.5}}\')"'
    figures.record("params.gigagan64.G", 653.6, command=command, path=path)
    again = remaking.rerun("params.gigagan64.G", path=path)
    assert (again.new, again.met) == (650.5, True)


def test_rerun_times_the_figures_that_are_times(tmp_path):
    path = tmp_path / "figures.json"
    figures.record("tests.s", 500, command='python -c "import time; time.sleep(0.2)"', path=path)
    assert 0.2 <= remaking.rerun("tests.s", path=path).new < 20


def test_rerun_says_what_went_wrong(tmp_path):
    path = tmp_path / "figures.json"
    with pytest.raises(WorkbenchError, match=r"No figure 'tests.s' is recorded: none is, yet"):
        remaking.rerun("tests.s", path=path)
    with pytest.raises(WorkbenchError) as told:
        remaking.rerun("faithfulness.caot")
    nearest = str(told.value).partition("the nearest are ")[2].partition(". `workbench figures` lists")[0]
    assert nearest.startswith("faithfulness.coat, ") and len(nearest.split(", ")) == 3
    for command, message in (
        ('python -c "raise SystemExit(3)"', "ended with status 3"),
        ("no-such-program --json", "no-such-program is not found"),
        ("python -c \"print({'a'})\"", "no JSON object with a number under 'coat'"),
        ("", "names no command"),
    ):
        figures.record("clip.coat", 0.9, command=command, path=path)
        with pytest.raises(WorkbenchError, match=message):
            remaking.rerun("clip.coat", path=path)
    figures.record("clip.coat", 0.9, command='python -c "import time; time.sleep(9)"', path=path)
    with pytest.raises(WorkbenchError, match=r"ran past 0.3 s"):
        remaking.rerun("clip.coat", path=path, timeout_s=0.3)


def test_what_is_measured_again_is_recorded_when_asked(tmp_path):
    path = tmp_path / "figures.json"
    command = "python -c \"import json; print(json.dumps({'coat': 0.995}))\""
    figures.record("faithfulness.coat", 0.5, n=7, command=command, path=path)
    remaking.rerun("faithfulness.coat", path=path)
    assert figures.read(path)["faithfulness.coat"]["value"] == 0.5
    remaking.rerun("faithfulness.coat", path=path, record=True)
    entry = figures.read(path)["faithfulness.coat"]
    assert (entry["value"], entry["n"], entry["command"]) == (0.995, 7, command)


def test_each_command_is_run_once_for_all_its_figures(tmp_path):
    path, count = tmp_path / "figures.json", tmp_path / "runs.txt"
    program = (
        f"import json; open({str(count)!r}, 'a').write('x'); print(json.dumps({{'coat': 1.0, 'pose': 0.5}}))"
    )
    for id in ("faithfulness.coat", "faithfulness.pose"):
        figures.record(id, 0.9, command=f'python -c "{program}"', path=path)
    figures.record("tests.s", 500, command="make test", path=path)
    figures.record("memorised_share", 0, command="workbench evaluate all --data runs/nowhere", path=path)
    made = {one.command.split()[0]: one for one in remaking.remake(record=True, path=path)}
    assert count.read_text() == "x"
    assert [one.new for one in made["python"].figures] == [1.0, 0.5]
    assert "by hand" in made["make"].skipped and "needs runs/nowhere" in made["workbench"].skipped
    values = {id: entry["value"] for id, entry in figures.read(path).items()}
    assert values == {
        "faithfulness.coat": 1.0, "faithfulness.pose": 0.5, "tests.s": 500, "memorised_share": 0,
    }  # fmt: skip


def test_a_folder_that_is_written_need_not_be_there():
    assert remaking._why_not("workbench evaluate report --data assets --out runs/nowhere --json") is None
    assert "runs/nowhere" in remaking._why_not("workbench evaluate report --data runs/nowhere --out x")
