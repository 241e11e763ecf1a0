"""Files that spoil a data set, made on the spot: broken, odd or misnamed pictures, links, names and captions.

`write_pictures` fills one tree, which serves as a data set (it has a metadata.jsonl) and as a person's own
folder. Each case says which finding names it ("" where nothing is wrong) and whether an import takes it.
"""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

SIDE = 40


@dataclass(frozen=True)
class Case:
    """One bad or odd file. finding: the kind that names it; taken: whether an import makes a picture of it;
    why: a part of the reason where it does not; named: whether the metadata names it."""

    name: str
    make: Callable[[Path], object]
    finding: str = "broken"
    taken: bool = False
    why: str = ""
    named: bool = True


def picture(seed: int = 0, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A smooth picture of its own."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def coded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def holds(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def png_of(width: int, height: int, rows: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file by hand, which may claim what it does not hold."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def without_adobe(jpeg: bytes) -> bytes:
    """A JPEG without its APP14 block, which says how inks are stored."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def cut_short() -> Iterator[Case]:
    """Four formats cut at every tenth."""
    for at, format in enumerate(("PNG", "JPEG", "GIF", "WEBP")):
        whole = coded(picture(at), format)
        for tenth in range(1, 10):
            name = f"cut {tenth} of 10.{format.lower()}"
            yield Case(name, holds(whole[: len(whole) * tenth // 10]))


def strangers() -> Iterator[Case]:
    """Things under a picture's name that are none."""
    yield Case("empty.png", holds(b""), why="empty")
    yield Case("zeros.jpg", holds(bytes(1000)), why="zeros")
    yield Case("text.png", holds(b"I am a text.\n"), why="text")
    yield Case("page.jpg", holds(b"<!DOCTYPE html><title>404</title>"), why="web page")
    yield Case("bom page.jpg", holds(b"\xef\xbb\xbf\n<html></html>"), why="web page")
    yield Case("drawing.png", holds(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), why="SVG")
    yield Case("answer.webp", holds(b'{"error": 403}'), why="JSON")
    yield Case("paper.png", holds(b"%PDF-1.7\n"), why="PDF")
    yield Case("archive.gif", holds(b"PK\x03\x04" + bytes(60)), why="ZIP")
    yield Case("pointer.png", holds(b"version https://git-lfs.github.com/spec/v1\n"), why="LFS")
    yield Case("phone.jpg", holds(b"\0\0\0\x18ftypheic" + bytes(40)), why="HEIC")
    yield Case(
        "script.png", holds(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"), why="text"
    )
    yield Case("noise.png", holds(np.random.default_rng(0).bytes(5000)))
    yield Case("signature.png", holds(coded(picture(), "PNG")[:8]))
    yield Case("claims 3.6 billion.png", holds(png_of(60_000, 60_000)), why="million pixels")
    yield Case(
        "claims 144 million.png", holds(png_of(12_000, 12_000, depth=1, colour=0)), why="million pixels"
    )
    yield Case("no width.png", holds(png_of(0, 40)))
    yield Case("no pixels.png", holds(png_of(40, 40)))
    yield Case("half.bmp", holds(coded(picture(), "BMP")[:2000]))
    yield Case("half.tif", holds(coded(picture(), "TIFF")[:2000]))
    yield Case(
        "numbers.tif", holds(coded(Image.fromarray(np.float32([[-3, 9e9]] * 20)), "TIFF")), why="white"
    )


def damaged() -> Iterator[Case]:
    """Pictures that decode, with something wrong about the file."""
    png = coded(picture(1), "PNG")
    at = png.index(b"IDAT")
    end = at + 4 + int.from_bytes(png[at - 4 : at], "big")
    yield Case("checksum.png", holds(png[:end] + bytes([png[end] ^ 1]) + png[end + 1 :]), "damaged", True)
    yield Case("no end.png", holds(png[:-12]), "damaged", True)
    yield Case("no end.gif", holds(coded(picture(2), "GIF")[:-1]), "damaged", True)
    yield Case("a png.jpg", holds(coded(picture(3), "PNG")), "mislabelled", True)
    yield Case("a jpeg.png", holds(coded(picture(4), "JPEG")), "mislabelled", True)
    yield Case("a gif.webp", holds(coded(picture(5), "GIF")), "mislabelled", True)
    yield Case("no suffix", holds(coded(picture(6), "PNG")), "mislabelled", True)
    profile = coded(picture(7), "PNG", icc_profile=b"no profile at all")
    yield Case("profile.png", holds(profile), "", True)
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\xff" * 100
    yield Case("broken exif.jpg", holds(coded(picture(8), "JPEG", exif=exif)), "", True)
    huge = Image.Exif()
    huge[0x010E] = "x" * 60_000
    yield Case("huge exif.jpg", holds(coded(picture(9), "JPEG", exif=huge)), "", True)


def odd() -> Iterator[Case]:
    """Whole pictures of unusual kinds."""
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [picture(seed) for seed in (10, 11, 12)]
    cmyk = picture(13).convert("CMYK")
    sixteen = Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40))
    clear = picture(14).convert("RGBA")
    clear.putalpha(90)
    yield Case("turned.jpg", holds(coded(picture(15, 60, 40), "JPEG", exif=turned)), "turned", True)
    yield Case(
        "moving.png",
        holds(coded(frames[0], "PNG", save_all=True, append_images=frames[1:])),
        "animated",
        True,
    )
    yield Case(
        "moving.gif", holds(coded(frames[1], "GIF", save_all=True, append_images=frames)), "animated", True
    )
    yield Case(
        "moving.webp", holds(coded(frames[2], "WEBP", save_all=True, append_images=frames)), "animated", True
    )
    yield Case("inks.jpg", holds(coded(cmyk, "JPEG")), "modes", True)
    yield Case(
        "inks unmarked.jpg", holds(without_adobe(coded(ImageChops.invert(cmyk), "JPEG"))), "modes", True
    )
    yield Case("16 bit.png", holds(coded(sixteen, "PNG")), "modes", True)
    yield Case("clear.png", holds(coded(clear, "PNG")), "modes", True)
    yield Case("grey and clear.png", holds(coded(clear.convert("LA"), "PNG")), "modes", True)
    yield Case("bitmap.png", holds(coded(picture(16).convert("1"), "PNG")), "modes", True)
    yield Case("palette.png", holds(coded(picture(17).quantize(9), "PNG")), "", True)
    yield Case("one pixel.png", holds(coded(picture(18, 1, 1), "PNG")), "small", why="enlarge")
    yield Case("thread.png", holds(coded(picture(19, 20_000, 1), "PNG")), "long", why="enlarge")
    yield Case("flat.png", holds(coded(Image.new("RGB", (SIDE, SIDE), "teal"), "PNG")), "flat", True)


def named_oddly() -> Iterator[Case]:
    """Names and places: what lies there is no file, or its name is hard to print."""
    whole = holds(coded(picture(20), "PNG"))
    yield Case("line\nbreak.png", holds(coded(picture(21), "PNG")), "", True)
    yield Case("emoji 🐕‍🦺.png", holds(coded(picture(22), "PNG")), "", True)
    yield Case("<b>bold & 'quoted'.png", holds(coded(picture(23), "PNG")), "", True)
    yield Case("broken \udcff name.png", holds(coded(picture(24), "PNG")), "", True)
    yield Case("x" * 240 + ".png", holds(coded(picture(25), "PNG")), "", True)
    yield Case("twice.png", whole, "", True)
    yield Case("twice again.png", whole, "exact-copies", True)
    yield Case("folder.png", lambda path: path.mkdir(), why="folder")
    yield Case("pipe.png", os.mkfifo, why="pipe")
    yield Case("dangling.png", lambda path: path.symlink_to("nowhere"), "missing", why="link")
    yield Case("itself.png", lambda path: path.symlink_to(path.name), why="link")
    yield Case("loop", lambda path: path.symlink_to(path.parent), "others", why="link", named=False)
    yield Case("._apple.jpg", holds(b"\0\5\x16\7" + bytes(80)), "", why="hidden", named=False)
    yield Case("stray.png", holds(coded(picture(26), "PNG")), "strays", why="no caption", named=False)
    yield Case("notes.md", holds(b"# Notes\n"), "others", why="not a picture", named=False)
    yield Case("alone.txt", holds(b"a caption"), "others", why="no picture took", named=False)


def picture_cases() -> list[Case]:
    return [*cut_short(), *strangers(), *damaged(), *odd(), *named_oddly()]


def write_pictures(folder: Path) -> Path:
    """The tree of all cases and its metadata."""
    folder.mkdir(parents=True)
    cases = picture_cases()
    for case in cases:
        case.make(folder / case.name)
    rows = ({"file_name": case.name, "text": f"dog number {k}"} for k, case in enumerate(cases) if case.named)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


GOOD = '{"file_name": "a.png", "text": "a dog"}\n'


@dataclass(frozen=True)
class BadMetadata:
    """A set of one whole picture, a.png, whose metadata is bad.

    finding: the kind that names the fault; where: a part of what it names; file: the metadata's name.
    """

    name: str
    content: bytes
    finding: str
    where: str = "line 2"
    file: str = "metadata.jsonl"


def metadata_cases() -> list[BadMetadata]:
    def after(line: str) -> bytes:
        return (GOOD + line + "\n").encode("utf-8", "surrogatepass")

    deep = "[" * 100_000
    return [
        BadMetadata("a broken line", after('{"file_name": "a.png", "text": "a'), "broken-lines"),
        BadMetadata("a list", after('["a.png", "a dog"]'), "broken-lines"),
        BadMetadata("a bare word", after("dog"), "broken-lines"),
        BadMetadata("nested too deep", after(deep), "broken-lines"),
        BadMetadata("a number of 5000 digits", after('{"n": ' + "9" * 5000 + "}"), "broken-lines"),
        BadMetadata("zero bytes", GOOD.encode() + bytes(100), "broken-lines"),
        BadMetadata("utf-16", GOOD.encode("utf-16"), "broken-lines", "metadata.jsonl"),
        BadMetadata("latin-1", GOOD.replace("dog", "Rüde").encode("latin-1"), "broken-lines",
                    "metadata.jsonl"),
        BadMetadata("keys twice", after('{"file_name": "a.png", "text": "x", "text": "y"}'),
                    "doubtful-lines"),
        BadMetadata("NaN", after('{"file_name": "a.png", "text": "x", "score": NaN}'), "doubtful-lines"),
        BadMetadata("no caption", after('{"file_name": "a.png"}'), "no-caption"),
        BadMetadata("an empty caption", after('{"file_name": "a.png", "text": " "}'), "no-caption"),
        BadMetadata("a number as caption", after('{"file_name": "a.png", "text": 7}'), "no-caption"),
        BadMetadata("no name", after('{"text": "a dog"}'), "no-caption"),
        BadMetadata("leads out", after('{"file_name": "../a.png", "text": "a dog"}'), "no-caption"),
        BadMetadata("absolute", after('{"file_name": "/etc/hosts", "text": "a dog"}'), "no-caption"),
        BadMetadata("a gone picture", after('{"file_name": "b.png", "text": "a dog"}'), "missing", "b.png"),
        BadMetadata("a zero byte in a name", after(r'{"file_name": "a\u0000.png", "text": "x"}'),
                    "broken", "a"),
        BadMetadata("half a character", after(r'{"file_name": "\ud83d.png", "text": "x"}'), "broken", ".png"),
        BadMetadata("10,000 words", after(json.dumps({"file_name": "a.png", "text": "dog " * 10_000})),
                    "captions-long", "a.png"),
        BadMetadata("markup", after('{"file_name": "a.png", "text": "<b>a dog</b>"}'),
                    "captions-foreign", "a.png"),
        BadMetadata("control characters", after(r'{"file_name": "a.png", "text": "a\u0007 dog"}'),
                    "captions-untidy", "a.png"),
        BadMetadata("the same everywhere", GOOD.encode() * 12, "captions-equal", ""),
        BadMetadata("empty", b"", "few", ""),
        BadMetadata("too many cells", b"file_name,text\na.png,a dog, sitting\n", "doubtful-lines", "line 2",
                    "metadata.csv"),
        BadMetadata("a huge cell", b"file_name,text\na.png," + b"x" * 200_000 + b"\n", "broken-lines", "line",
                    "metadata.csv"),
    ]  # fmt: skip


def write_metadata(case: BadMetadata, folder: Path) -> Path:
    folder.mkdir(parents=True)
    picture().save(folder / "a.png")
    (folder / case.file).write_bytes(case.content)
    return folder
