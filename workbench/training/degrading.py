"""From a picture to the small one that an upsampler is given: exact means, or what cameras and the web do.

Everything drawn is a function of the generator and of the row's place in the whole batch, so that shares of a
batch see what the whole would. Letters: N pictures, H x W pixels, f the factor.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError

DEGRADATIONS = ("blur", "kernels", "jpeg")
BLUR_MAX = 0.6  # deviation of the Gaussian in pixels of the small picture
KERNELS = ("box", "bilinear", "bicubic", "nearest")
QUALITY = (40, 96)  # of the JPEG


def parse_degradations(policy: str) -> tuple[str, ...]:
    """The names in a comma-separated policy. Raises WorkbenchError for one that is not known."""
    names = tuple(part.strip() for part in policy.split(",") if part.strip())
    if unknown := [name for name in names if name not in DEGRADATIONS]:
        raise WorkbenchError(
            f"degradations names {unknown[0]!r}: expected some of {', '.join(DEGRADATIONS)}, separated by "
            "commas, or nothing."
        )
    return names


def shrink(pictures: Tensor, factor: int, policy: str, draws: Tensor) -> Tensor:
    """[N, 3, H, W] in [-1, 1] -> [N, 3, H/f, W/f] by the exact mean of f x f pixels, or by `policy`.

    draws [N, 3]: numbers in [0, 1) that decide blur, kernel and JPEG of each row.
    """
    names = parse_degradations(policy)
    if not names:
        return F.avg_pool2d(pictures, factor)
    rows = []
    for picture, (blur, kernel, jpeg) in zip(pictures[:, None], draws.tolist(), strict=True):
        if "blur" in names:
            picture = gaussian_blur(picture, blur * BLUR_MAX * factor)
        kind = KERNELS[int(kernel * len(KERNELS))] if "kernels" in names else "box"
        small = reduce(picture, factor, kind)
        if "jpeg" in names:
            small = through_jpeg(small, round(QUALITY[0] + jpeg * (QUALITY[1] - QUALITY[0])))
        rows.append(small)
    return torch.cat(rows)


def reduce(picture: Tensor, factor: int, kernel: str) -> Tensor:
    """[N, 3, H, W] -> [N, 3, H/f, W/f] by one of KERNELS; "nearest" takes a pixel near the middle of each
    block.
    """
    if kernel == "box":
        return F.avg_pool2d(picture, factor)
    if kernel == "nearest":
        return picture[..., factor // 2 :: factor, factor // 2 :: factor].contiguous()
    size = (picture.shape[-2] // factor, picture.shape[-1] // factor)
    small = F.interpolate(picture, size=size, mode=kernel, antialias=True, align_corners=False)
    return small.clamp(-1, 1)


def gaussian_blur(picture: Tensor, deviation: float) -> Tensor:
    """Convolution with a Gaussian, the border repeated; a deviation below 0.05 pixels changes nothing."""
    if deviation < 0.05:
        return picture
    reach = min(math.ceil(3 * deviation), min(picture.shape[-2:]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / deviation).square())
    taps = (taps / taps.sum()).to(picture)
    c = picture.shape[1]
    wide = F.pad(picture, (reach, reach, reach, reach), mode="replicate")
    wide = F.conv2d(wide, taps.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
    return F.conv2d(wide, taps.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)


def through_jpeg(picture: Tensor, quality: int) -> Tensor:
    """[1, 3, H, W] in [-1, 1] -> the same after JPEG at a quality."""
    pixels = ((picture[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    back = np.array(Image.open(file))
    return torch.from_numpy(back).permute(2, 0, 1)[None].float().div(127.5).sub(1).to(picture.device)
