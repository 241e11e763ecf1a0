"""What one look at a picture file tells: whether it is whole, what it is, and what it resembles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from workbench.datasets import decode
from workbench.datasets.rows import read_picture
from workbench.datasets.tree import Stop, stopped
from workbench.errors import WorkbenchError

# What a file's suffix promises about its content.
_PROMISED = {
    ".png": ("PNG",),
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".webp": ("WEBP",),
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
}
FEATURES = ("brightness", "contrast", "colour", "tint red-green", "tint yellow-blue", "detail")
_EVEN = 2  # grey levels: without them the bits of a plain ground are noise
_CHUNK = 256  # files between two looks at `stop`


@dataclass(frozen=True, slots=True)
class Look:
    """One picture file.

    name: in the folder; size: (width, height) in px, upright; mode, format, frames: as in the file; digest:
    SHA-256 of the file; hash: `difference_hash`; thumbnail: uint8 [16, 16, 3]; features: float [6], see
    FEATURES; orientation: the EXIF mark, 1 is upright; trouble: why it cannot be decoded, with advice, else
    ""; damage: what is wrong with a file that can be decoded all the same.
    """

    name: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = ""
    frames: int = 1
    orientation: int = 1
    digest: bytes = b""
    hash: int = 0
    thumbnail: np.ndarray | None = field(default=None, repr=False)
    features: np.ndarray | None = field(default=None, repr=False)
    trouble: str = ""
    advice: str = ""
    damage: str = ""

    @property
    def missing(self) -> bool:
        return self.trouble == "missing"

    @property
    def mislabelled(self) -> bool:
        """Whether the content is a picture of another format than the suffix says."""
        return not self.trouble and self.format not in _PROMISED.get(self.suffix, ())

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def look_at_all(
    folder: Path,
    names: Sequence[str],
    *,
    tell: Callable[[int], object] = lambda more: None,
    stop: Stop = None,
) -> list[Look]:
    """Looks at the files `names` with a thread a core; tell: called with how many more are done.

    Raises WorkbenchError when `stop` asks for the end.
    """
    looks: list[Look] = []
    with ThreadPoolExecutor() as pool:
        for at in range(0, len(names), _CHUNK):
            if stopped(stop):
                raise WorkbenchError(
                    f"The check was stopped after {at} of {len(names)} pictures. Nothing was changed."
                )
            looks += pool.map(lambda name: look_at(folder, name), names[at : at + _CHUNK])
            tell(len(looks) - at)
    return looks


def look_at(folder: Path, name: str) -> Look:
    """Reads the file whole, decodes it and measures it; never raises for what is wrong with the file."""
    file = folder / name
    try:
        picture = read_picture(file)
        facts = _facts(file)
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()
    except decode.NoPicture as error:
        return Look(name, trouble=error.why, advice=error.advice)
    except WorkbenchError as error:
        there = not isinstance(error.__cause__, FileNotFoundError)
        return Look(name, trouble=f"cannot be opened: {error.__cause__}" if there else "missing")
    return Look(
        name,
        size=picture.size,
        digest=digest,
        hash=difference_hash(picture),
        thumbnail=np.asarray(picture.resize((16, 16), Image.Resampling.BOX)),
        features=_features(picture),
        **facts,
    )


def difference_hash(picture: Image.Image) -> int:
    """64 bits: is a point of a 9×8 grey miniature brighter than its right neighbour, by more than _EVEN.

    Copies that were only scaled or stored again differ in a few bits. (Krawetz 2013, "Kind of like that".)
    """
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, :-1] > grey[:, 1:] + _EVEN).tobytes(), "big")


def _facts(file: Path) -> dict:
    """Mode, format, frames, orientation and damage of a file that can be decoded."""
    with decode.opened(file) as picture:
        facts = {
            "mode": picture.mode,
            "format": picture.format or "",
            "orientation": decode.orientation(picture),
        }
        facts["frames"] = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    return facts | {"damage": _damage(file, facts["format"])}


def _damage(file: Path, format: str) -> str:
    """What is wrong with a file although its (first) picture decodes, or ""."""
    if format == "PNG":
        try:
            with decode.opened(file) as picture:
                picture.verify()  # every chunk's checksum, up to the end mark
        except decode.NoPicture as error:
            return error.why
    if format == "GIF":
        with open(file, "rb") as content:
            content.seek(-min(64, file.stat().st_size), 2)
            if not content.read().rstrip(b"\0").endswith(b";"):
                return "its end mark is missing: frames may be lost"
    return ""


def _features(picture: Image.Image) -> np.ndarray:
    """float32 [6], named by FEATURES, in grey levels 0 … 255; detail: the mean step between neighbours, as a
    logarithm."""
    x = np.asarray(picture.resize((48, 48), Image.Resampling.BOX), dtype=np.float32)
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    grey = x.mean(axis=2)
    step = (np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2
    colour = (x.max(axis=2) - x.min(axis=2)).mean()
    tints = (red - green).mean(), ((red + green) / 2 - blue).mean()
    return np.array([grey.mean(), grey.std(), colour, *tints, np.log1p(step)], dtype=np.float32)
