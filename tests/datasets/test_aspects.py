"""Pictures at their own aspect: sizes, pixels, the cache, shards, and squares as they always were."""

import numpy as np
import pytest
import torch
from aspect_sets import colour, ramp, write_set
from PIL import Image

from workbench.datasets import picture_cache
from workbench.datasets.aspects import MOST, AspectTable
from workbench.datasets.loading import PairedBatches, pictures_of
from workbench.datasets.shards.packing import pack
from workbench.datasets.sources import open_table
from workbench.datasets.table import PictureTable

SIDE = 16
# (width, height) of files, and (height, width) at 16 px of the shorter side
SIZES = [(32, 32), (64, 32), (32, 48), (40, 30), (160, 16), (8, 8), (7, 28), (16, 16)]
KEPT = [(16, 16), (16, 32), (24, 16), (16, 21), (16, 64), (16, 16), (64, 16), (16, 16)]


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set", SIZES)


def test_each_picture_keeps_its_own_aspect_and_only_its_own_pixels(folder):
    table = open_table(folder, SIDE, aspects=True)
    assert isinstance(table, AspectTable) and len(table) == len(SIZES) and table.side == SIDE
    assert [tuple(size) for size in table.sizes.tolist()] == KEPT
    assert MOST * SIDE == 64  # of the panorama the middle is kept
    for row, size in enumerate(KEPT):
        picture = table.picture(row)
        assert picture.shape == (3, *size) and picture.dtype == torch.uint8
        assert torch.equal(
            picture, torch.tensor(colour(row), dtype=torch.uint8)[:, None, None].expand(3, *size)
        )
    assert len(table.pixels) == sum(h * w for h, w in KEPT)


def test_pixels_are_those_of_the_whole_picture_made_smaller(tmp_path):
    folder = write_set(tmp_path / "set", [(96, 32), (32, 32)])
    picture = ramp(96, 32)
    picture.save(folder / "images" / "000.png")
    table = open_table(folder, SIDE, aspects=True)
    small = np.asarray(picture.resize((48, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(table.picture(0).permute(1, 2, 0).numpy(), small)
    (square,) = table.squares(torch.tensor([0]))
    assert np.array_equal(square.numpy(), small[:, 16:32])
    seen = pictures_of(table, torch.tensor([0, 1]), torch.tensor([True, False]))
    assert torch.equal(seen[0], torch.tensor(small[:, 16:32]).flip(1).permute(2, 0, 1) / 127.5 - 1)


def test_it_is_decoded_once_and_mapped_after_that(folder, monkeypatch):
    first = open_table(folder, SIDE, aspects=True)
    assert (folder / "cache-16-aspects.safetensors").is_file()
    monkeypatch.setattr(picture_cache, "decode", lambda *about: pytest.fail("decoded again"))
    again = open_table(folder, SIDE, aspects=True)
    for name in ("pixels", "starts", "sizes", "groups", "partners"):
        assert torch.equal(getattr(again, name), getattr(first, name))
    assert again.texts == first.texts and again.files == first.files


def test_without_a_cache_it_is_the_same(folder):
    held, mapped = (open_table(folder, SIDE, aspects=True, cache=cache) for cache in (False, True))
    assert torch.equal(held.raw, mapped.raw) and torch.equal(held.sizes, mapped.sizes)


def test_shards_give_what_the_folder_gives(folder, tmp_path):
    packed = pack(folder, tmp_path / "shards", per_shard=3, progress=False)
    wanted = open_table(folder, SIDE, aspects=True)
    for cache in (False, True, True):
        table = open_table(packed, SIDE, aspects=True, cache=cache)
        assert torch.equal(table.pixels, wanted.pixels) and torch.equal(table.sizes, wanted.sizes)
        assert table.texts == wanted.texts and torch.equal(table.starts, wanted.starts)


def test_a_set_of_squares_is_the_table_it_always_was(tmp_path):
    folder = write_set(tmp_path / "set", [(32, 32), (40, 40), (16, 16), (9, 9)], ["a", "b", "a", "c"])
    ramp(40, 40).save(folder / "images" / "001.png")
    own, plain = (open_table(folder, SIDE, aspects=aspects) for aspects in (True, False))
    assert isinstance(own, PictureTable)
    for name in ("images", "groups", "partners"):
        assert torch.equal(getattr(own, name), getattr(plain, name))
    assert (own.texts, own.known, own.side) == (plain.texts, plain.known, plain.side)
    assert own.images.stride() == plain.images.stride()
    one, other = (PairedBatches(table, 4, 0).batch_at(3).images for table in (own, plain))
    assert torch.equal(one, other)


def test_a_choice_of_rows_is_a_table_of_its_own(tmp_path):
    folder = write_set(
        tmp_path / "set", [(32, 16)] * 6, ["a dog", "a cat", "a dog", "a cow", "a dog", "a hen"]
    )
    table = open_table(folder, SIDE, aspects=True).select(torch.tensor([5, 1, 2, 4]))
    assert table.texts == ["a hen", "a cat", "a dog", "a dog"]
    assert table.groups.tolist() == [0, 1, 2, 2]
    assert set(table.partners[:2].tolist()) <= {0, 1, 2, 3} and table.partners[2:].tolist() == [-1, -1]
    assert table.picture(0)[:, 0, 0].tolist() == list(colour(5))
