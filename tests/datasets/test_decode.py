"""A file of any kind becomes the upright 8-bit sRGB picture that its maker saw."""

import io

import numpy as np
import pytest
from bad_files import coded, picture, without_adobe
from PIL import Image, ImageChops, ImageCms

from workbench.datasets import decode
from workbench.datasets.rows import read_picture
from workbench.errors import WorkbenchError


def read(folder, content: bytes, name: str = "a.png") -> np.ndarray:
    (folder / name).write_bytes(content)
    found = read_picture(folder / name)
    assert found.mode == "RGB"
    return np.asarray(found).astype(int)


@pytest.mark.parametrize("mark", range(1, 9))
def test_every_exif_mark_comes_upright(tmp_path, mark):
    upright = picture(3, 40, 24)
    turn = Image.Transpose
    # How a camera stores an upright scene under each mark (EXIF 2.32, 4.6.4); Pillow turns counterclockwise.
    how = [turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE, turn.ROTATE_90]
    how += [turn.TRANSVERSE, turn.ROTATE_270]
    stored = upright.transpose(how[mark - 2]) if mark > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = mark
    assert (read(tmp_path, coded(stored, "PNG", exif=exif)) == np.asarray(upright)).all()


def test_sixteen_bits_become_the_nearest_of_eight(tmp_path):
    levels = np.linspace(0, 65535, 1600).round().astype(np.uint16).reshape(40, 40)
    found = read(tmp_path, coded(Image.fromarray(levels), "PNG"))
    assert (found == np.rint(levels / 257)[..., None]).all() and found.max() == 255


def test_floating_point_is_read_where_its_range_says_what_is_white(tmp_path):
    x = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    unit = read(tmp_path, coded(Image.fromarray(x), "TIFF"), "a.tif")
    assert (unit[..., 0] == np.rint(x * 255)).all()
    assert (read(tmp_path, coded(Image.fromarray(x * 255), "TIFF"), "b.tif") == unit).all()
    for wrong in (x * 1000, x - 0.5, x * np.nan):
        with pytest.raises(WorkbenchError, match="nothing says what is white"):
            read(tmp_path, coded(Image.fromarray(wrong), "TIFF"), "c.tif")


def test_transparency_lies_on_white(tmp_path):
    half = Image.new("RGBA", (4, 4), (200, 0, 0, 51))
    assert (read(tmp_path, coded(half, "PNG")) == [244, 204, 204]).all()
    grey = Image.new("LA", (4, 4), (0, 51))
    assert (read(tmp_path, coded(grey, "PNG")) == 204).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 255, 0, 0])
    assert (read(tmp_path, coded(palette, "PNG", transparency=1)) == 255).all()
    assert (read(tmp_path, coded(palette, "PNG")) == [255, 0, 0]).all()


@pytest.mark.parametrize("mark", [1, 3, 6, 8])
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "CMYK", "P"])
def test_a_turned_tiff_without_compression_is_the_same_as_with_it(tmp_path, mode, mark):
    ramp = Image.fromarray(np.arange(96 * 48, dtype=np.uint16).reshape(48, 96) * 14)
    stored = ramp if mode == "I;16" else picture(5, 96, 48).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = mark
    plain = read(tmp_path, coded(stored, "TIFF", exif=exif), "plain.tif")
    packed = read(tmp_path, coded(stored, "TIFF", exif=exif, compression="tiff_lzw"), "packed.tif")
    assert plain.shape == ((96, 48, 3) if mark > 4 else (48, 96, 3)) and (plain == packed).all()


def test_sixteen_bits_with_a_transparent_grey(tmp_path):
    levels = np.linspace(0, 65535, 1600).round().astype(np.uint16).reshape(40, 40)
    clear = int(levels[3, 7])
    found = read(tmp_path, coded(Image.fromarray(levels), "PNG", transparency=clear))
    expected = np.where(levels == clear, 255, np.rint(levels / 257))
    assert (found == expected[..., None]).all()


def test_inks_of_adobe_and_of_others_are_the_same_colours(tmp_path):
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    adobe = read(tmp_path, coded(inks, "JPEG"), "a.jpg")
    other = read(tmp_path, without_adobe(coded(ImageChops.invert(inks), "JPEG")), "b.jpg")
    assert np.abs(adobe - [255, 0, 0]).max() <= 2 and np.abs(other - adobe).max() <= 2


def gamma_one() -> bytes:
    """sRGB's profile with the curve of linear light: its 128 is far lighter than sRGB's 128."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = profile.index(b"para", 128)
    # A parametric curve of kind 3 becomes one of kind 0 (y = x ** g) with g = 1.
    profile[at + 8 : at + 10] = (0).to_bytes(2, "big")
    profile[at + 12 : at + 16] = (1 << 16).to_bytes(4, "big")
    return (
        bytes(profile)
        .replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
        .replace(b"sRGB", b"line")
    )


def test_colours_are_brought_to_srgb_by_the_profile(tmp_path):
    flat = Image.new("RGB", (8, 8), (128, 128, 128))
    linear = read(tmp_path, coded(flat, "PNG", icc_profile=gamma_one()))
    expected = 255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055)
    assert np.abs(linear - expected).max() <= 2
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (read(tmp_path, coded(flat, "PNG", icc_profile=same)) == 128).all()
    assert (read(tmp_path, coded(flat, "PNG", icc_profile=b"nonsense")) == 128).all()


def test_lab_is_colour(tmp_path):
    lab = Image.new("LAB", (4, 4), (137, 80 + 128, 67 + 128))  # CIE L 53.7, a 80, b 67: sRGB red
    assert np.abs(read(tmp_path, coded(lab, "TIFF"), "a.tif") - [255, 0, 0]).max() <= 12


def test_the_first_frame_is_the_picture(tmp_path):
    frames = [picture(seed) for seed in (1, 2)]
    for format in ("PNG", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        moving = coded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert (read(tmp_path, moving, f"a.{format.lower()}") == np.asarray(frames[0])).all()


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(10, 1, [0]), (10, 3, [0, 3, 6]), (2, 5, [0, 1]), (1, 4, [0]), (4, 2, [0, 2])],
)
def test_frames_are_evenly_spread(count, wanted, expected):
    assert decode.frame_numbers(count, wanted) == expected


def test_no_decoder_that_starts_programs_is_let_at_a_file(tmp_path):
    buffer = io.BytesIO()
    picture().save(buffer, "EPS")
    with pytest.raises(decode.NoPicture, match="it is text"):
        read(tmp_path, buffer.getvalue(), "a.png")
