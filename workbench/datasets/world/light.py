"""The three lights of Shepherd World: sun or moon, sky and ambient colours, in linear RGB."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Light:
    """Key light at `elevation` degrees; ambient from above and below; sky; shade: depth of shadows."""

    elevation: float
    key: tuple[float, float, float]
    sky: tuple[float, float, float]
    bounce: tuple[float, float, float]
    rim: tuple[float, float, float]
    top: tuple[float, float, float]
    low: tuple[float, float, float]
    backdrop: tuple[float, float, float]
    shade: float


def linear(*rgb: float) -> tuple[float, ...]:
    """Display values 0..1 as linear light (gamma 2)."""
    return tuple(value * value for value in rgb)


LIGHTS = {
    "day": Light(
        elevation=52,
        key=(0.98, 0.93, 0.83),
        sky=(0.38, 0.42, 0.49),
        bounce=(0.17, 0.165, 0.15),
        rim=(0.10, 0.11, 0.12),
        top=linear(0.33, 0.58, 0.90),
        low=linear(0.80, 0.90, 0.97),
        backdrop=linear(0.74, 0.78, 0.82),
        shade=0.62,
    ),
    "sunset": Light(
        elevation=27,
        key=(1.28, 0.80, 0.45),
        sky=(0.33, 0.28, 0.40),
        bounce=(0.19, 0.14, 0.15),
        rim=(0.30, 0.16, 0.07),
        top=linear(0.42, 0.35, 0.58),
        low=linear(1.0, 0.66, 0.34),
        backdrop=linear(0.66, 0.50, 0.55),
        shade=0.58,
    ),
    "night": Light(
        elevation=48,
        key=(0.36, 0.46, 0.70),
        sky=(0.070, 0.095, 0.18),
        bounce=(0.030, 0.036, 0.060),
        rim=(0.16, 0.22, 0.38),
        top=linear(0.05, 0.07, 0.19),
        low=linear(0.13, 0.18, 0.36),
        backdrop=linear(0.20, 0.27, 0.47),
        shade=0.60,
    ),
}


def direction(light: Light, azimuth_deg: float) -> tuple[float, float, float]:
    """Unit vector to the key light in the camera's frame; 0 degrees is behind it, 90 from the right."""
    rise, turn = math.radians(light.elevation), math.radians(azimuth_deg)
    return (math.cos(rise) * math.sin(turn), math.sin(rise), math.cos(rise) * math.cos(turn))


def ambient(light: Light, up: Tensor) -> Tensor:
    """Ambient colour [3, R] for normals of height up [R] in -1..1."""
    share = (0.5 + 0.5 * up)[None]
    sky, bounce = (torch.tensor(c, device=up.device)[:, None] for c in (light.sky, light.bounce))
    return bounce + (sky - bounce) * share


def level(light: Light) -> Tensor:
    """Light [3] on a level, unshadowed surface."""
    key, sky = torch.tensor(light.key), torch.tensor(light.sky)
    return key * math.sin(math.radians(light.elevation)) * 0.90 + sky * 0.9


def display(colour: Tensor) -> Tensor:
    """Linear light to display values 0..1: a soft shoulder above 0.8, then gamma 2."""
    bright = 0.7 + 0.3 * torch.tanh((colour - 0.7) / 0.3)
    return torch.where(colour > 0.7, bright, colour).clamp(0, 1).sqrt()
