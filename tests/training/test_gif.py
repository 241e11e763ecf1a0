"""training.gif: frames dense at first, below 3 MB, refusals by message."""

import numpy as np
import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.training.gif import MOST_BYTES, dense_at_first, write_gif


def make_grids(run, counts, side=48, noise=False):
    (run / "samples").mkdir(parents=True)
    random = np.random.default_rng(0)
    for k, count in enumerate(counts):
        shape = (6 * side, 6 * side, 3)
        colours = (
            random.integers(0, 64, shape[:2]) * 4
        )  # 64 greys at random: hard to compress, easy to fit a palette to
        pixels = np.repeat(colours[..., None], 3, axis=2) if noise else np.full(shape, (k * 5) % 256)
        ending = "webp" if k % 2 else "png"  # either kind will do, and both in one run
        Image.fromarray(pixels.astype(np.uint8)).save(run / "samples" / f"grid_{count:09d}.{ending}")
    return run


def test_frames_lie_densely_at_first():
    counts = list(range(0, 1001, 10))
    chosen = dense_at_first(counts, 11)
    assert len(chosen) == 11 and (chosen[0], chosen[-1]) == (0, 1000)
    gaps = np.diff(chosen)
    assert (np.diff(gaps) >= 0).all() and gaps[
        0
    ] == 10  # (k / 10)^2 of 1000, rounded to tens: 10, 40, 90, ...
    assert chosen[1:4] == [10, 40, 90]
    assert dense_at_first(counts[:5], 11) == counts[:5]


def test_every_grid_is_a_frame_of_a_short_run(tmp_path):
    run = make_grids(tmp_path / "run", [0, 1000, 5000])
    path = write_gif(run, seconds=3)
    assert path == run / "training.gif"
    with Image.open(path) as film:
        assert film.n_frames == 3 and film.size == (576, 576 + 26)
        assert film.info["duration"] == 1000
    write_gif(run, seconds=3)  # our own file is made anew


def test_few_columns_keep_singles_above_and_pairs_below(tmp_path):
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    sheet = np.zeros((384, 384, 3), np.uint8)
    sheet[192:] = 200  # the rows of pairs
    Image.fromarray(sheet).save(run / "samples" / "grid_000000000.png")
    with Image.open(write_gif(run, columns=4)) as film:
        pixels = np.asarray(film.convert("RGB"))
    side = pixels.shape[1]
    assert abs(int(pixels[side // 2 - 2, 5, 0]) - 0) < 3 and abs(int(pixels[side // 2 + 2, 5, 0]) - 200) < 3


def test_a_long_noisy_run_stays_below_three_megabytes(tmp_path):
    run = make_grids(tmp_path / "run", range(0, 40_000, 1000), side=64, noise=True)
    assert write_gif(run).stat().st_size <= MOST_BYTES


def test_a_smaller_film_has_fewer_frames_and_colours(tmp_path):
    run = make_grids(tmp_path / "run", range(0, 20_000, 1000), side=8, noise=True)
    whole, small = write_gif(run), write_gif(run, tmp_path / "small.gif", most_bytes=300_000, colours=16)
    assert small.stat().st_size <= 300_000 < whole.stat().st_size
    with Image.open(whole) as many, Image.open(small) as few:
        assert 8 <= few.n_frames < many.n_frames == 20
        few.seek(few.n_frames - 1)
        assert len(few.convert("RGB").getcolors()) <= 16


def test_refusals(tmp_path):
    with pytest.raises(WorkbenchError, match="no grids"):
        write_gif(tmp_path)
    run = make_grids(tmp_path / "run", [0])
    with pytest.raises(WorkbenchError, match="columns is 5"):
        write_gif(run, columns=5)
    with pytest.raises(WorkbenchError, match="seconds is nan"):
        write_gif(run, seconds=float("nan"))
    (tmp_path / "mine.gif").write_text("mine")
    with pytest.raises(WorkbenchError, match="already there"):
        write_gif(run, tmp_path / "mine.gif")
    assert (tmp_path / "mine.gif").read_text() == "mine"
