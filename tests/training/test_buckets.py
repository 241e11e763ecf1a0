"""Crops of pictures of many aspects: whose pixels they hold, how often each comes, and an exact resume."""

import json
from collections import Counter

import numpy as np
import pytest
import tiny_run
import torch
from aspect_sets import colour, ramp, write_set

from workbench.datasets.shards.packing import pack
from workbench.datasets.sources import open_table
from workbench.errors import WorkbenchError
from workbench.training import checkpoint
from workbench.training.buckets import share_out
from workbench.training.crops import CropFeed

CPU = torch.device("cpu")
SIDE = 16
SHAPES = ((8, 8), (8, 10), (10, 8))
WIDE, TALL, SQUARE = (32, 16), (20, 40), (24, 24)
SIZES = [WIDE] * 20 + [TALL] * 12 + [SQUARE] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("aspects") / "set", SIZES)


@pytest.fixture(scope="module")
def table(folder):
    return open_table(folder, SIDE, aspects=True)


def feed(table, **about) -> CropFeed:
    changes = about.pop("changes", {})
    config = tiny_run.tiny_config(**tiny_run.UPSAMPLING, matching_weight=0.0, aspects=True, **changes)
    return CropFeed(table, None, config, tiny_run.tiny_upsampler_preset(), CPU, **about)


def owner(crop) -> int:
    """The one picture whose colour fills a crop."""
    pixels = ((crop + 1) * 127.5).round().flatten(1).long()
    assert bool((pixels == pixels[:, :1]).all())  # no other picture's pixel, no padding
    (row,) = [row for row in range(len(SIZES)) if list(colour(row)) == pixels[:, 0].tolist()]
    return row


def test_crops_hold_their_own_pictures_pixels_and_fit_its_aspect(table):
    fed, used, shapes = feed(table), Counter(), Counter()
    steps = 512
    for step in range(steps):
        batch = fed.at(step)
        height, width = batch.images.shape[-2:]
        shapes[height, width] += 1
        assert batch.low.images.shape[-2:] == (height // 2, width // 2)
        for crop in batch.images:
            row = owner(crop)
            used[row] += 1
            kind = SIZES[row]
            assert (width > height, height > width) == (kind == WIDE, kind == TALL)
    assert set(used) == set(range(len(SIZES)))
    mean = 8 * steps / len(SIZES)
    assert all(abs(count - mean) < 0.1 * mean for count in used.values())  # each as often as any other
    for kind, size in (("wide", WIDE), ("tall", TALL), ("square", SQUARE)):
        share = SIZES.count(size) / len(SIZES)
        own = sum(n for (h, w), n in shapes.items() if {"wide": w > h, "tall": h > w, "square": h == w}[kind])
        assert abs(own - share * steps) <= 4  # of each 256 steps its share, to a step at either end


def test_crops_of_a_wide_picture_cover_it_to_both_sides(table):
    """Of one whose sides are no multiples of the factor: the last crop ends at the border."""
    fed, columns, rows = feed(table), set(), set()
    picture = torch.from_numpy(np.asarray(ramp(51, 17)).copy()).permute(2, 0, 1)
    for k in range(2000):
        place = torch.rand(2, generator=torch.Generator().manual_seed(k))
        crop = fed._cut(picture, place, 8, 12)
        assert crop.shape == (3, 8, 12)
        columns |= set(crop[0, 0].tolist())
        rows |= set(crop[1, :, 0].tolist())
    assert columns == set(range(51)) and rows == set(range(17))


def test_squares_are_cut_where_they_always_were(tmp_path):
    """The formula of square sets, written out: places at multiples of the factor, shapes in turn."""
    table = open_table(write_set(tmp_path / "set", [(16, 16)] * 12), SIDE, aspects=True)
    fed, picture = feed(table), torch.rand(3, 16, 16)
    assert [fed._shape(step) for step in range(6)] == [
        fed.shapes[step % len(fed.shapes)] for step in range(6)
    ]
    for height, width in fed.shapes:
        for k in range(300):
            place = torch.rand(2, generator=torch.Generator().manual_seed(k))
            top = int(place[0] * ((16 - height) // 2 + 1)) * 2
            left = int(place[1] * ((16 - width) // 2 + 1)) * 2
            expected = picture[:, top : top + height, left : left + width]
            assert torch.equal(fed._cut(picture, place, height, width), expected)


def test_a_step_is_the_same_whenever_it_is_asked_for(table):
    straight = feed(table)
    seen = [straight.at(step) for step in range(270)]  # across the end of a block
    for step in (269, 3, 256, 255, 0):
        again = feed(table).at(step)
        assert torch.equal(again.images, seen[step].images) and torch.equal(again.z, seen[step].z)
        assert torch.equal(again.low.images, seen[step].low.images)


def test_shares_and_passes_are_parts_of_the_whole_batch(table):
    for step in range(6):
        whole = feed(table).at(step)
        halves = [feed(table, rank=rank, world=2).at(step) for rank in range(2)]
        parts = feed(table, changes={"accumulate": 2}).parts_at(step)
        for pieces in (halves, parts):
            assert torch.equal(torch.cat([piece.images for piece in pieces]), whole.images)
            assert torch.equal(torch.cat([piece.low.images for piece in pieces]), whole.low.images)


def test_wrong_captions_are_of_the_same_batch_and_wrong(table, inputs):
    from workbench.training.players import build

    config = tiny_run.tiny_config(**tiny_run.UPSAMPLING, matching_weight=0.5, aspects=True)
    players = build(tiny_run.tiny_upsampler_preset(), config, inputs[1], CPU, "fp32")
    fed = CropFeed(table, players.captions, config, tiny_run.tiny_upsampler_preset(), CPU)
    for step in range(5):
        pairs = fed.pairs.batch_at(step)
        index, valid = fed.pairs.mismatched(pairs)
        assert bool(valid.all())
        assert all(pairs.captions[i] != pairs.captions[k] for k, i in enumerate(index.tolist()))


# --- who lies where ---


def hw(*sizes):
    return torch.tensor([(height, width) for width, height in sizes])


def test_a_picture_lies_where_its_aspect_is_nearest_and_the_crop_fits():
    rows, weights = share_out(hw((32, 16), (16, 32), (16, 16), (17, 16), (30, 16)), SHAPES, 1)
    assert [own.tolist() for own in rows] == [[2, 3], [0, 4], [1]]
    assert weights.tolist() == pytest.approx([0.4, 0.4, 0.2])
    shapes = ((16, 16), (16, 20), (12, 22))  # 22 px are too wide for a picture of 20
    rows, _ = share_out(hw((20, 16), (22, 16), (64, 16)), shapes, 1)
    assert [own.tolist() for own in rows] == [[], [0, 1], [2]]
    rows, _ = share_out(hw((64, 16), (20, 16)), ((16, 16), (12, 24)), 1)
    assert [own.tolist() for own in rows] == [[1], [0]]  # 24 px do not fit, however near


def test_a_few_pictures_join_the_next_shape_and_a_few_squares_take_others_in():
    sizes = hw(*[(32, 16)] * 9, *[(16, 32)] * 3, (16, 16))
    rows, weights = share_out(sizes, SHAPES, 4)
    assert rows[1].tolist() == list(range(9)) and rows[2].tolist() == []
    assert rows[0].tolist() == [9, 10, 11, 12] and weights.tolist() == pytest.approx([4 / 13, 9 / 13, 0])
    rows, weights = share_out(hw(*[(32, 16)] * 9, (16, 16)), SHAPES, 4)
    assert rows[0].tolist() == [0, 1, 2, 9] and weights[0].item() == pytest.approx(0.1)
    rows, weights = share_out(hw((32, 16), (16, 32), (16, 16)), SHAPES, 8)
    assert rows[0].tolist() == [0, 1, 2] and weights.tolist() == [1, 0, 0]


def test_pictures_smaller_than_the_square_are_refused(tmp_path):
    table = open_table(write_set(tmp_path / "set", [(32, 16)] * 8), 6, aspects=True)
    with pytest.raises(WorkbenchError, match="pictures are 6 px: expected at least 8 px"):
        feed(table)


# --- runs ---


def test_an_interrupted_run_ends_as_the_whole_one_from_a_folder_and_from_shards(
    folder, inputs, same_run, tmp_path
):
    settings = {"upsamples": True, "aspects": True, "images": 96}
    whole = tmp_path / "whole"
    assert tiny_run.run_tiny((folder, inputs[1]), whole, **settings).reason == "done"
    facts = json.loads((whole / "config.json").read_text())
    assert facts["config"]["aspects"] is True and facts["data"]["count"] == len(SIZES)
    tiny_run.run_tiny((folder, inputs[1]), tmp_path / "run", **settings, stop_after_nimg=40)
    tiny_run.run_tiny((folder, inputs[1]), tmp_path / "run", **settings)
    same_run(whole, tmp_path / "run")
    shards = pack(folder, tmp_path / "shards", per_shard=16, progress=False)
    tiny_run.run_tiny((shards, inputs[1]), tmp_path / "sharded", **settings)
    a, b = (checkpoint.newest(run)[0].tensors()["G_ema"] for run in (whole, tmp_path / "sharded"))
    assert all(torch.equal(a[name], b[name]) for name in a)
