"""Tiles: cuts that cover, weights that sum to one, and pictures that show no seam."""

import itertools

import pytest
import torch
from tiny_upsampler import smooth_pictures, tiny_upsampler

from workbench.errors import WorkbenchError
from workbench.pipeline import tiles
from workbench.pipeline.tiles import Plan

LEVEL = 2 / 255  # of a step between two neighbouring 8-bit values, in [-1, 1]


def draw(U, low, cut, text=None):
    """The whole picture by one cut; text None = a network without text."""
    torch.manual_seed(1)
    w = torch.randn(len(low), U.config.w_dim)
    f = U.config.factor
    out = torch.full((len(low), 3, f * low.shape[2], f * low.shape[3]), float("nan"))
    with torch.inference_mode():
        tiles.enlarge(U, low, w, text, out, cut)
    return out


@pytest.fixture(scope="module")
def wordless():
    return {
        f: tiny_upsampler(f, text_dim=None, cross_attention={}, text_layers=0, window=16) for f in (2, 4, 8)
    }


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 100])
@pytest.mark.parametrize("side", [1, 4, 16, 200])
def test_pieces_cover_a_side_once(length, side):
    spans = tiles.pieces(length, side)
    assert [spans[0][0], spans[-1][1]] == [0, length]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert all(0 < stop - start <= side for start, stop in spans)
    assert len(spans) == -(-length // side)


@pytest.mark.parametrize("length", [65, 130, 200, 1000, 4097])
@pytest.mark.parametrize(("side", "overlap"), [(64, 16), (160, 48), (256, 16)])
def test_overlapping_tiles_cover_a_side_at_whole_windows(length, side, overlap):
    spans = tiles.overlapping(length, side, overlap, 16)
    assert [spans[0][0], spans[-1][1]] == [0, length]
    assert all(start % 16 == 0 and 0 < stop - start <= side for start, stop in spans)
    assert all(a[1] - b[0] == overlap for a, b in itertools.pairwise(spans))
    total = torch.zeros(3 * length)
    for (start, stop), weights in zip(spans, tiles.blend(spans, overlap, 3), strict=True):
        assert weights.min() >= 0
        total[3 * start : 3 * stop] += weights
    torch.testing.assert_close(total, torch.ones_like(total))


def test_weights_lead_from_one_tile_to_the_next_without_a_step():
    first, second = tiles.blend([(0, 64), (32, 96)], 32, 2)
    assert first[:80].eq(1).all()  # alone, then the first quarter of the overlap
    assert first[-16:].eq(0).all() and second[:16].eq(0).all()  # an edge has no say
    assert first.diff().abs().max() < 0.06


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("size", [(40, 56), (1, 1), (3, 70), (33, 17)])
def test_pieces_above_the_input_are_the_whole_picture(wordless, factor, size):
    low = smooth_pictures(2, *size)
    whole = draw(wordless[factor], low, Plan(network=None, overlap=0, piece=1000))
    for piece in (16, 25):
        pieced = draw(wordless[factor], low, Plan(network=None, overlap=0, piece=piece))
        assert (pieced - whole).abs().max() < 1e-5


@pytest.mark.parametrize("factor", [2, 4])
def test_overlapping_tiles_show_no_seam(wordless, factor):
    low = smooth_pictures(1, 150, 330)
    whole = draw(wordless[factor], low, Plan(network=None, overlap=0, piece=1000))
    tiled = draw(wordless[factor], low, Plan(network=160, overlap=48, piece=64))
    assert (tiled - whole).abs().max() < 2 * LEVEL
    touching = draw(wordless[factor], low, Plan(network=160, overlap=16, piece=64))
    assert (touching - whole).abs().max() > (tiled - whole).abs().max()  # a wide overlap is worth it


def test_the_cut_follows_memory_and_size_alone():
    config = tiny_upsampler().config
    small = tiles.plan(config, 64, 64)
    assert small.network is None and small == tiles.plan(config, 64, 64)
    assert tiles.plan(config, 1024, 1024).network is None
    large = tiles.plan(config, 2048, 1024)
    assert large.network == 1024 and large.overlap % config.window == 0
    tight = tiles.plan(config, 1024, 1024, trunk_bytes=256 << 16)
    assert tight.network < 1024 and tight.network % config.window == 0
    assert tiles.plan(config, 64, 64, tile=24).piece == 24
    for tile in (0, 15, -3, True, 24.0, "24"):
        with pytest.raises(WorkbenchError, match="at least 16 pixels"):
            tiles.plan(config, 64, 64, tile=tile)


@pytest.mark.parametrize("size", [(40, 56), (150, 330)])
def test_steps_are_counted_before_they_are_taken(wordless, size):
    U, steps = wordless[2], []
    cut = tiles.plan(U.config, *size, trunk_bytes=64 * 64 * 8 * 8 * 4, tile=24)
    low = smooth_pictures(1, *size)
    out = torch.empty(1, 3, 2 * size[0], 2 * size[1])
    with torch.inference_mode():
        tiles.enlarge(U, low, torch.zeros(1, 32), None, out, cut, lambda: steps.append(1))
    assert len(steps) == tiles.count(*size, cut, U.config.window)
