"""training.mp4: every grid, in order, below 8 MB; refusals by message."""

import sys

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.training.film import MOST_BYTES, write_mp4


def make_grids(run, greys, size=(385, 385)):
    """Grids of one grey each; the first is that of no images."""
    (run / "samples").mkdir(parents=True)
    for k, grey in enumerate(greys):
        Image.new("RGB", size, (grey,) * 3).save(run / "samples" / f"grid_{k * 1000:09d}.png")
    return run


def test_every_grid_is_a_frame_in_order(tmp_path):
    greys = [10, 200, 60, 120, 240, 90]
    path = write_mp4(make_grids(tmp_path / "run", greys), seconds=1)
    assert path == tmp_path / "run" / "training.mp4" and path.stat().st_size < MOST_BYTES
    with imageio.get_reader(path, format="FFMPEG") as film:
        frames = [np.asarray(frame) for frame in film]
    assert frames[0].shape[:2] == (412, 386)  # 385 + 26 and 385, made even
    shown = [int(frame[200, 100].mean()) for frame in frames]
    kept = [grey for k, grey in enumerate(shown) if k == 0 or abs(grey - shown[k - 1]) > 8]
    assert len(kept) == len(greys) and all(abs(a - b) < 8 for a, b in zip(kept, greys, strict=True))
    assert frames[0][-13, -20:].mean() > 150, "the strip under the grid is missing"


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(WorkbenchError, match="no grids"):
        write_mp4(tmp_path)
    run = make_grids(tmp_path / "run", [0])
    with pytest.raises(WorkbenchError, match="seconds is 0"):
        write_mp4(run, seconds=0)
    (tmp_path / "mine.mp4").write_text("mine")
    with pytest.raises(WorkbenchError, match="already there"):
        write_mp4(run, tmp_path / "mine.mp4")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(WorkbenchError, match="pip install imageio-ffmpeg"):
        write_mp4(run)
