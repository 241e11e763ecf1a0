"""Small data set folders and shards, whole and broken, that the shard tests share."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, *, size: tuple[int, int] = (12, 12), form: str = "PNG") -> bytes:
    """A picture file of noise that its number alone decides."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=form)
    return out.getvalue()


def folder(path: Path, count: int) -> Path:
    """A data set folder of `count` pictures, a caption and two columns each, with a card."""
    (path / "images").mkdir(parents=True)
    lines = []
    for number in range(count):
        name = f"images/{number:06d}.png"
        (path / name).write_bytes(picture(number))
        row = {"file_name": name, "text": f"picture {number}, größer", "coat": "red", "angle": number / 7}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    (path / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    (path / "README.md").write_text("# Mine\n")
    return path


def tar(path: Path, files: list[tuple[str, bytes]], *, mode: str = "w") -> Path:
    """A tar with the files in the order given; a name may come twice."""
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def sample(key: str, number: int = 0, *, form: str = "PNG", **columns) -> list[tuple[str, bytes]]:
    """The three files of a sample."""
    suffix = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[form]
    return [
        (f"{key}.{suffix}", picture(number, form=form)),
        (f"{key}.txt", f"caption {key}".encode()),
        (f"{key}.json", json.dumps(columns).encode()),
    ]


def shards(path: Path, sizes: list[int]) -> Path:
    """A folder of shards with that many samples each; a sample's key is its number over all of them."""
    path.mkdir(parents=True, exist_ok=True)
    number = 0
    for at, size in enumerate(sizes):
        files = []
        for _ in range(size):
            files += sample(f"{number:06d}", number, angle=number)
            number += 1
        tar(path / f"{at:06d}.tar", files)
    return path
