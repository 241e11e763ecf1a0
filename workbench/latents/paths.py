"""Paths between pictures: through z on the sphere, through w in a straight line, between prompts, or all.

A curve is a function from positions t [N] in [0, 1] to N points. It knows nothing of speed: `pace.py` chooses
the positions so that every frame differs from the last by the same amount to the eye.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.latents.captions import between, read
from workbench.latents.points import Points, from_w, from_z
from workbench.noise import check_seed, draw_z
from workbench.pipeline import Pipeline

Curve = Callable[[Tensor], Points]
KINDS = ("z", "w", "prompt", "both")


@dataclass(frozen=True)
class Key:
    """A picture that a path goes through: prompt (with marks such as (snow:1.4)), seed, and words that the
    prompt is led away from.
    """

    prompt: str
    seed: int
    negative: str = ""


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a + t (b - a): [1, d] or [N, d] each, t [N] -> [N, d]; exactly a at 0 and b at 1."""
    return torch.lerp(a, b, t.view(-1, *[1] * (a.dim() - 1)).to(a))


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Along the great circle: sin((1-t) o) / sin(o) a + sin(t o) / sin(o) b, o the angle between a and b.

    Lengths go linearly from |a| to |b|, because z is normal and its length all but fixed. [1, d], [1, d],
    t [N] -> [N, d]. Near 0 or 180 degrees, where the circle is not defined, the straight line.
    """
    t = t.to(a).view(-1, 1)
    lengths = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(-1, keepdim=True) / (lengths[0] * lengths[1]).clamp_min(1e-12)
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    straight = torch.lerp(a.expand(len(t), -1), b.expand(len(t), -1), t)
    around = ((1 - t) * angle).sin() / sine * a / lengths[0] + (t * angle).sin() / sine * b / lengths[1]
    curved = around * torch.lerp(lengths[0], lengths[1], t)
    return torch.where(sine > 1e-4, curved, straight)


def curve(pipeline: Pipeline, keys: Sequence[Key], kind: str = "both", *, loop: bool = False) -> Curve:
    """The curve through `keys` in equal times.

    kind: "z" turns the seeds under the first prompt, "prompt" keeps the first seed and mixes the prompts,
    "both" does both at once, "w" goes straight from w to w (and the captions along). loop: back to the first.
    Raises WorkbenchError for an unknown kind, fewer than two keys, or keys between which nothing changes.
    """
    if kind not in KINDS:
        raise WorkbenchError(f"There is no path {kind!r}: choose one of {', '.join(KINDS)}.")
    if len(keys) < 2:
        raise WorkbenchError(f"A path needs two pictures or more, got {len(keys)}: add one.")
    for key in keys:
        check_seed(key.seed)
    stops = [*keys, keys[0]] if loop else list(keys)
    what = {"z": {key.seed for key in keys}, "prompt": {(key.prompt, key.negative) for key in keys}}
    if len(what.get(kind, set(keys))) < 2:
        same = "prompts" if kind == "prompt" else "seeds" if kind == "z" else "pictures"
        raise WorkbenchError(f"All {same} of this path are the same: change one, or take another path.")
    legs = _Legs(pipeline, stops, kind)
    return legs.at


class _Legs:
    """The straight or curved pieces of a path."""

    def __init__(self, pipeline: Pipeline, stops: Sequence[Key], kind: str) -> None:
        self.pipeline, self.kind, self.count = pipeline, kind, len(stops) - 1
        held = stops[0]
        said = [held if kind == "z" else stop for stop in stops]
        seeds = [held.seed if kind == "prompt" else stop.seed for stop in stops]
        self.texts = [read(pipeline, key.prompt, negative=key.negative) for key in said]
        self.z = draw_z(seeds, pipeline.G.config.z_dim).to(pipeline.device)
        self.w = None
        if kind == "w":
            ends = [from_z(pipeline, self.z[k : k + 1], text) for k, text in enumerate(self.texts)]
            self.w = torch.cat([end.ws for end in ends])

    def at(self, t: Tensor) -> Points:
        """Points at t [N] in [0, 1]."""
        t = torch.as_tensor(t, dtype=torch.float32)
        if t.dim() != 1 or not torch.isfinite(t).all() or ((t < 0) | (t > 1)).any():
            raise WorkbenchError(f"Positions on a path are numbers from 0 to 1, got {t.tolist()!r:.60}.")
        leg = (t * self.count).floor().clamp(max=self.count - 1).long()
        parts = [self._leg(int(k), t[leg == k] * self.count - k) for k in leg.unique()]
        order = torch.cat([torch.nonzero(leg == k)[:, 0] for k in leg.unique()])
        return Points.cat(parts)[order.argsort()]

    def _leg(self, k: int, t: Tensor) -> Points:
        a, b = self.texts[k], self.texts[k + 1]
        text = None if a is None else between(a, b, t.to(a.t_global.device))
        if self.w is not None:
            return from_w(self.pipeline, lerp(self.w[k : k + 1], self.w[k + 1 : k + 2], t), text)
        return from_z(self.pipeline, slerp(self.z[k : k + 1], self.z[k + 1 : k + 2], t), text)
