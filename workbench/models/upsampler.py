"""The upsampler: a small picture, its prompt and noise to a pyramid of larger pictures (Sec. 3.5).

An asymmetric U-Net: a few halvings of the input, more doublings, skips where both sides have one size, and
above the input the synthesis blocks of G. Sizes are levels, powers of two of the input's side: -3 is an
eighth of it, 0 the input, 2 four times. Nothing in it knows a resolution, so any H x W goes in.

Letters: N pictures, H x W pixels of the input, C channels of a level. x_pyramid lists the running RGB sums,
largest first, down to the input's size; pictures are in [-1, 1], without any clamp while training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models import checkpointing
from workbench.models.attention import SelfAttention
from workbench.models.checks import (
    check_complete,
    check_counts,
    check_positive,
    check_text_dim,
    is_count,
    plain,
    table_of,
)
from workbench.models.discriminator import TrunkStage
from workbench.models.doors import check_noise, check_styles, check_text
from workbench.models.generator import SynthesisBlock
from workbench.models.mapping import MappingNetwork, Text, TextTransformer
from workbench.models.ops import LEAKY_GAIN, AdaptiveConv2d, EqualConv2d, EqualLinear, leaky, upsample

FACTORS = (2, 4, 8, 16)
RGB_GAIN = 0.1  # of the increments: what they say is small beside the input, and so are their steps
RGB_START = 0.5  # deviation of their fresh weights: a new network begins close to the enlarged input
STYLE_START = (
    0.1  # deviation of fresh style weights. At 1, as in G, every z would draw its own random network
)
# at first, and an upsampler, whose input says nearly all, has to unlearn that before anything else.
NOISE_WAVES = 8  # of the noise level's embedding


@dataclass(kw_only=True, frozen=True)
class UpsamplerConfig:
    """Shape of the upsampler. Dictionaries are keyed by level, from -down to log2(factor).

    factor: 2, 4, 8 or 16; down: halvings of the input. channels: features of each level; kernels: bank size K
    of each level's synthesis blocks; blocks: synthesis blocks of a level, the first of which doubles the size
    (none at -down unless given); down_blocks: residual blocks in front of each halving, 1 where absent;
    attention / cross_attention: layers after each block, levels up to 0 alone, so that everything above the
    input's size sees a few pixels around and can be drawn in tiles. window: side of the square that
    self-attention sees, in pixels of the input. noise_max: the strongest noise on the input that it knows, as
    a deviation in [-1, 1] units; text_dim None = no text. Raises WorkbenchError on what doesn't fit together.
    """

    factor: int = 4
    down: int = 3
    channels: dict[int, int]
    kernels: dict[int, int]
    blocks: dict[int, int]
    attention: dict[int, int]
    cross_attention: dict[int, int]
    down_blocks: dict[int, int] = field(default_factory=dict)
    window: int = 64
    noise_max: float = 0.25
    z_dim: int = 128
    w_dim: int = 256
    mapping_layers: int = 4
    mapping_lr_mul: float = 0.01
    text_dim: int | None = 128
    text_layers: int = 2
    mlp_ratio: int = 4
    glu: bool = False

    def __post_init__(self) -> None:
        if self.factor not in FACTORS or isinstance(self.factor, bool):
            raise WorkbenchError(f"factor is {self.factor!r}: expected one of {list(FACTORS)}.")
        check_counts(self, ("down", "z_dim", "w_dim", "mapping_layers", "mlp_ratio"))
        check_counts(self, ("text_layers",), low=0)
        check_positive(self, ("mapping_lr_mul",))
        check_text_dim(self.text_dim)
        for name in ("channels", "kernels", "blocks", "attention", "cross_attention", "down_blocks"):
            object.__setattr__(self, name, table_of(name, getattr(self, name), self.levels))
        check_complete("channels", self.channels, self.levels)
        for name in ("kernels", "blocks"):
            check_complete(name, getattr(self, name), self.levels[1:])
        if not is_count(self.window, 1) or self.window % (1 << self.down):
            raise WorkbenchError(
                f"window is {self.window!r}: expected a multiple of {1 << self.down}, one pixel of the "
                "smallest level."
            )
        if not isinstance(self.noise_max, (int, float)) or not 0 < self.noise_max <= 2:
            raise WorkbenchError(f"noise_max is {self.noise_max!r}: expected a deviation above 0, up to 2.")
        for name in ("attention", "cross_attention"):
            if high := [level for level, count in getattr(self, name).items() if count and level > 0]:
                raise WorkbenchError(
                    f"{name} is on at the levels {high}: expected 0, the input's size, at most. Above it a "
                    "picture must not see far, or it could not be drawn in tiles."
                )
        if self.text_dim is None and any(self.cross_attention.values()):
            raise WorkbenchError(
                "cross_attention is on, but text_dim is None: clear cross_attention or set text_dim."
            )

    @property
    def levels(self) -> tuple[int, ...]:
        """-down … 0 … log2(factor)."""
        return tuple(range(-self.down, self.factor.bit_length()))

    @property
    def grown(self) -> tuple[int, ...]:
        """The levels above the input."""
        return tuple(level for level in self.levels if level > 0)

    @property
    def halo(self) -> int:
        """Pixels of the input around a place that decide what is drawn there above the input's size.

        A block that doubles sees a 3 x 3 before, the two taps of the resampling and a 3 x 3 after it.
        """
        reach = 0.0
        for level in self.grown:
            before = 2.0 ** (1 - level)
            reach += 2 * before + before / 2 + (self.blocks[level] - 1) * before
        return math.ceil(reach) + 1

    def layers_after(self, counts: dict[int, int], level: int, block: int) -> int:
        """How many layers of attention or cross_attention follow one block of a level."""
        return counts.get(level, 0)

    def to_json(self) -> dict:
        """Plain values for config.json; UpsamplerConfig(**d) reads them back."""
        return plain(self, ("down_blocks", "glu"))


class WindowAttention(SelfAttention):
    """Self-attention inside windows: x [N, C, H, W], w [N, w_dim] -> [N, C, H, W].

    The map is cut into as few equal windows of at most `side` pixels as there can be: one for a picture that
    is no larger than a window, as the paper's attention; for larger pictures the cost grows with the area.
    Raises WorkbenchError for a map that can't be cut so (`Upsampler.trunk` pads its input until it can).
    """

    def __init__(self, channels: int, *, w_dim: int, mlp_ratio: int, side: int):
        super().__init__(channels, w_dim=w_dim, mlp_ratio=mlp_ratio)
        self.side = side

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, c, height, width = x.shape
        rows, columns = -(-height // self.side), -(-width // self.side)
        if rows == columns == 1:
            return super().forward(x, w)
        if height % rows or width % columns:
            raise WorkbenchError(
                f"A map of {height} x {width} px can't be cut into equal windows of at most {self.side} px: "
                "expected sides that are multiples of the number of windows. Pad the input."
            )
        h, v = height // rows, width // columns
        cut = x.view(n, c, rows, h, columns, v).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, h, v)
        cut = cut.contiguous(memory_format=torch.channels_last)
        seen = super().forward(cut, w.repeat_interleave(rows * columns, dim=0))
        seen = seen.view(n, rows, columns, c, h, v).permute(0, 3, 1, 4, 2, 5).reshape(n, c, height, width)
        return seen.contiguous(memory_format=torch.channels_last)


class UpBlock(SynthesisBlock):
    """A synthesis block of G whose self-attention looks through windows."""

    def self_attention(self, config: UpsamplerConfig, level: int) -> SelfAttention:
        side = config.window >> -level
        return WindowAttention(
            config.channels[level], w_dim=config.w_dim, mlp_ratio=config.mlp_ratio, side=side
        )


class NoiseLevel(nn.Module):
    """How noisy the input is, as a part of w: deviations [N] in 0 … noise_max -> [N, w_dim]."""

    def __init__(self, noise_max: float, w_dim: int):
        super().__init__()
        self.noise_max = noise_max
        self.hidden = EqualLinear(2 * NOISE_WAVES, w_dim, gain=math.sqrt(2))
        self.out = EqualLinear(w_dim, w_dim)

    def forward(self, noise: Tensor) -> Tensor:
        turns = torch.arange(NOISE_WAVES, device=noise.device) * (math.pi / 2)
        angle = (noise.float() / self.noise_max)[:, None] * turns
        return self.out(F.leaky_relu(self.hidden(torch.cat([angle.cos(), angle.sin()], dim=1)), 0.2))


class Upsampler(nn.Module):
    """U(low, z, c): T, M, an encoder of the input, and G's synthesis blocks from there up (Sec. 3.5).

    `compute_dtype` and `checkpointing` as in Generator.
    """

    def __init__(self, config: UpsamplerConfig):
        super().__init__()
        self.config = config
        self.compute_dtype, self.checkpointing = torch.float32, False
        self.text = TextTransformer(config.text_dim, config.text_layers) if config.text_dim else None
        self.mapping_network = MappingNetwork(
            config.z_dim, config.text_dim, config.w_dim, config.mapping_layers, config.mapping_lr_mul
        )
        self.noise_level = NoiseLevel(config.noise_max, config.w_dim)
        c = config.channels
        self.from_rgb = EqualConv2d(3, c[0], 3, gain=LEAKY_GAIN)
        self.down, self.skips = nn.ModuleDict(), nn.ModuleDict()
        for level in range(0, -config.down, -1):
            self.down[str(level)] = TrunkStage(
                c[level], c[level - 1], attention=0, mlp_ratio=config.mlp_ratio,
                blocks=config.down_blocks.get(level, 1),
            )  # fmt: skip
            self.skips[str(level)] = EqualConv2d(c[level], c[level], 1, bias=False)
        self.blocks, self.to_rgb = nn.ModuleDict(), nn.ModuleDict()
        in_channels = c[-config.down]
        for level in config.levels:
            stack = nn.ModuleList()
            for i in range(config.blocks.get(level, 0)):
                up = i == 0 and level > -config.down
                stack.append(UpBlock(config, level, in_channels, index=i, up=up, first=False))
                in_channels = c[level]
            self.blocks[str(level)] = stack
            if level >= 0:
                self.to_rgb[str(level)] = AdaptiveConv2d(
                    in_channels, 3, 1, w_dim=config.w_dim, demodulate=False, gain=RGB_GAIN
                )
                nn.init.normal_(self.to_rgb[str(level)].weight, std=RGB_START)
        self.rgb_bias = nn.Parameter(torch.zeros(len(self.to_rgb), 3))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        for module in self.modules():
            if isinstance(module, AdaptiveConv2d):
                nn.init.normal_(module.style.weight, std=STYLE_START)

    @property
    def num_ws(self) -> int:
        """Number of style inputs, coarse to fine."""
        return sum(self._ws_of(level) for level in self.config.levels)

    def _ws_of(self, level: int) -> int:
        return sum(block.num_ws for block in self.blocks[str(level)]) + (level >= 0)

    def encode_text(self, features) -> Text | None:
        """Frozen features (TextFeatures) -> Text by the upsampler's own T; None without text."""
        return None if self.text is None else self.text(features.eps_txt, features.eot)

    def mapping(self, z: Tensor, t_global: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """w = M(z, t_global) + what the noise level says: [N, z_dim], [N, text_dim], [N] -> [N, w_dim].

        noise: deviation of the noise on each input (None: 0). Raises WorkbenchError for other shapes, and
        when a caption is missing, or not wanted.
        """
        check_noise("The upsampler", self.config, z, t_global)
        noise = z.new_zeros(len(z)) if noise is None else noise
        return self.mapping_network(z, t_global) + self.noise_level(noise)

    def trunk(self, low: Tensor, ws: Tensor, text: Text | None = None) -> tuple[Tensor, Tensor]:
        """Everything up to the input's size: (features [N, C_0, H, W], picture [N, 3, H, W] float32).

        low [N, 3, H, W] of any size from 1 px on; ws [N, num_ws, w_dim] or w [N, w_dim].
        """
        self._check(low, ws, text)
        ws, (height, width) = self._each_w(ws), low.shape[-2:]
        low = low.float()
        padded = F.pad(low, (0, self._missing(width), 0, self._missing(height)), mode="replicate")
        x = padded.to(self.compute_dtype).contiguous(memory_format=torch.channels_last)
        x = leaky(self.from_rgb(x))
        seen = {0: x}
        for level in range(0, -self.config.down, -1):
            x = checkpointing.run(self.down[str(level)], x, again=self.checkpointing)
            seen[level - 1] = x
        index = 0
        for level in range(-self.config.down, 1):
            skip = self.skips[str(level)](seen[level]) if level > -self.config.down else None
            x, index = self._through(level, x, ws, text, index, skip)
        x = x[..., :height, :width]
        return x, low + self._increment(0, x, ws[:, index])

    def grow(self, x: Tensor, rgb: Tensor, ws: Tensor) -> list[Tensor]:
        """From the input's size up: features and picture of `trunk`, or of a part of it -> x_pyramid, largest
        first, `rgb` last. Sees `config.halo` pixels far, so that a part with as many around it is exact.
        """
        ws = self._each_w(ws)
        index = sum(self._ws_of(level) for level in self.config.levels if level <= 0)
        pyramid = [rgb]
        for level in self.config.grown:
            x, index = self._through(level, x, ws, None, index)
            rgb = upsample(rgb) + self._increment(level, x, ws[:, index])
            index += 1
            pyramid.insert(0, rgb)
        return pyramid

    def synthesis(self, ws: Tensor, text: Text | None, low: Tensor) -> list[Tensor]:
        """ws [N, num_ws, w_dim] (or w [N, w_dim]), text, low [N, 3, H, W] -> x_pyramid, largest first,
        float32: sides times factor … 2, 1. Raises WorkbenchError where cross-attention has no text.
        """
        x, rgb = self.trunk(low, ws, text)
        return self.grow(x, rgb, ws)

    def forward(self, low: Tensor, z: Tensor, features=None, noise: Tensor | None = None) -> list[Tensor]:
        """U(low, z, c): low [N, 3, H, W], z [N, z_dim], TextFeatures (or None), noise [N] -> x_pyramid."""
        text = self.encode_text(features) if features is not None else None
        w = self.mapping(z, None if text is None else text.t_global, noise)
        return self.synthesis(w, text, low)

    def _through(
        self, level: int, x: Tensor, ws: Tensor, text: Text | None, index: int, skip: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """A level's blocks, the skip joining after the one that doubles: (features, next style input)."""
        for block in self.blocks[str(level)]:
            own = ws[:, index : index + block.num_ws]
            x = checkpointing.run(block, x, own, text, again=self.checkpointing)
            index += block.num_ws
            if skip is not None:
                x, skip = torch.add(x, skip), None
        return x, index

    def _increment(self, level: int, x: Tensor, w: Tensor) -> Tensor:
        return self.to_rgb[str(level)](x, w).float() + self.rgb_bias[level].view(1, 3, 1, 1)

    def _each_w(self, ws: Tensor) -> Tensor:
        return ws[:, None].expand(-1, self.num_ws, -1) if ws.dim() == 2 else ws

    def _missing(self, side: int) -> int:
        """Pixels to add so that the side divides into equal windows of whole pixels of the smallest level."""
        windows = -(-side // self.config.window)
        unit = windows << self.config.down
        return -side % unit

    def _check(self, low: Tensor, ws: Tensor, text: Text | None) -> None:
        if low.dim() != 4 or low.shape[1] != 3 or min(low.shape[-2:]) < 1:
            raise WorkbenchError(
                f"The upsampler was given a tensor of shape {list(low.shape)}: expected [N, 3, H, W], "
                "pictures in [-1, 1]."
            )
        who, attends = "The upsampler", any(self.config.cross_attention.values())
        check_styles(who, ws, self.num_ws, self.config.w_dim)
        check_text(who, text, len(low), self.config.text_dim, attends=attends)
