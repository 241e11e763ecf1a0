"""Named sizes of the networks, each a plain function: for a lesson, for the demo, for the paper's scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from workbench.errors import WorkbenchError
from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.upsampler import Upsampler, UpsamplerConfig
from workbench.models.vision_aided import VisionAidedConfig

VIT_B_TAPS = tuple(f"transformer.resblocks.{block}" for block in (3, 7, 11))


@dataclass(kw_only=True, frozen=True)
class Preset:
    """Networks of one name, and the training settings that differ from TrainConfig's defaults.

    generator: of G, or of an upsampler, which takes G's place in everything that trains.
    """

    name: str
    generator: GeneratorConfig | UpsamplerConfig
    discriminator: DiscriminatorConfig
    vision_aided: VisionAidedConfig | None
    train: dict = field(default_factory=dict)

    @property
    def upsamples(self) -> bool:
        """Whether it makes large pictures of small ones, not of noise alone."""
        return isinstance(self.generator, UpsamplerConfig)

    @property
    def side(self) -> int:
        """Pixels of the pictures that it is trained on."""
        return self.train["picture_size"] if self.upsamples else self.generator.resolution

    def network(self) -> Generator | Upsampler:
        """G, or the upsampler in its place, with fresh weights."""
        return Upsampler(self.generator) if self.upsamples else Generator(self.generator)


def shepherd(resolution: int) -> Preset:
    """The demo model, sized for two CPU cores.

    Differs from the paper to save arithmetic: D judges two of the pyramid's levels at three outputs instead
    of all at all, attention stops at 16 px, T has two layers. Raises WorkbenchError unless the resolution is
    32, 64 or 128.
    """
    if resolution not in (32, 64, 128):
        raise WorkbenchError(
            f"resolution is {resolution!r}: expected 32, 64 or 128 for a shepherd preset. Write a "
            "GeneratorConfig and a DiscriminatorConfig for other sizes."
        )
    channels = {4: 256, 8: 256, 16: 128, 32: 64, 64: 32}
    # the finest map keeps 32 channels whatever the resolution
    sizes = [4 << i for i in range(resolution.bit_length() - 2)]
    generator_channels = {s: channels[s * 64 // resolution] if s > 4 else 256 for s in sizes}
    return Preset(
        name=f"shepherd-{resolution}",
        generator=GeneratorConfig(
            resolution=resolution,
            channels=generator_channels,
            kernels={s: 2 if s in (8, 16) else 1 for s in sizes},
            blocks={s: 2 if s == 32 else 1 for s in sizes},
            attention={8: 1, 16: 1},
            cross_attention={8: 1, 16: 1},
            w_dim=256,
            mapping_lr_mul=0.3,
            mlp_ratio=2,
        ),
        discriminator=DiscriminatorConfig(
            resolution=resolution,
            channels={**generator_channels, 8: 192},
            entries=(resolution, resolution // 4),
            exits=(resolution // 4, 4, 1),
            attention={8: 1},
            head_layers=2,
            mlp_ratio=2,
        ),
        vision_aided=VisionAidedConfig(),
        train={
            "images": 210_000,
            "lr_G": 1e-2,
            "lr_D": 1e-2,
            "clip_weight": 0.03,
            "mode_seeking_weight": 1.0,
            "diffaugment": "",
        },
    )


def critics_64() -> Preset:
    """The demo model's G before small judges, light enough to ship with the lessons, at all its levels.

    For a run with lr_G 0 that starts from the demo model: D and the heads learn to judge its pictures.
    """
    whole = shepherd(64)
    return replace(
        whole,
        name="critics-64",
        discriminator=replace(
            whole.discriminator,
            channels={64: 32, 32: 32, 16: 32, 8: 64, 4: 64},
            entries=(64, 32, 16, 8, 4),
            exits=(16, 8, 4, 1),
            text_layers=1,
        ),
        vision_aided=replace(whole.vision_aided, proj=32, width=32),
        train={**whole.train, "images": 40_000, "lr_G": 0.0},
    )


def gigagan_64() -> Preset:
    """The paper's 64 px network: G 652.5 M, D 381.4 M parameters (Kang et al. 2023, Sec. 4 and App. A).

    The paper states channels, banks, blocks, depths and totals, but no diagram; what it leaves open is chosen
    so that the totals come out within 1 % (`workbench bench params`). Text from CLIP ViT-L/14 (768 wide), the
    vision-aided heads on ViT-B/32: after a third, two thirds and all of its blocks. Training settings are the
    paper's where it states them; it took 4,783 days of one A100.
    """
    channels = {size: min(16384 // size, 1600) for size in (4, 8, 16, 32, 64)}
    depth = {8: 2, 16: 2, 32: 1}
    return Preset(
        name="gigagan-64",
        generator=GeneratorConfig(
            resolution=64,
            channels=channels,
            kernels={4: 1, 8: 1, 16: 2, 32: 4, 64: 8},
            blocks={4: 3, 8: 3, 16: 3, 32: 2, 64: 2},
            attention=depth,
            cross_attention=depth,
            spread_attention=True,
            z_dim=128,
            w_dim=1024,
            text_dim=768,
            text_layers=4,
            mlp_ratio=4,
        ),
        discriminator=DiscriminatorConfig(
            resolution=64,
            channels=channels,
            entries=(64, 32, 16, 8, 4),
            exits=(32, 16, 8, 4, 1),
            attention={32: 1, 16: 1, 8: 1},
            text_dim=768,
            text_layers=4,
            head_layers=4,
            mlp_ratio=4,
            group=0,
            blocks={64: 1, 32: 2, 16: 2, 8: 2, 4: 2},
            collapse="mean",
        ),
        vision_aided=VisionAidedConfig(taps=VIT_B_TAPS, embed_dim=512, group=0),
        train={
            "images": 691_200_000,  # 1.35 M steps
            "batch_size": 512,
            "lr_G": 2.5e-3,
            "lr_D": 2.5e-3,
            "betas": (0.0, 0.99),
            "ema_halflife_kimg": 3549.0,  # 0.9999 a step: ln 2 / 1e-4 steps of 512
            "r1_gamma": 0.2048,
            "matching_weight": 1.0,
            "clip_weight": 0.2,
            "mode_seeking_weight": 0.0,
            "range_weight": 0.0,
            "diffaugment": "color,translation,cutout",
            "gradient_checkpointing": True,
        },
    )


def seed_128() -> Preset:
    """128 px at a size for one GPU of 24 GB: one CLIP, ViT-B/32, for the text and for the heads.

    The form is the paper's (all levels judged at all outputs: 21 predictions), the widths are not: a third of
    its channels, one or two blocks. G has 51.3 M parameters, D 30.6 M. Of the 24 GB, 16 pictures a step in
    bfloat16 take about half: 1.2 GiB of weights, gradients and Adam, 5 of features kept for backward (counted
    on shapes), and as much again in a step with a penalty.
    """
    channels = {4: 512, 8: 512, 16: 384, 32: 256, 64: 128, 128: 64}
    sizes = tuple(sorted(channels, reverse=True))
    depth = {8: 1, 16: 1, 32: 1}
    return Preset(
        name="seed-128",
        generator=GeneratorConfig(
            resolution=128,
            channels=channels,
            kernels={4: 1, 8: 1, 16: 2, 32: 2, 64: 4, 128: 4},
            blocks={4: 1, 8: 2, 16: 2, 32: 2, 64: 1, 128: 1},
            attention=depth,
            cross_attention=depth,
            spread_attention=True,
            w_dim=512,
            text_dim=512,
            text_layers=2,
            mlp_ratio=2,
        ),
        discriminator=DiscriminatorConfig(
            resolution=128,
            channels=channels,
            entries=sizes,
            exits=(*sizes[1:], 1),
            attention={16: 1, 8: 1},
            text_dim=512,
            text_layers=2,
            head_layers=2,
            mlp_ratio=2,
        ),
        vision_aided=VisionAidedConfig(taps=VIT_B_TAPS, embed_dim=512),
        train={
            "images": 5_000_000,
            "batch_size": 16,
            "lr_G": 2.5e-3,
            "lr_D": 2.5e-3,
            "ema_halflife_kimg": 10.0,
            "clip_weight": 0.1,
            "diffaugment": "color,translation,cutout",
        },
    )


def upsampler_64_512() -> Preset:
    """The paper's upsampler of its 64 px pictures: 359.1 M parameters (Sec. 3.5 and 4; `bench params`).

    The paper states three halvings, six doublings, attention at the low resolutions and the total; channels
    and banks are chosen so that it comes out within 1 %. Noise on the input is said to be moderate.
    """
    return _paper_upsampler(
        "upsampler-64-512",
        channels={-3: 1536, -2: 1024, -1: 1024, 0: 512, 1: 256, 2: 128, 3: 64},
        kernels={-2: 1, -1: 2, 0: 2, 1: 4, 2: 4, 3: 8},
        attention={-2: 2, -1: 1},
        window=64,
    )


def upsampler_128_1024() -> Preset:
    """The paper's upsampler of 128 px pictures: 693 M parameters, open as `upsampler_64_512` says."""
    return _paper_upsampler(
        "upsampler-128-1024",
        channels={-3: 1536, -2: 1536, -1: 1024, 0: 512, 1: 256, 2: 128, 3: 64},
        kernels={-2: 2, -1: 4, 0: 4, 1: 8, 2: 8, 3: 8},
        attention={-2: 2},
        window=128,
    )


def _paper_upsampler(
    name: str, *, channels: dict[int, int], kernels: dict[int, int], attention: dict[int, int], window: int
) -> Preset:
    side = 8 * window
    return Preset(
        name=name,
        generator=UpsamplerConfig(
            factor=8,
            channels=channels,
            kernels=kernels,
            blocks=dict.fromkeys(kernels, 2),
            attention=attention,
            cross_attention=attention,
            window=window,
            w_dim=1024,
            text_dim=768,
            text_layers=4,
        ),
        discriminator=DiscriminatorConfig(
            resolution=side,
            channels={side >> i: min(16384 * 2 // (side >> i), 1024) for i in range(side.bit_length() - 2)},
            entries=(side, side // 2, side // 4, side // 8),
            exits=(side // 2, side // 4, side // 8, 16, 4, 1),
            attention={32: 1, 16: 1, 8: 1},
            text_dim=768,
            text_layers=4,
            collapse="mean",
        ),
        vision_aided=None,
        train={
            **_UPSAMPLING,
            "images": 200_000_000,
            "batch_size": 256,
            "lr_G": 2.5e-3,
            "lr_D": 2.5e-3,
            "ema_halflife_kimg": 1775.0,
            "r1_gamma": 0.2048,
            "matching_weight": 1.0,
            "clip_weight": 0.2,
            "picture_size": side,
            "gradient_checkpointing": True,
        },
    )


# what every upsampler trains with: the paper's weight of the perceptual loss, no vision-aided heads
_UPSAMPLING = {
    "vision_weight": 0.0,
    "mode_seeking_weight": 0.0,
    "range_weight": 1.0,
    "diffaugment": "",
    "perceptual_weight": 10.0,
    "grid": (4, 4),
}


def shepherd_up(factor: int) -> Preset:
    """The demo's upsamplers of 64 px pictures, sized for two CPU cores: 2, 4 or 8 times.

    Trained on crops: D sees 128 px at once, which is a quarter of a 256 px picture and all that its texture
    needs. Raises WorkbenchError for another factor.
    """
    if factor not in (2, 4, 8):
        raise WorkbenchError(
            f"factor is {factor!r}: expected 2, 4 or 8 for a shepherd upsampler. Write an UpsamplerConfig "
            "for others."
        )
    grown = dict.fromkeys(range(1, factor.bit_length()), 32)
    levels = {-2: 1, -1: 1, 0: 1, **dict.fromkeys(grown, 1)}
    sides = [128 >> i for i in range(6)]
    return Preset(
        name=f"shepherd-up{factor}",
        generator=UpsamplerConfig(
            factor=factor,
            channels={-3: 96, -2: 64, -1: 64, 0: 64, **grown},
            kernels={**levels, -3: 1, -2: 2},
            blocks={**levels, -3: 1, 0: 2},
            attention={-3: 1, -2: 1},
            cross_attention={-3: 1, -2: 1},
            w_dim=128,
            mapping_layers=2,
            mapping_lr_mul=0.3,
            text_layers=1,
            mlp_ratio=2,
        ),
        discriminator=DiscriminatorConfig(
            resolution=128,
            channels=dict(zip(sides, (32, 32, 64, 64, 128, 128), strict=True)),
            entries=(128, 128 // factor),
            exits=(32, 8, 1) if factor < 8 else (8, 4, 1),
            attention={8: 1},
            text_layers=1,
            head_layers=1,
            mlp_ratio=2,
            collapse="mean",
        ),
        vision_aided=None,
        train={
            **_UPSAMPLING,
            "images": 10_000,  # after benchmarks/upsampler_by_pixels.json, whose weights it starts from
            "batch_size": 8,
            "lr_G": 3e-3,
            "lr_D": 5e-3,
            "adversarial_weight": 0.5,
            "sample_every_nimg": 4_000,
            "eval_every_nimg": 4_000,
            "picture_size": 64 * factor,
            "pixel_weight": 5.0,
            "perceptual_weight": 1.0,  # our feature distance is a root, about three times LPIPS
            "matching_weight": 0.25,
        },
    )


PRESETS: dict[str, Callable[[], Preset]] = {
    "shepherd-32": lambda: shepherd(32),
    "shepherd-64": lambda: shepherd(64),
    "critics-64": critics_64,
    "seed-128": seed_128,
    "gigagan-64": gigagan_64,
    "shepherd-up2": lambda: shepherd_up(2),
    "shepherd-up4": lambda: shepherd_up(4),
    "shepherd-up8": lambda: shepherd_up(8),
    "upsampler-64-512": upsampler_64_512,
    "upsampler-128-1024": upsampler_128_1024,
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises WorkbenchError for an unknown one, naming those there are."""
    if name not in PRESETS:
        raise WorkbenchError(f"there is no preset '{name}': choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]()
