"""Ways to bring pictures to the size that a feature network reads, by name: each gives another distance.

Letters: N pictures of H x W pixels, S pixels of the new side. Parmar et al. 2022 ("clean-fid") measured how
far the way of resizing alone moves FID.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError


def _torch(mode: str, antialias: bool) -> Callable[[Tensor, int], Tensor]:
    smooth = {} if mode == "nearest" else {"antialias": antialias, "align_corners": False}
    return lambda x, side: F.interpolate(x, size=(side, side), mode=mode, **smooth)


def _tf1(x: Tensor, side: int) -> Tensor:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(x, size=(side, side), align_corners=False)


def _pillow(kernel: Image.Resampling) -> Callable[[Tensor, int], Tensor]:
    """Channel by channel on floating-point pictures, so that nothing is rounded on the way."""

    def resize(x: Tensor, side: int) -> Tensor:
        planes = [Image.fromarray(plane) for plane in x.flatten(0, 1).cpu().numpy()]
        small = np.stack([np.asarray(plane.resize((side, side), kernel)) for plane in planes])
        return torch.from_numpy(small).unflatten(0, x.shape[:2]).to(x.device)

    return resize


# name -> (what it is, function of float pictures and a side)
RESIZERS: dict[str, tuple[str, Callable[[Tensor, int], Tensor]]] = {
    "tf1": ("bilinear as in TensorFlow 1, not antialiased: torch-fidelity's and the first FID's", _tf1),
    "nearest": ("the nearest pixel", _torch("nearest", False)),
    "bilinear": ("bilinear, not antialiased", _torch("bilinear", False)),
    "antialias": ("bilinear, antialiased", _torch("bilinear", True)),
    "bicubic": ("bicubic, antialiased", _torch("bicubic", True)),
    "clean": (
        "Pillow's bicubic on floating-point pictures, as in clean-fid",
        _pillow(Image.Resampling.BICUBIC),
    ),
    "lanczos": ("Pillow's Lanczos on floating-point pictures", _pillow(Image.Resampling.LANCZOS)),
}


def check_resizer(name: str) -> str:
    """The name of a resizer; a WorkbenchError for any other."""
    if name not in RESIZERS:
        raise WorkbenchError(f"The resizer {name!r} is not known: expected one of {', '.join(RESIZERS)}.")
    return name


def resize(pictures: Tensor, side: int, resizer: str) -> Tensor:
    """Pictures [N, 3, H, W], uint8 or float in 0 … 255 -> float32 [N, 3, side, side]; as they are where the
    size fits already. Not rounded, and clipped to 0 … 255 where the kernel overshoots.
    """
    x = pictures.float()
    if x.shape[-2:] == (side, side):
        return x
    return RESIZERS[check_resizer(resizer)][1](x, side).clamp(0, 255)


def described(resolution: int, side: int, resizer: str) -> str:
    """What happens to pictures of `resolution` px before features of `side` px, for a statement."""
    return f"not resized, {side} px" if resolution == side else f"{resizer} to {side} px"
