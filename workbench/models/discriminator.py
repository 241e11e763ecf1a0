"""D: is this picture real, and does it show this caption? At several scales in and out (Sec. 3.3).

Every pyramid level x_i enters the one shared trunk phi where the features have its size, and passes through
alone: levels are stacked on the batch axis, never added or joined on channels. At each output j >= entry a
head psi_j judges: D_ij(x, c) = psi_j(phi_ij(x_i), t_D) + Conv1x1(phi_ij(x_i)); higher = judged real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models import checkpointing
from workbench.models.attention import SelfAttention
from workbench.models.checks import (
    check_complete,
    check_counts,
    check_resolution,
    check_text_dim,
    plain,
    sizes_of,
    table_of,
)
from workbench.models.doors import check_judged
from workbench.models.lightweight import DECODED_FROM, Decoder
from workbench.models.mapping import TextTransformer
from workbench.models.ops import LEAKY_GAIN, EqualConv2d, EqualLinear, downsample, leaky, widen


@dataclass(kw_only=True, frozen=True)
class DiscriminatorConfig:
    """Shape of D. channels: features by size, from `resolution` down to 4; entries: pyramid sizes judged
    (largest first, `resolution` among them); exits: sizes of the outputs j, 1 the last (paper: half of each
    entry, and 1); attention: self-attention layers by size; head_layers: depth of psi (paper: 4); group:
    pictures in a row over which the minibatch deviation is taken (2 = the two pictures of one caption; 0 =
    off); blocks: residual blocks by size, 1 where absent; collapse: how the last stage makes one vector of
    4 x 4, "dense" (StyleGAN2's convolution and linear layer over all pixels) or "mean" (residual blocks, then
    their mean: the form in which 1, 2, 2, 2, 2 blocks from 64 px down have the paper's number of parameters);
    reconstruction: a decoder from the 8 px features to a picture of half the resolution.
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
    blocks: dict[int, int] = field(default_factory=dict)
    collapse: str = "dense"
    reconstruction: bool = False

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_text_dim(self.text_dim)
        check_counts(self, ("head_layers", "mlp_ratio"))
        check_counts(self, ("text_layers", "group"), low=0)
        for name, sizes, low in (
            ("channels", None, 1), ("attention", self.sizes, 0), ("blocks", self.sizes, 1),
        ):  # fmt: skip
            object.__setattr__(self, name, table_of(name, getattr(self, name), sizes, low=low))
        check_complete("channels", self.channels, self.sizes)
        for name in ("entries", "exits"):
            object.__setattr__(self, name, sizes_of(name, getattr(self, name)))
        r, falling = self.resolution, tuple(sorted(set(self.entries), reverse=True))
        if r not in self.entries or not set(self.entries) <= set(self.sizes) or self.entries != falling:
            raise WorkbenchError(
                f"entries are {list(self.entries)}: expected sizes out of {list(self.sizes)}, {r} among "
                f"them, each once. List the largest first, for example [{r}, 4]."
            )
        allowed = {s // 2 for s in self.sizes if s > 4} | {1}
        if not set(self.exits) <= allowed or 1 not in self.exits or len(set(self.exits)) < len(self.exits):
            raise WorkbenchError(
                f"exits are {list(self.exits)}: expected sizes out of {sorted(allowed)}, each once, 1 among "
                "them. Add 1, the last output."
            )
        if self.collapse not in ("dense", "mean"):
            raise WorkbenchError(
                f"collapse is {self.collapse!r}: expected dense or mean. Choose dense, as in StyleGAN2."
            )
        if self.reconstruction and r < 2 * DECODED_FROM:
            raise WorkbenchError(
                f"reconstruction is on at {r} px: expected at least {2 * DECODED_FROM} px, because "
                f"features of {DECODED_FROM} px are decoded. Switch it off or raise the resolution."
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
        return plain(self, ("blocks", "collapse", "reconstruction"))


def group_deviation(x: Tensor, group: int) -> Tensor:
    """How much `group` neighbouring rows differ, pixel by pixel: the deviation averaged over channels.

    x [N, C, S, S] -> [N, 1, S, S] (Karras et al. 2018, Sec. 3). Differs from there: groups are neighbours
    that share one caption, since over different captions the statistic cannot tell a G that ignores z; and
    the pixels are kept, so that D sees where the group differs: a change of tint everywhere is no second dog.
    """
    rows = x.unflatten(0, (x.shape[0] // group, group))
    if group == 2:  # of two values it is half their distance: a fraction of the passes
        a, b = rows.unbind(1)
        half = widen(a - b) / 2
        deviation = torch.hypot(half, half.new_tensor(1e-4)).mean(dim=1, keepdim=True)
    else:
        # Tensor.var along a short strided axis is twenty times slower on CPU than these two passes
        centred = widen(rows) - widen(rows).mean(dim=1, keepdim=True)
        deviation = (centred.square().mean(dim=1) + 1e-8).sqrt().mean(dim=1, keepdim=True)
    return deviation.repeat_interleave(group, dim=0).to(x.dtype)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a 1 x 1, at one size. x [N, C, S, S] -> [N, C_out, S, S].

    The branch beside them is a 1 x 1 even where the channels stay: the paper gives no diagram, and with it
    the blocks of `gigagan-64` add up to its number of parameters.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv0 = EqualConv2d(channels, out_channels, 3, gain=LEAKY_GAIN)
        self.conv1 = EqualConv2d(out_channels, out_channels, 3, gain=LEAKY_GAIN * math.sqrt(0.5))
        self.skip = EqualConv2d(channels, out_channels, 1, bias=False, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x).add_(leaky(self.conv1(leaky(self.conv0(x)))))


class TrunkStage(nn.Module):
    """One stage of phi: self-attention, then a residual pair of convolutions around the filtered stride (Sec.
    3.3).

    x [N, C, S, S] -> [N, C_out, S/2, S/2]; residual sum scaled by sqrt(1/2). Of several `blocks`, the last
    one takes the stride.
    """

    def __init__(self, channels: int, out_channels: int, *, attention: int, mlp_ratio: int, blocks: int = 1):
        super().__init__()
        self.attention = nn.ModuleList(
            SelfAttention(channels, w_dim=None, mlp_ratio=mlp_ratio) for _ in range(attention)
        )
        self.before = nn.Sequential(*(ResidualBlock(channels, channels) for _ in range(blocks - 1)))
        self.conv0 = EqualConv2d(channels, channels, 3, gain=LEAKY_GAIN)
        # the sqrt(1/2) of the sum is folded into both branches, and the quarter that downsample leaves out
        self.conv1 = EqualConv2d(channels, out_channels, 3, gain=LEAKY_GAIN * math.sqrt(0.5) / 4)
        self.skip = EqualConv2d(channels, out_channels, 1, bias=False, gain=math.sqrt(0.5) / 4)

    def forward(self, x: Tensor) -> Tensor:
        for attention in self.attention:
            x = attention(x)
        x = self.before(x)
        h = downsample(leaky(self.conv0(x)), gain=4)
        # a convolution's result is kept by nobody, so the sum may take its place
        return self.skip(downsample(x, gain=4)).add_(leaky(self.conv1(h)))


class LastStage(nn.Module):
    """The stage that collapses 4 x 4 to one vector by a linear layer over all pixels (StyleGAN2).

    x [N, C, 4, 4] -> [N, C, 1, 1].
    """

    def __init__(self, channels: int, *, attention: int, mlp_ratio: int, group: int, blocks: int = 1):
        super().__init__()
        self.group = group
        self.attention = nn.ModuleList(
            SelfAttention(channels, w_dim=None, mlp_ratio=mlp_ratio) for _ in range(attention)
        )
        self.before = nn.Sequential(*(ResidualBlock(channels, channels) for _ in range(blocks - 1)))
        self.conv = EqualConv2d(channels + (1 if group else 0), channels, 3, gain=LEAKY_GAIN)
        self.dense = EqualLinear(channels * 16, channels, gain=LEAKY_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        for attention in self.attention:
            x = attention(x)
        x = self.before(x)
        if self.group:
            x = torch.cat([x, group_deviation(x, self.group)], dim=1)
        x = leaky(self.conv(x)).contiguous()
        return leaky(self.dense(x.flatten(1)))[:, :, None, None]


class MeanStage(nn.Module):
    """The stage that collapses 4 x 4 to one vector by residual blocks and their mean over the pixels.

    x [N, C, 4, 4] -> [N, C, 1, 1]. The blocks see where they are by the zeros around the map, so the mean
    does not forget the layout.
    """

    def __init__(self, channels: int, *, attention: int, mlp_ratio: int, group: int, blocks: int = 1):
        super().__init__()
        self.group = group
        self.attention = nn.ModuleList(
            SelfAttention(channels, w_dim=None, mlp_ratio=mlp_ratio) for _ in range(attention)
        )
        first = channels + (1 if group else 0)
        self.blocks = nn.Sequential(
            *(ResidualBlock(first if i == 0 else channels, channels) for i in range(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        for attention in self.attention:
            x = attention(x)
        if self.group:
            x = torch.cat([x, group_deviation(x, self.group)], dim=1)
        return self.blocks(x).mean((2, 3), keepdim=True)


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
        free = widen(self.unconditional(x)).mean((1, 2, 3))
        if t_D is None:
            return [free]
        return [free + self.conditional(x, t) for t in t_D]

    def conditional(self, x: Tensor, t: Tensor) -> Tensor:
        """The text-dependent part alone, [N]."""
        for conv, style in zip(self.convs, self.styles, strict=True):
            x = leaky(conv(x * style(t).to(x.dtype)[:, :, None, None]))
        return widen(self.logit(x)).mean((1, 2, 3))


class Discriminator(nn.Module):
    """D with its own T, one trunk, late entries, early exits (Sec. 3.3).

    `compute_dtype` and `checkpointing` as in Generator.
    """

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        self.compute_dtype, self.checkpointing = torch.float32, False
        self.text = TextTransformer(config.text_dim, config.text_layers) if config.text_dim else None
        c = config.channels
        self.from_rgb = nn.ModuleDict(
            {str(s): EqualConv2d(3, c[s], 1, gain=LEAKY_GAIN) for s in config.entries}
        )
        self.stages = nn.ModuleDict()
        for size in config.sizes:
            shape = {
                "attention": config.attention.get(size, 0),
                "mlp_ratio": config.mlp_ratio,
                "blocks": config.blocks.get(size, 1),
            }
            if size > 4:
                self.stages[str(size)] = TrunkStage(c[size], c[size // 2], **shape)
            else:
                last = LastStage if config.collapse == "dense" else MeanStage
                self.stages["4"] = last(c[4], group=config.group, **shape)
        self.heads = nn.ModuleDict(
            {
                str(j): TextHead(c[max(j, 4)], config.text_dim, config.head_layers)
                for j in sorted(config.exits, reverse=True)
            }
        )

        self.decoder = Decoder(c[DECODED_FROM], config.resolution) if config.reconstruction else None

    def encode_text(self, features) -> Tensor | None:
        """t_D [N, text_dim]: the end-of-text row of D's own T; None when unconditional."""
        return None if self.text is None else self.text(features.eps_txt, features.eot).t_global

    def forward(
        self, x_pyramid: list[Tensor], t_D: Tensor | list[Tensor] | None, reconstruct: int = 0
    ) -> list[list[Tensor]] | tuple[list[list[Tensor]], Tensor]:
        """Judge pictures with one caption each, or with several: t_D [N, d] or a list of such.

        x_pyramid: the levels of `config.entries`, largest first, [N, 3, S_i, S_i] -> one list of logits [N]
        for each caption set, in the order of `config.predictions`. The trunk runs once, whatever the number
        of captions. reconstruct: how many leading rows (real pictures) to decode as well; if any, the result
        is (logits, decoded [reconstruct, 3, resolution / 2, resolution / 2] float32), decoded from the finest
        entry's own features. Raises WorkbenchError for what D was not built for (`doors.check_judged`).
        """
        captions = [t_D] if isinstance(t_D, Tensor) else t_D
        check_judged(self, x_pyramid, captions, reconstruct)
        n = x_pyramid[0].shape[0]
        entering = dict(zip(self.config.entries, x_pyramid, strict=True))
        logits = [[] for _ in (captions or [None])]
        x, entered, decoded = None, 0, None
        for size in self.config.sizes:
            if size in entering:
                rgb = entering[size].to(self.compute_dtype).contiguous(memory_format=torch.channels_last)
                fresh = leaky(self.from_rgb[str(size)](rgb))
                x = fresh if x is None else torch.cat([x, fresh])
                entered += 1
            x = checkpointing.run(self.stages[str(size)], x, again=self.checkpointing)
            exit_size = size // 2 if size > 4 else 1
            if reconstruct and exit_size == DECODED_FROM:
                decoded = self.decoder(x[:reconstruct])  # the finest entry's rows come first
            if str(exit_size) in self.heads:
                tiled = None if captions is None else [t.repeat(entered, 1) for t in captions]
                for out, judged in zip(logits, self.heads[str(exit_size)](x, tiled), strict=True):
                    out.extend(judged.split(n))
        return (logits, decoded) if reconstruct else logits


def pyramid_for(x_pyramid: list[Tensor], entries: tuple[int, ...]) -> list[Tensor]:
    """The levels of G's pyramid that D judges, in D's order; the largest counts as D's largest.

    Raises WorkbenchError for a pyramid that lacks one of them.
    """
    widest = x_pyramid[0].shape[-1] if x_pyramid else 0
    by_size = {entries[0] * x.shape[-1] // widest: x for x in x_pyramid}
    if missing := [size for size in entries if size not in by_size]:
        raise WorkbenchError(
            f"The pyramid has levels of {[x.shape[-1] for x in x_pyramid]} px: D's {list(entries)} px need "
            f"those of {missing} too. Pass all levels that G draws, or make them with box_pyramid."
        )
    return [by_size[size] for size in entries]
