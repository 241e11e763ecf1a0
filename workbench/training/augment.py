"""DiffAugment: the same kinds of random change on real and generated pictures, differentiable (Zhao et al.
2020), on all of them or on as many as a controller asks for (ADA, Karras et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.training.shares import WHOLE, Share


def _uniform(x: Tensor, generator: torch.Generator, share: Share, low: float, high: float) -> Tensor:
    draw = torch.rand(share.total(len(x)), 1, 1, 1, generator=generator) * (high - low) + low
    return share.own(draw).to(device=x.device, dtype=x.dtype)


def color(x: Tensor, generator: torch.Generator, share: Share = WHOLE) -> Tensor:
    """Brightness +-0.5 of [0, 1] scale, saturation x [0, 2], contrast x [0.5, 1.5]."""
    x = x + _uniform(x, generator, share, -0.5, 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * _uniform(x, generator, share, 0.0, 2.0)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * _uniform(x, generator, share, 0.5, 1.5)


def translation(
    x: Tensor, generator: torch.Generator, share: Share = WHOLE, *, reach: float = 0.125
) -> Tensor:
    """Shift by up to `reach` of the side both ways; what comes in from outside is the repeated border."""
    n, _, h, w = x.shape
    most = round(h * reach)
    shift = torch.randint(-most, most + 1, (2, share.total(n), 1), generator=generator)
    shift = share.own(shift, dim=1)
    rows = (torch.arange(h) + shift[0]).clamp(0, h - 1).to(x.device)
    columns = (torch.arange(w) + shift[1]).clamp(0, w - 1).to(x.device)
    batch = torch.arange(n, device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def cutout(x: Tensor, generator: torch.Generator, share: Share = WHOLE, *, side: float = 0.5) -> Tensor:
    """Blank a square of `side` times the picture's side at a random place."""
    n, _, h, w = x.shape
    half = round(h * side) // 2
    centre = share.own(torch.randint(0, h, (2, share.total(n), 1), generator=generator), dim=1)
    rows = ((torch.arange(h) - centre[0]).abs() <= half).to(x.device)
    columns = ((torch.arange(w) - centre[1]).abs() <= half).to(x.device)
    keep = ~(rows[:, None, :, None] & columns[:, None, None, :])
    return x * keep


Augmentation = Callable[[Tensor, torch.Generator, Share], Tensor]
KINDS: dict[str, Augmentation] = {
    "color": color,
    "translation": translation,
    "cutout": cutout,
}


def augmentations(policy: str) -> list[Augmentation]:
    """The functions of a comma-separated policy, "" = none. Raises WorkbenchError for an unknown name."""
    names = [name.strip() for name in policy.split(",") if name.strip()]
    if unknown := [name for name in names if name not in KINDS]:
        raise WorkbenchError(
            f"unknown augmentation {unknown}: choose from {', '.join(KINDS)}, or leave it empty."
        )
    return [KINDS[name] for name in names]


def augment(
    x: Tensor,
    policy: str,
    generator: torch.Generator,
    share: Share = WHOLE,
    *,
    probability: Tensor | None = None,
) -> Tensor:
    """Apply a policy to pictures [N, 3, S, S] in [-1, 1]; each picture draws its own change. Gradients pass
    through. share: the part of a batch that x is; each picture's change is then the one it has in the whole.
    probability: of each kind of change for each picture, 0-d; None = always.
    """
    for function in augmentations(policy):
        chosen = None if probability is None else _uniform(x, generator, share, 0.0, 1.0) < probability
        changed = function(x, generator, share)
        x = changed if chosen is None else torch.where(chosen, changed, x)
    return x


class Adaptive(nn.Module):
    """How often pictures are changed: often enough that those who judge stay unsure of training pictures.

    r_t, the mean sign of the logits of training pictures, is 0 for a judge that tells nothing and 1 for one
    that knows them all by heart; p moves towards where r_t is `target` (Karras et al. 2020, Sec. 3.2, who
    found 0.6 good), from 0 to 1 in `kimg` thousand images at the fastest. p is a buffer: a checkpoint holds
    it.
    """

    def __init__(self, target: float, kimg: float) -> None:
        super().__init__()
        self.target, self.kimg = target, kimg
        self.register_buffer("p", torch.zeros(()))

    @torch.no_grad()
    def move(self, r_t: Tensor, images: int) -> Tensor:
        """Change p after a step of `images` pictures; returns it."""
        self.p += torch.sign(r_t - self.target) * images / (1000 * self.kimg)
        return self.p.clamp_(0.0, 1.0).clone()
