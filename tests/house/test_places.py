"""A place that nothing can be written to is told in one line, before any work is done for it."""

import shutil
from pathlib import Path

import pytest
from tiny_run import make_inputs

from workbench import cli

TAKEN = "is a file; choose another folder."


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a set and a file where a folder should be; none of the models that are named is there."""
    folder = tmp_path_factory.mktemp("places")
    make_inputs(folder)
    (folder / "afile").write_text("mine")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["dataset", "check", "data", "--report", "afile"],
        ["gallery", "--model", "nowhere", "--out", "afile"],
        ["sample", "--model", "nowhere", "--prompt", "a dog", "--out", "afile/deeper"],
        ["train", "--data", "nowhere", "--out", "afile"],
        ["gif", "nowhere", "--out", "afile/film.gif"],
        ["gif", "nowhere", "--mp4", "--out", "afile/film.mp4"],
        ["ablate", "--data", "nowhere", "--out", "runs", "--report", "afile"],
        ["trials", "--plan", "nowhere", "--out", "runs", "--report", "afile"],
        ["evaluate", "report", "--model", "nowhere", "--data", "data", "--out", "afile"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_file_where_a_folder_is_wanted_is_told_before_the_work(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: Cannot write into ") and said.err.endswith(f"{TAKEN}\n")
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert (place / "afile").read_text() == "mine"


@pytest.mark.parametrize("words", [["gif"], ["gif", "--mp4"]], ids=lambda words: words[-1])
def test_a_film_makes_the_folder_that_it_is_to_lie_in(words, tmp_path):
    if "--mp4" in words:
        pytest.importorskip("imageio_ffmpeg")
    run = Path(__file__).resolve().parents[2] / "assets" / "training" / "shepherd-64"
    shutil.copytree(run / "samples", tmp_path / "run" / "samples")
    film = tmp_path / "films" / f"x{'.mp4' if '--mp4' in words else '.gif'}"
    assert cli.main([*words, str(tmp_path / "run"), "--out", str(film)]) == 0
    assert film.stat().st_size > 1000
