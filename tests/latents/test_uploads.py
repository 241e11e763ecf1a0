"""Uploads become what the model would draw, or are refused in words."""

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.images import from_uint8, to_uint8
from workbench.latents.uploads import prepare

RED = (200, 40, 30)


def colour(x):
    """The one colour of a prepared picture, but for its rim: Lanczos looks a little beyond a crop."""
    levels = to_uint8(x)[0, 3:-3, 3:-3].reshape(-1, 3)
    assert np.ptp(levels.astype(int), axis=0).max() <= 2
    return tuple(levels[0].tolist())


def test_a_picture_of_the_right_size_comes_through_bit_by_bit():
    levels = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(levels[0])
    assert torch.equal(prepare(image, 16), from_uint8(levels))
    assert torch.equal(prepare(from_uint8(levels), 16), from_uint8(levels))
    assert torch.equal(prepare(from_uint8(levels)[0], 16), from_uint8(levels))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_files_are_read_by_path(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (40, 40), RED).save(path)
    assert np.abs(np.subtract(colour(prepare(str(path), 16)), RED)).max() <= 3
    assert torch.equal(prepare(str(path), 16), prepare(path, 16))


def test_transparency_lies_on_white():
    assert colour(prepare(Image.new("RGBA", (20, 20), (*RED, 0)), 16)) == (255, 255, 255)
    assert colour(prepare(Image.new("RGBA", (20, 20), (*RED, 255)), 16)) == RED


def test_palettes_greys_and_sixteen_bits():
    assert colour(prepare(Image.new("RGB", (20, 20), RED).quantize(4), 16)) == RED
    assert colour(prepare(Image.new("L", (20, 20), 90), 16)) == (90, 90, 90)
    deep = Image.fromarray(np.full((20, 20), 257 * 90, np.uint16))
    assert colour(prepare(deep, 16)) == (90, 90, 90)


def test_the_middle_square_is_kept_and_turned_upright(tmp_path):
    wide = Image.new("RGB", (60, 20), "white")
    wide.paste(RED, (20, 0, 40, 20))
    assert colour(prepare(wide, 16)) == RED
    tall = from_uint8(np.asarray(wide)[None]).transpose(2, 3)
    assert colour(prepare(tall, 16)) == RED

    halves = Image.new("RGB", (20, 20), "white")
    halves.paste("black", (0, 0, 20, 10))  # the dark half on top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    halves.save(tmp_path / "turned.png", exif=exif)
    seen = prepare(tmp_path / "turned.png", 20)[0, 0]
    assert seen[:, :10].min() == 1 and seen[:, 10:].max() == -1


@pytest.mark.parametrize("form", ["image", "tensor"])
def test_fine_stripes_become_grey_not_moire(form):
    levels = np.zeros((1, 64, 64, 3), np.uint8)
    levels[:, :, ::2] = 255
    given = Image.fromarray(levels[0]) if form == "image" else from_uint8(levels)
    inner = prepare(given, 16)[..., 2:-2]
    assert inner.abs().max() < 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Image.new("RGB", (1, 1)), "1 × 1 px: expected at least 8"),
        (Image.new("RGB", (20_000, 9)), "less than 20,000"),
        (torch.zeros(3, 4, 40), "at least 8"),
        (torch.zeros(1, 40, 40), "expected one picture"),
        (torch.zeros(2, 3, 40, 40), "expected one picture"),
        (torch.zeros(3, 40, 40, dtype=torch.uint8), "float"),
        (torch.full((3, 40, 40), float("nan")), "not finite"),
        (None, "no picture"),
        ("", "no picture"),
        ("nowhere.png", "There is no picture at nowhere.png"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(given, message):
    with pytest.raises(WorkbenchError, match=message):
        prepare(given, 16)


def test_files_that_are_no_pictures_are_refused(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(WorkbenchError, match="it is text"):
        prepare(tmp_path / "a.png", 16)
    with pytest.raises(WorkbenchError, match="a folder"):
        prepare(tmp_path, 16)
    Image.new("RGB", (64, 64), RED).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    with pytest.raises(WorkbenchError, match="broken"):
        prepare(tmp_path / "b.png", 16)
