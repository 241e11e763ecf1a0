"""The two toy generators on the ring: the data, the schedule and the sampler against closed forms."""

import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.training import ring as toys

RING = toys.Ring()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_points_have_the_moments_of_the_mixture():
    """Mean 0; E|x|^2 = 1 + 2 s^2, the radius and two independent deviations."""
    points = RING.points(40_000, generator())
    assert points.mean(0).abs().max() < 0.02
    assert points.square().sum(1).mean().item() == pytest.approx(1 + 2 * RING.deviation**2, abs=0.004)


def test_coverage_counts_modes_and_what_lies_on_none():
    true = RING.coverage(RING.points(20_000, generator()))
    assert true.modes == RING.modes
    assert true.near == pytest.approx(1 - math.exp(-(toys.NEAR**2) / 2), abs=0.003)  # Rayleigh
    assert true.shares.sum().item() == pytest.approx(true.near, abs=1e-6)
    lost = RING.coverage(torch.cat([RING.centres()[:1].expand(6, 2), torch.zeros(2, 2)]))
    assert (lost.modes, lost.near) == (1, 0.75)


def test_the_schedule_starts_clean_ends_in_noise_and_only_falls():
    share = toys.signal_shares(50)
    assert share[0] == 1 and share[-1] < 1e-4
    assert (share.diff() < 0).all()
    angle = math.pi / 2 * (0.5 + 0.008) / 1.008  # written out for t = T / 2
    start = math.pi / 2 * 0.008 / 1.008
    assert share[25].item() == pytest.approx((math.cos(angle) / math.cos(start)) ** 2, abs=1e-12)


def test_the_ideal_noise_is_the_mean_over_draws():
    """E[noise | x_t near a place] by brute force: many noisy points, those that fell into a small disc."""
    share, place = 0.6, torch.tensor([[0.5, 0.3]])
    clean, noise = RING.points(2_000_000, generator()), torch.randn(2_000_000, 2, generator=generator(1))
    noisy = math.sqrt(share) * clean + math.sqrt(1 - share) * noise
    inside = (noisy - place).norm(dim=1) < 0.03
    assert inside.sum() > 300
    assert torch.allclose(noise[inside].mean(0), toys.ideal_noise(RING, place, share)[0], atol=0.1)


def test_a_perfect_denoiser_gives_the_ring_back_and_one_step_gives_its_middle():
    """The sampler alone, without any network: the closed form in place of one."""
    share = toys.signal_shares(50).tolist()

    def draw(steps: int) -> torch.Tensor:
        noise = torch.randn(3000, 2, generator=generator())
        return toys.denoise(lambda x, t: toys.ideal_noise(RING, x, share[t]), noise, 50, steps, generator(1))[
            -1
        ]

    many, one = draw(50), draw(1)
    found = RING.coverage(many)
    assert found.modes == RING.modes and found.near > 0.97
    assert found.shares.std() < 0.03
    assert one.norm(dim=1).max() < 0.2  # the best guess from pure noise is the mean of all data


def test_the_path_has_a_state_for_every_call():
    calls = []

    def noise_of(x, t):
        calls.append(t)
        return torch.zeros_like(x)

    path = toys.denoise(noise_of, torch.zeros(4, 2), 50, 5, generator())
    assert len(path) == 6 and calls == [50, 40, 30, 20, 10]


@pytest.mark.parametrize("train", [toys.train_gan, toys.train_diffusion])
def test_a_training_is_the_same_twice_and_films_what_was_asked(train):
    first, second = (train(RING, steps=3, seed=4, film=(0, 3)) for _ in range(2))
    assert list(first.film) == [0, 3]
    assert all(torch.equal(first.film[k], second.film[k]) for k in (0, 3))
    assert not torch.equal(first.film[0], first.film[3])
    other = train(RING, steps=3, seed=5)
    assert not torch.equal(first.sample(8, generator()), other.sample(8, generator()))


def test_the_gan_reaches_every_mode_in_one_step():
    made = toys.train_gan(RING, steps=400).sample(2000, generator())
    found = RING.coverage(made)
    assert found.modes == RING.modes and found.near > 0.5


def test_momentum_without_a_penalty_loses_modes():
    made = toys.train_gan(RING, steps=400, gamma=0.0, paired=False, beta1=0.9).sample(2000, generator())
    assert RING.coverage(made).modes <= RING.modes // 2


def test_diffusion_gets_better_with_more_steps():
    trained = toys.train_diffusion(RING, steps=600)
    near = [RING.coverage(trained.sample(2000, generator(), steps=n)).near for n in (1, 4, 50)]
    assert near == sorted(near) and near[0] < 0.1 and near[-1] > 0.4


def test_the_slope_of_a_linear_judge_is_its_square():
    judge = torch.nn.Linear(2, 1)
    expected = judge.weight.square().sum().item()
    assert toys.slope(judge, torch.randn(5, 2)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: toys.Ring(modes=1), "modes is 1: expected at least 2"),
        (lambda: toys.Ring(deviation=0), "deviation is 0: expected between 0 and 1"),
        (lambda: toys.train_gan(RING, steps=0), "steps is 0: expected at least 1"),
        (lambda: toys.train_diffusion(RING, steps=2, film=(3,)), r"film names the steps \[3\]"),
        (lambda: toys.denoise(None, torch.zeros(1, 2), 50, 51, None), "steps is 51: expected 1 to 50"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(WorkbenchError, match=message):
        make()
