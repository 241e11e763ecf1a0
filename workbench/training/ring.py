"""Two generators of points in the plane, each trained in seconds: a GAN and a diffusion model on one ring.

The ring is a mixture of round Gaussians whose centres lie evenly on the unit circle: the smallest data set on
which a generator can forget a mode, and everything about it is known in closed form. Letters: N points
[N, 2], T noise levels, z [N, 2] ~ N(0, I). Seeded and deterministic on one machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.training.losses import d_nonsaturating, d_relativistic, g_nonsaturating, g_relativistic

Z_DIM = 2
NEAR = 3.0  # a point within so many deviations of a centre belongs to its mode: 98.9 % of true points do
_DISPLAYED_SEED = 1  # of the points that a film follows, another than that of the training


@dataclass(frozen=True, kw_only=True)
class Ring:
    """modes: number of Gaussians, at least 2; deviation: of each in each direction, the radius being 1."""

    modes: int = 8
    deviation: float = 0.07

    def __post_init__(self) -> None:
        if self.modes < 2:
            raise WorkbenchError(f"modes is {self.modes}: expected at least 2 Gaussians on the ring.")
        if not 0 < self.deviation < 1:
            raise WorkbenchError(
                f"deviation is {self.deviation}: expected between 0 and 1, the ring's radius."
            )

    def centres(self) -> Tensor:
        """[modes, 2], counter-clockwise from (1, 0)."""
        angle = torch.arange(self.modes) * (2 * math.pi / self.modes)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def points(self, n: int, generator: torch.Generator) -> Tensor:
        """n points of the data, [n, 2]."""
        mode = torch.randint(self.modes, (n,), generator=generator)
        return self.centres()[mode] + self.deviation * torch.randn(n, 2, generator=generator)

    def coverage(self, points: Tensor) -> Coverage:
        """Which modes `points` [N, 2] reach, and how many lie on none."""
        distance = torch.cdist(points.float(), self.centres())
        near = distance.min(dim=1).values <= NEAR * self.deviation
        shares = torch.bincount(distance.argmin(dim=1)[near], minlength=self.modes) / len(points)
        # a mode counts once it has a fifth of what it should have
        return Coverage(
            modes=int((shares >= 0.2 / self.modes).sum()), near=near.float().mean().item(), shares=shares
        )


@dataclass(frozen=True)
class Coverage:
    """modes: Gaussians that get at least a fifth of their due; near: share of points on any mode; shares:
    [modes] of all points.
    """

    modes: int
    near: float
    shares: Tensor


@dataclass
class Trained:
    """What a training leaves: sample(n, generator, ...) -> [n, 2]; film: step -> the same draws, [256, 2];
    seconds of training; judge: D of the GAN, None for diffusion.
    """

    sample: Callable[..., Tensor]
    film: dict[int, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    judge: nn.Module | None = None


def mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Three hidden layers of leaky ReLU; SiLU would do as well."""
    sizes = (inputs, width, width, width)
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


def check_steps(steps: int, film: Sequence[int]) -> None:
    """Refuse a training without a step, and a film of steps that never come."""
    if steps < 1:
        raise WorkbenchError(f"steps is {steps}: expected at least 1.")
    if stray := [step for step in film if not 0 <= step <= steps]:
        raise WorkbenchError(
            f"film names the steps {stray} of a training of {steps}: give steps from 0 to {steps}."
        )


# --- the GAN ------------------------------------------------------------------------------------------------


def train_gan(
    ring: Ring,
    *,
    steps: int,
    seed: int = 0,
    film: Sequence[int] = (),
    gamma: float = 0.2,
    paired: bool = True,
    beta1: float = 0.0,
) -> Trained:
    """G and D play `steps` rounds of 256 points; the loss with R1 and R2 penalties of weight `gamma` / 2.

    paired: D compares each made point with a real one (relativistic, R3GAN) instead of judging it alone
    (Goodfellow et al. 2014). beta1: momentum of Adam. With gamma = 0 and beta1 = 0.9 the points run from mode
    to mode and reach a few only; this lineage trains with beta1 = 0 (StyleGAN2, GigaGAN).
    """
    check_steps(steps, film)
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G, D = mlp(Z_DIM, 64, 2), mlp(2, 64, 1)
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), lr=2e-3, betas=(beta1, 0.99)) for net in (G, D))
    d_loss, g_loss = (
        (d_relativistic, g_relativistic) if paired else (d_nonsaturating, lambda r, f: g_nonsaturating(f))
    )

    def sample(n: int, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            return G(torch.randn(n, Z_DIM, generator=generator))

    out = Trained(sample=sample, judge=D)
    for step in range(steps + 1):
        if step in film:
            out.film[step] = sample(256, torch.Generator().manual_seed(_DISPLAYED_SEED))
        if step == steps:
            break
        for group in (*opt_G.param_groups, *opt_D.param_groups):
            group["lr"] = 2e-3 * (1 - 0.9 * step / steps)  # late rounds only settle
        real, z = ring.points(256, generator), torch.randn(256, Z_DIM, generator=generator)
        made = G(z)
        loss = d_loss([D(real)[:, 0]], [D(made.detach())[:, 0]])
        if gamma > 0:
            loss = loss + gamma / 2 * (slope(D, real) + slope(D, made))
        _update(opt_D, loss)
        _update(opt_G, g_loss([D(real)[:, 0].detach()], [D(made)[:, 0]]))
    out.seconds = time.perf_counter() - started
    return out


def slope(D: nn.Module, x: Tensor) -> Tensor:
    """E |grad_x D(x)|^2 at points x [N, 2] -> [] (Mescheder et al. 2018)."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return gradient.square().sum(1).mean()


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


# --- diffusion ----------------------------------------------------------------------------------------------


def signal_shares(levels: int) -> Tensor:
    """alpha_bar_t of the cosine schedule for t = 0 .. levels, [levels + 1] float64 from 1 down to almost 0.

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise (Ho et al. 2020; schedule of Nichol and Dhariwal
    2021, Eq. 17, offset 0.008).
    """
    t = torch.arange(levels + 1, dtype=torch.float64) / levels
    share = ((t + 0.008) / 1.008 * (math.pi / 2)).cos().square()
    return (share / share[0]).clamp(min=1e-5)


def ideal_noise(ring: Ring, x: Tensor, share: float) -> Tensor:
    """E[noise | x_t = x] of the ring in closed form, [N, 2] -> [N, 2]; what a perfect network would predict.

    Given mode m, x_t is Gaussian about sqrt(share) c_m with variance v = share s^2 + 1 - share; the noise is
    sqrt(1 - share) (x - sqrt(share) c_m) / v on average, and the modes weigh as a softmax of -|.|^2 / 2v.
    """
    variance = share * ring.deviation**2 + 1 - share
    apart = x[:, None] - math.sqrt(share) * ring.centres().to(x.dtype)
    weight = (-apart.square().sum(2) / (2 * variance)).softmax(dim=1)
    return math.sqrt(1 - share) / variance * (weight[..., None] * apart).sum(1)


def denoise(
    noise_of: Callable[[Tensor, int], Tensor], x: Tensor, levels: int, steps: int, generator: torch.Generator
) -> list[Tensor]:
    """From noise x [N, 2] to points in `steps` calls of noise_of(x, t): the states on the way, steps + 1 of
    them.

    Each call guesses x_0 and goes to the next lower level by drawing from q(x_s | x_t, x_0), which is
    Gaussian (Ho et al. 2020, Eq. 6-7, written for any two levels s < t).
    """
    if not 1 <= steps <= levels:
        raise WorkbenchError(f"steps is {steps}: expected 1 to {levels}, the number of noise levels.")
    share, path = signal_shares(levels).tolist(), [x]
    times = torch.linspace(levels, 0, steps + 1).round().int().tolist()
    for t, s in pairwise(times):
        guess = (x - math.sqrt(1 - share[t]) * noise_of(x, t)) / math.sqrt(share[t])
        guess = guess.clamp(-1.5, 1.5)  # at the noisiest level the division would magnify every error
        kept = share[t] / share[s]
        mean = math.sqrt(kept) * (1 - share[s]) * x + math.sqrt(share[s]) * (1 - kept) * guess
        deviation = math.sqrt((1 - kept) * (1 - share[s]) / (1 - share[t]))
        x = mean / (1 - share[t]) + deviation * torch.randn(x.shape, generator=generator)
        path.append(x)
    return path


def train_diffusion(
    ring: Ring, *, steps: int, seed: int = 0, film: Sequence[int] = (), levels: int = 50
) -> Trained:
    """A network learns to name the noise in noisy points: mean squared error, `steps` batches of 512.

    sample(n, generator, steps=levels, path=False) of the result: fewer steps are faster and worse; path=True
    gives all states on the way.
    """
    check_steps(steps, film)
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = mlp(2 + 8, 96, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    share = signal_shares(levels).float()
    waves = torch.arange(1, 5) * (math.pi / 2)

    def noise_of(x: Tensor, t: Tensor | int) -> Tensor:
        phase = (torch.as_tensor(t).expand(len(x))[:, None] / levels) * waves
        return network(torch.cat([x, phase.sin(), phase.cos()], dim=1))

    def sample(n: int, generator: torch.Generator, *, steps: int = levels, path: bool = False):
        start = torch.randn(n, 2, generator=generator)
        with torch.no_grad():
            states = denoise(noise_of, start, levels, steps, generator)
        return states if path else states[-1]

    out = Trained(sample=sample)
    for step in range(steps + 1):
        if step in film:
            out.film[step] = sample(256, torch.Generator().manual_seed(_DISPLAYED_SEED))
        if step == steps:
            break
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - 0.9 * step / steps)
        clean, noise = ring.points(512, generator), torch.randn(512, 2, generator=generator)
        t = torch.randint(1, levels + 1, (512,), generator=generator)
        noisy = share[t].sqrt()[:, None] * clean + (1 - share[t]).sqrt()[:, None] * noise
        _update(optimizer, F.mse_loss(noise_of(noisy, t), noise))
    out.seconds = time.perf_counter() - started
    return out
