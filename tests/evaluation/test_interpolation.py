"""The classical enlargers against Pillow, box means and PSNR against closed forms."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio

from workbench.errors import WorkbenchError
from workbench.evaluation.interpolation import bicubic, box_mean, lanczos, psnr


def pictures(n: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("enlarge", "filter"), [(bicubic, Image.Resampling.BICUBIC), (lanczos, Image.Resampling.LANCZOS)]
)
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_enlarging_is_pillows(enlarge, filter, factor):
    x = pictures(1, 12, 20)
    channels = [Image.fromarray(plane.numpy()) for plane in x[0]]
    theirs = [np.asarray(c.resize((20 * factor, 12 * factor), filter)) for c in channels]
    torch.testing.assert_close(enlarge(x, factor)[0], torch.tensor(np.stack(theirs)), atol=2e-6, rtol=0)


@pytest.mark.parametrize("enlarge", [bicubic, lanczos])
def test_a_plain_picture_stays_plain(enlarge):
    torch.testing.assert_close(enlarge(torch.full((1, 3, 5, 9), 0.3), 4), torch.full((1, 3, 20, 36), 0.3))


def test_bicubic_keeps_a_straight_ramp_inside():
    ramp = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
    step = bicubic(ramp, 4)[0, 0, 0, 8:-8].diff()
    torch.testing.assert_close(step, torch.full_like(step, 2 / 15 / 4), atol=1e-6, rtol=0)


def test_box_means_are_exact_and_enlarging_cannot_undo_them():
    x = pictures(2, 16, 32)
    low = box_mean(x, 4)
    assert low.shape == (2, 3, 4, 8)
    torch.testing.assert_close(low[1, 2, 3, 5], x[1, 2, 12:16, 20:24].mean())


def test_psnr_of_a_constant_offset_and_torchmetrics():
    x = pictures(3, 16, 16) * 0.5
    offset = psnr(x + 0.02, x)  # 20 log10(2 / 0.02)
    torch.testing.assert_close(offset, torch.full((3,), 40.0, dtype=torch.float64), atol=1e-4, rtol=0)
    theirs = peak_signal_noise_ratio(
        pictures(3, 16, 16, 1), x, data_range=2.0, dim=(1, 2, 3), reduction="none"
    )
    torch.testing.assert_close(psnr(pictures(3, 16, 16, 1), x).float(), theirs)
    assert psnr(x, x).tolist() == [100.0] * 3


def test_refusals():
    with pytest.raises(WorkbenchError, match=r"\[1, 3, 10, 16\].*no 4 x 4 means"):
        box_mean(pictures(1, 10, 16), 4)
    with pytest.raises(WorkbenchError, match="not enlarged 0 times"):
        bicubic(pictures(1, 8, 8), 0)
    with pytest.raises(WorkbenchError, match="not enlarged 4 times"):
        lanczos(pictures(1, 8, 8)[0], 4)
