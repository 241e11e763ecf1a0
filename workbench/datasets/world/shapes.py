"""The German shepherd's body: bones and flesh of the three poses as round cones.

Dog frame, metres: x forward, y up, z to the dog's right; the ground is y = 0; the withers are at about 0.62.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from workbench.datasets.world.sdf import Cone, Field

HEAD_SIZE = 1.14
HEAD_PLACE = {"standing": (0.455, 0.765), "sitting": (0.285, 0.80), "lying": (0.40, 0.535)}


def head_frame(factors) -> tuple[np.ndarray, np.ndarray]:
    """Place [3] of the skull's middle and rotation [3, 3] (columns: the head's forward, up, right)."""
    x, y = HEAD_PLACE[factors.pose]
    yaw, pitch = math.radians(factors.head_yaw_deg), math.radians(factors.head_pitch_deg - 6)
    place = np.array([x - 0.02 * abs(math.sin(yaw)), y + 0.05 * math.sin(pitch), 0.06 * math.sin(yaw)])
    turn = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    nod = np.array([[math.cos(pitch), -math.sin(pitch), 0], [math.sin(pitch), math.cos(pitch), 0], [0, 0, 1]])
    return place, turn @ nod


def _head(factors) -> list[Cone]:
    place, turn = head_frame(factors)

    def at(x, y, z=0.0):
        return tuple(place + HEAD_SIZE * (turn @ np.array([x, y, z])))

    def flesh(a, b, ra, rb, **more) -> Cone:
        return Cone(
            a=at(*a), b=at(*b), ra=HEAD_SIZE * ra, rb=HEAD_SIZE * rb, fine=True, **{"dorsal": up, **more}
        )

    side, front, up = tuple(turn[:, 2]), tuple(turn[:, 0]), tuple(turn[:, 1])
    mouth = 0.018 * factors.tongue
    cones = [
        flesh((-0.020, 0.002), (0.035, 0.010), 0.080, 0.066, squash=1.06, normal=side, pale=-0.1),
        flesh((0.050, -0.006), (0.178, -0.022), 0.054, 0.032, squash=1.08, normal=side),
        flesh((0.035, -0.042 - mouth), (0.150, -0.052 - 1.6 * mouth), 0.038, 0.021, pale=0.2),
        flesh((0.193, -0.008), (0.199, -0.010), 0.019, 0.019),
    ]
    for right in (-1, 1):
        outward = 0.62 * right
        face = (turn[:, 0] + outward * turn[:, 2]) / math.hypot(1, outward)
        cones.append(
            flesh((-0.012, -0.028, 0.038 * right), (0.040, -0.026, 0.032 * right), 0.046, 0.036, pale=0.45)
        )
        cones.append(
            flesh(
                (-0.030, 0.050, 0.046 * right),
                (-0.022, 0.168, 0.066 * right),
                0.055,
                0.010,
                squash=2.4,
                normal=tuple(face),
                dorsal=tuple(-face),
                back=-0.15,
            )
        )
    if factors.tongue > 0.05:
        drop = 0.05 + 0.05 * factors.tongue
        cones.append(
            flesh(
                (0.12, -0.040 - mouth), (0.165, -0.045 - mouth - drop), 0.023, 0.021, squash=1.8, normal=front
            )
        )
    return cones


def _neck(factors, base, chest) -> list[Cone]:
    """Neck from base (x, y) to the head, and the ruff in front of it down to chest (x, y)."""
    place, turn = head_frame(factors)
    nape = place + turn @ np.array([-0.035, -0.025, 0.0])
    throat = place + turn @ np.array([-0.01, -0.07, 0.0])
    along = nape - np.array([*base, 0.0])
    dorsal = np.array([-along[1], along[0], 0.0])
    dorsal = tuple(dorsal / np.linalg.norm(dorsal))
    return [
        Cone(
            a=(*base, 0.0),
            b=tuple(nape),
            ra=0.115,
            rb=0.080,
            squash=1.16,
            dorsal=dorsal,
            back=-0.35,
            pale=0.05,
        ),
        Cone(
            a=(*chest, 0.0),
            b=tuple(throat),
            ra=0.104,
            rb=0.062,
            squash=1.14,
            dorsal=dorsal,
            back=-0.6,
            pale=0.25,
        ),
    ]


def _leg(points, radii, *, backs, pales, fine_from: int = 1) -> list[Cone]:
    """A leg through 3-D points; backs and pales are the coat fields of its bones."""
    cones = []
    for k, (a, b) in enumerate(pairwise(points)):
        cones.append(
            Cone(
                a=tuple(a),
                b=tuple(b),
                ra=radii[k][0],
                rb=radii[k][1],
                fine=k >= fine_from,
                back=backs[k],
                pale=pales[k],
                squash=1.25 if k == 0 else 1.0,
            )
        )
    return cones


FORE = {
    "radii": [(0.085, 0.060), (0.048, 0.031), (0.031, 0.027), (0.033, 0.027)],
    "backs": [-1.2, -3, -3, -3],
    "pales": [0.1, 0.5, 0.7, 0.7],
}
HIND = {
    "radii": [(0.118, 0.066), (0.058, 0.031), (0.030, 0.027), (0.033, 0.027)],
    "backs": [-1.0, -3, -3, -3],
    "pales": [0.0, 0.4, 0.7, 0.7],
}


def _legs(fore, hind) -> list[Cone]:
    cones = []
    for points in fore:
        cones += _leg(points, **FORE)
    for points in hind:
        cones += _leg(points, **HIND)
    return cones


def _torso(points, radii, squashes, backs, pales) -> list[Cone]:
    """Cones between (x, y) pairs; the dorsal side is normal to each (a sitting dog's back faces backward)."""
    cones = []
    for (a, b), (ra, rb), squash, back, pale in zip(points, radii, squashes, backs, pales, strict=True):
        along = np.array(a) - np.array(b)
        dorsal = np.array([-along[1], along[0], 0.0])
        dorsal = tuple(dorsal / max(np.linalg.norm(dorsal), 1e-6))
        cones.append(
            Cone(a=(*a, 0.0), b=(*b, 0.0), ra=ra, rb=rb, squash=squash, dorsal=dorsal, back=back, pale=pale)
        )
    return cones


def _tail(points, radii) -> list[Cone]:
    cones = []
    for k, (a, b) in enumerate(pairwise(points)):
        along = np.array(a) - np.array(b)
        dorsal = np.array([-along[1], math.hypot(along[0], along[2]), 0.0])
        dorsal = tuple(dorsal / max(np.linalg.norm(dorsal), 1e-6))
        cones.append(
            Cone(
                a=tuple(a),
                b=tuple(b),
                ra=radii[k],
                rb=radii[k + 1],
                dorsal=dorsal,
                back=0.25 - 0.1 * k,
                pale=0,
            )
        )
    return cones


def _trail(base, lengths, lifts, sway) -> list[tuple[float, float, float]]:
    """A tail's points from its base: bones of these lengths and lifts, turned sideways by sway, degrees."""
    points = [base]
    for k, (length, lift) in enumerate(zip(lengths, lifts, strict=True)):
        rise, turn = math.radians(lift), math.radians(sway * (k + 1) / len(lengths))
        x, y, z = points[-1]
        points.append(
            (
                x - length * math.cos(rise) * math.cos(turn),
                max(y + length * math.sin(rise), 0.04),
                z + length * math.cos(rise) * math.sin(turn),
            )
        )
    return points


def _standing(f) -> list[Cone]:
    step = 0.075 * f.stance
    deep = f.build
    torso = _torso(
        [
            ((0.215, 0.455), (0.03, 0.450)),
            ((0.03, 0.465), (-0.27, 0.498)),
            ((0.24, 0.545), (-0.02, 0.540)),
            ((-0.02, 0.540), (-0.33, 0.500)),
        ],
        [(0.148 * deep, 0.152 * deep), (0.134 * deep, 0.102), (0.070, 0.066), (0.066, 0.070)],
        [1.28, 1.18, 1.0, 1.0],
        [-0.05, -0.05, 0.35, 0.35],
        [0.1, 0.1, 0, 0],
    )
    fore, hind = [], []
    for right in (-1, 1):
        z, s = 0.084 * right, step * right
        fore.append(
            [
                (0.245, 0.450, z * 0.95),
                (0.165, 0.335, z * 1.12),
                (0.180 + 0.45 * s, 0.135, z * 1.08),
                (0.190 + 0.75 * s, 0.034, z * 1.08),
                (0.232 + 0.75 * s, 0.027, z * 1.1),
            ]
        )
        hind.append(
            [
                (-0.265, 0.455, z * 0.82),
                (-0.205 - 0.5 * s, 0.285, z * 1.15),
                (-0.395 - 1.0 * s, 0.185, z * 1.12),
                (-0.400 - 1.35 * s, 0.034, z * 1.12),
                (-0.358 - 1.35 * s, 0.027, z * 1.15),
            ]
        )
    lift = -76 + f.tail_deg
    tail = _tail(
        _trail((-0.375, 0.500, 0.0), (0.13, 0.15, 0.15), (lift, lift + 8, lift + 26), 30 * f.stance),
        (0.038, 0.053, 0.052, 0.020),
    )
    return torso + _neck(f, (0.235, 0.545), (0.275, 0.455)) + _legs(fore, hind) + tail


def _sitting(f) -> list[Cone]:
    deep = f.build
    torso = _torso(
        [
            ((0.115, 0.475), (0.035, 0.360)),
            ((0.035, 0.375), (-0.145, 0.205)),
            ((0.055, 0.550), (-0.085, 0.385)),
            ((-0.085, 0.385), (-0.235, 0.175)),
            ((-0.15, 0.165), (-0.20, 0.135)),
        ],
        [(0.135 * deep, 0.148 * deep), (0.140 * deep, 0.140), (0.075, 0.075), (0.075, 0.080), (0.14, 0.125)],
        [1.22, 1.12, 1.0, 1.0, 1.0],
        [-0.05, -0.05, 0.35, 0.35, -0.1],
        [0.15, 0.1, 0, 0, 0],
    )
    fore, hind = [], []
    for right in (-1, 1):
        z, s = 0.072 * right, 0.02 * f.stance * right
        fore.append(
            [
                (0.165, 0.455, z),
                (0.125, 0.325, z * 1.15),
                (0.165 + s, 0.135, z * 1.05),
                (0.178 + s, 0.034, z * 1.05),
                (0.222 + s, 0.027, z * 1.08),
            ]
        )
        hind.append(
            [
                (-0.165, 0.165, z * 0.9),
                (0.015 + s, 0.205, z * 1.75),
                (-0.135, 0.060, z * 1.8),
                (0.020 + s, 0.034, z * 1.85),
                (0.070 + s, 0.027, z * 1.95),
            ]
        )
    flat = 0.25 * f.tail_deg
    tail = _tail(
        _trail((-0.285, 0.080, 0.0), (0.13, 0.14, 0.15), (-10 + flat, -4 + flat, flat), 55 * f.stance),
        (0.046, 0.055, 0.053, 0.020),
    )
    return torso + _neck(f, (0.105, 0.555), (0.165, 0.475)) + _legs(fore, hind) + tail


def _lying(f) -> list[Cone]:
    deep = f.build
    torso = _torso(
        [
            ((0.205, 0.190), (0.03, 0.170)),
            ((0.03, 0.175), (-0.255, 0.145)),
            ((0.19, 0.265), (-0.04, 0.235)),
            ((-0.04, 0.235), (-0.32, 0.170)),
        ],
        [(0.145 * deep, 0.150 * deep), (0.140 * deep, 0.132), (0.070, 0.068), (0.068, 0.075)],
        [1.22, 1.12, 1.0, 1.0],
        [-0.05, -0.05, 0.35, 0.35],
        [0.1, 0.1, 0, 0],
    )
    fore, hind = [], []
    for right in (-1, 1):
        z, s = 0.078 * right, 0.03 * f.stance * right
        fore.append(
            [
                (0.250, 0.200, z * 0.95),
                (0.155, 0.075, z * 1.55),
                (0.390 + s, 0.038, z * 1.25),
                (0.465 + s, 0.032, z * 1.2),
                (0.505 + s, 0.027, z * 1.2),
            ]
        )
        hind.append(
            [
                (-0.250, 0.150, z * 0.9),
                (-0.075 + s, 0.165, z * 1.75),
                (-0.275, 0.050, z * 1.95),
                (-0.125 + s, 0.034, z * 2.1),
                (-0.080 + s, 0.027, z * 2.15),
            ]
        )
    flat = 0.25 * f.tail_deg
    tail = _tail(
        _trail((-0.375, 0.110, 0.0), (0.13, 0.14, 0.15), (-24 + flat, -6 + flat, flat), 60 * f.stance),
        (0.046, 0.055, 0.053, 0.020),
    )
    return torso + _neck(f, (0.225, 0.275), (0.275, 0.190)) + _legs(fore, hind) + tail


BODIES = {"standing": _standing, "sitting": _sitting, "lying": _lying}


def shepherd(factors, device="cpu") -> Field:
    """The dog of these factors in its own frame."""
    return Field(BODIES[factors.pose](factors) + _head(factors), device=device)
