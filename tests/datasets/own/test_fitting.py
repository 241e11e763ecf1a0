"""Fitting: what is cut off, what is filled, which shape is nearest, and whether anything was enlarged."""

import math

import numpy as np
import pytest
from PIL import Image

from workbench.datasets.own.fitting import DoesNotFit, bucket_of, buckets, enlargement, fit, target_size

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def striped(width: int, height: int) -> Image.Image:
    """Blue, with a red third in the middle of the longer direction."""
    picture = Image.new("RGB", (width, height), "blue")
    box = (
        (width // 3, 0, 2 * width // 3, height)
        if width > height
        else (0, height // 3, width, 2 * height // 3)
    )
    picture.paste("red", box)
    return picture


@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_a_crop_keeps_the_middle_and_nothing_else(size):
    assert (np.asarray(fit(striped(*size), (50, 50), "crop"))[3:-3, 3:-3] == RED).all()


def test_padding_keeps_the_whole_picture_between_equal_white_bars():
    x = np.asarray(fit(striped(300, 100), (60, 60), "pad"))
    assert (x[:20] == WHITE).all() and (x[40:] == WHITE).all()
    assert (x[20:40, :12] == BLUE).all() and (x[20:40, 28:32] == RED).all() and (x[20:40, 48:] == BLUE).all()
    assert tuple(np.asarray(fit(striped(300, 100), (60, 60), "pad", colour="black"))[0, 0]) == (0, 0, 0)


def test_shrinking_is_antialiased():
    # A board of one-pixel squares has no detail left at an eighth: grey everywhere, never black and white.
    board = Image.fromarray((np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    x = np.asarray(fit(board, (16, 16), "crop")).astype(int)
    assert np.abs(x - 127.5).max() < 8


@pytest.mark.parametrize("how", ["crop", "pad", "bucket"])
def test_a_picture_of_the_size_asked_for_is_left_as_it_is(how):
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (np.asarray(fit(Image.fromarray(x), (32, 32), how)) == x).all()


@pytest.mark.parametrize("resolution", [16, 32, 64, 256, 512])
def test_buckets_have_one_area_and_each_lies_both_ways(resolution):
    shapes = buckets(resolution)
    assert (resolution, resolution) in shapes and len(shapes) == len(set(shapes))
    for width, height in shapes:
        assert abs(width * height / resolution**2 - 1) < 0.02
        assert (height, width) in shapes and width % (resolution // 16) == 0


def test_a_picture_goes_to_the_nearest_bucket():
    for width in range(40, 260, 7):
        chosen = bucket_of((width, 100), 64)

        def apart(shape, width=width):
            return abs(math.log(shape[0] / shape[1]) - math.log(width / 100))

        assert apart(chosen) == min(apart(shape) for shape in buckets(64))
    assert bucket_of((640, 640), 64) == (64, 64) == target_size((640, 480), 64, "crop")
    assert target_size((640, 480), 64, "bucket") == bucket_of((640, 480), 64) == (72, 56)


@pytest.mark.parametrize(
    ("size", "how", "factor"),
    [((100, 50), "crop", 1.28), ((100, 50), "pad", 0.64), ((64, 64), "crop", 1), ((640, 64), "pad", 0.1)],
)
def test_enlarging_is_told_before_it_happens(size, how, factor):
    assert enlargement(size, (64, 64), how) == pytest.approx(factor)


def test_a_thread_does_not_become_an_empty_sheet():
    with pytest.raises(DoesNotFit, match="not one pixel is left"):
        fit(Image.new("RGB", (20_000, 1)), (64, 64), "pad")


@pytest.mark.parametrize("how", ["crop", "bucket", "pad"])
def test_every_size_comes_out_exactly(how):
    for width in (33, 64, 97, 301):
        for height in (35, 64, 211):
            target = target_size((width, height), 32, how)
            assert fit(Image.new("RGB", (width, height)), target, how).size == target
