"""Any picture that a person gives, as the model would have drawn it: square, of its size, in [-1, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workbench.datasets.decode import opened, to_srgb
from workbench.datasets.own.fitting import fit
from workbench.errors import WorkbenchError
from workbench.images import from_uint8

MIN_SIDE, MAX_SIDE = 8, 20_000  # below there is nothing to see; from there on it is a mistake or an attack


def prepare(picture: Image.Image | str | Path | Tensor, size: int) -> Tensor:
    """A picture as [1, 3, size, size] float32 in [-1, 1]: upright sRGB on white, the largest square in its
    middle, one antialiased resampling (none where the size fits already).

    picture: a file, a PIL picture of any mode, or a float tensor [3, H, W] or [1, 3, H, W] in [-1, 1]
    (values outside are clipped). Raises WorkbenchError for what is no picture, and for sides below 8 px or
    of 20,000 px and more.
    """
    if isinstance(picture, Tensor):
        return _of_tensor(picture, size)
    if isinstance(picture, Image.Image):
        try:
            return _of_image(picture, size)
        except (ValueError, OSError, SyntaxError) as error:
            raise WorkbenchError(
                f"The picture cannot be decoded ({' '.join(str(error).split())[:100]}): save it as PNG or "
                "JPEG and give that."
            ) from error
    if not isinstance(picture, str | Path) or not str(picture):
        raise WorkbenchError(
            f"{type(picture).__name__} {str(picture)[:40]!r} is no picture: give the path of a file, a PIL "
            "picture or a tensor [3, H, W]."
        )
    try:
        with opened(Path(picture)) as image:
            return _of_image(image, size)
    except FileNotFoundError:
        raise WorkbenchError(f"There is no picture at {picture}: check the path.") from None
    except PermissionError:
        raise WorkbenchError(
            f"{picture} may not be read: change its permissions, or copy it to a folder of yours."
        ) from None


def _of_image(image: Image.Image, size: int) -> Tensor:
    _check_sides(image.width, image.height)  # before decoding
    square = fit(to_srgb(image), (size, size), "crop")
    return from_uint8(np.asarray(square)[None])


def _of_tensor(x: Tensor, size: int) -> Tensor:
    x = x.detach()[None] if x.dim() == 3 else x.detach()
    if x.dim() != 4 or x.shape[:2] != (1, 3) or not x.is_floating_point():
        raise WorkbenchError(
            f"The tensor is {x.dtype} {list(x.shape)}: expected one picture, float [3, H, W] in [-1, 1]."
        )
    if not torch.isfinite(x).all():
        raise WorkbenchError("The picture holds values that are not finite: expected numbers in [-1, 1].")
    height, width = x.shape[2:]
    _check_sides(width, height)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, :, top : top + side, left : left + side].float().cpu()
    if side != size:
        x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return x.clamp(-1, 1)


def _check_sides(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise WorkbenchError(
            f"The picture has {width} × {height} px: expected at least {MIN_SIDE} on each side. Give a "
            "larger one."
        )
    if max(width, height) >= MAX_SIDE:
        raise WorkbenchError(
            f"The picture has {width} × {height} px: expected less than {MAX_SIDE:,} on each side. Shrink it "
            "in a picture program."
        )
