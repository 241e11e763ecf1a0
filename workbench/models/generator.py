"""G: prompt features and noise to a pyramid of pictures (Sec. 3.1-3.3).

Letters: N pictures, S pixels a side, C channels at that size. x_pyramid lists the running RGB sums, largest
first: x_0 [N, 3, resolution, resolution] is the picture, in [-1, 1] without any clamp while training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models import checkpointing
from workbench.models.attention import CrossAttention, SelfAttention
from workbench.models.checks import (
    check_complete,
    check_counts,
    check_positive,
    check_resolution,
    check_text_dim,
    plain,
    table_of,
)
from workbench.models.doors import check_noise, check_styles, check_texts
from workbench.models.lightweight import SkipExcitation, glu
from workbench.models.mapping import MappingNetwork, Text, TextTransformer
from workbench.models.ops import LEAKY_GAIN, AdaptiveConv2d, EqualConv2d, leaky, upsample

CONV_GAIN = 0.4  # residual gain of the convolution path (App. A)
RGB_GAIN = 0.25  # the five increments together start at about half the range of a picture


@dataclass(kw_only=True, frozen=True)
class GeneratorConfig:
    """Shape of G. Dictionaries are keyed by resolution (4, 8, ... up to `resolution`).

    channels: features at each size; kernels: bank size K (1 = plain StyleGAN2 modulation); blocks: residual
    blocks; attention / cross_attention: number of self- / cross-attention layers after each block, absent =
    none, or with spread_attention of all blocks of a size together, the last ones first (the paper's depths
    2, 2, 1 at 8, 16, 32 px). text_dim None = unconditional. excitation: skip-layer excitation, the size that
    gates -> the larger size that is gated. glu: gated linear units instead of leaky ReLU in the blocks'
    convolutions. Raises WorkbenchError on sizes that don't fit together.
    """

    resolution: int = 64
    channels: dict[int, int]
    kernels: dict[int, int]
    blocks: dict[int, int]
    attention: dict[int, int]
    cross_attention: dict[int, int]
    z_dim: int = 128
    w_dim: int = 256
    mapping_layers: int = 4
    mapping_lr_mul: float = 0.01
    text_dim: int | None = 128
    text_layers: int = 2
    mlp_ratio: int = 4
    spread_attention: bool = False
    excitation: dict[int, int] = field(default_factory=dict)
    glu: bool = False

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_text_dim(self.text_dim)
        check_counts(self, ("z_dim", "w_dim", "mapping_layers", "mlp_ratio"))
        check_counts(self, ("text_layers",), low=0)
        check_positive(self, ("mapping_lr_mul",))
        for name in ("channels", "kernels", "blocks", "attention", "cross_attention"):
            object.__setattr__(self, name, table_of(name, getattr(self, name), self.sizes))
        for name in ("channels", "kernels", "blocks"):
            check_complete(name, getattr(self, name), self.sizes)
        object.__setattr__(self, "excitation", table_of("excitation", self.excitation, self.sizes))
        for low, high in self.excitation.items():
            if low >= high or high not in self.sizes:
                raise WorkbenchError(
                    f"excitation leads from {low} to {high} px: expected a larger size out of "
                    f"{list(self.sizes)}. Write the smaller size first, like {{8: {self.resolution}}}."
                )
        if self.text_dim is None and any(self.cross_attention.values()):
            raise WorkbenchError(
                "cross_attention is on, but text_dim is None: clear cross_attention or set text_dim."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Resolutions from 4 to the picture's."""
        return tuple(4 << i for i in range(int(math.log2(self.resolution)) - 1))

    def to_json(self) -> dict:
        """Plain values for config.json; GeneratorConfig(**d) reads them back."""
        return plain(self, ("spread_attention", "excitation", "glu"))

    def layers_after(self, counts: dict[int, int], size: int, block: int) -> int:
        """How many layers of `counts` (attention or cross_attention) follow one block of a size."""
        count, blocks = counts.get(size, 0), self.blocks[size]
        if not self.spread_attention:
            return count
        return count * (block + 1) // blocks - count * block // blocks


class SynthesisBlock(nn.Module):
    """Adaptive conv -> self-attention -> cross-attention, each residual (Sec. 3.2: f' =
    g_xa(g_attn(g_adaconv(f, w), w), t_local)).

    x [N, C_in, S or S/2, .] -> [N, C, S, S]. With `up`, the first convolution works at the small size and the
    resampling follows it, as StyleGAN2's up-convolution does (same cost, no transposed kernel). The first
    block has no residual path: what it gets is the learned constant, the same for every z and prompt, and an
    identity around the convolutions would carry that one layout to all pictures (it did, for 13,000 images).
    """

    def __init__(
        self, config: GeneratorConfig, size: int, in_channels: int, *, index: int, up: bool, first: bool
    ):
        super().__init__()
        c, k, w_dim = config.channels[size], config.kernels[size], config.w_dim
        self.up, self.first, self.glu = up, first, config.glu
        # the gains of the activation and of the residual path are folded into the kernels where they can be
        wide = 2 * c if self.glu else c
        gains = (1.0, 1.0) if self.glu else (LEAKY_GAIN, LEAKY_GAIN * (1.0 if first else CONV_GAIN))
        self.conv0 = AdaptiveConv2d(in_channels, wide, 3, w_dim=w_dim, kernels=k, gain=gains[0])
        self.conv1 = AdaptiveConv2d(c, wide, 3, w_dim=w_dim, kernels=k, gain=gains[1])
        self.bias0, self.bias1 = nn.Parameter(torch.zeros(wide)), nn.Parameter(torch.zeros(wide))
        needs_skip = in_channels != c and not first
        self.skip = EqualConv2d(in_channels, c, 1, bias=False) if needs_skip else nn.Identity()
        layers = config.layers_after(config.attention, size, index)
        self.attention = nn.ModuleList(self.self_attention(config, size) for _ in range(layers))
        self.cross = nn.ModuleList(
            CrossAttention(c, text_dim=config.text_dim)
            for _ in range(config.layers_after(config.cross_attention, size, index))
        )

    def self_attention(self, config: GeneratorConfig, size: int) -> SelfAttention:
        """A layer of self-attention at a size; the upsampler's looks through windows."""
        return SelfAttention(config.channels[size], w_dim=config.w_dim, mlp_ratio=config.mlp_ratio)

    @property
    def num_ws(self) -> int:
        """Style inputs: two convolutions and each self-attention."""
        return 2 + len(self.attention)

    def forward(self, x: Tensor, ws: Tensor, text: Text | None) -> Tensor:
        h = self.conv0(x, ws[:, 0], self.bias0)
        x = self.skip(x)
        if self.up:
            h, x = upsample(h), upsample(x)
        activate = glu if self.glu else leaky
        h = activate(self.conv1(activate(h), ws[:, 1], self.bias1))
        if self.glu and not self.first:
            h = h * CONV_GAIN
        if self.first:
            x = h
        elif self.up or not isinstance(self.skip, nn.Identity):
            x = x.add_(h)  # nobody else holds x, and a fresh map costs more than the addition
        else:
            x = x + h
        for i, attention in enumerate(self.attention):
            x = attention(x, ws[:, 2 + i])
        for cross in self.cross:
            x = cross(x, text.t_local, text.mask, text.prior)
        return x


class Generator(nn.Module):
    """G(z, c): T, M and the synthesis network from a learned 4 x 4 constant (Sec. 3.1-3.3).

    No noise is added inside, as StyleGAN2 does (the paper leaves it open): a picture is a function of z and
    prompt alone, and what differs between two pictures of one w would be out of reach of any edit.

    Run-time, not saved: `compute_dtype` is the dtype of the features, parameters and RGB sums stay float32;
    with `checkpointing` the blocks' features are computed again in backward instead of kept.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.compute_dtype, self.checkpointing = torch.float32, False
        self.text = TextTransformer(config.text_dim, config.text_layers) if config.text_dim else None
        self.mapping_network = MappingNetwork(
            config.z_dim, config.text_dim, config.w_dim, config.mapping_layers, config.mapping_lr_mul
        )
        first = config.channels[4]
        self.constant = nn.Parameter(torch.randn(1, first, 4, 4))
        self.blocks, self.to_rgb = nn.ModuleDict(), nn.ModuleDict()
        in_channels = first
        for size in config.sizes:
            stack = nn.ModuleList()
            for i in range(config.blocks[size]):
                stack.append(
                    SynthesisBlock(
                        config,
                        size,
                        in_channels,
                        index=i,
                        up=i == 0 and size > 4,
                        first=i == 0 and size == 4,
                    )
                )
                in_channels = config.channels[size]
            self.blocks[str(size)] = stack
            self.to_rgb[str(size)] = AdaptiveConv2d(
                in_channels, 3, 1, w_dim=config.w_dim, demodulate=False, gain=RGB_GAIN
            )
        self.rgb_bias = nn.Parameter(torch.zeros(len(config.sizes), 3))
        self.excitation = nn.ModuleDict(
            {
                f"{low}_{high}": SkipExcitation(config.channels[low], config.channels[high])
                for low, high in config.excitation.items()
            }
        )
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    @property
    def num_ws(self) -> int:
        """Number of style inputs of the synthesis network, coarse to fine."""
        return sum(sum(block.num_ws for block in stack) + 1 for stack in self.blocks.values())

    def encode_text(self, features) -> Text | None:
        """Frozen features (TextFeatures: eps_txt [N, T, d], eot [N]) -> Text by G's own T; None when
        unconditional.
        """
        return None if self.text is None else self.text(features.eps_txt, features.eot)

    def mapping(self, z: Tensor, t_global: Tensor | None = None) -> Tensor:
        """w = M(z, t_global): [N, z_dim], [N, text_dim] -> [N, w_dim]. Raises WorkbenchError for other
        shapes, and when a caption is missing, or not wanted.
        """
        check_noise("G", self.config, z, t_global)
        return self.mapping_network(z, t_global)

    def synthesis(self, ws: Tensor, text: Text | Sequence[Text] | None = None) -> list[Tensor]:
        """ws [N, num_ws, w_dim] (or w [N, w_dim], used everywhere) -> x_pyramid, largest first, float32.

        text: N captions (or one, which all pictures hear) for all sizes, or a sequence with such for each of
        `config.sizes`, coarse to fine (prompt mixing). Each level is the running sum of RGB, not its
        increment. Raises WorkbenchError for other shapes, and where cross-attention has no text to look at.
        """
        texts = list(text) if isinstance(text, Sequence) else [text] * len(self.blocks)
        self._check(ws, texts)
        if ws.dim() == 2:
            ws = ws[:, None].expand(-1, self.num_ws, -1)
        x = (
            self.constant.expand(ws.shape[0], -1, -1, -1)
            .to(self.compute_dtype)
            .contiguous(memory_format=torch.channels_last)
        )
        rgb, pyramid, coarse, index = None, [], {}, 0
        for level, (size, stack) in enumerate(self.blocks.items()):
            for block in stack:
                own = ws[:, index : index + block.num_ws]
                x = checkpointing.run(block, x, own, texts[level], again=self.checkpointing)
                index += block.num_ws
            for low, high in self.config.excitation.items():
                if str(high) == size:
                    x = self.excitation[f"{low}_{high}"](coarse[str(low)], x)
            if int(size) in self.config.excitation:
                coarse[size] = x
            increment = self.to_rgb[size](x, ws[:, index]).float() + self.rgb_bias[level].view(1, 3, 1, 1)
            index += 1
            rgb = increment if rgb is None else upsample(rgb) + increment
            pyramid.insert(0, rgb)
        return pyramid

    def forward(self, z: Tensor, features=None) -> list[Tensor]:
        """G(z, c): z [N, z_dim], TextFeatures of N captions (or None) -> x_pyramid."""
        text = self.encode_text(features) if features is not None else None
        w = self.mapping(z, None if text is None else text.t_global)
        return self.synthesis(w, text)

    def _check(self, ws: Tensor, texts: Sequence[Text | None]) -> None:
        """Raises WorkbenchError for styles or texts that this G was not built for."""
        check_styles("G", ws, self.num_ws, self.config.w_dim)
        attends = [self.config.cross_attention.get(size, 0) > 0 for size in self.config.sizes]
        check_texts("G", texts, len(ws), self.config.text_dim, attends)
