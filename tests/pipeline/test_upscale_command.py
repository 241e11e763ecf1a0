"""`workbench upscale` and `open-picture --again` as a person types them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from bad_files import coded, picture
from tiny_upsampler import tiny_upsampler

from workbench import cli
from workbench.images import read_recipe
from workbench.pipeline import Upscaler


@pytest.fixture
def two(text_encoder, tmp_path):
    """A saved upscaler of two times."""
    up = Upscaler(tiny_upsampler(2), text_encoder, {"name": "tiny-up2"})
    return str(up.save_pretrained(tmp_path / "up2"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.png").write_bytes(coded(picture(k), "PNG"))
    return folder


def test_a_picture_is_enlarged_and_made_again(two, photos, tmp_path, capsys):
    out = tmp_path / "large.png"
    line = ["upscale", str(photos / "0.png"), "--model", two, "--device", "cpu", "--prompt", "white dog"]
    assert cli.main([*line, "--factor", "4", "--seed", "5", "--noise", "0.1", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    recipe = read_recipe(out)
    assert (recipe["size"], recipe["seed"], recipe["prompt"]) == ([160, 160], 5, "white dog")
    again = ["open-picture", str(out), "--again", "--upscaler", two]
    assert cli.main([*again, "--enlarged", str(photos / "0.png")]) == 0
    assert capsys.readouterr().out.endswith("identical\n")
    assert cli.main(again) == 2 and "give that picture" in capsys.readouterr().err


def test_what_is_there_is_not_replaced(two, photos, tmp_path, capsys):
    line = ["upscale", str(photos / "0.png"), "--model", two, "--out", str(tmp_path / "out")]
    assert cli.main(line) == 0
    assert "reads “a dog”" in capsys.readouterr().err
    assert cli.main(line) == 2
    assert "is already there: add --overwrite" in capsys.readouterr().err
    assert cli.main([*line, "--overwrite"]) == 0


def test_a_folder_says_what_it_did(two, photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"")
    line = ["upscale", str(photos), "--model", two, "--out", str(tmp_path / "out")]
    assert cli.main(line) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3 and "not enlarged: broken.png" in said.err
    (photos / "broken.png").unlink()
    assert cli.main(line) == 0
    assert "3 were there already" in capsys.readouterr().err
    assert cli.main([*line, "--seed", "1"]) == 1
    assert "3 files are there that were made otherwise" in capsys.readouterr().err


def test_what_a_model_draws_is_enlarged(two, folder, tmp_path, capsys):
    line = ["upscale", "--from", str(folder), "--model", two, "--out", str(tmp_path / "out"), "--factor", "4"]
    assert cli.main(line) == 2 and "add --prompt" in capsys.readouterr().err
    assert cli.main([*line, "--prompt", "white dog", "--count", "2"]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert read_recipe(first)["size"] == [64, 64]
    again = ["open-picture", first, "--again", "--model", str(folder), "--upscaler", two]
    assert cli.main(again) == 0 and capsys.readouterr().out.endswith("identical\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "There is nothing to enlarge"),
        (["{photo}", "--from", "x"], "There is both"),
        (["gone.png"], "There is nothing at gone.png"),
        (["{photo}", "--factor", "3"], "a factor of 3 cannot be made exactly. Choose one of 2, 4, 8, 16"),
        (["{photo}", "--noise", "0.9"], "The noise is 0.9"),
        (["{photo}", "--tile", "4"], "at least 16 pixels"),
        (["{photo}", "--seed", "-1"], "negative"),
        (["{photo}", "--model", "{gan}"], "holds a GAN"),
        (["{photo}", "--model", "nowhere"], "There is no model folder"),
        (["{photo}", "--out", "{photo}/out"], "is a file; choose another folder"),
        (["{empty}"], "holds no pictures"),
    ],
)
def test_mistakes_are_one_sentence(two, photos, folder, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    places = {"photo": photos / "0.png", "gan": folder, "empty": tmp_path / "empty"}
    line = [word.format(**places) for word in words]
    model = [] if "--model" in line else ["--model", two]
    out = [] if "--out" in line else ["--out", str(tmp_path / "out")]
    assert cli.main(["upscale", *line, *model, *out]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ") and message in said


def test_ctrl_c_leaves_whole_pictures_and_the_same_line_goes_on(two, photos, tmp_path):
    for k in range(3, 20):
        (photos / f"{k}.png").write_bytes(coded(picture(k, 120, 120), "PNG"))
    out = tmp_path / "out"
    line = [sys.executable, "-m", "workbench.cli", "upscale", str(photos), "--model", two, "--out", str(out)]
    line += ["--device", "cpu"]
    running = subprocess.Popen(line, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.png"))) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130 and errors.decode().endswith("stopped\n")
    done = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert 2 <= len(done) < 20 and all(name.endswith(".png") for name in done)
    for name in done:
        assert read_recipe(out / name)["factor"] == 2  # decodes the whole file
    assert subprocess.run(line, capture_output=True, timeout=300).returncode == 0
    assert len(list(out.iterdir())) == 20
    assert all((out / name).stat().st_mtime_ns == time_ns for name, time_ns in done.items())
