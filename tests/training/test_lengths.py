"""Lengths and grids as people write them: values by hand, refusals by message."""

import json

import pytest
import tiny_run
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.training.checkpoint import list_checkpoints
from workbench.training.gif import write_gif
from workbench.training.history import read_history
from workbench.training.lengths import in_images, parse_grid, parse_length


@pytest.mark.parametrize(
    ("written", "images"),
    [
        (20_000, 20_000),
        ("20000", 20_000),
        ("20_000", 20_000),
        ("2kimg", 2_000),
        (" 2.5 kimg ", 2_500),
        ("0.002KIMG", 2),
        ("5epochs", 5 * 640),
        ("1epoch", 640),
        ("0.25 Epochs", 160),
        ("100epochs", 64_000),
        ("0.0001epochs", 1),
    ],
)
def test_lengths_in_images_of_a_set_of_640(written, images):
    assert in_images(parse_length("images", written), 640) == images


def test_epochs_wait_in_one_form_and_can_be_read_again():
    assert parse_length("images", "5 EPOCH") == parse_length("images", "5epochs") == "5epochs"
    assert parse_length("images", parse_length("images", "0.5epochs")) == "0.5epochs"


@pytest.mark.parametrize(
    "wrong",
    [0, -5, "0", "0epochs", "-1epochs", "5 steps", "epochs", "", "2.5", "0.0001kimg", 1.5, True, None],
)
def test_what_is_no_length_is_told_with_what_would_be_one(wrong):
    with pytest.raises(WorkbenchError, match=r"checkpoint_every_nimg is .*2kimg or 5epochs"):
        parse_length("checkpoint_every_nimg", wrong)


def test_never_is_a_length_where_it_may_be():
    assert parse_length("eval_every_nimg", "0", low=0) == 0
    with pytest.raises(WorkbenchError, match="at least 0 images"):
        parse_length("eval_every_nimg", -1, low=0)


def test_grids_of_any_shape():
    assert parse_grid("3x3") == parse_grid([3, 3]) == parse_grid(" 3 X 3 ") == (3, 3)
    assert parse_grid("4x2") == (4, 2)


@pytest.mark.parametrize("wrong", ["3", "0x3", "3x13", "axb", (3,), (3.0, 3), None, True])
def test_what_is_no_grid_is_refused(wrong):
    with pytest.raises(WorkbenchError, match=r"grid is .*columns x rows, each from 1 to 12"):
        parse_grid(wrong)


def test_a_run_counts_epochs_of_its_own_set_and_draws_the_grid_asked_for(inputs, tmp_path):
    """The set holds 40 pictures, a step takes 8."""
    out = tmp_path / "run"
    asked = {"images": "2epochs", "checkpoint_every_nimg": "0.4 epochs", "log_every_nimg": "0.016kimg"}
    asked |= {"sample_every_nimg": "1epoch", "grid": "3x2", "keep_checkpoints": 9}
    assert tiny_run.run_tiny(inputs, out, stop_after_nimg="1epoch", **asked).cur_nimg == 40
    config = json.loads((out / "config.json").read_text())["config"]
    assert (config["images"], config["checkpoint_every_nimg"], config["grid"]) == (80, 16, [3, 2])
    assert tiny_run.run_tiny(inputs, out, **asked).cur_nimg == 80  # the same line goes on
    assert [folder.name[-2:] for folder in list_checkpoints(out)] == [
        "00",
        "16",
        "32",
        "40",
        "48",
        "64",
        "80",
    ]
    assert [line["cur_nimg"] for line in read_history(out, "step")] == [16, 32, 48, 64, 80]
    grids = sorted((out / "samples").glob("*.png"))
    assert {Image.open(grid).size for grid in grids} == {(3 * 8, 2 * 8)}
    with Image.open(write_gif(out)) as film:
        assert film.n_frames == len(grids)
    with pytest.raises(WorkbenchError, match=r"grid \[3, 2\], now \[6, 6\]"):
        tiny_run.run_tiny(inputs, out, **{**asked, "grid": "6x6"}, resume="extend")
    longer = {**asked, "images": "2.4epochs", "checkpoint_every_nimg": "1epoch"}
    with pytest.raises(WorkbenchError, match="images 80, now 96"):
        tiny_run.run_tiny(inputs, out, **longer)
    assert tiny_run.run_tiny(inputs, out, **longer, resume="extend").cur_nimg == 96
