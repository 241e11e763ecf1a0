"""Parts of the notebook on the upsampler: by identities, by closed forms, by refusals; its exercises."""

import json
import math

import pytest
import torch
from tiny_upsampler import smooth_pictures, tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.evaluation.interpolation import bicubic, box_mean
from workbench.evaluation.perceptual import FeatureDistance
from workbench.models.text import TextEncoder
from workbench.models.upsampler import Upsampler
from workbench.pipeline import Upscaler
from workbench.widgets import upsampling
from workbench.widgets.profile import ASSETS
from workbench.widgets.upsampling_exercises import ask, check


@pytest.fixture(scope="module")
def up() -> Upscaler:
    return Upscaler(tiny_upsampler(4), TextEncoder.from_pretrained(ASSETS / "models" / "mini-clip"))


@pytest.fixture(scope="module")
def truth():
    return upsampling.true_pictures(3, 64)


def test_true_pictures_are_renders_with_captions_of_all_four_factors(truth):
    images, captions, factors = truth
    assert images.shape == (3, 3, 64, 64) and len(set(captions)) == 3
    levels = (images + 1) * 127.5
    torch.testing.assert_close(levels, levels.round())
    assert len({(one.coat, one.pose, one.scene, one.light) for one in factors}) == 3


def test_heads_are_cut_out_as_they_are(truth):
    images, _, factors = truth
    cut = upsampling.heads(images, factors, 24)
    assert cut.shape == (3, 3, 24, 24)
    for image, head in zip(images, cut, strict=True):
        assert any(torch.equal(image[:, y : y + 24, x : x + 24], head) for y in range(41) for x in range(41))
    with pytest.raises(WorkbenchError, match="100 px does not fit into 64 px"):
        upsampling.heads(images, factors, 100)


def test_shuffled_pixels_differ_and_have_the_same_small_picture(truth):
    images = truth[0]
    other = upsampling.shuffled(images, 4)
    assert (other - images).abs().max() > 0.2
    torch.testing.assert_close(box_mean(other, 4), box_mean(images, 4))
    assert torch.equal(other.flatten(1).sort().values, images.flatten(1).sort().values)
    assert torch.equal(other, upsampling.shuffled(images, 4))
    torch.testing.assert_close(box_mean(upsampling.blocks(box_mean(images, 4), 4), 4), box_mean(images, 4))


def test_lines_in_all_places_of_a_pixel_and_what_each_loss_makes_of_them():
    possible = upsampling.possible_lines(4, 5)
    assert possible.shape == (4, 3, 20, 20) and len({tuple(x.flatten().tolist()) for x in possible}) == 4
    low = box_mean(possible, 4)
    assert torch.equal(low, low[:1].expand_as(low))
    drawn = upsampling.answers(possible)
    assert (drawn["their median"] == -0.8).all()  # the line is gone
    assert drawn["their mean"][0, 0, 8:12].tolist() == pytest.approx([-0.4] * 4)
    mean = {name: ((possible - x).abs().mean(), (possible - x).square().mean()) for name, x in drawn.items()}
    assert min(mean, key=lambda name: mean[name][0]) == "their median"
    assert min(mean, key=lambda name: mean[name][1]) == "their mean"
    assert "their median" in upsampling.losses_table(drawn, possible).markdown


def test_the_table_of_levels_counts_every_weight_of_them(up):
    table = upsampling.level_table(up.U).markdown.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in table] == [
        "1/4 of the input",
        "1/2 of the input",
        "the input",
        "2 ×",
        "4 ×",
    ]
    ways = [row.split("|")[3].strip() for row in table]
    assert ways == ["", "down and up", "down and up", "up", "up"]  # the tiny one has no block at the bottom
    assert [row.split("|")[5].strip() for row in table] == ["", "", "yes", "yes", "yes"]
    assert "itself, words" in table[1]


def test_a_pyramid_is_the_pictures_of_all_levels_and_ends_with_the_upscalers(up):
    low = smooth_pictures(1, 16, 24)
    levels = upsampling.pyramid(up, low, "a black dog", seed=3)
    assert [tuple(x.shape[-2:]) for x in levels] == [(64, 96), (32, 48), (16, 24)]
    assert all(x.abs().max() <= 1 for x in levels)


def test_a_sheet_of_the_levels_shows_each_and_what_it_adds(up, truth):
    levels = upsampling.pyramid(up, box_mean(truth[0][:1].repeat(1, 1, 2, 2), 4), "a black dog")
    shown = upsampling.pyramid_sheet(levels, truth[2][0], "Three levels and what they add")
    assert shown.image.width > 3 * 80 and shown.image.height > 2 * 80


def test_other_prompts_say_something_else(truth):
    for shown, caption in zip(truth[2], truth[1], strict=True):
        prompts = upsampling.other_prompts(shown, caption)
        assert prompts["true"] == caption and shown.coat not in prompts["coat"]
        told = {"day": "by day", "night": "at night"}.get(shown.light, "at sunset")
        assert not prompts["light"].endswith(told)


def test_tiles_are_forced_and_the_memory_given_back(up):
    low = smooth_pictures(1, 32, 96)
    before = up.trunk_bytes
    whole, tiled = up(low, "a dog").images, upsampling.in_tiles(up, low, "a dog")
    assert up.trunk_bytes == before and tiled.shape == whole.shape and not torch.equal(tiled, whole)
    assert upsampling.seam_sheet(whole, tiled, "Whole, in tiles, and apart").image.height > 3 * 96


def test_noise_is_that_of_the_upscaler_and_grows():
    low = smooth_pictures(1, 16, 16) * 0.5
    under = upsampling.noisy(low, (0.0, 0.1, 0.2))
    assert torch.equal(under[:1], low)
    assert 1.5 < ((under[2] - low[0]).std() / (under[1] - low[0]).std()).item() < 2.2


def test_tables_and_plots_of_ways(truth, tmp_path):
    images, _, factors = truth
    low = box_mean(images, 4)
    ways = {"bicubic": bicubic(low, 4).clamp(-1, 1), "upsampler": images}
    rows = upsampling.ways_table(ways, images, FeatureDistance(taps=("layer1",)), 4).markdown.splitlines()[2:]
    assert rows[0].startswith("| bicubic") and rows[1] == "| ours | 100.0 | 0.000 | 1.00 |"
    plotted = upsampling.spectrum_plot(ways, images, 4, "Shares of power of two ways")
    assert plotted.image.width > 300 and len(plotted.data()) < 30_000
    assert upsampling.ways_sheet(ways, factors, "Two ways for each head").image.width > 120
    assert "No report" in upsampling.report_table(tmp_path).markdown
    own = {"frechet": 0.5, "distance": 0.2, "psnr": 33.0, "all": 0.99}
    written = {"n": 5000, "methods": {"truth": {"all": 1.0}, "upsampler": own}}
    (tmp_path / "upsampling.json").write_text(json.dumps(written))
    said = upsampling.report_table(tmp_path).markdown
    assert "| ours | 0.500 | 0.200 | 33.0 | 99.0% |" in said and "n = 5,000" in said


def test_a_baseline_is_read_where_it_is(up, tmp_path, monkeypatch):
    monkeypatch.setattr(upsampling, "BASELINES", (tmp_path / "none", tmp_path / "l1"))
    assert upsampling.baseline() is None
    up.save_pretrained(tmp_path / "l1")
    assert isinstance(upsampling.baseline().U, Upsampler)


ON_PAPER = {"u1": 15, "u2": 1 / 8, "u3": "median", "u4": 20 * math.log10(10), "u5": 2}


@pytest.mark.parametrize("key", ON_PAPER)
def test_the_answer_on_paper_is_right_and_dots_are_not(key):
    assert ask(key).endswith("?")
    assert check(key, ON_PAPER[key]).word == "right"
    assert check(key, ...).word == "not yet"


@pytest.mark.parametrize(
    ("key", "answer", "reason"),
    [
        ("u1", 16, "how many there are"),
        ("u1", 3, "along one side"),
        ("u2", 0.25, "two pixels"),
        ("u3", "mean", "squared error"),
        ("u4", 10 * math.log10(25), "The range is 2"),
        ("u5", 4, "multiply"),
    ],
)
def test_a_near_miss_is_told_what_went_astray(key, answer, reason):
    verdict = check(key, answer)
    assert (verdict.word, reason in verdict.text) == ("nearly", True)
