"""Shepherd World drawn: a ray-marched German shepherd of given factors, the same bits each time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.datasets.world import scenes
from workbench.datasets.world.coat import albedo
from workbench.datasets.world.factors import Factors
from workbench.datasets.world.light import LIGHTS, ambient, direction, display
from workbench.datasets.world.sdf import Field, march
from workbench.datasets.world.shapes import HEAD_SIZE, head_frame, shepherd
from workbench.errors import WorkbenchError

CAMERA_HEIGHT, HALF_VIEW, HORIZON = 0.70, 0.30, 0.20


class _Shot:
    """One picture's camera, rays and dog. Rays are [3, S*S] in the dog's frame (x forward, y up, z right)."""

    def __init__(self, factors: Factors, samples: int, device) -> None:
        self.factors, self.samples, self.device = factors, samples, device
        self.horizon = HORIZON + factors.y
        self.field = shepherd(factors, device)
        turn = math.radians(factors.azimuth_deg)
        forward = (math.sin(turn), 0.0, math.cos(turn))
        right = (-math.cos(turn), 0.0, math.sin(turn))
        self.to_dog = torch.tensor([forward, (0.0, 1.0, 0.0), right], device=device)
        shift = factors.x * HALF_VIEW * factors.distance - factors.size * self._middle(
            self.field, forward[0], right[0]
        )
        self.place = torch.tensor([shift, 0.0, 0.0], dtype=torch.float32, device=device)
        camera = torch.tensor([0.0, CAMERA_HEIGHT, factors.distance], device=device)
        self.camera = self.to_dog @ (camera - self.place) / factors.size
        self.light = LIGHTS[factors.light]
        self.sun = self.to_dog @ torch.tensor(direction(self.light, factors.light_deg), device=device)

    @staticmethod
    def _middle(field: Field, forward: float, right: float) -> float:
        """Sideways middle of the dog before the camera: head and tail are equally far from the margins."""
        places = [
            (c[0] * forward + c[2] * right, r)
            for cone in field.cones
            for c, r in ((cone.a, cone.ra), (cone.b, cone.rb))
        ]
        return float(0.5 * (min(x - r for x, r in places) + max(x + r for x, r in places)))

    def plane(self, samples: int) -> tuple[Tensor, Tensor]:
        """u and v [samples, samples] of sample centres."""
        centre = (torch.arange(samples, device=self.device, dtype=torch.float32) + 0.5) * (2 / samples) - 1
        v, u = torch.meshgrid(-centre, centre, indexing="ij")
        return u, v

    def rays(self, u: Tensor, v: Tensor) -> Tensor:
        """Unit directions [3, R] in the dog's frame for picture places u, v [R]."""
        ray = torch.stack([u * HALF_VIEW, (v - self.horizon) * HALF_VIEW, -torch.ones_like(u)])
        return self.to_dog @ (ray / ray.norm(dim=0))


def _box(field: Field, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the dog's bounding box; start >= end is a miss. origin [3] or [3, R]."""
    base = origin if origin.dim() == 2 else origin[:, None]
    inverse = 1 / torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    first, second = (field.low[:, None] - base) * inverse, (field.high[:, None] - base) * inverse
    return torch.minimum(first, second).amax(0).clamp_min(0), torch.maximum(first, second).amin(0)


def _hits(shot: _Shot) -> Tensor:
    """Distance along each ray to the dog [S*S], inf for a miss: first a cone per block, then each ray."""
    samples, field = shot.samples, shot.field
    block = max(1, samples // 32)
    coarse = -(-samples // block)
    width = 2 * block / samples
    centre = -1 + (torch.arange(coarse, device=shot.device) + 0.5) * width
    v, u = torch.meshgrid(-centre, centre, indexing="ij")
    ray = shot.rays(u.reshape(-1), v.reshape(-1))
    start, end = _box(field, shot.camera, ray)
    spread = 0.75 * width * HALF_VIEW
    begin, stop = torch.full_like(start, torch.inf), end + 0.1
    margin = 0.15
    live = torch.nonzero(start - margin < end + margin)[:, 0]
    t = (start[live] - margin).clamp_min(0)
    for _ in range(28):
        distance = field.distance(shot.camera[:, None] + t * ray[:, live])
        reach = spread * t
        touch = distance < reach
        begin[live[touch]] = t[touch]
        keep = torch.nonzero(~touch & (t < stop[live] + margin))[:, 0]
        live, t = live[keep], (t + 0.9 * (distance - 0.5 * reach).clamp_min(0.004))[keep]
        if live.numel() == 0:
            break
    begin[live] = t
    grid = begin.view(coarse, coarse)
    grid = grid.repeat_interleave(block, 0).repeat_interleave(block, 1)[:samples, :samples].reshape(-1)
    start = (grid * (1 - spread) - 0.01).clamp_min(0)
    u, v = shot.plane(samples)
    ray = shot.rays(u.reshape(-1), v.reshape(-1))
    end = torch.where(torch.isfinite(grid), torch.full_like(grid, float(shot.camera.norm()) + 1.5), start - 1)
    return march(field, shot.camera, ray, start, end, steps=64, precision=0.0012)


def _shadow(field: Field, points: Tensor, sun: Tensor, *, steps: int, start: float, sharp: float) -> Tensor:
    """Light that reaches points [3, R] from the direction sun [3], 0..1 [R], soft."""
    direction = sun[:, None].expand_as(points)
    first, last = _box(field, points, direction)
    lit = torch.ones_like(first)
    live = torch.nonzero(last > first)[:, 0]
    t = first[live].clamp_min(start)
    for _ in range(steps):
        if live.numel() == 0:
            break
        distance = field.nearest(points[:, live] + sun[:, None] * t)
        lit[live] = torch.minimum(lit[live], (0.5 + 0.5 * sharp * distance / t.clamp_min(0.05)).clamp(0, 1))
        t = t + distance.clamp(0.025, 0.11)
        keep = torch.nonzero((t < last[live]) & (lit[live] > 0))[:, 0]
        live, t = live[keep], t[keep]
    return lit * lit * (3 - 2 * lit)


def _ground_light(shot: _Shot, resolution: int) -> Tensor:
    """How much of the light the dog leaves to the ground [R, R], 0..1: cast shadow and contact shadow."""
    u, v = shot.plane(resolution)
    ray = shot.rays(u.reshape(-1), v.reshape(-1))
    t = shot.camera[1] / (-ray[1]).clamp_min(1e-6)
    points = shot.camera[:, None] + t * ray
    near = torch.nonzero((ray[1] < -1e-4) & (points[[0, 2]].square().sum(0) < 4.0))[:, 0]
    light = torch.ones_like(t)
    points = points[:, near]
    light[near] = 1 - shot.light.shade * (
        1 - _shadow(shot.field, points, shot.sun, steps=14, start=0.02, sharp=9)
    )
    low, high = shot.field.low[:, None] - 0.15, shot.field.high[:, None] + 0.15
    close = torch.nonzero(((points > low) & (points < high))[[0, 2]].all(0))[:, 0]
    gap = shot.field.distance(points[:, close]).clamp_min(0)
    light[near[close]] *= 1 - 0.62 * torch.exp(-gap / 0.055)
    return light.view(1, 1, resolution, resolution)


def _dog(shot: _Shot, t: Tensor, ray: Tensor) -> Tensor:
    """Colour [3, R] of the dog where rays hit it."""
    factors, field, light = shot.factors, shot.field, shot.light
    points = shot.camera[:, None] + t * ray
    surface = field.surface(points)
    normal = surface["normal"]
    place, turn = head_frame(factors)
    head = (
        torch.tensor(turn.T, dtype=torch.float32, device=t.device)
        @ (points - torch.tensor(place, dtype=torch.float32, device=t.device)[:, None])
        / HEAD_SIZE
    )
    colour = albedo(factors.coat, surface, points, head, factors.tongue)
    facing = shot.sun @ normal
    lit = _shadow(field, points + 0.03 * normal, shot.sun, steps=5, start=0.02, sharp=7)
    key = ((facing + 0.25) / 1.25).clamp(0, 1) * (0.25 + 0.75 * lit)
    open_near = (field.nearest(points + 0.06 * normal) / 0.06).clamp(0.15, 1)
    low = (points[1] / 0.25).clamp(0, 1)
    occlusion = (0.35 + 0.65 * open_near) * (0.72 + 0.28 * low)
    edge = (1 + (normal * ray).sum(0)).clamp(0, 1).pow(3)

    def rgb(value) -> Tensor:
        return torch.tensor(value, device=t.device)[:, None]

    shade = rgb(light.key) * key + ambient(light, normal[1]) * occlusion
    rim = rgb(light.rim) * edge * (0.3 + 0.7 * (0.5 + 0.5 * normal[1])) * occlusion
    half = shot.sun[:, None] - ray
    gloss = ((normal * half).sum(0) / half.norm(dim=0)).clamp(0, 1).pow(9) * lit
    return colour * shade + rim * (0.35 + 0.65 * colour.mean(0)) + 0.035 * rgb(light.key) * gloss


def _picture(factors: Factors, resolution: int, supersample: int, device) -> Tensor:
    samples = resolution * supersample
    shot = _Shot(factors, samples, device)
    u, v = shot.plane(samples)
    rise = v - shot.horizon
    depth = CAMERA_HEIGHT / (-rise * HALF_VIEW).clamp_min(0.01)
    sun_u = 0.62 * factors.light_deg / 75
    numbers = np.random.default_rng(factors.scenery).random(64)
    view = scenes.View(
        u=u,
        rise=rise,
        ground_x=u * HALF_VIEW * depth,
        depth=depth,
        light=shot.light,
        light_name=factors.light,
        sun_u=sun_u,
        numbers=numbers,
    )
    picture = scenes.SCENES[factors.scene](view)
    ground = F.interpolate(
        _ground_light(shot, resolution), scale_factor=supersample, mode="bilinear", align_corners=False
    )
    picture = picture * ground[0]
    if factors.scene == "snow":
        picture = scenes.snowfall(picture, u, v, numbers, factors.light)
    t = _hits(shot)
    hit = torch.nonzero(torch.isfinite(t))[:, 0]
    ray = shot.rays(u.reshape(-1)[hit], v.reshape(-1)[hit])
    flat = picture.reshape(3, -1)
    flat[:, hit] = _dog(shot, t[hit], ray)
    picture = flat.view(3, samples, samples)
    picture = F.avg_pool2d(picture[None], supersample)[0] if supersample > 1 else picture
    return display(picture) * 2 - 1


@torch.no_grad()
def dog_mask(factors: Factors, resolution: int = 64, *, device="cpu") -> Tensor:
    """Where the dog is seen, [H, W] bool, by one ray in the middle of each pixel."""
    return torch.isfinite(_hits(_Shot(factors, resolution, device))).view(resolution, resolution)


def head_place(factors: Factors) -> tuple[float, float]:
    """Where the middle of the skull is seen, hidden or not: (x, y) as shares of the picture, from its upper
    left corner.
    """
    shot = _Shot(factors, 1, "cpu")
    skull = torch.tensor(head_frame(factors)[0], dtype=torch.float32)
    right, up, back = (shot.to_dog.T @ (skull - shot.camera)).tolist()
    u, v = right / -back / HALF_VIEW, up / -back / HALF_VIEW + shot.horizon
    return (1 + u) / 2, (1 - v) / 2


@torch.no_grad()
def render(factors: Sequence[Factors], resolution: int = 64, *, supersample: int = 2, device="cpu") -> Tensor:
    """Pictures [N, 3, H, W] in [-1, 1]; each depends on its own factors alone."""
    if not 16 <= resolution <= 2048 or not 1 <= supersample <= 8:
        raise WorkbenchError(
            f"resolution {resolution} with supersample {supersample} cannot be drawn; "
            "give a resolution from 16 to 2048 and a supersample from 1 to 8."
        )
    if len(factors) == 0:
        return torch.empty(0, 3, resolution, resolution, device=device)
    return torch.stack([_picture(f, resolution, supersample, device) for f in factors])
