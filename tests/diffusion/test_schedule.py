"""The schedule against closed forms in float64, and against diffusers' own steps."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from workbench.diffusion import schedule
from workbench.errors import WorkbenchError

EVERY = torch.arange(schedule.T)


def pictures(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(n, 3, 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
    return x0, torch.randn(n, 3, 4, 4, generator=generator, dtype=torch.float64)


def test_shares_are_on_the_circle_and_end_without_signal():
    alpha, sigma = schedule.alphas_sigmas()
    assert alpha.dtype == torch.float64
    assert (alpha.square() + sigma.square() - 1).abs().max() < 1e-15
    assert alpha[schedule.T - 1] == 0 and sigma[schedule.T - 1] == 1
    assert alpha[-1] == 1 and sigma[-1] == 0  # t = -1
    assert (alpha[:-1].diff() < 0).all()


def test_it_is_the_cosine_schedule_rescaled_to_its_end():
    """Nichol and Dhariwal's Eq. 17, betas cut at 0.999, then Lin et al.'s shift and stretch."""

    def kept(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    total, roots = 1.0, []
    for i in range(schedule.T):
        total *= 1 - min(1 - kept((i + 1) / schedule.T) / kept(i / schedule.T), 0.999)
        roots.append(math.sqrt(total))
    roots = torch.tensor(roots, dtype=torch.float64)
    wanted = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    assert (schedule.alphas_sigmas()[0][:-1] - wanted).abs().max() < 2e-6  # diffusers computes in float32


def test_picture_and_noise_come_back_from_v_at_every_step():
    x0, eps = pictures(schedule.T)
    x, v = schedule.noised(x0, eps, EVERY), schedule.velocity(x0, eps, EVERY)
    assert (schedule.x0_of(x, v, EVERY) - x0).abs().max() < 1e-14
    assert (schedule.eps_of(x, v, EVERY) - eps).abs().max() < 1e-14


def test_pure_noise_asks_for_the_picture_itself():
    x0, eps = pictures(2)
    end = torch.full((2,), schedule.T - 1)
    assert torch.equal(schedule.noised(x0, eps, end), eps)
    assert torch.equal(schedule.velocity(x0, eps, end), -x0)


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_ddim_step_is_that_of_diffusers(steps):
    scheduler = DDIMScheduler(**schedule.SETTINGS, clip_sample=True)
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps
    assert [*times.tolist(), -1] == schedule.ladder(steps)
    x0, eps = pictures(1)
    for k, t in enumerate(times):
        to = times[k + 1 : k + 2] if k + 1 < steps else torch.tensor([-1])
        x = schedule.noised(x0, eps, t[None])
        v = schedule.velocity(x0, eps, t[None]) + 0.1
        theirs = scheduler.step(v, t, x, use_clipped_model_output=True).prev_sample
        assert (schedule.ddim_step(x, v, t[None], to) - theirs).abs().max() < 1e-5


def test_ddim_step_with_the_true_v_stays_on_the_line_from_noise_to_picture():
    x0, eps = pictures(3)
    t, to = torch.tensor([999, 600, 20]), torch.tensor([700, 0, -1])
    moved = schedule.ddim_step(schedule.noised(x0, eps, t), schedule.velocity(x0, eps, t), t, to)
    wanted = torch.cat([schedule.noised(x0[:2], eps[:2], to[:2]), x0[2:]])
    assert (moved - wanted).abs().max() < 1e-12


def test_loss_weight_is_min_snr_but_for_pure_noise():
    alpha, sigma = schedule.alphas_sigmas()
    weight = schedule.loss_weight(EVERY, 5.0)
    for t in (0, 1, 250, 500, 998):
        snr = float(alpha[t] / sigma[t]) ** 2
        assert weight[t] == pytest.approx(min(snr + 1, 5.0) / (snr + 1), rel=1e-12)
    assert weight[-1] == 1.0  # pure noise
    little_noise = schedule.snr(EVERY) > 100
    theirs = 5.0 / (schedule.snr(EVERY) + 1)  # Hang et al.: min(SNR, 5) / (SNR + 1)
    assert torch.allclose(weight[little_noise], theirs[little_noise])
    assert (schedule.loss_weight(EVERY, math.inf) == 1).all()


def test_a_weight_that_weighs_nothing_is_refused():
    with pytest.raises(WorkbenchError, match="snr_gamma is 0: expected above 0"):
        schedule.loss_weight(EVERY, 0)


def test_times_cover_the_steps_evenly_and_belong_to_seed_and_step():
    times = schedule.draw_times(40, 3, 17)
    assert torch.equal(times, schedule.draw_times(40, 3, 17))
    assert not torch.equal(times, schedule.draw_times(40, 3, 18))
    gaps = times.sort().values.diff()
    assert gaps.min() >= 24 and gaps.max() <= 26
    assert not torch.equal(times, times.sort().values)
    many = torch.cat([schedule.draw_times(10, 0, step) for step in range(400)])
    assert many.double().mean() == pytest.approx(499.5, abs=2)


def test_noise_of_a_seed_does_not_depend_on_its_company():
    alone = schedule.start_noise([7], 8)
    assert torch.equal(schedule.start_noise([3, 7, 5], 8)[1:2], alone)
    assert not torch.equal(schedule.start_noise([7], 8, stream=1), alone)


def test_the_strip_goes_from_the_picture_to_its_noise():
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    strip, steps = schedule.noising(images, count=5, seeds=[4, 9])
    assert strip.shape == (5, 2, 3, 8, 8)
    assert steps[0] == 0 and steps[-1] == 999 and len(steps) == 5
    assert (strip[0] - images).abs().max() < 0.1
    assert torch.equal(strip[-1], schedule.start_noise([4, 9], 8))
    with pytest.raises(WorkbenchError, match="expected 2 or more"):
        schedule.noising(images, count=1)


@pytest.mark.parametrize("steps", [0, 1001, 2.5, True])
def test_a_ladder_without_rungs_is_refused(steps):
    with pytest.raises(WorkbenchError, match="expected a whole number from 1 to 1000"):
        schedule.ladder(steps)


def test_the_picture_itself_is_its_own_estimate():
    """The boundary of a consistency model: f(x, t_min) = x, whatever the network says."""
    x, v = pictures(2)
    assert torch.equal(schedule.x0_of(x, v, torch.tensor([-1, -1])), x)
