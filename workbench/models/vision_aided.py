"""The vision-aided discriminator: trainable heads on frozen CLIP image features (Sec. 3.4, "vision-aided
adversarial loss").

Features are taken from several layers, mixed by fixed random projections within and across scales (Projected
GAN), and judged by small spectrally normalised heads, conditional on the frozen CLIP text embedding. CLIP's
weights are frozen, but gradients flow through it to the generator.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm

from workbench.errors import WorkbenchError
from workbench.models.checks import check_counts
from workbench.models.clip_io import Clip
from workbench.models.discriminator import TextHead, group_deviation
from workbench.models.ops import EqualConv2d, downsample, leaky, upsample


@dataclass(kw_only=True, frozen=True)
class VisionAidedConfig:
    """taps: names of the image tower's modules whose outputs are judged, finest first ("layer2" of a
    ModifiedResNet, "transformer.resblocks.3" of a ViT: what comes out of its fourth block); proj: channels
    after the fixed random projection; width: channels of the heads; embed_dim: CLIP's embedding, None = the
    heads judge without text; group: as in DiscriminatorConfig; seed: of the random projections, which are
    part of the model's definition.
    """

    taps: tuple[str, ...] = ("act3", "layer1", "layer2", "layer3")
    proj: int = 64
    width: int = 128
    embed_dim: int | None = 128
    head_layers: int = 1
    group: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.taps, list | tuple) or not all(isinstance(tap, str) for tap in self.taps):
            raise WorkbenchError(
                f"taps is {self.taps!r}: expected a list of names of layers. Write it like ('layer2',)."
            )
        object.__setattr__(self, "taps", tuple(self.taps))
        if not self.taps:
            raise WorkbenchError(
                "taps is empty: name at least one layer of the image tower, e.g. ('layer2',)."
            )
        if len(set(self.taps)) < len(self.taps):
            raise WorkbenchError(
                f"taps are {list(self.taps)}: expected each layer once. Remove the repeated name."
            )
        if self.embed_dim is not None:
            check_counts(self, ("embed_dim",))
        check_counts(self, ("proj", "width", "head_layers"))
        check_counts(self, ("group",), low=0)

    def to_json(self) -> dict:
        """Plain values; VisionAidedConfig(**d) reads them back."""
        return asdict(self)


def fold_batch_norm(tower: nn.Module) -> nn.Module:
    """A copy of an image tower in which each BatchNorm is folded into the convolution before it (eval mode,
    exact).
    """
    tower = copy.deepcopy(tower).eval()
    for module in tower.modules():
        for conv_name, norm_name in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
            conv, norm = module._modules.get(conv_name), module._modules.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[conv_name] = fuse_conv_bn_eval(conv, norm)
                module._modules[norm_name] = nn.Identity()
    return tower


def eyes_hash(clip: Clip) -> str:
    """SHA-256 of what a CLIP sees by: names, shapes and float32 values of its image tower's weights."""
    digest = sha256()
    for name, value in sorted(clip.model.visual.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}\n".encode())
        digest.update(value.float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


class ImageTower(nn.Module):
    """The frozen CLIP image encoder with taps. x [N, 3, S, S] in [-1, 1] -> (list of [N, C, H, W], embedding
    [N, e]).

    The embedding is L2-normalised float32. Works for open_clip's ModifiedResNet (maps) and ViT (tokens, class
    token dropped, put back on their grid). Raises WorkbenchError for a tap that the tower does not have, or
    that gives no features over the picture.
    """

    def __init__(self, clip: Clip, taps: tuple[str, ...], dtype: torch.dtype):
        super().__init__()
        visual = fold_batch_norm(clip.model.visual)
        self.tower = visual.to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)
        self.taps, self.dtype, self.normalise = taps, dtype, clip.normalise
        self.image_size = clip.image_size
        self._maps: dict[str, Tensor] = {}
        modules = dict(self.tower.named_modules())
        for tap in taps:
            if tap not in modules:
                names = [name for name, _ in self.tower.named_children()]
                raise WorkbenchError(
                    f"the image tower has no layer '{tap}': choose from {names} (or a name below them)."
                )
            modules[tap].register_forward_hook(
                lambda module, args, out, tap=tap: self._maps.__setitem__(tap, out)
            )

    def train(self, mode: bool = True) -> ImageTower:
        """Stays in eval mode: the features are frozen."""
        return super().train(False)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        embedding = self.tower(self.normalise(x).to(dtype=self.dtype, memory_format=torch.channels_last))
        maps = [self._as_map(tap, self._maps.pop(tap, None)) for tap in self.taps]
        return maps, F.normalize(embedding.float(), dim=-1)

    @torch.no_grad()
    def widths(self) -> tuple[list[int], int]:
        """Channels of each tap's map, and the width of the embedding."""
        device = next(self.tower.parameters()).device
        maps, embedding = self(torch.zeros(2, 3, self.image_size, self.image_size, device=device))
        return [m.shape[1] for m in maps], embedding.shape[1]

    @staticmethod
    def _as_map(tap: str, out: object) -> Tensor:
        if not isinstance(out, Tensor) or out.dim() not in (3, 4):
            found = f"shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise WorkbenchError(
                f"the layer '{tap}' of the image tower gives {found}: expected a map [N, C, H, W] or tokens "
                "[N, L, C]. Tap a stage (layer2) or a whole block (transformer.resblocks.3)."
            )
        if out.dim() == 4:
            return out
        side = math.isqrt(out.shape[1])  # L is the grid's side x side, and a class token before them
        tokens = out[:, out.shape[1] - side * side :]
        return tokens.transpose(1, 2).unflatten(2, (side, side)).contiguous(memory_format=torch.channels_last)


class RandomProjection(nn.Module):
    """Fixed random mixing: 1 x 1 within each scale, then coarse to fine across scales (Projected GAN, Sec.
    3.2).

    maps finest first [N, C_l, H_l, H_l] -> as many [N, proj, H_l, H_l]. Each map is first brought to unit
    deviation by the fixed statistics `scale` (set once from real pictures), since the layers of CLIP differ
    by orders of magnitude.
    """

    def __init__(self, channels: list[int], proj: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("scale", torch.ones(len(channels)))
        for level, c in enumerate(channels):
            self.register_buffer(
                f"within{level}",
                torch.randn(proj, c, 1, 1, generator=generator) / math.sqrt(c),
                persistent=False,
            )
            across = torch.randn(proj, proj, 3, 3, generator=generator) / math.sqrt(9 * proj)
            self.register_buffer(f"across{level}", across, persistent=False)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out, coarse = [], None
        for level in reversed(range(len(maps))):
            x = maps[level]
            x = F.conv2d(x * self.scale[level].to(x.dtype), getattr(self, f"within{level}").to(x.dtype))
            if coarse is not None:
                while coarse.shape[-1] < x.shape[-1]:
                    coarse = upsample(coarse)
                mixed = F.conv2d(coarse, getattr(self, f"across{level}").to(x.dtype), padding=1)
                x = (x + mixed) * math.sqrt(0.5)
            coarse = x
            out.insert(0, x)
        return out


def _is_scaled(fine: int, coarse: int) -> bool:
    """Whether doublings lead from a coarse side to a fine one, which is how `RandomProjection` joins maps."""
    times, rest = divmod(fine, coarse)
    return rest == 0 and times.bit_count() == 1


def spectral_conv(in_channels: int, out_channels: int, kernel: int) -> EqualConv2d:
    """A convolution whose kernel has spectral norm 1: bounds what a head without penalty can do (StyleGAN-T,
    Sec. 3.2).
    """
    conv = EqualConv2d(in_channels, out_channels, kernel)
    conv.gain = math.sqrt(2)  # the normalisation replaces the fan-in gain; sqrt(2) for the leaky ReLU behind
    return spectral_norm(conv, "weight")


class VisionHead(nn.Module):
    """Judge of one scale: two 3 x 3 convolutions, the deviation inside the group, then psi on the CLIP
    embedding.

    x [N, proj, H, H], list of t [N, e] (None without text) -> one logit [N] for each t.
    """

    def __init__(self, config: VisionAidedConfig):
        super().__init__()
        self.group = config.group
        self.conv0 = spectral_conv(config.proj, config.width, 3)
        self.conv1 = spectral_conv(config.width + (1 if config.group else 0), config.width, 3)
        self.head = TextHead(config.width, config.embed_dim, config.head_layers)

    def forward(self, x: Tensor, captions: list[Tensor] | None) -> list[Tensor]:
        x = leaky(self.conv0(x))
        if x.shape[-1] > 8:
            x = downsample(x)
        if self.group:
            x = torch.cat([x, group_deviation(x, self.group)], dim=1)
        return self.head(leaky(self.conv1(x)), captions)


class VisionAided(nn.Module):
    """All heads with their random projection; the frozen tower is passed in, so that it is never saved with
    the heads.

    forward(maps, captions) -> one list of logits for each caption set (one where captions is None), one logit
    [N] for each tap, higher = judged real. Raises WorkbenchError for maps or captions it was not built for.
    """

    def __init__(self, config: VisionAidedConfig, channels: list[int]):
        super().__init__()
        self.config = config
        self.projection = RandomProjection(channels, config.proj, config.seed)
        self.heads = nn.ModuleList(VisionHead(config) for _ in config.taps)

    @property
    def calibrated(self) -> bool:
        """Whether the projection's scales were set, here or where the heads were taken from."""
        return bool((self.projection.scale != 1).any())

    @torch.no_grad()
    def calibrate(self, maps: list[Tensor]) -> None:
        """Set the projection's scales from the maps of some real pictures (once, before training)."""
        self.projection.scale.copy_(torch.stack([1 / m.float().square().mean().sqrt() for m in maps]))

    def forward(self, maps: list[Tensor], captions: list[Tensor] | None) -> list[list[Tensor]]:
        widths = {None} if captions is None else {t.shape[-1] for t in captions}
        if widths != {self.config.embed_dim} or len(maps) != len(self.heads):
            raise WorkbenchError(
                f"the vision-aided heads were given {len(maps)} maps and captions {list(widths)} wide: "
                f"expected {len(self.heads)} maps and {self.config.embed_dim}. Take both from the CLIP that "
                "the preset was made for."
            )
        sides = [m.shape[-1] for m in maps]
        if not all(_is_scaled(fine, coarse) for fine, coarse in pairwise(sides)):
            raise WorkbenchError(
                f"the maps of the taps {list(self.config.taps)} have sides {sides}: expected the finest "
                "first, each side that of the next or a power of two times it. Name the taps from the "
                "first layer of the tower to the last."
            )
        logits = [[] for _ in (captions or [None])]
        for head, x in zip(self.heads, self.projection(maps), strict=True):
            for out, judged in zip(logits, head(x, captions), strict=True):
                out.append(judged)
        return logits
