"""Every grid under one slider, and what was known at its moment."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.images import grid, save_png
from workbench.training.history import History
from workbench.widgets.scrubber import Scrubber

COUNTS = (0, 8, 16, 32, 64, 128)


@pytest.fixture
def run(tmp_path):
    history = History(tmp_path)
    (tmp_path / "samples").mkdir()
    for nimg in COUNTS:
        sheet = grid(torch.full((36, 3, 4, 4), nimg / 64 - 1), 6)
        if nimg < 64:
            save_png(sheet, tmp_path / "samples" / f"grid_{nimg:09d}.png")
        else:  # a run that ships has WebP: either kind, and both in one run
            sheet.save(tmp_path / "samples" / f"grid_{nimg:09d}.webp", quality=90)
        history.append({"kind": "sample", "cur_nimg": nimg})
    history.append({"kind": "eval", "cur_nimg": 16, "all": 0.25, "diversity": 0.5})
    history.append({"kind": "event", "cur_nimg": 64, "event": "e", "text": "Look <here>."})
    return tmp_path


def test_no_grid_is_left_out_and_each_is_shown_as_it_lies(run):
    scrubber = Scrubber(run)
    assert scrubber.slider.max == len(COUNTS) - 1 == scrubber.slider.value
    for place, nimg in enumerate(COUNTS):
        scrubber.slider.value = place
        ending = "png" if nimg < 64 else "webp"
        assert scrubber.picture.value == (run / "samples" / f"grid_{nimg:09d}.{ending}").read_bytes()
        assert scrubber.picture.format == ending
        assert f"{nimg:,} images" in scrubber.words.value and f"grid {place + 1} of 6" in scrubber.words.value


def test_what_was_not_known_yet_is_not_said(run):
    scrubber = Scrubber(run)
    assert scrubber.said(8) == "<b>8 images</b>, grid 2 of 6"
    assert "all four factors right 25% · diversity 0.50" in scrubber.said(32)
    assert "Look" not in scrubber.said(32) and "Look &lt;here&gt;." in scrubber.said(64)


def test_a_still_page_shows_the_first_and_the_last(run):
    still = Scrubber(run, rows=3).still
    assert "3 of 6 grids" in still.alt
    assert still.image.height == 3 * 4 + 2 * 2
    right = still.image.width - 2
    assert (
        still.image.getpixel((right, 1))[0] < 10
        and still.image.getpixel((right, still.image.height - 2))[0] == 255
    )


def test_a_folder_without_grids_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="no grids"):
        Scrubber(tmp_path)
