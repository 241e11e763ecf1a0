"""The chain of additions: each row adds what it names alone; rows are trained once and compared."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator
from workbench.models.glossary import rung
from workbench.training import ablation
from workbench.training.ablation import CHAIN, row_config, row_preset
from workbench.training.config import differences


def test_the_chain_is_the_papers_in_its_order():
    """Kang et al. 2023, Table 1: from the tuned StyleGAN2 to the vision-aided loss."""
    assert [a.name for a in CHAIN] == [
        "stylegan2", "attention", "matching-d", "matching-gd", "adaptive-kernels", "deeper", "clip-loss",
        "multi-scale", "vision-aided",
    ]  # fmt: skip
    assert [rung(a.paper).fid for a in CHAIN] == [
        28.11,
        23.87,
        27.29,
        21.66,
        19.97,
        19.18,
        14.88,
        14.92,
        13.67,
    ]


@pytest.mark.parametrize("index", range(1, len(CHAIN)))
def test_each_row_changes_only_what_it_names(index):
    (before, _), (now, _) = row_preset(index - 1), row_preset(index)
    changed = {
        part: {k for k, v in vars(getattr(now, part)).items() if v != getattr(getattr(before, part), k)}
        for part in ("generator", "discriminator")
    }
    assert changed["generator"] == set(CHAIN[index].G)
    assert changed["discriminator"] == set(CHAIN[index].D)
    assert (now.vision_aided is not None) == (CHAIN[index].name == "vision-aided")
    a, b = (row_config(i, images=1000, seed=0) for i in (index - 1, index))
    assert set(differences(a, b)) == {"preset", *CHAIN[index].train}


def test_the_first_row_has_none_of_it_and_the_last_row_all():
    preset, train = row_preset(0)
    assert not preset.generator.attention and not preset.generator.cross_attention
    assert set(preset.generator.kernels.values()) == {1} and len(preset.discriminator.predictions) == 1
    assert set(train.values()) == {0.0}
    preset, train = row_preset(len(CHAIN) - 1)
    assert len(preset.discriminator.predictions) == 4 * 5 // 2
    assert max(preset.generator.kernels.values()) > 1 and min(train.values()) > 0
    Discriminator(preset.discriminator)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, inputs, few_prompts):
    """Two rows of 32 images each; the second is asked for later."""
    data, clip = inputs
    out = tmp_path_factory.mktemp("ablation")
    judge = Path(__file__).resolve().parents[2] / "assets/models/judge"
    kept = {"clip": clip, "judge": judge, "images": 32, "eval_n": 4, "device": "cpu"}
    first = ablation.ablate(data, out, rows=["stylegan2"], **kept)
    both = ablation.ablate(data, out, rows=["stylegan2", "vision-aided"], **kept)
    return out, first, both


def test_rows_are_trained_once_and_measured(chain):
    _, first, both = chain
    assert [row["name"] for row in first] == ["stylegan2"]
    assert [row["name"] for row in both] == ["stylegan2", "vision-aided"]
    assert first[0] == both[0]
    for row in both:
        assert row["images"] == 32 and row["n"] == 4
        assert row["frechet_ratio"] > 1 and 0 <= row["all"] <= min(row["coat"], row["pose"]) <= 1
        assert -1 <= row["clip"] <= 1
    assert both[1]["params"]["G"] > both[0]["params"]["G"]


def test_the_report_holds_table_grids_and_plot(chain, tmp_path):
    out, _, both = chain
    file = ablation.write_report(both, out, tmp_path / "report")
    report = json.loads(file.read_text())
    assert report["rows"] == both and {"machine", "versions", "date", "source"} <= set(report)
    for row in report["rows"]:
        with Image.open(file.parent / row["grid"]) as grid:
            assert grid.width >= 6 * ablation.RESOLUTION
    with Image.open(file.parent / "ablation.png") as plot:
        assert plot.width > 800
    assert ablation.summary(both).row_count == 2


def test_an_unknown_row_is_refused(tmp_path, inputs):
    data, clip = inputs
    with pytest.raises(WorkbenchError, match=r"no row 'deep' in the chain: choose from stylegan2, .*deeper"):
        ablation.ablate(data, tmp_path, clip=clip, judge=tmp_path, rows=["deep"])
    assert not list(tmp_path.iterdir())


def test_a_judge_that_is_not_there_is_told_before_the_training(tmp_path, inputs):
    data, clip = inputs
    with pytest.raises(WorkbenchError, match="expected a judge's folder"):
        ablation.ablate(data, tmp_path / "out", clip=clip, judge=tmp_path, rows=["stylegan2"])
    assert not (tmp_path / "out").exists()


def test_a_row_trained_without_a_judge_says_so(chain, tmp_path, inputs):
    out, _, _ = chain
    data, clip = inputs
    shutil.copytree(out, tmp_path / "out")
    run = tmp_path / "out" / "01-stylegan2"
    (run / ablation.ROW).unlink()
    history = (run / "history.jsonl").read_text()
    (run / "history.jsonl").write_text(history.replace('"kind": "eval"', '"kind": "lost"'))
    judge = Path(__file__).resolve().parents[2] / "assets/models/judge"
    with pytest.raises(WorkbenchError, match="delete this folder to train it anew"):
        ablation.ablate(
            data,
            tmp_path / "out",
            clip=clip,
            judge=judge,
            rows=["stylegan2"],
            images=32,
            eval_n=4,
            device="cpu",
        )


def test_what_goes_against_the_paper_is_said_and_nothing_else():
    fids, ratios = (28.1, 23.9, 27.3, 21.7), (12.0, 10.0, 8.0, 9.0)
    table = [
        {"change": f"+ part {k}", "paper": {"fid": fid}, "frechet_ratio": ratio}
        for k, (fid, ratio) in enumerate(zip(fids, ratios, strict=True))
    ]
    third, fourth = ablation.against_the_paper(table)
    assert third == (
        "part 2: the paper's FID goes from 23.90 to 27.30, "
        "the distance here from 10.00 to 8.00 times its floor."
    )
    assert fourth.startswith("part 3: the paper's FID goes from 27.30 to 21.70")
    assert ablation.against_the_paper(table[:2]) == []
