"""The classical ways to enlarge a picture, as matrices: what a network has to be better than.

Letters: N pictures, H x W pixels, f the whole-number factor. Pixel centres lie at half-integers, weights that
would fall outside the picture are left out and the others made to sum to 1: to the rounding what Pillow's
BICUBIC and LANCZOS do on floating-point pictures.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import WorkbenchError

Kernel = Callable[[Tensor], Tensor]


def _cubic(x: Tensor) -> Tensor:
    """Keys 1981 with a = -1/2, the cubic that reproduces quadratics; support 2."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x.square() + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    """sinc(x) sinc(x / 3), support 3 (Duchon 1979)."""
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _matrix(side: int, factor: int, kernel: Kernel) -> Tensor:
    """[side * factor, side] float32: what each new pixel takes of each old one."""
    new = (torch.arange(side * factor, dtype=torch.float64) + 0.5) / factor - 0.5
    weights = kernel(new[:, None] - torch.arange(side, dtype=torch.float64))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _enlarge(images: Tensor, factor: int, kernel: Kernel) -> Tensor:
    if images.ndim != 4 or factor < 1:
        raise WorkbenchError(
            f"Pictures of shape {list(images.shape)} are not enlarged {factor} times: expected [N, 3, H, W] "
            "and a whole factor of 1 or more."
        )
    down, across = (_matrix(side, factor, kernel).to(images) for side in images.shape[-2:])
    return down @ images @ across.T


def bicubic(images: Tensor, factor: int) -> Tensor:
    """[N, 3, H, W] -> [N, 3, f H, f W] by Keys' cubic. Overshoots beyond the range at edges."""
    return _enlarge(images, factor, _cubic)


def lanczos(images: Tensor, factor: int) -> Tensor:
    """[N, 3, H, W] -> [N, 3, f H, f W] by the windowed sinc of three lobes. Rings at edges."""
    return _enlarge(images, factor, _lanczos)


def box_mean(images: Tensor, factor: int) -> Tensor:
    """The low input of a true picture: exact means of f x f pixels. [N, 3, H, W] -> [N, 3, H / f, W / f].

    Raises WorkbenchError where f does not divide both sides.
    """
    if images.ndim != 4 or factor < 1 or any(side % factor or side < factor for side in images.shape[-2:]):
        raise WorkbenchError(
            f"Pictures of shape {list(images.shape)} have no {factor} x {factor} means: expected "
            f"[N, 3, H, W] with sides that are multiples of {factor}."
        )
    return F.avg_pool2d(images, factor)


def psnr(images: Tensor, truth: Tensor, *, most: float = 100.0) -> Tensor:
    """10 log10(2^2 / mean squared difference) of each pair in [-1, 1], in dB, `most` for equal ones: [N]."""
    error = (images - truth).double().square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(4 / error.clamp_min(4 * 10 ** (-most / 10)))).clamp_max(most)
