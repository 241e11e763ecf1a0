"""Pictures of any size in bounded memory: where an upsampler is cut into tiles, and how they are joined.

Two tiers. Up to a size `Upsampler.trunk` sees the whole input, and what lies above the input's size is drawn
piece by piece with the few pixels around that decide it: exact, so nothing has to be joined. Beyond that the
whole network sees overlapping tiles, whose pictures are blended by weights that sum to one.

Where less than the network's factor is asked for, each piece is brought down as soon as it is drawn, by the
exact mean of its k x k cells: the larger picture is never held.

Letters: H x W pixels of the input, f the factor, k what it is divided by. Sides are in pixels of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.mapping import Text
from workbench.models.upsampler import Upsampler, UpsamplerConfig

WHOLE_PIXELS = 1024 * 1024  # of an input that the trunk sees whole, where its memory allows
TRUNK_BYTES = 2 << 30  # for the trunk's features
GROW_BYTES = 384 << 20  # for the features of one piece above the input's size
LEAST_TILE = 16
_MAPS = 8  # feature maps of the widest level that are alive at once, measured
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one picture is cut. network: most pixels of a side that the whole network sees at once, None for
    all of them; overlap: of two such tiles; piece: side of what is drawn at once above the input's size.
    """

    network: int | None
    overlap: int
    piece: int


def plan(
    config: UpsamplerConfig,
    height: int,
    width: int,
    *,
    bytes_each: int = 4,
    trunk_bytes: int = TRUNK_BYTES,
    tile: int | None = None,
) -> Plan:
    """The same cut for the same sizes on every machine, so that one seed stays one picture.

    bytes_each: of a feature; trunk_bytes: memory for what the whole network sees at once; tile: side of a
    piece, the largest that GROW_BYTES hold when None. Raises WorkbenchError for a tile below LEAST_TILE.
    """
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int) or tile < LEAST_TILE):
        raise WorkbenchError(
            f"The tile is {str(tile)[:40]}: expected a whole number of at least {LEAST_TILE} pixels, or none."
        )
    seen, drawn = _bytes_of_a_pixel(config, bytes_each)
    pixels = min(WHOLE_PIXELS, trunk_bytes / seen)
    piece = tile or max(LEAST_TILE, _floor(math.sqrt(GROW_BYTES / drawn), LEAST_TILE))
    if height * width <= pixels:
        return Plan(network=None, overlap=0, piece=piece)
    network = max(4 * config.window, _floor(math.sqrt(pixels), config.window))
    windows = network // config.window
    overlap = config.window * (3 if windows >= 10 else 2 if windows >= 6 else 1)
    return Plan(network=network, overlap=overlap, piece=piece)


def memory(
    config: UpsamplerConfig, height: int, width: int, cut: Plan, *, bytes_each: int = 4
) -> tuple[int, int]:
    """About how many bytes features take: of all that the network sees at once, and of one piece above it."""
    seen, drawn = _bytes_of_a_pixel(config, bytes_each)
    sides = [side if cut.network is None else min(side, cut.network) for side in (height, width)]
    piece = math.prod(min(side, cut.piece) for side in sides)
    return round(math.prod(sides) * seen), round(piece * drawn)


def _bytes_of_a_pixel(config: UpsamplerConfig, bytes_each: int) -> tuple[float, float]:
    """Of features alive at once for one pixel of the input: up to the input's size, and above it."""
    widest = max(count * 4.0**level for level, count in config.channels.items() if level <= 0)
    grown = max(config.channels[level] * 4.0**level for level in config.grown)
    return _MAPS * widest * bytes_each, _MAPS * grown * bytes_each


def enlarge(
    U: Upsampler,
    low: Tensor,
    ws: Tensor,
    text: Text | None,
    out: Tensor,
    cut: Plan,
    step: Callable[[], None] = lambda: None,
    cells: int = 1,
) -> None:
    """Writes U's picture of low [N, 3, H, W] into out [N, 3, fH / k, fW / k] float32, in [-1, 1].

    low may lie on the CPU while U lies on a GPU. step is called after each piece (`count` says how often);
    what it raises ends the work. cells: k, a divisor of f.
    """
    height, width = low.shape[-2:]
    if cut.network is None:
        for place, drawn in _grow_pieces(U, low, ws, text, cut.piece):
            out[_large(place, U.config.factor // cells)] = mean(drawn, cells)
            step()
        return
    out.zero_()
    f, window = U.config.factor, U.config.window
    rows, columns = (overlapping(side, cut.network, cut.overlap, window) for side in (height, width))
    down, across = (
        blend(spans, cut.overlap, f) for spans in (rows, columns)
    )  # weights of each row and column of tiles
    for (top, bottom), row_weights in zip(rows, down, strict=True):
        for (left, right), column_weights in zip(columns, across, strict=True):
            weights = row_weights[:, None] * column_weights
            for place, drawn in _grow_pieces(U, low[..., top:bottom, left:right], ws, text, cut.piece):
                drawn = drawn * weights[_large(place, f)[1:]]
                out[_large(_moved(place, top, left), f // cells)] += mean(drawn, cells)
                step()
    out.clamp_(-1, 1)  # the sum of the weights is one up to rounding


def mean(pictures: Tensor, cells: int) -> Tensor:
    """[..., H, W] -> [..., H / cells, W / cells], the exact mean of cells x cells pixels."""
    return pictures if cells == 1 else F.avg_pool2d(pictures, cells)


def check_cells(cells: object, factor: int) -> int:
    """`cells` where it divides the factor; else a WorkbenchError."""
    if isinstance(cells, bool) or not isinstance(cells, int) or cells < 1 or factor % cells:
        raise WorkbenchError(
            f"The picture is to be brought down by {str(cells)[:20]}: expected a whole number that divides "
            f"{factor}, the model's factor."
        )
    return cells


def count(height: int, width: int, cut: Plan, window: int) -> int:
    """How many pieces `enlarge` draws of one picture."""
    if cut.network is None:
        return len(pieces(height, cut.piece)) * len(pieces(width, cut.piece))
    drawn = [0, 0]
    for axis, side in enumerate((height, width)):
        for start, stop in overlapping(side, cut.network, cut.overlap, window):
            drawn[axis] += len(pieces(stop - start, cut.piece))
    return drawn[0] * drawn[1]


def pieces(length: int, side: int) -> list[Span]:
    """A side in the fewest equal pieces of at most `side` pixels: 10 by 4 is (0, 3), (3, 6), (6, 10)."""
    parts = -(-length // side)
    bounds = [length * k // parts for k in range(parts + 1)]
    return list(pairwise(bounds))


def overlapping(length: int, side: int, overlap: int, unit: int) -> list[Span]:
    """Tiles of at most `side` pixels, neighbours with `overlap` in common, each beginning at a multiple of
    `unit`: where the windows of attention begin in the whole picture too.
    """
    if length <= side:
        return [(0, length)]
    parts = -(-(length - overlap) // (side - overlap - unit))
    starts = [_floor((length - overlap) * k / parts, unit) for k in range(parts)]
    stops = [start + overlap for start in starts[1:]] + [length]
    return list(zip(starts, stops, strict=True))


def blend(spans: list[Span], overlap: int, factor: int) -> list[Tensor]:
    """Weights of each tile along one side, in pixels of the output; over any place they sum to one.

    A tile's edge, where it knows least, has none: the first quarter of an overlap is the other tile's alone,
    then half a cosine leads across.
    """
    length = spans[-1][1] * factor
    total = torch.zeros(length)
    raw = []
    for start, stop in spans:
        places = torch.arange(start * factor, stop * factor) + 0.5
        weights = torch.ones(len(places))
        for edge, inside in ((start, places - start * factor), (stop, stop * factor - places)):
            if 0 < edge * factor < length:
                ramp = ((inside / (overlap * factor) - 0.25) * 2).clamp(0, 1)
                weights = weights * (0.5 - 0.5 * torch.cos(math.pi * ramp))
        raw.append(weights)
        total[start * factor : stop * factor] += weights
    return [w / total[a * factor : b * factor] for w, (a, b) in zip(raw, spans, strict=True)]


def _grow_pieces(
    U: Upsampler, low: Tensor, ws: Tensor, text: Text | None, piece: int
) -> Iterator[tuple[tuple[Span, Span], Tensor]]:
    """The trunk on all of `low`, everything above it piece by piece: (rows and columns of the input, their
    picture on the CPU).
    """
    f, halo = U.config.factor, U.config.halo
    x, rgb = U.trunk(low.to(ws.device), ws, text)
    for (top, bottom), (left, right) in _grid(*low.shape[-2:], piece):
        a, b = max(0, top - halo), max(0, left - halo)
        seen = (..., slice(a, bottom + halo), slice(b, right + halo))
        drawn = U.grow(x[seen], rgb[seen], ws)[0]
        inner = drawn[..., f * (top - a) : f * (bottom - a), f * (left - b) : f * (right - b)]
        yield ((top, bottom), (left, right)), inner.float().clamp(-1, 1).cpu()


def _large(place: tuple[Span, Span], factor: int) -> tuple:
    """The index of a place of the input in a picture `factor` times as large."""
    (top, bottom), (left, right) = place
    return ..., slice(factor * top, factor * bottom), slice(factor * left, factor * right)


def _moved(place: tuple[Span, Span], top: int, left: int) -> tuple[Span, Span]:
    (a, b), (c, d) = place
    return (a + top, b + top), (c + left, d + left)


def _grid(height: int, width: int, piece: int) -> Iterator[tuple[Span, Span]]:
    for rows in pieces(height, piece):
        for columns in pieces(width, piece):
            yield rows, columns


def _floor(value: float, unit: int) -> int:
    """The largest multiple of `unit` that is not above the value."""
    return int(value // unit) * unit
