"""The five scenes behind the dog: sky, scenery and ground, painted in the picture plane with soft edges.

All lengths are in half pictures (u to the right, v up, -1..1), heights over the horizon; details stay larger
than 2 % of the picture, so that nothing flickers or aliases at 64 px.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.datasets.world.light import Light, level, linear


@dataclass(kw_only=True)
class View:
    """What a scene needs: u, rise (v over the horizon), ground x, depth [S, S]; light; random numbers."""

    u: Tensor
    rise: Tensor
    ground_x: Tensor
    depth: Tensor
    light: Light
    light_name: str
    sun_u: float
    numbers: np.ndarray

    def lit(self, *rgb: float, gain: float = 1.0) -> Tensor:
        """A surface of display colour rgb under this light, linear [3, 1, 1]."""
        return (torch.tensor(linear(*rgb)) * level(self.light) * gain).to(self.u)[:, None, None]


def inside(x: Tensor, soft: float = 0.02) -> Tensor:
    """1 where x > 0, 0 where x < 0, with an edge `soft` wide."""
    return (x / soft + 0.5).clamp(0, 1)


def over(picture: Tensor, colour: Tensor, share: Tensor) -> Tensor:
    """Paint colour ([3, 1, 1] or [3, S, S]) where share [S, S] says so."""
    return picture + (colour - picture) * share


def _disc(view: View, u: float, rise: float, radius: float, soft: float = 0.025) -> Tensor:
    gap = ((view.u - u).square() + (view.rise - rise).square()).sqrt()
    return inside(radius - gap, soft)


def sky(view: View) -> Tensor:
    """Sky [3, S, S] with the sun's glow or the moon and a few large stars, and soft clouds by day."""
    light = view.light
    top, low = (torch.tensor(c).to(view.u)[:, None, None] for c in (light.top, light.low))
    height = (view.rise / 0.85).clamp(0, 1)
    picture = low + (top - low) * height.pow(0.75)
    n = view.numbers
    if view.light_name == "day":
        for k in range(2):
            centre, lift = -0.8 + 1.6 * n[k], 0.45 + 0.3 * n[k + 2]
            puff = (1 - ((view.u - centre) / 0.42).square() - ((view.rise - lift) / 0.10).square()).clamp(
                0, 1
            )
            picture = over(picture, torch.ones_like(top), 0.75 * puff)
    elif view.light_name == "sunset":
        gap = ((view.u - view.sun_u).square() + (view.rise - 0.20).square()).sqrt()
        warm = torch.tensor(linear(1.0, 0.80, 0.40)).to(view.u)[:, None, None]
        picture = over(picture, warm, 0.75 * torch.exp(-(gap / 0.38).square()))
        picture = over(
            picture, torch.tensor((1.0, 0.92, 0.62)).to(view.u)[:, None, None], inside(0.12 - gap, 0.03)
        )
    else:
        pale = torch.tensor(linear(0.93, 0.93, 0.86)).to(view.u)[:, None, None]
        picture = over(picture, pale, _disc(view, view.sun_u, 0.58, 0.105))
        glow = ((view.u - view.sun_u).square() + (view.rise - 0.58).square()).sqrt()
        picture = picture + 0.06 * pale * torch.exp(-(glow / 0.25).square())
        for k in range(6):
            star = _disc(view, -0.95 + 0.32 * (k + n[k]), 0.30 + 0.42 * n[k + 6], 0.016)
            picture = over(picture, pale, 0.7 * star)
    return picture


def _ground(view: View, near: Tensor, far: Tensor, patch: float) -> Tensor:
    """Ground from near to far colour with broad, soft patches of relative strength `patch`."""
    haze = 1 - torch.exp(-(view.depth - 1.2).clamp_min(0) / 4.5)
    phase = 6.28 * view.numbers[20:24]
    wave = torch.sin(2.3 * view.ground_x + phase[0]) * torch.sin(1.7 * view.depth + phase[1])
    wave = wave + 0.6 * torch.sin(4.1 * view.ground_x + 2.2 * view.depth + phase[2])
    return (near + (far - near) * haze) * (1 + patch * wave * (1 - haze))


def park(view: View) -> Tensor:
    """Meadow, hedge and round trees of three tones."""
    picture, n = sky(view), view.numbers
    hedge = 0.13 + 0.03 * torch.sin(7 * view.u + 6.28 * n[30]) + 0.02 * torch.sin(13 * view.u + 6.28 * n[31])
    picture = over(picture, view.lit(0.24, 0.42, 0.24), inside(hedge - view.rise))
    picture = over(picture, view.lit(0.31, 0.52, 0.27), inside(hedge - 0.06 - view.rise, 0.05))
    toward = 1.0 if view.sun_u > 0 else -1.0
    for k in range(3):
        centre, size = -0.95 + 0.68 * (k + 0.8 * n[32 + k]), 0.24 + 0.08 * n[35 + k]
        trunk = inside(0.036 - (view.u - centre).abs()) * inside(0.45 - view.rise)
        picture = over(picture, view.lit(0.38, 0.27, 0.19), trunk)
        crown = 0.36 + size * 0.8 + 0.06 * n[38 + k]
        dark = torch.maximum(
            _disc(view, centre, crown, size), _disc(view, centre - 0.6 * size, crown - 0.3 * size, 0.7 * size)
        )
        dark = torch.maximum(dark, _disc(view, centre + 0.6 * size, crown - 0.3 * size, 0.7 * size))
        picture = over(picture, view.lit(0.19, 0.38, 0.19), dark)
        middle = _disc(view, centre + 0.18 * size * toward, crown + 0.12 * size, 0.72 * size, 0.08)
        picture = over(picture, view.lit(0.30, 0.53, 0.24), middle * dark)
        bright = _disc(view, centre + 0.30 * size * toward, crown + 0.32 * size, 0.36 * size, 0.10)
        picture = over(picture, view.lit(0.44, 0.66, 0.30), bright * dark)
    grass = _ground(view, view.lit(0.42, 0.62, 0.25), view.lit(0.52, 0.70, 0.34), 0.10)
    return over(picture, grass, inside(-view.rise))


def city(view: View) -> Tensor:
    """A row of houses with large windows, a road and a pavement of large slabs."""
    picture, n = sky(view), view.numbers
    tones = [
        (0.66, 0.42, 0.34),
        (0.74, 0.68, 0.58),
        (0.50, 0.55, 0.62),
        (0.62, 0.52, 0.46),
        (0.58, 0.60, 0.60),
    ]
    edge, shift = -1.05 - 0.3 * n[30], int(5 * n[31])
    night = view.light_name == "night"
    for k in range(5):
        width, height = 0.45 + 0.25 * n[32 + k], 0.42 + 0.42 * n[38 + k]
        wall = (
            inside(view.u - edge)
            * inside(edge + width - view.u)
            * inside(height - view.rise)
            * inside(view.rise)
        )
        picture = over(picture, view.lit(*tones[(k + shift) % 5], gain=0.85), wall)
        columns = max(2, round(width / 0.19))
        x = (view.u - edge) / width * columns
        y = (view.rise - 0.10) / 0.20
        pane = inside(0.27 - (x - x.floor() - 0.5).abs(), 0.10) * inside(
            0.27 - (y - y.floor() - 0.5).abs(), 0.10
        )
        pane = (
            pane
            * wall
            * inside(view.rise - 0.11)
            * inside(height - 0.05 - view.rise)
            * inside(x)
            * inside(columns - x)
        )
        dark = view.lit(0.30, 0.36, 0.44) if not night else view.lit(0.35, 0.4, 0.5, gain=0.6)
        picture = over(picture, dark, pane)
        if view.light_name != "day":
            code = torch.sin(x.floor() * 12.99 + y.floor() * 78.23 + 40 * n[44 + k]) * 43.7
            on = (code - code.floor() < (0.5 if night else 0.25)).to(pane)
            glow = torch.tensor(linear(0.98, 0.80, 0.42)).to(view.u)[:, None, None]
            picture = over(picture, glow * (0.75 if night else 0.9), pane * on)
        edge += width
    joint_x = (view.ground_x + n[50]) / 0.9
    joint_z = (view.depth + n[51]) / 0.9
    fade = torch.exp(-(view.depth - 1.5).clamp_min(0) / 2.0)
    lines = torch.maximum(
        inside((joint_x - joint_x.round()).abs().neg() + 0.022 + 0.004 * view.depth, 0.03),
        inside((joint_z - joint_z.round()).abs().neg() + 0.03 + 0.008 * view.depth, 0.03),
    )
    stone = _ground(view, view.lit(0.66, 0.64, 0.62), view.lit(0.70, 0.68, 0.66), 0.03)
    stone = stone * (1 - 0.30 * lines * fade)
    picture = over(picture, stone, inside(-view.rise))
    picture = over(picture, view.lit(0.38, 0.39, 0.42), inside(-view.rise) * inside(view.rise + 0.15))
    return over(picture, view.lit(0.86, 0.85, 0.82), inside(0.022 - (view.rise + 0.165).abs()))


def snow(view: View) -> Tensor:
    """Snow field, white hills and solid firs with white caps."""
    picture, n = sky(view), view.numbers
    if view.light_name == "day":
        picture = over(
            picture,
            torch.tensor(linear(0.80, 0.85, 0.91)).to(view.u)[:, None, None],
            0.65 * torch.ones_like(view.u),
        )
    hills = 0.16 + 0.07 * torch.sin(2.6 * view.u + 6.28 * n[30]) + 0.03 * torch.sin(6 * view.u + 6.28 * n[31])
    picture = over(picture, view.lit(0.74, 0.79, 0.87), inside(hills - view.rise, 0.03))
    for k in range(4):
        centre, size = -1.0 + 0.52 * (k + 0.8 * n[32 + k]), 0.48 + 0.26 * n[36 + k]
        picture = over(
            picture,
            view.lit(0.34, 0.26, 0.20),
            inside(0.03 - (view.u - centre).abs()) * inside(0.1 - view.rise),
        )
        for tier in range(3):
            low, high = 0.06 + size * 0.27 * tier, 0.06 + size * (0.50 + 0.27 * tier)
            width = size * (0.40 - 0.085 * tier)
            side = (high - view.rise) / (high - low) * width - (view.u - centre).abs()
            cone = inside(side) * inside(view.rise - low)
            picture = over(picture, view.lit(0.19, 0.36, 0.31), cone)
            cap = inside(side, 0.03) * inside(view.rise - (high - 0.40 * (high - low)), 0.05)
            picture = over(picture, view.lit(0.88, 0.91, 0.95), 0.9 * cap)
    field = _ground(view, view.lit(0.75, 0.80, 0.89), view.lit(0.72, 0.78, 0.88), 0.035)
    return over(picture, field, inside(-view.rise))


def beach(view: View) -> Tensor:
    """Sand, foam and a band of sea under a wide sky."""
    picture, n = sky(view), view.numbers
    shore = (
        -0.24 + 0.05 * torch.sin(2.2 * view.u + 6.28 * n[30]) + 0.02 * torch.sin(5.1 * view.u + 6.28 * n[31])
    )
    sand = _ground(view, view.lit(0.89, 0.77, 0.55), view.lit(0.91, 0.81, 0.62), 0.04)
    picture = over(picture, sand, inside(-view.rise))
    picture = over(
        picture, view.lit(0.66, 0.55, 0.40), inside(view.rise - shore + 0.07, 0.05) * inside(-view.rise)
    )
    far, near = view.lit(0.10, 0.36, 0.58), view.lit(0.28, 0.66, 0.72)
    sea = far + (near - far) * (-view.rise / 0.26).clamp(0, 1)
    water = inside(view.rise - shore) * inside(-view.rise)
    picture = over(picture, sea, water)
    for k, depth in enumerate((0.07, 0.15)):
        crest = (view.rise + depth + 0.012 * torch.sin(6 * view.u + 6.28 * n[33 + k])).abs()
        picture = over(picture, view.lit(0.62, 0.82, 0.88), 0.45 * inside(0.016 - crest) * water)
    if view.light_name != "day":
        path = torch.exp(-((view.u - view.sun_u) / 0.16).square()) * water
        shine = torch.tensor(
            linear(1.0, 0.78, 0.42) if view.light_name == "sunset" else linear(0.62, 0.68, 0.80)
        )
        picture = over(picture, shine.to(view.u)[:, None, None], 0.6 * path)
    return over(picture, view.lit(0.95, 0.96, 0.97), inside(0.026 - (view.rise - shore).abs(), 0.03))


def studio(view: View) -> Tensor:
    """A plain paper backdrop, bright behind the dog, falling off to the corners."""
    base = torch.tensor(view.light.backdrop).to(view.u)[:, None, None]
    pool = torch.exp(-((view.u - 0.3 * view.sun_u) / 1.1).square() - ((view.rise + 0.1) / 0.95).square())
    floor = torch.exp(-(view.rise + 0.9).square() / 0.35)
    return base * (0.55 + 0.55 * pool + 0.16 * floor)


SCENES = {"park": park, "city": city, "snow": snow, "beach": beach, "studio": studio}


def snowfall(picture: Tensor, u: Tensor, v: Tensor, numbers: np.ndarray, light_name: str) -> Tensor:
    """Sixteen large flakes over the whole picture [3, S, S]."""
    rng = np.random.default_rng(int(numbers[60] * 2**31))
    white = torch.tensor(linear(*((0.98, 0.98, 1.0) if light_name != "night" else (0.70, 0.76, 0.90))))
    spots = torch.zeros_like(u)
    for x, y, size in zip(rng.random(16), rng.random(16), rng.random(16), strict=True):
        gap = ((u - 2 * x + 1).square() + (v - 2 * y + 1).square()).sqrt()
        spots = torch.maximum(spots, inside(0.026 + 0.012 * size - gap, 0.025))
    return over(picture, white.to(u)[:, None, None], 0.9 * spots)
