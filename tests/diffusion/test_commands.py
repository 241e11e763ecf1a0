"""The subcommands: from a data set to a baseline, its student and a race, and mistakes in one line."""

import json

import pytest
from tiny_world_model import tiny_world_model

from workbench import cli


def test_from_pictures_to_a_race(inputs, tmp_path, capsys, monkeypatch):
    """At the smallest preset, a step each; the race on a handful of pictures."""
    from workbench.diffusion import race

    monkeypatch.setattr(race, "SPREAD", (1, 2))
    monkeypatch.chdir(tmp_path)  # where renders are kept: runs/reference-cache
    data, clip = (str(path) for path in inputs)
    base = ["--images", "4", "--batch-size", "2", "--grid", "2x1", "--device", "cpu", "--precision", "fp32"]
    run, student = tmp_path / "run", tmp_path / "student"
    first = ["diffusion", "train", "--out", str(run), "--preset", "shepherd-32", "--clip", clip]
    assert cli.main([*first, "--data", data, *base]) == 0
    teacher = str(run / "model")
    second = ["diffusion", "distill", "--out", str(student), "--teacher", teacher, "--rank", "2"]
    assert cli.main([*second, "--data", data, *base]) == 0
    sizes = (4, 8, 16, 32)
    shape = {"resolution": 32, "channels": dict.fromkeys(sizes, 8), "kernels": dict.fromkeys(sizes, 1),
             "blocks": dict.fromkeys(sizes, 1)}  # fmt: skip
    gan = tiny_world_model(**shape).save_pretrained(tmp_path / "gan")
    capsys.readouterr()
    line = [
        "compare", "--gan", str(gan), "--diffusion", teacher, "--student", str(student / "model"),
        "--steps", "1", "--student-steps", "1", "--guidance", "1", "--precision", "fp32",
        "--n", "4", "--edits", "4", "--rounds", "1", "--paths", "1",
        "--out", str(tmp_path / "race"), "--device", "cpu", "--json",
    ]  # fmt: skip
    assert cli.main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in found["lanes"]] == ["gan", "diffusion", "student"]
    assert [row["precision"] for row in found["lanes"]] == ["fp32"] * 3
    assert found["lanes"][1]["name"] == "Diffusion, 1 step, unguided"
    assert found["lanes"][2]["trained"]["teacher_seconds"] == found["lanes"][1]["trained"]["seconds"]
    assert {path.name for path in (tmp_path / "race").iterdir()} >= {"race.json", "race.md", "race.png"}


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("diffusion train --data nowhere --out x", "The run has no end: give images or minutes"),
        ("diffusion train --data nowhere --out x --images 9", "nowhere"),
        ("diffusion distill --teacher no --data d --out x --minutes 1", "no model folder no"),
        ("compare --gan assets/models/judge --out x", "judge"),
    ],
)
def test_mistakes_are_one_line(line, match, tmp_path, capsys):
    words = [str(tmp_path / word) if word == "x" else word for word in line.split()]
    assert cli.main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and match in error
    assert not (tmp_path / "x" / "config.json").exists()
