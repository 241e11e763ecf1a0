"""All pictures of a data set as one table: the same from a folder and the world, cached until it changes."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.datasets.pairing import group_ids, known_factors
from workbench.datasets.table import PictureTable
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError

SIDE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_world(
        tmp_path_factory.mktemp("world") / "set", count=24, seed=2, resolution=SIDE, workers=1, progress=False
    )


def own_folder(path: Path, pictures: dict[str, Image.Image]) -> Path:
    path.mkdir()
    lines = []
    for name, picture in pictures.items():
        picture.save(path / name, exif=picture.getexif())
        lines.append(json.dumps({"file_name": name, "text": f"picture {name}"}))
    (path / "metadata.jsonl").write_text("\n".join(lines))
    return path


def test_folder_and_world_give_the_same_table(folder):
    read = PictureTable.from_folder(folder, SIDE, cache=False)
    drawn = PictureTable.from_world(2, 24, SIDE)
    assert read.images.shape == (24, 3, SIDE, SIDE) and read.images.dtype == torch.uint8
    assert torch.equal(read.images, drawn.images)
    assert read.texts == drawn.texts and read.known == drawn.known
    assert torch.equal(read.groups, drawn.groups) and torch.equal(read.partners, drawn.partners)


def test_a_group_shares_four_factors_or_else_the_caption():
    known = [
        known_factors({"coat": "red", "pose": "lying", "scene": "park", "light": light}) for light in "dnd"
    ]
    assert group_ids(["x", "y", "z"], known).tolist() == [0, 1, 0]
    assert known_factors({"coat": "red", "pose": "lying"}) == {}  # not all four: the caption decides
    assert group_ids(["x", "y", "x"], [{}, {}, {}]).tolist() == [0, 1, 0]


def test_other_sizes_are_scaled_smoothly_and_cut_to_the_centre(tmp_path):
    # Left third red, middle green, right blue: the centre square of a 3:1 picture is the green.
    stripes = np.zeros((40, 120, 3), dtype=np.uint8)
    for third in range(3):
        stripes[:, 40 * third : 40 * third + 40, third] = 255
    # One-pixel checks have no detail left at 8 px: antialiased they are grey, subsampled black or white.
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    deep = Image.fromarray(np.full((8, 8), 257 * 100, dtype=np.uint16))
    turned = Image.new("RGB", (8, 16), "black")
    turned.paste("white", (0, 0, 8, 8))
    turned.getexif()[0x0112] = 6  # the camera lay on its side
    pictures = {
        "stripes.png": Image.fromarray(stripes),
        "checks.png": Image.fromarray(checks),
        "clear.png": clear,
        "deep.png": deep,
        "turned.png": turned,
    }
    path = own_folder(tmp_path / "own", pictures)
    images = PictureTable.from_folder(path, 8, cache=False).images
    assert images.shape == (5, 3, 8, 8)
    assert (images[0, 1, :, 1:-1] > 200).all() and (images[0, [0, 2]][:, :, 1:-1] < 60).all()
    assert (images[1].float() - 127.5).abs().max() < 4
    assert (images[2] == 255).all()  # transparent on white
    assert (images[3] == 100).all()  # 16 bit as 8
    assert (images[4, :, :, :4] == 0).all() and (images[4, :, :, 4:] == 255).all()  # upright: top is right


def test_a_broken_picture_is_named(tmp_path):
    path = own_folder(tmp_path / "own", {name: Image.new("RGB", (8, 8)) for name in ("a.png", "b.png")})
    (path / "b.png").write_bytes((path / "b.png").read_bytes()[:40])
    with pytest.raises(WorkbenchError, match=r"b\.png is broken"):
        PictureTable.from_folder(path, 8)
    assert not list(path.glob("cache-*"))


def test_what_cannot_fit_into_memory_is_refused(folder):
    with pytest.raises(WorkbenchError, match="GiB of memory"):
        PictureTable.from_world(0, 10_000_000, 4096)
    with pytest.raises(WorkbenchError, match="resolution is 0"):
        PictureTable.from_folder(folder, 0)


# ---------------------------------------------------------------- the cache


def test_the_cache_is_read_and_left_when_anything_changed(tmp_path):
    path = own_folder(tmp_path / "own", {})
    for name, colour in (("a.bmp", "red"), ("b.bmp", "blue")):
        Image.new("RGB", (8, 8), colour).save(path / name)
    lines = ['{"file_name": "a.bmp", "text": "x"}', '{"file_name": "b.bmp", "text": "y"}']
    (path / "metadata.jsonl").write_text("\n".join(lines))
    first = PictureTable.from_folder(path, 8)
    cache = path / "cache-8.safetensors"
    made = cache.stat().st_mtime_ns
    again = PictureTable.from_folder(path, 8)
    assert torch.equal(again.images, first.images) and cache.stat().st_mtime_ns == made
    # Rows in another order: the pictures follow.
    (path / "metadata.jsonl").write_text("\n".join(lines[::-1]))
    assert torch.equal(PictureTable.from_folder(path, 8).images, first.images.flip(0))
    # An edited picture of the same size in bytes.
    before = (path / "a.bmp").stat().st_size
    Image.new("RGB", (8, 8), "lime").save(path / "a.bmp")
    assert (path / "a.bmp").stat().st_size == before
    os.utime(path / "a.bmp", ns=(made + 10**9, made + 10**9))
    assert PictureTable.from_folder(path, 8).images[1, :, 0, 0].tolist() == [0, 255, 0]
    # Another resolution has its own; a damaged one is made again, with a word.
    assert PictureTable.from_folder(path, 4).images.shape == (2, 3, 4, 4)
    cache.write_bytes(cache.read_bytes()[:50])
    with pytest.warns(UserWarning, match="made again"):
        assert len(PictureTable.from_folder(path, 8)) == 2
    assert not list(path.glob("*.tmp-*"))


def test_a_folder_that_takes_no_cache_is_read_all_the_same(tmp_path):
    path = own_folder(tmp_path / "own", {name: Image.new("RGB", (8, 8)) for name in ("a.png", "b.png")})
    (path / "cache-8.safetensors").mkdir()  # in the way, as a read-only disk would be
    with pytest.warns(UserWarning, match="could not be written"):
        assert len(PictureTable.from_folder(path, 8)) == 2


def test_a_cached_set_opens_at_once(tmp_path):
    # 5,000 rows of one picture: what counts on the second reading is rows and stats, not decoding.
    path = own_folder(tmp_path / "own", {})
    Image.new("RGB", (8, 8)).save(path / "a.png")
    lines = [json.dumps({"file_name": "a.png", "text": f"dog {row % 100}"}) for row in range(5000)]
    (path / "metadata.jsonl").write_text("\n".join(lines))
    PictureTable.from_folder(path, 8)
    start = time.perf_counter()
    assert len(PictureTable.from_folder(path, 8)) == 5000
    assert time.perf_counter() - start < 2


def test_the_cache_may_lie_elsewhere(folder, tmp_path):
    first = PictureTable.from_folder(folder, SIDE, cache=tmp_path / "a" / "b")
    file = tmp_path / "a" / "b" / f"cache-{SIDE}.safetensors"
    made = file.stat().st_mtime_ns
    again = PictureTable.from_folder(folder, SIDE, cache=tmp_path / "a" / "b")
    assert torch.equal(first.images, again.images) and file.stat().st_mtime_ns == made
    assert not list(folder.glob("cache-*"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkbenchError, match=r"cache folder .* cannot be made"):
        PictureTable.from_folder(folder, SIDE, cache=tmp_path / "file" / "cache")
