"""Named sizes of the networks, each a plain function: for a lesson, for the demo, for the paper's scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.errors import WorkbenchError
from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.generator import GeneratorConfig
from workbench.models.vision_aided import VisionAidedConfig


@dataclass(kw_only=True, frozen=True)
class Preset:
    """Networks of one name, and the training settings that differ from TrainConfig's defaults."""

    name: str
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    vision_aided: VisionAidedConfig | None
    train: dict = field(default_factory=dict)


def shepherd(resolution: int) -> Preset:
    """The demo model, sized for two CPU cores.

    Differs from the paper to save arithmetic: D judges two of the pyramid's levels at three outputs instead
    of all at all, attention stops at 16 px, T has two layers.
    """
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
            "lr_G": 1e-2,
            "lr_D": 1e-2,
            "clip_weight": 0.03,
            "mode_seeking_weight": 1.0,
            "diffaugment": "",
        },
    )


def preset_names() -> tuple[str, ...]:
    """All names that `preset` knows."""
    return tuple(PRESETS)


PRESETS: dict[str, Callable[[], Preset]] = {
    "shepherd-32": lambda: shepherd(32),
    "shepherd-64": lambda: shepherd(64),
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises WorkbenchError for an unknown one, naming those there are."""
    if name not in PRESETS:
        raise WorkbenchError(f"there is no preset '{name}': choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]()
