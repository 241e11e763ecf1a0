"""One picture file to upright 8-bit sRGB, whatever wrote it: depth, colour model, profile, alpha, turn.

Only the decoders named in FORMATS are let at a file: Pillow knows more, and some of them start programs.
"""

from __future__ import annotations

import io
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError

from workbench.errors import WorkbenchError

# A JPEG of several pictures (MPO) comes through JPEG.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO")
VERSION = 3  # raised when a file comes out as other pixels than before: what was decoded is not used again
# VERSION as the fingerprints of reports have it. Raised only when files that sets are usually made of come
# out otherwise, because reports of two versions are not compared.
STATED = 2
MOST_PIXELS = 120_000_000  # beyond the largest cameras sold; decoded it is 360 MB
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `opened` refuses, in words

_ORIENTATION = 0x0112  # the EXIF tag; its values 2 … 8 and what brings the picture upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_REPLACE = "replace it, or delete it and its line in the metadata"
# First bytes of what people meet under a picture's name, and what it is.
_STRANGERS = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML, perhaps an SVG drawing"),
    (b"%pdf", "a PDF"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"{", "JSON text"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


class NoPicture(WorkbenchError):
    """A file that cannot be decoded. `why` says it in few words, `advice` what to do about it."""

    def __init__(self, path: Path, why: str, advice: str = _REPLACE) -> None:
        self.why, self.advice = why, advice
        super().__init__(f"{path} is broken or no picture ({why}): {advice}.")


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The file at `path` opened by its content, not its name, and not decoded yet.

    Raises FileNotFoundError and PermissionError as they come; NoPicture for a folder, a pipe, a text, a claim
    of more than MOST_PIXELS, and for whatever a decoder raises on damaged bytes, inside the `with` too.
    """
    try:
        kind = path.stat().st_mode
    except ValueError as error:  # a zero byte, or half a character
        raise NoPicture(path, "no file can have this name", "mend the name") from error
    if not stat.S_ISREG(kind):  # opening a pipe would wait for its writer for ever
        raise NoPicture(path, "a folder, a pipe or a device, not a file", "take it out")
    try:
        # By a handle: given a path, Pillow maps an uncompressed TIFF by its turned size, and shears it.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield picture
    except (WorkbenchError, FileNotFoundError, PermissionError):
        raise
    except Image.DecompressionBombError as error:
        why = f"it claims more than {MOST_PIXELS // 1_000_000} million pixels"
        raise NoPicture(path, why, "shrink it in a picture program if you trust it") from error
    except UnidentifiedImageError as error:
        raise NoPicture(path, *_stranger(path)) from error
    except Exception as error:
        # Met by damaged bytes a decoder raises what it likes: struct.error, IndexError, zlib.error …
        raise NoPicture(path, " ".join(str(error).split())[:120] or type(error).__name__) from error


def to_srgb(picture: Image.Image) -> Image.Image:
    """A decoded or opened picture as a person expects it: upright by its EXIF mark, 8-bit sRGB by its colour
    profile, transparency on white; of several frames the one it stands at.

    Raises ValueError for numbers without a stated range (floating point outside 0 … 255).
    """
    colours, alpha = to_srgb_and_alpha(picture)
    if alpha is not None:
        colours = Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)
    return colours


def to_srgb_and_alpha(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """As `to_srgb`, with the transparency beside the colours (mode L, opaque 255) instead of on white; None
    where the picture has none.
    """
    if picture.mode == "RGB" and not {"icc_profile", "transparency"} & picture.info.keys():
        return _upright(picture, picture.convert("RGB")), None
    alpha, colours = None, picture
    if picture.has_transparency_data and picture.mode.startswith(("I", "F")):
        # To RGBA, Pillow cuts 16 bits off at 255. One of the greys is the transparent one.
        clear = np.asarray(picture) == picture.info["transparency"]
        alpha = _upright(picture, Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    elif picture.has_transparency_data:
        colours = picture.convert("RGBA")
        alpha, colours = colours.getchannel("A"), colours.convert("RGB")
        alpha = _upright(picture, alpha)
    colours = _in_srgb(_eight_bit(colours), picture.info.get("icc_profile"))
    return _upright(picture, colours), alpha


def orientation(picture: Image.Image) -> int:
    """The EXIF mark 1 … 8; 1 (upright) where there is none, or none that can be read."""
    try:
        mark = picture.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error):
        return 1  # a damaged EXIF block tells nothing of the turn, and the picture itself may be whole
    return mark if mark in _TURNS else 1


def frame_numbers(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` frames, the first among them, evenly spread: frame_numbers(10, 3) is [0, 3, 6]."""
    wanted = max(1, min(count, wanted))
    return [at * count // wanted for at in range(wanted)]


def _upright(original: Image.Image, colours: Image.Image) -> Image.Image:
    mark = orientation(original)
    return colours.transpose(_TURNS[mark]) if mark in _TURNS else colours


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Any mode as L, RGB, CMYK or LAB of 8 bits a channel."""
    if picture.mode in ("L", "RGB", "LAB"):
        return picture
    if picture.mode == "CMYK":
        # Pillow takes every CMYK JPEG for Adobe's, which stores the inks inverted and marks that it does.
        adobe = picture.format != "JPEG" or "adobe" in picture.info
        return picture if adobe else ImageChops.invert(picture)
    if picture.mode.startswith(("I", "F")):
        return Image.fromarray(_levels(np.asarray(picture)))
    return picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")


def _levels(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers of 16 bits, or floating point in 0 … 1 or 0 … 255, to uint8 [H, W]."""
    low, high = float(numbers.min()), float(numbers.max())
    whole = numbers.dtype.kind in "iu"
    if not (low >= 0 and high <= (65535 if whole else 255)):  # NaN fails this too
        raise ValueError(f"its numbers run from {low:g} to {high:g} and nothing says what is white")
    scale = (1 / 257 if whole else 255.0) if whole or high <= 1 else 1.0  # 257 = 65535 / 255
    return (numbers * scale).round().astype(np.uint8)


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB, CMYK or LAB to RGB by the embedded profile, by plain arithmetic where there is none that
    fits."""
    if picture.mode == "LAB":
        return ImageCms.profileToProfile(picture, _plain("LAB"), _plain("sRGB"), outputMode="RGB")
    if profile and not _is_srgb(profile):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.profileToProfile(picture, source, _plain("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            return picture.convert("RGB")  # damaged, or of another colour model than the pixels
    return picture.convert("RGB")


@cache
def _plain(space: str) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space))


def _is_srgb(profile: bytes) -> bool:
    """Whether a profile names itself sRGB; applying it would only add rounding."""
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def _stranger(path: Path) -> tuple[str, str]:
    """What a file is that no decoder knows, and what to do."""
    with open(path, "rb") as file:
        head = file.read(64)
    if not head.strip(b"\0"):
        why = "it is empty" if not head else "it holds nothing but zeros"
        return why, "copy it again from where it came"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "it is HEIC, which is not read here", "save it as JPEG or PNG"
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    named = next((what for first, what in _STRANGERS if start.startswith(first)), None)
    if named:
        return f"it is {named}", "get the picture itself"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "it is text", "get the picture itself"
    return "no picture format that is known here", _REPLACE
