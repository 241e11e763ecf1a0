"""The spectrum: sinusoids land in their ring, power sums to the variance, blur takes detail away."""

import math

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import WorkbenchError
from workbench.evaluation.spectrum import power_kept, ring_power, waves

SIDE = 64


def wave(periods_down: float, periods_across: float, side: int = SIDE) -> torch.Tensor:
    t = torch.arange(side) / side * 2 * math.pi
    return torch.sin(periods_down * t[:, None] + periods_across * t).expand(1, 3, side, side)


def noise(n: int = 8, side: int = SIDE) -> torch.Tensor:
    x = torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(0))
    return (0.2 * x).expand(n, 3, side, side)


@pytest.mark.parametrize(("down", "across", "ring"), [(0, 10, 10), (12, 0, 12), (6, 8, 10), (20, 21, 29)])
def test_a_sinusoid_lands_in_its_ring(down, across, ring):
    power = (ring_power(wave(down, across)) * waves(SIDE))[0]
    near = power[ring - 3 : ring + 4]
    assert near.sum() > 0.999 * power.sum()  # the window spreads it to its neighbours
    assert power.argmax().item() in (ring - 1, ring, ring + 1)


def test_power_sums_to_the_variance_and_noise_has_as_much_everywhere():
    power = ring_power(noise(32)).mean(0)
    assert (power @ waves(SIDE)).item() == pytest.approx(0.04, rel=0.02)
    flat = power[3:40] * SIDE**2
    assert flat.mean().item() == pytest.approx(0.04, rel=0.02) and flat.std() / flat.mean() < 0.1


def test_a_plain_picture_has_no_power_whatever_its_brightness():
    assert ring_power(torch.full((1, 3, SIDE, SIDE), 0.7)).max() < 1e-20


def test_every_wave_is_in_one_ring():
    for side in (8, 9, 64):
        assert waves(side).sum().item() == side**2


def test_a_turned_picture_has_the_same_spectrum_and_a_batch_is_its_pictures():
    x = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    power = ring_power(x)
    torch.testing.assert_close(power, torch.cat([ring_power(one[None]) for one in x]))
    torch.testing.assert_close(power[:, 4:], ring_power(x.transpose(2, 3))[:, 4:])


def test_power_kept():
    truth = ring_power(noise()).mean(0)
    assert power_kept(truth, truth, side=SIDE, above=0.25) == 1
    assert power_kept(ring_power(0.5 * noise()).mean(0), truth, side=SIDE, above=0.25) == pytest.approx(0.25)
    blurred = ring_power(F.avg_pool2d(noise(), 3, 1, 1)).mean(0)
    kept = [power_kept(blurred, truth, side=SIDE, above=above) for above in (0.0, 0.125, 0.25)]
    assert 1 > kept[0] > kept[1] > kept[2] > 0


@pytest.mark.parametrize("shape", [(1, 3, 8, 16), (1, 1, 8, 8), (3, 8, 8), (1, 3, 2, 2)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(WorkbenchError, match="have no rings"):
        ring_power(torch.zeros(shape))
