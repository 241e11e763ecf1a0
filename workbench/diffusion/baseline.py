"""The diffusion baseline: a U-Net of diffusers with as many parameters as a given G, and its text tower.

Its shape follows what is known to serve at 64 px: widths near 1 : 2 : 4 : 4 (Dhariwal and Nichol 2021;
Rombach et al. 2022), attention where G attends, no attention at the large maps, output layers that begin at
zero. Equal terms: the same pictures, the same frozen text tower, the same number of parameters within 5 %.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.checks import check_counts, check_resolution
from workbench.models.generator import Generator, GeneratorConfig

UNIT = 32  # bf16 convolutions want channels in multiples of it
TOLERANCE = 0.05
RATIOS = (1, 2, 4, 4, 4, 4)
_CHOICES = 24  # widths tried for a level


@dataclass(kw_only=True, frozen=True)
class BaselineConfig:
    """Shape of the U-Net.

    resolution: pixels a side. widths: channels by level, the picture's size first, each level half the last,
    multiples of 32. attention: sizes with self- and cross-attention, the smallest level always. layers:
    residual blocks a level. text_dim: width of the text tower's tokens; embed_dim: of its embedding, which
    joins the time embedding. norm_groups: of the group norms; as many groups as channels would take every
    map's own mean away, the picture's colours with it.
    """

    resolution: int = 64
    widths: tuple[int, ...]
    attention: tuple[int, ...] = (16, 8)
    layers: int = 1
    text_dim: int = 128
    embed_dim: int = 128
    norm_groups: int = 8

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_counts(self, ("layers", "text_dim", "embed_dim", "norm_groups"))
        for name in ("widths", "attention"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        good = all(isinstance(w, int) and w >= UNIT and w % UNIT == 0 for w in self.widths)
        if len(self.widths) < 2 or not good or self.resolution >> (len(self.widths) - 1) < 4:
            raise WorkbenchError(
                f"widths are {list(self.widths)} at {self.resolution} px: expected 2 or more multiples of "
                f"{UNIT}, one for each halving down to 4 px at least, for example [32, 64, 128, 128]."
            )
        if UNIT % self.norm_groups:
            raise WorkbenchError(f"norm_groups is {self.norm_groups}: expected a divisor of {UNIT}.")
        if not set(self.attention) <= set(self.sizes) or self.sizes[-1] not in self.attention:
            raise WorkbenchError(
                f"attention is at {list(self.attention)} px: expected sizes out of {list(self.sizes)}, "
                f"{self.sizes[-1]} among them."
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels a side of each level."""
        return tuple(self.resolution >> level for level in range(len(self.widths)))

    def to_json(self) -> dict:
        """Plain values; BaselineConfig(**d) reads them back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def build(config: BaselineConfig) -> nn.Module:
    """A fresh UNet2DConditionModel; what each residual branch and the whole net add at first is nothing."""
    from diffusers import UNet2DConditionModel

    attends = [size in config.attention for size in config.sizes]
    unet = UNet2DConditionModel(
        sample_size=config.resolution,
        in_channels=3,
        out_channels=3,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        norm_num_groups=config.norm_groups,
        cross_attention_dim=config.text_dim,
        attention_head_dim=tuple(width // UNIT for width in config.widths),  # in diffusers the count of heads
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=config.embed_dim,
    )
    for name, module in unet.named_modules():
        if name.endswith(("conv_out", ".conv2", ".proj_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet


def attend_for_training(unet: nn.Module, device: torch.device) -> nn.Module:
    """The same network, its attention written out where that trains faster.

    On a CPU the fused kernel's backward pass costs three times the forward pass; written out, a step at 64 px
    takes three quarters of the time. A GPU keeps the fused kernel.
    """
    from diffusers.models.attention_processor import AttnProcessor

    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
    return unet


def parameter_count(config: BaselineConfig) -> int:
    """Parameters, counted without their memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(config).parameters())


def generator_count(config: GeneratorConfig) -> int:
    """Parameters of a G, counted without their memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in Generator(config).parameters())


@functools.lru_cache(maxsize=8)
def _for_count(resolution: int, attention: tuple[int, ...], layers: int, text_dim: int, embed_dim: int,
               wanted: int) -> BaselineConfig:  # fmt: skip
    """The config whose widths are nearest to `RATIOS` among those with about `wanted` parameters."""
    levels = max(2, resolution.bit_length() - 3)
    common = {
        "resolution": resolution, "attention": attention, "layers": layers, "text_dim": text_dim,
        "embed_dim": embed_dim,
    }  # fmt: skip
    count = _count_formula(levels, common)
    smallest = count(torch.full((1, levels), float(UNIT), dtype=torch.float64)).item()
    most = 3 * UNIT * (wanted / smallest) ** 0.5
    step = UNIT * max(1, round(most / UNIT / _CHOICES))
    choices = torch.arange(UNIT, max(most, 2 * UNIT) + step, step, dtype=torch.float64)
    widths = torch.cartesian_prod(*[choices] * levels)
    widths = widths[(widths.diff(dim=1) >= 0).all(dim=1)]
    off = count(widths) / wanted - 1
    shape = (widths / torch.tensor(RATIOS[:levels], dtype=torch.float64)).log()
    score = shape.var(dim=1) + off.square() + torch.where(off.abs() < TOLERANCE, 0.0, torch.inf)
    best = int(score.argmin())
    if not torch.isfinite(score[best]):
        raise WorkbenchError(
            f"No U-Net of {resolution} px has {wanted:,} parameters within {TOLERANCE:.0%}: the smallest has "
            f"{int(smallest):,}. Give a larger G, or write a BaselineConfig by hand."
        )
    return BaselineConfig(widths=tuple(int(w) for w in widths[best]), **common)


def _count_formula(levels: int, common: dict):
    """Widths [M, levels] float64 -> parameters [M].

    Every weight joins two widths, or one and a constant: the count is a quadratic polynomial in the widths,
    and as many small networks as it has coefficients decide it. Only the 1 x 1 convolution that leads from a
    level to the next is left out where the two are equally wide.
    """
    pairs = list(itertools.combinations_with_replacement(range(levels), 2))

    def terms(widths: Tensor) -> Tensor:
        units = widths / UNIT
        return torch.cat(
            [torch.ones(len(units), 1, dtype=torch.float64), units,
             torch.stack([units[:, i] * units[:, j] for i, j in pairs], dim=1)], dim=1,
        )  # fmt: skip

    def left_out(widths: Tensor) -> Tensor:
        lower, upper = widths[:, :-1], widths[:, 1:]
        return torch.where(lower == upper, lower * upper + upper, 0.0).sum(dim=1)

    one = [1] * levels
    points = [one, *([*one[:i], 2, *one[i + 1 :]] for i in range(levels))]
    points += [[u + (k == i) + (k == j) for k, u in enumerate(one)] for i, j in pairs]
    probes = UNIT * torch.tensor(points, dtype=torch.float64)
    counted = torch.tensor(
        [parameter_count(BaselineConfig(widths=tuple(int(w) for w in row), **common)) for row in probes],
        dtype=torch.float64,
    )
    coefficients = torch.linalg.solve(terms(probes), counted + left_out(probes))
    return lambda widths: terms(widths) @ coefficients - left_out(widths)


def baseline_for(generator: GeneratorConfig, *, embed_dim: int, layers: int = 1) -> BaselineConfig:
    """The U-Net to set against a G: its size in pixels and parameters (within 5 %), its text tower.

    embed_dim: width of the text tower's embedding. Raises WorkbenchError for a G without text, and where no
    widths come near.
    """
    if generator.text_dim is None:
        raise WorkbenchError(
            "This G reads no text, and the diffusion baseline does: give a text-conditional generator."
        )
    levels = max(2, generator.resolution.bit_length() - 3)
    sizes = [generator.resolution >> level for level in range(levels)]
    attends = {
        size for table in (generator.attention, generator.cross_attention) for size, n in table.items() if n
    }
    attention = tuple(size for size in sizes if size in attends or size == sizes[-1])
    return _for_count(
        generator.resolution, attention, layers, generator.text_dim, embed_dim, generator_count(generator)
    )
