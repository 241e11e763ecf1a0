"""Who is at hand for a race: what ships before what was trained, whole files only, the weights decide."""

import json
import os
from pathlib import Path

import pytest

from workbench.diffusion import entrants
from workbench.errors import WorkbenchError

ROOT = Path(__file__).resolve().parents[2]


def folder(path, kind):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"kind": kind}))
    return path


def result(path, **weights):
    path.parent.mkdir(parents=True, exist_ok=True)
    common = {"steps": 1, "settings": {}, "ms": 1.0, "ratio": 1.0, "all": 1.0}
    lanes = [{"kind": kind, "weights": value, **common} for kind, value in weights.items()]
    path.write_text(json.dumps({"n": 9, "lanes": lanes}))
    return path


def test_what_ships_comes_before_runs_and_the_newest_run_first(tmp_path):
    assert entrants.find("diffusion", tmp_path) is None
    old = folder(tmp_path / "runs" / "z" / "model", "diffusion-baseline")
    new = folder(tmp_path / "runs" / "a" / "model", "diffusion-baseline")
    other = folder(tmp_path / "runs" / "few" / "model", "diffusion-student")
    folder(tmp_path / "runs" / "gan" / "model", "pipeline")
    for age, path in ((900, old), (100, new), (0, other)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert entrants.find("diffusion", tmp_path) == new
    assert entrants.find("student", tmp_path) == other
    shipped = folder(tmp_path / entrants.SHIPPED["diffusion"], "diffusion-baseline")
    assert entrants.find("diffusion", tmp_path) == shipped
    (shipped / "config.json").write_text("{")  # a folder that is none is no entrant
    assert entrants.find("diffusion", tmp_path) == new


def test_the_commands_that_are_told_name_what_ships():
    for command in entrants.COMMANDS.values():
        for word in command.split():
            assert not word.startswith("assets/") or (ROOT / word).is_dir(), word


def test_a_result_is_that_of_the_models_it_measured(tmp_path):
    assert entrants.results(tmp_path) == [] and entrants.result_of({"gan": "a"}, tmp_path) is None
    shipped, own = (tmp_path / place for place in entrants.RESULTS)
    result(own, gan="a", diffusion="b")
    result(shipped, gan="a", diffusion="other")
    assert [path for path, _ in entrants.results(tmp_path)] == [shipped, own]
    assert entrants.result_of({"gan": "a"}, tmp_path)[0] == shipped
    assert entrants.result_of({"gan": "a", "diffusion": "b"}, tmp_path)[0] == own
    assert entrants.result_of({"gan": "a", "diffusion": "c"}, tmp_path) is None
    assert entrants.result_of({"gan": "a", "student": "b"}, tmp_path) is None


def test_what_ships_is_found_wherever_one_is(tmp_path, monkeypatch):
    project, here = tmp_path / "project", tmp_path / "here"
    monkeypatch.setattr(entrants, "ROOT", project)
    shipped = folder(project / entrants.SHIPPED["student"], "diffusion-student")
    raced = result(project / entrants.RESULTS[0], gan="a", student="b")
    folder(project / "runs" / "one" / "model", "diffusion-baseline")  # of the project's own, not of here
    here.mkdir()
    monkeypatch.chdir(here)
    assert entrants.find("student") == shipped and entrants.find("diffusion") is None
    assert [path for path, _ in entrants.results()] == [raced]
    assert entrants.result_of({"student": "b"})[0] == raced
    assert entrants.find("student", here) is None and entrants.results(here) == []
    own = folder(Path("runs") / "mine" / "model", "diffusion-baseline")
    assert entrants.find("diffusion") == own and entrants.find("student") == shipped
    nearer = folder(entrants.SHIPPED["student"], "diffusion-student")
    assert entrants.find("student") == nearer
    assert entrants.results() == [(raced, entrants.results(project)[0][1])]
    result(entrants.RESULTS[0], gan="c")
    assert [path for path, _ in entrants.results()] == [entrants.RESULTS[0]]


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"n": 1, "lanes": [{"kind": "gan"}]}', '{"n": 1, "lanes": 1}']
)
def test_a_damaged_result_is_refused(tmp_path, text):
    path = result(tmp_path / entrants.RESULTS[0], gan="a")
    path.write_text(text)
    with pytest.raises(WorkbenchError, match="workbench compare"):
        entrants.results(tmp_path)
