"""Small pictures of large ones: exact means, and what spoils them in closed form."""

import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.training.degrading import (
    KERNELS,
    gaussian_blur,
    parse_degradations,
    reduce,
    shrink,
    through_jpeg,
)


def pictures(n: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_without_a_policy_each_pixel_is_the_mean_of_its_block():
    x = pictures()
    small = shrink(x, 4, "", torch.zeros(2, 3))
    for row in range(8):
        for column in range(8):
            block = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            torch.testing.assert_close(small[:, :, row, column], block.mean((2, 3)))


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_keeps_a_plain_picture_and_its_place(kernel):
    x = torch.full((1, 3, 32, 24), 0.25)
    torch.testing.assert_close(reduce(x, 4, kernel), torch.full((1, 3, 8, 6), 0.25))
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    small = reduce(ramp, 4, kernel)[0, 0, 8]
    middle = torch.linspace(-1, 1, 64).unflatten(0, (16, 4)).mean(1)
    assert (small[2:-2] - middle[2:-2]).abs().max() < 0.02  # nearest is half a pixel off at most


def test_a_blur_is_a_gaussian():
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    found = gaussian_blur(point, 2.0)[0, 0]
    distance = (torch.arange(33) - 16.0).square()
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    assert math.isclose(
        (found.sum(0) * distance).sum(), 4.0, rel_tol=0.03
    )  # its variance, cut at 3 deviations
    torch.testing.assert_close(found, found.t())
    assert gaussian_blur(point, 0.01) is point


def test_jpeg_costs_more_the_lower_its_quality():
    x = pictures(1)
    error = [(through_jpeg(x, quality) - x).square().mean().item() for quality in (95, 70, 40)]
    assert 0 < error[0] < error[1] < error[2]


def test_rows_are_spoilt_by_their_own_draws():
    x = pictures(1).expand(3, -1, -1, -1)
    draws = torch.tensor([[0.0, 0.0, 0.99], [0.9, 0.0, 0.99], [0.0, 0.6, 0.0]])
    all_of_it = shrink(x, 4, "blur, kernels, jpeg", draws)
    for row in range(3):
        alone = shrink(x[row : row + 1], 4, "blur, kernels, jpeg", draws[row : row + 1])
        assert torch.equal(alone, all_of_it[row : row + 1])
    assert all_of_it[1].std() < all_of_it[0].std()  # blurred
    assert not torch.equal(all_of_it[0], all_of_it[2])


def test_an_unknown_degradation_is_refused():
    assert parse_degradations(" blur ,jpeg,") == ("blur", "jpeg")
    with pytest.raises(WorkbenchError, match="'rain': expected some of blur, kernels, jpeg"):
        parse_degradations("blur,rain")
