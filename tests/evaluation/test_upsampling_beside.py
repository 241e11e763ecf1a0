"""AuraSR beside ours in a measurement: a tiny random network of its class, in numbers and pictures."""

import json

import pytest
import torch
from rich.console import Console
from tiny_aura import save_tiny_aura
from tiny_upsampler import tiny_upsampler
from true_renders import render_folder

from workbench import cli
from workbench.errors import WorkbenchError
from workbench.evaluation import upsampling_report as report
from workbench.evaluation.perceptual import CLIP_FOLDER
from workbench.evaluation.upsampling_beside import load_beside
from workbench.models.text import TextEncoder
from workbench.pipeline.aurasr import AuraSR
from workbench.pipeline.upscaler import Upscaler

COUNT = 8


@pytest.fixture(scope="module")
def aura(tmp_path_factory):
    return save_tiny_aura(tmp_path_factory.mktemp("aura") / "tiny-aura")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    up = Upscaler(tiny_upsampler(4), TextEncoder.from_pretrained(CLIP_FOLDER))
    return up.save_pretrained(tmp_path_factory.mktemp("models") / "ours")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return render_folder(tmp_path_factory.mktemp("renders") / "world", count=COUNT, side=128, seed=41)


def test_it_is_a_method_that_enlarges_as_it_does_alone(aura):
    method, alone = load_beside(aura, factor=4, device="cpu"), AuraSR.from_pretrained(aura, device="cpu")
    low = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    made = method.enlarge(low, ["a black dog", "a white dog"], [5, 9])
    assert torch.equal(made[1:], alone(low[1:], seed=9).images)
    assert method.name == "tiny-aura" and method.version == f"{alone.weight_hash[:12]} float32"
    assert method.note == "saw no such pictures in training and gets no text"


def test_another_of_ours_says_only_what_it_lacks(ours, tmp_path):
    assert load_beside(ours, factor=4, device="cpu").note == ""
    wordless = Upscaler(tiny_upsampler(4, text_dim=None, text_layers=0, cross_attention={}), None)
    folder = wordless.save_pretrained(tmp_path / "upsampler")
    method = load_beside(folder, factor=4, device="cpu")
    assert method.note == "gets no text" and method.name == "beside-upsampler"  # ours is called so already


def test_another_factor_is_refused(aura):
    with pytest.raises(WorkbenchError, match=r"tiny-aura enlarges 4 times, and 8 times is measured"):
        load_beside(aura, factor=8, device="cpu")


def test_the_command_shows_it_in_numbers_page_and_pictures(aura, ours, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sheets = []
    titled = report._titled
    monkeypatch.setattr(
        report, "_titled", lambda sheet, titles: (sheets.append(titles), titled(sheet, titles))[1]
    )
    words = ["--model", str(ours), "--beside", str(aura), "--data", str(world), "--n", str(COUNT)]
    words += ["--distance", "clip", "--precision", "fp32", "--device", "cpu"]
    assert cli.main(["evaluate", "upsampler", *words, "--out", "reports", "--json"]) in (0, None)
    found = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "reports" / report.NUMBERS).read_text())
    assert {"upsampler", "tiny-aura"} <= set(found["methods"]) == set(written["methods"])
    assert written["notes"] == {"tiny-aura": "saw no such pictures in training and gets no text"}
    assert found["methods"]["tiny-aura"]["psnr"] > 0 and found["frechet_ratio_tiny-aura"] > 0
    assert "tiny-aura" in written["spectrum"] and "float32" in written["weights"]["tiny-aura"]
    page = (tmp_path / "reports" / report.PAGE).read_text()
    assert "| tiny-aura* |" in page and "tiny-aura\\*: saw no such pictures in training" in page
    assert "| ours |" in page and "Ours over others" in page
    assert sheets == [["input", "bicubic", "Lanczos", "ours", "tiny-aura*", "truth"]]
    command = json.loads((tmp_path / "reports" / "figures.json").read_text())
    assert all(f"--beside {aura}" in entry["command"] for entry in command.values())
    console = Console(width=200)
    with console.capture() as captured:
        console.print(report.table(found))
    assert "tiny-aura*: saw no such pictures" in captured.get()


def test_a_wrong_factor_is_one_line(aura, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    eight = Upscaler(tiny_upsampler(8, text_dim=None, text_layers=0, cross_attention={}), None)
    folder = eight.save_pretrained(tmp_path / "eight")
    words = ["--model", str(folder), "--beside", str(aura), "--data", str(world), "--n", str(COUNT)]
    assert cli.main(["evaluate", "upsampler", *words, "--device", "cpu"]) == 2
    assert "4 times, and 8 times is measured" in capsys.readouterr().err
