"""D: is this picture real, and does it show this caption? At several scales in and out (Sec. 3.3).

Every pyramid level x_i enters the one shared trunk phi where the features have its size, and passes through
alone: levels are stacked on the batch axis, never added or joined on channels. At each output j >= entry a
head psi_j judges: D_ij(x, c) = psi_j(phi_ij(x_i), t_D) + Conv1x1(phi_ij(x_i)); higher = judged real.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.attention import SelfAttention
from workbench.models.mapping import TextTransformer
from workbench.models.ops import LEAKY_GAIN, EqualConv2d, EqualLinear, downsample, leaky


@dataclass(kw_only=True, frozen=True)
class DiscriminatorConfig:
    """Shape of D. channels: features by size, from `resolution` down to 4; entries: pyramid sizes judged
    (largest first, `resolution` among them); exits: sizes of the outputs j, 1 the last (paper: half of each
    entry, and 1); attention: self-attention layers by size; head_layers: depth of psi (paper: 4); group:
    pictures in a row over which the minibatch deviation is taken (2 = the two pictures of one caption; 0 =
    off).
    """

    resolution: int = 64
    channels: dict[int, int]
    entries: tuple[int, ...]
    exits: tuple[int, ...]
    attention: dict[int, int]
    text_dim: int | None = 128
    text_layers: int = 2
    head_layers: int = 4
    mlp_ratio: int = 4
    group: int = 2

    def __post_init__(self) -> None:
        for name in ("channels", "attention"):
            object.__setattr__(self, name, {int(k): int(v) for k, v in getattr(self, name).items()})
        for name in ("entries", "exits"):
            object.__setattr__(self, name, tuple(int(v) for v in getattr(self, name)))
        r = self.resolution
        if r < 8 or r & (r - 1):
            raise WorkbenchError(f"resolution is {r}: expected a power of two, at least 8.")
        if missing := [s for s in self.sizes if s not in self.channels]:
            raise WorkbenchError(
                f"channels lacks sizes {missing}: give one number for each of {list(self.sizes)}."
            )
        if r not in self.entries or not set(self.entries) <= set(self.sizes):
            raise WorkbenchError(
                f"entries are {list(self.entries)}: expected sizes out of {list(self.sizes)}, {r} among them."
            )
        allowed = {s // 2 for s in self.sizes if s > 4} | {1}
        if not self.exits or not set(self.exits) <= allowed or 1 not in self.exits:
            raise WorkbenchError(
                f"exits are {list(self.exits)}: expected sizes out of {sorted(allowed)}, 1 among them."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Feature sizes from the picture's down to 4."""
        return tuple(self.resolution >> i for i in range(int(math.log2(self.resolution)) - 1))

    @property
    def predictions(self) -> tuple[tuple[int, int], ...]:
        """All (entry, exit) pairs in the order of forward's logits; 15 for the paper's 64 px network."""
        return tuple((i, j) for j in sorted(self.exits, reverse=True) for i in self.entries if j < i)

    def to_json(self) -> dict:
        """Plain values; DiscriminatorConfig(**d) reads them back."""
        return asdict(self)


def group_deviation(x: Tensor, group: int) -> Tensor:
    """How much `group` neighbouring rows differ, pixel by pixel: the deviation averaged over channels.

    x [N, C, S, S] -> [N, 1, S, S] (Karras et al. 2018, Sec. 3). Differs from there: groups are neighbours
    that share one caption, since over different captions the statistic cannot tell a G that ignores z; and
    the pixels are kept, so that D sees where the group differs: a change of tint everywhere is no second dog.
    """
    y = x.float().unflatten(0, (x.shape[0] // group, group))
    # Tensor.var along a short strided axis is twenty times slower on CPU than these two passes
    centred = y - y.mean(dim=1, keepdim=True)
    deviation = (centred.square().mean(dim=1) + 1e-8).sqrt().mean(dim=1, keepdim=True)
    return deviation.repeat_interleave(group, dim=0).to(x.dtype)


class TrunkStage(nn.Module):
    """One stage of phi: self-attention, then a residual pair of convolutions around the filtered stride (Sec.
    3.3).

    x [N, C, S, S] -> [N, C_out, S/2, S/2]; residual sum scaled by sqrt(1/2).
    """

    def __init__(self, channels: int, out_channels: int, *, attention: int, mlp_ratio: int):
        super().__init__()
        self.attention = nn.ModuleList(
            SelfAttention(channels, w_dim=None, mlp_ratio=mlp_ratio) for _ in range(attention)
        )
        self.conv0 = EqualConv2d(channels, channels, 3, gain=LEAKY_GAIN)
        # the sqrt(1/2) of the sum is folded into both branches
        self.conv1 = EqualConv2d(channels, out_channels, 3, gain=LEAKY_GAIN * math.sqrt(0.5))
        self.skip = EqualConv2d(channels, out_channels, 1, bias=False, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        for attention in self.attention:
            x = attention(x)
        h = downsample(leaky(self.conv0(x)))
        return leaky(self.conv1(h)) + self.skip(downsample(x))


class LastStage(nn.Module):
    """The stage that collapses 4 x 4 to one vector. x [N, C, 4, 4] -> [N, C, 1, 1]."""

    def __init__(self, channels: int, *, attention: int, mlp_ratio: int, group: int):
        super().__init__()
        self.group = group
        self.attention = nn.ModuleList(
            SelfAttention(channels, w_dim=None, mlp_ratio=mlp_ratio) for _ in range(attention)
        )
        self.conv = EqualConv2d(channels + (1 if group else 0), channels, 3, gain=LEAKY_GAIN)
        self.dense = EqualLinear(channels * 16, channels, gain=LEAKY_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        for attention in self.attention:
            x = attention(x)
        if self.group:
            x = torch.cat([x, group_deviation(x, self.group)], dim=1)
        x = leaky(self.conv(x)).contiguous()
        return leaky(self.dense(x.flatten(1)))[:, :, None, None]


class TextHead(nn.Module):
    """psi_j: 1 x 1 convolutions modulated by t_D, plus an unconditional 1 x 1 (Sec. 3.3).

    x [N, C, S, S] -> features once, judged with any number of captions: `forward(x, [t, t'])` returns one
    logit map mean [N] for each. Modulation scales input channels; there is nothing to demodulate for: the
    scale of the logit is what the head has to learn. Text off: the unconditional path alone.
    """

    def __init__(self, channels: int, text_dim: int | None, layers: int):
        super().__init__()
        self.unconditional = EqualConv2d(channels, 1, 1)
        self.convs = nn.ModuleList(
            EqualConv2d(channels, channels, 1, gain=LEAKY_GAIN) for _ in range(layers if text_dim else 0)
        )
        self.styles = nn.ModuleList(
            EqualLinear(text_dim, channels, bias=1.0) for _ in range(layers if text_dim else 0)
        )
        self.logit = EqualConv2d(channels, 1, 1) if text_dim else None

    def forward(self, x: Tensor, t_D: list[Tensor] | None) -> list[Tensor]:
        free = self.unconditional(x).float().mean((1, 2, 3))
        if t_D is None:
            return [free]
        return [free + self.conditional(x, t) for t in t_D]

    def conditional(self, x: Tensor, t: Tensor) -> Tensor:
        """The text-dependent part alone, [N]."""
        for conv, style in zip(self.convs, self.styles, strict=True):
            x = leaky(conv(x * style(t).to(x.dtype)[:, :, None, None]))
        return self.logit(x).float().mean((1, 2, 3))


class Discriminator(nn.Module):
    """D with its own T, one trunk, late entries, early exits (Sec. 3.3). `compute_dtype` as in Generator."""

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.text = TextTransformer(config.text_dim, config.text_layers) if config.text_dim else None
        c = config.channels
        self.from_rgb = nn.ModuleDict(
            {str(s): EqualConv2d(3, c[s], 1, gain=LEAKY_GAIN) for s in config.entries}
        )
        self.stages = nn.ModuleDict()
        for size in config.sizes:
            attention = config.attention.get(size, 0)
            if size > 4:
                self.stages[str(size)] = TrunkStage(
                    c[size], c[size // 2], attention=attention, mlp_ratio=config.mlp_ratio
                )
            else:
                self.stages["4"] = LastStage(
                    c[4], attention=attention, mlp_ratio=config.mlp_ratio, group=config.group
                )
        self.heads = nn.ModuleDict(
            {
                str(j): TextHead(c[max(j, 4)], config.text_dim, config.head_layers)
                for j in sorted(config.exits, reverse=True)
            }
        )

    def encode_text(self, features) -> Tensor | None:
        """t_D [N, text_dim]: the end-of-text row of D's own T; None when unconditional."""
        return None if self.text is None else self.text(features.eps_txt, features.eot).t_global

    def forward(self, x_pyramid: list[Tensor], t_D: Tensor | list[Tensor] | None) -> list[list[Tensor]]:
        """Judge pictures with one caption each, or with several: t_D [N, d] or a list of such.

        x_pyramid: the levels of `config.entries`, largest first, [N, 3, S_i, S_i] -> one list of logits [N]
        for each caption set, in the order of `config.predictions`. The trunk runs once, whatever the number
        of captions.
        """
        captions = [t_D] if isinstance(t_D, Tensor) else t_D
        n = x_pyramid[0].shape[0]
        entering = dict(zip(self.config.entries, x_pyramid, strict=True))
        logits = [[] for _ in (captions or [None])]
        x, entered = None, 0
        for size in self.config.sizes:
            if size in entering:
                rgb = entering[size].to(self.compute_dtype).contiguous(memory_format=torch.channels_last)
                fresh = leaky(self.from_rgb[str(size)](rgb))
                x = fresh if x is None else torch.cat([x, fresh])
                entered += 1
            x = self.stages[str(size)](x)
            exit_size = size // 2 if size > 4 else 1
            if str(exit_size) in self.heads:
                tiled = None if captions is None else [t.repeat(entered, 1) for t in captions]
                for out, judged in zip(logits, self.heads[str(exit_size)](x, tiled), strict=True):
                    out.extend(judged.split(n))
        return logits


def pyramid_for(x_pyramid: list[Tensor], entries: tuple[int, ...]) -> list[Tensor]:
    """The levels of G's pyramid that D judges, in D's order."""
    by_size = {x.shape[-1]: x for x in x_pyramid}
    return [by_size[size] for size in entries]
