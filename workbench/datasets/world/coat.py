"""The five coats: which part of the dog is black, tan, grey, white or red; eyes, nose, ears and tongue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.datasets.world.light import linear

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Coat:
    """Linear colours of the parts; the saddle's edge in the field `back` and its width."""

    base: Colour
    saddle: Colour
    pale: Colour
    mask: Colour
    edge: float = 0.15
    width: float = 0.25
    inner_ear: Colour = (0.3025, 0.16, 0.1296)


COATS = {
    "black-and-tan": Coat(
        base=linear(0.78, 0.55, 0.30),
        saddle=linear(0.12, 0.105, 0.10),
        pale=linear(0.84, 0.66, 0.43),
        mask=linear(0.13, 0.11, 0.10),
        edge=-0.12,
        width=0.22,
    ),
    "sable": Coat(
        base=linear(0.56, 0.53, 0.485),
        saddle=linear(0.225, 0.22, 0.22),
        pale=linear(0.80, 0.765, 0.70),
        mask=linear(0.20, 0.185, 0.175),
        edge=0.15,
        width=1.15,
    ),
    "black": Coat(
        base=linear(0.105, 0.112, 0.135),
        saddle=linear(0.09, 0.097, 0.12),
        pale=linear(0.125, 0.128, 0.145),
        mask=linear(0.11, 0.11, 0.12),
        inner_ear=linear(0.24, 0.2, 0.2),
    ),
    "white": Coat(
        base=linear(0.90, 0.885, 0.85),
        saddle=linear(0.90, 0.88, 0.83),
        pale=linear(0.92, 0.91, 0.89),
        mask=linear(0.91, 0.89, 0.85),
        inner_ear=linear(0.88, 0.66, 0.60),
    ),
    "red": Coat(
        base=linear(0.64, 0.285, 0.13),
        saddle=linear(0.54, 0.215, 0.09),
        pale=linear(0.74, 0.40, 0.21),
        mask=linear(0.46, 0.18, 0.08),
        width=0.9,
        inner_ear=linear(0.62, 0.36, 0.28),
    ),
}
NOSE, EYE, TONGUE, GLINT = (
    linear(0.09, 0.08, 0.085),
    linear(0.10, 0.06, 0.04),
    linear(0.88, 0.42, 0.42),
    linear(0.72, 0.72, 0.74),
)


def _step(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _mix(colour: Tensor, other: Colour, share: Tensor) -> Tensor:
    target = torch.tensor(other, device=colour.device)[:, None]
    return colour + (target - colour) * share[None]


def albedo(coat_name: str, surface: dict[str, Tensor], points: Tensor, head: Tensor, tongue: float) -> Tensor:
    """Colour [3, R] at surface points; `head` holds them in the head's frame (forward, up, right), metres."""
    coat = COATS[coat_name]
    x, y, z = points
    wave = (
        0.10 * torch.sin(17 * x + 1.3) + 0.08 * torch.sin(23 * y + 11 * x) + 0.05 * torch.sin(41 * x - 19 * z)
    )
    back = surface["back"] + wave
    colour = torch.tensor(coat.base, device=x.device)[:, None].expand(3, x.numel())
    colour = _mix(colour, coat.pale, _step(surface["pale"] + 0.3 * wave, 0.1, 0.6))
    colour = _mix(colour, coat.saddle, _step(back, coat.edge - coat.width / 2, coat.edge + coat.width / 2))
    fur = torch.sin(64 * x + 2 * torch.sin(31 * y)) * torch.sin(57 * y + 2 * torch.sin(37 * z) - 23 * x)
    colour = colour * (1 + 0.03 * fur)
    hx, hy, hz = head
    on_head = _step(hx, -0.12, -0.06) * _step(hy, -0.13, -0.10)
    muzzle = _step(hx - 0.35 * (hy + 0.02).clamp_min(-0.03), 0.055, 0.10) * on_head
    brow = _step(0.030 - ((hx - 0.062).square() + (hy - 0.026).square()).sqrt(), 0, 0.02) * _step(
        hx, 0.02, 0.04
    )
    colour = _mix(colour, coat.mask, torch.maximum(muzzle, 0.6 * brow))
    ear = _step(hy, 0.075, 0.09) * on_head
    colour = _mix(colour, coat.mask, 0.8 * ear)
    inner = ear * _step(hx + 0.028, 0.004, 0.012) * _step(hy, 0.085, 0.10) * (1 - _step(hy, 0.13, 0.155))
    colour = _mix(colour, coat.inner_ear, 0.85 * inner)
    if tongue > 0.05:
        lolling = _step(-hy, 0.068, 0.074) * _step(hx, 0.11, 0.125) * (1 - _step(hz.abs(), 0.022, 0.026))
        colour = _mix(colour, TONGUE, lolling)
    for right in (-1, 1):
        gap = ((hx - 0.062).square() + (hy - 0.022).square() + (hz - 0.043 * right).square()).sqrt()
        if coat_name == "black":
            colour = _mix(colour, linear(0.55, 0.36, 0.16), 1 - _step(gap, 0.0175, 0.021))
        colour = _mix(colour, EYE, 1 - _step(gap, 0.0135, 0.0165))
        glint = ((hx - 0.072).square() + (hy - 0.029).square() + (hz - 0.047 * right).square()).sqrt()
        colour = _mix(colour, GLINT, 1 - _step(glint, 0.0025, 0.0055))
    nose = ((hx - 0.212).square() + (hy + 0.004).square() + hz.square()).sqrt()
    return _mix(colour, NOSE, 1 - _step(nose, 0.022, 0.028))
