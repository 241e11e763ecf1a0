"""A smooth union of squashed round cones as one signed distance field, evaluated by two matrix products.

A cone runs from a (radius ra) to b (radius rb); its metric M = I + (s^2 - 1) n n^T makes it s times thinner
along the unit vector n. With u = (p-a)'M(b-a) / (b-a)'M(b-a) and h = clamp(u, 0, 1), the squared distance to
the axis is (p-a)'M(p-a) + (b-a)'M(b-a) h (h - 2u): quadratic and linear in p, so all cones at all points take
two products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Cone:
    """One squashed round cone. a, b, normal, dorsal: 3-vectors; back, pale: offsets of the coat's fields."""

    a: tuple[float, ...]
    b: tuple[float, ...]
    ra: float
    rb: float
    fine: bool = False
    squash: float = 1.0
    normal: tuple[float, ...] = (0.0, 0.0, 1.0)
    dorsal: tuple[float, ...] = (0.0, 1.0, 0.0)
    back: float = -2.0
    pale: float = 0.0


def _features(points: Tensor) -> Tensor:
    """[3, R] points as [10, R]: the six products, x, y, z and 1."""
    x, y, z = points
    return torch.stack([x * x, y * y, z * z, x * y, x * z, y * z, x, y, z, torch.ones_like(x)])


class Field:
    """The union of cones; coarse ones blend over the length `soft`, fine ones and the groups over `crisp`.

    Points are [3, R] float32; distances [R] are at most the true ones (up to the cones' taper).
    """

    def __init__(self, cones: list[Cone], *, soft: float = 0.02, crisp: float = 0.007, device="cpu") -> None:
        cones = sorted(cones, key=lambda cone: cone.fine)
        self.cones, self.soft, self.crisp = cones, soft, crisp
        self.coarse = sum(not cone.fine for cone in cones)

        def column(values) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)

        a, b = column([c.a for c in cones]), column([c.b for c in cones])
        n, s = column([c.normal for c in cones]), column([c.squash for c in cones])
        dorsal = column([c.dorsal for c in cones])
        metric = (
            torch.eye(3, dtype=torch.float64) + (s * s - 1)[:, None, None] * n[:, :, None] * n[:, None, :]
        )
        ba = b - a
        ma, mb = (metric @ a[..., None])[..., 0], (metric @ ba[..., None])[..., 0]
        bb = (ba * mb).sum(1).clamp_min(1e-9)
        ra, rb = column([c.ra for c in cones]), column([c.rb for c in cones])
        quadratic = torch.stack(
            [
                metric[:, 0, 0],
                metric[:, 1, 1],
                metric[:, 2, 2],
                2 * metric[:, 0, 1],
                2 * metric[:, 0, 2],
                2 * metric[:, 1, 2],
                *(-2 * ma).T,
                (a * ma).sum(1),
            ],
            1,
        )
        linear = torch.cat([mb, -(a * mb).sum(1, keepdim=True)], 1) / bb[:, None]

        def ship(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=torch.float32).contiguous()

        self.quadratic, self.linear = ship(quadratic), ship(linear)
        self.bb, self.ra, self.dr = ship(bb[:, None]), ship(ra[:, None]), ship((rb - ra)[:, None])
        self.inverse_squash = ship(1 / s.clamp_min(1)[:, None])
        self.metric, self.ma, self.mb = ship(metric.reshape(-1, 9).T), ship(ma.T), ship(mb.T)
        self.dorsal = ship(dorsal)
        self.dorsal_a, self.dorsal_ba = (
            ship((dorsal * a).sum(1)[:, None]),
            ship((dorsal * ba).sum(1)[:, None]),
        )
        self.back = ship(column([c.back for c in cones])[:, None])
        self.pale = ship(column([c.pale for c in cones])[:, None])
        low = torch.minimum(a - ra[:, None], b - rb[:, None]).amin(0) - 0.02
        high = torch.maximum(a + ra[:, None], b + rb[:, None]).amax(0) + 0.02
        self.low, self.high = ship(low), ship(high)

    def parts(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distance to each cone, the place h on its axis and the axis distance in its metric, each [P, R]."""
        features = _features(points)
        axis = self.quadratic @ features
        u = self.linear @ features[6:]
        h = u.clamp(0, 1)
        axis.addcmul_(torch.sub(h, u, alpha=2).mul_(h), self.bb).clamp_min_(1e-10).sqrt_()
        distance = (axis - torch.addcmul(self.ra, h, self.dr)).mul_(self.inverse_squash)
        return distance, h, axis

    def _blend(self, distance: Tensor) -> Tensor:
        soft = torch.logsumexp(distance[: self.coarse] * (-1 / self.soft), 0).mul_(-self.soft)
        crisp = torch.logsumexp(distance[self.coarse :] * (-1 / self.crisp), 0).mul_(-self.crisp)
        return -self.crisp * torch.logaddexp(soft * (-1 / self.crisp), crisp * (-1 / self.crisp))

    def distance(self, points: Tensor) -> Tensor:
        """Distance of the smooth union, [R]."""
        return self._blend(self.parts(points)[0])

    def nearest(self, points: Tensor) -> Tensor:
        """Distance of the sharp union, [R]: cheaper, larger than the smooth one's by the blend."""
        return self.parts(points)[0].amin(0)

    def surface(self, points: Tensor) -> dict[str, Tensor]:
        """At points on the surface: normal [3, R], coat fields back and pale [R] (blended like the shape)."""
        distance, h, axis = self.parts(points)
        near = torch.softmax(distance[: self.coarse] * (-1 / self.soft), 0)
        far = torch.softmax(distance[self.coarse :] * (-1 / self.crisp), 0)
        soft = -self.soft * torch.logsumexp(distance[: self.coarse] * (-1 / self.soft), 0)
        crisp = -self.crisp * torch.logsumexp(distance[self.coarse :] * (-1 / self.crisp), 0)
        share = torch.sigmoid((crisp - soft) / self.crisp)
        weight = torch.cat([near * share, far * (1 - share)])
        pull = weight * self.inverse_squash / axis
        metric = (self.metric @ pull).view(3, 3, -1)
        normal = (metric * points[None]).sum(1) - self.ma @ pull - self.mb @ (pull * h)
        normal = normal / normal.norm(dim=0).clamp_min(1e-8)
        height = self.dorsal @ points - self.dorsal_a - h * self.dorsal_ba
        rise = height / torch.addcmul(self.ra, h, self.dr)
        return {
            "normal": normal,
            "back": (weight * (self.back + rise)).sum(0),
            "pale": (weight * (self.pale - 0.25 * rise)).sum(0),
        }


def march(
    field: Field,
    origin: Tensor,
    direction: Tensor,
    start: Tensor,
    end: Tensor,
    *,
    steps: int,
    precision: float,
) -> Tensor:
    """Sphere tracing of rays origin [3] or [3, R] + t direction [3, R]: t of the hit [R], inf for a miss.

    Rays that hit or leave are dropped from the work as it goes on.
    """
    found = torch.full_like(start, torch.inf)
    live = torch.nonzero(start < end)[:, 0]
    t, far, ray = start[live], end[live], direction[:, live]
    base = origin[:, live] if origin.dim() == 2 else origin[:, None]
    for step in range(steps):
        distance = field.distance(base + t * ray)
        t = t + distance
        done = distance < precision
        if step == steps - 1:
            done = done | (distance < 4 * precision)
        found[live[done]] = t[done]
        keep = torch.nonzero(~done & (t < far))[:, 0]
        if keep.numel() == 0:
            break
        live, t, far, ray = live[keep], t[keep], far[keep], ray[:, keep]
        if origin.dim() == 2:
            base = base[:, keep]
    return found
