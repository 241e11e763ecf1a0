"""The report of an upsampler: tables, plot, pictures, figures, and the command line from end to end."""

import json

import pytest
import torch
from PIL import Image
from rich.console import Console
from tiny_upsampler import tiny_upsampler
from true_renders import render_folder

from workbench import cli
from workbench.datasets.world import Factors, head_place
from workbench.evaluation import figures
from workbench.evaluation import upsampling_report as report
from workbench.evaluation.perceptual import CLIP_FOLDER
from workbench.evaluation.true_pictures import TruePictures
from workbench.evaluation.upsampling import Method, from_upscaler, load_upscaler
from workbench.models.text import TextEncoder
from workbench.pipeline.upscaler import Upscaler

SIDE, COUNT = 128, 12
METHODS = ("truth", "bicubic", "lanczos", "upsampler", "l1")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return render_folder(tmp_path_factory.mktemp("renders") / "world", count=COUNT, side=SIDE, seed=41)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two random upsamplers of one shape."""
    folder = tmp_path_factory.mktemp("models")
    encoder = TextEncoder.from_pretrained(CLIP_FOLDER)
    for seed, name in enumerate(("gan", "l1")):
        Upscaler(tiny_upsampler(4, seed), encoder).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def result():
    """A result as `evaluate_upsampling` gives it, with round numbers."""
    own = {
        "frechet": 1.0, "frechet_whole": 0.1, "frechet_others": 2.0, "psnr": 30.0, "psnr_se": 0.1,
        "ssim": 0.9, "ssim_se": 0.01, "distance": 0.25, "distance_se": 0.01, "coat": 1.0, "pose": 1.0,
        "scene": 1.0, "light": 1.0, "all": 0.99, "power_kept": 0.5, "power_kept_quarter": 0.25,
    }  # fmt: skip
    true = {name: own[name] for name in ("frechet_others", "coat", "all")} | {"power_kept": 1.0}
    slope = [k**-2.0 for k in range(1, 65)]
    return {
        "n": 5000, "n_close": 500, "resolution": 256, "factor": 4, "features": "Fréchet distance on tiles",
        "reference": "the truth", "tiles": 20_000, "judge": "abc", "distance_name": "mini-clip, at 256 px",
        "seed": 0, "floor": 0.05, "floor_whole": 0.04, "frechet_ratio_bicubic": 0.4,
        "distance_ratio_bicubic": 0.5, "frechet_ratio_l1": 0.8, "distance_ratio_l1": 0.9,
        "methods": {name: true if name == "truth" else own for name in METHODS},
        "spectrum": {"cycles_a_pixel": [k / 128 for k in range(1, 65)], **dict.fromkeys(METHODS, slope)},
        **figures.provenance(),
    }  # fmt: skip


def test_the_page_and_the_terminal_say_every_method_in_one_order(result):
    page = report.markdown(result)
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["bicubic", "Lanczos", "L1 U-Net", "ours", "truth"]
    assert "20,000 of them" in page and "first 500" in page and "bicubic 0.4 (perceptual 0.5)" in page
    assert report.PLOT in page and report.SHEET in page and "mini-clip, at 256 px" in page
    console = Console(width=200)
    with console.capture() as captured:
        console.print(report.table(result))
    assert "L1 U-Net" in captured.get() and "0.9900" in captured.get()


def test_the_plot_is_small_and_each_method_has_one_colour_and_dash(result, tmp_path):
    (tmp_path / "plot.png").write_bytes(report.spectrum_plot(result))
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.width > 900
    assert (tmp_path / "plot.png").stat().st_size < 60_000
    assert len({colour for colour, _ in report.STYLES.values()}) == len(report.STYLES) == 5
    assert set(report.STYLES) == set(METHODS)


def test_pictures_of_the_sheet_differ_and_show_heads(world):
    pictures = TruePictures.open(world, count=COUNT, factor=4, tile=64)
    chosen = report.various(pictures)
    assert len(set(chosen)) == 6 and len({pictures.rows[k].factors["scene"] for k in chosen}) >= 4
    for number in range(COUNT):
        top, left = report._about_the_head(pictures, number)
        x, y = head_place(Factors(**pictures.rows[number].factors))
        assert 0 <= top <= SIDE - 96 and 0 <= left <= SIDE - 96
        assert top < y * SIDE < top + 96 and left < x * SIDE < left + 96


def test_the_sheet_holds_every_way_in_its_column(world):
    pictures = TruePictures.open(world, count=COUNT, factor=4, tile=64)
    truth = pictures.batch(0, COUNT).images
    perfect = Method(name="upsampler", enlarge=lambda low, prompts, seeds: truth[seeds[0] :][: len(low)])
    sheet = report.picture_sheet([perfect], pictures, factor=4)
    column = 2 * 96 + 6
    assert sheet.size == (5 * column - 6, 40 + 6 * column - 6)
    for row in range(6):
        cells = [
            sheet.crop((k * column, 40 + row * column, k * column + 192, 40 + row * column + 192))
            for k in range(5)
        ]
        assert cells[3].tobytes() == cells[4].tobytes()  # ours is the truth here
        assert len({cell.tobytes() for cell in cells}) == 4


def test_an_upscaler_is_a_method_with_its_own_text_and_seeds(models):
    upscaler = load_upscaler(models / "gan", precision="fp32")
    method = from_upscaler("upsampler", upscaler)
    low = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = method.enlarge(low, ["a black dog", "a white dog"], [5, 9])
    alone = upscaler(low[1:], "a white dog", seed=9).images
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)
    assert method.version == f"{upscaler.weight_hash[:12]} float32"
    assert method.sign == from_upscaler("upsampler", upscaler).sign
    upscaler.U.rgb_bias.add_(0.2 * torch.linspace(-1, 1, 3))  # as another constant in the code would
    assert method.sign != from_upscaler("upsampler", upscaler).sign
    assert load_upscaler(models / "gan", precision="bf16").U.compute_dtype == torch.bfloat16


def test_the_command_measures_reports_and_records(world, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = ["--model", str(models / "gan"), "--baseline", str(models / "l1"), "--data", str(world)]
    words = [
        "evaluate",
        "upsampler",
        *folders,
        "--n",
        str(COUNT),
        "--distance",
        "clip",
        "--precision",
        "fp32",
    ]
    cli.main([*words, "--out", "reports", "--json"])
    found = json.loads(capsys.readouterr().out)
    out = tmp_path / "reports"
    written = json.loads((out / "upsampling.json").read_text())
    assert set(found["methods"]) == set(written["methods"]) == set(METHODS)
    assert written["n"] == COUNT
    assert written["machine"] and written["versions"]["torch"] and written["data"]["seed"] == 41
    assert set(written["weights"]) == {"upsampler", "l1"} and "float32" in written["weights"]["l1"]
    for name in ("frechet_ratio_bicubic", "frechet_ratio_l1", "distance_ratio_bicubic", "distance_ratio_l1"):
        entry = figures.read(out / "figures.json")[f"upsample.{name}"]
        assert entry["value"] == pytest.approx(found[name], rel=1e-5) and entry["n"] == COUNT
        assert entry["command"].startswith("workbench evaluate upsampler --model")
        assert entry["command"].endswith(f"--n {COUNT} --seed 0 --fresh --json")
    names = {report.NUMBERS, report.PAGE, report.PLOT, report.SHEET, "figures.json"}
    assert {path.name for path in out.iterdir()} == names
    assert sum(path.stat().st_size for path in out.iterdir()) < 300_000
    cli.main(words)  # from what was kept, as a table
    shown = capsys.readouterr().out
    assert "Lanczos" in shown and "ours" in shown
    assert len(list((tmp_path / "runs" / "upsampling-cache").glob("*.safetensors"))) == 5


def test_the_classical_ways_alone(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main(["evaluate", "upsampler", "--data", str(world), "--n", "4", "--out", "reports", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found["methods"]) == {"truth", "bicubic", "lanczos"}
    assert not (tmp_path / "reports" / "figures.json").exists()


def test_mistakes_at_the_command_line_are_one_line(world, models, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, message in (
        (["--data", str(tmp_path / "none")], "There is no folder"),
        (["--data", str(world)], "holds 12 pictures, 5000 are asked for"),
        (["--data", str(world), "--model", str(tmp_path / "none")], "none"),
        (["--data", str(world), "--n", "12", "--out", str(world / "dataset.json")], "is a file"),
    ):
        assert cli.main(["evaluate", "upsampler", *words]) == 2
        assert message in capsys.readouterr().err
