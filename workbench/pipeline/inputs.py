"""What goes into an upscaler, checked and made ready: pictures, seeds, noise, and who asks for the end.

Letters: N pictures of H x W pixels, [N, 3, H, W] in [-1, 1].
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.images import MAX_PIXELS
from workbench.noise import MAX_SEED, check_seed, draw_z

MAX_SIDE = 2**16 - 1
Stop = threading.Event | Callable[[], bool] | None
_NOISE_STREAM = 1_000  # and the following, one for each strip of the input
_STRIP = 64  # rows of the input whose noise is drawn at once


class Stopped(WorkbenchError):
    """The caller asked for the end, between two pieces: no mistake."""


def add_noise(low: Tensor, seeds: Sequence[int], noise: float) -> Tensor:
    """low [N, 3, H, W] plus normal noise of that deviation; that of picture k depends on seeds[k] alone."""
    if noise == 0:
        return low
    low = low.clone()
    _, channels, height, width = low.shape
    for picture, seed in zip(low, seeds, strict=True):
        for number, top in enumerate(range(0, height, _STRIP)):
            rows = min(_STRIP, height - top)
            drawn = draw_z([seed], channels * rows * width, stream=_NOISE_STREAM + number)
            picture[:, top : top + rows] += noise * drawn.view(channels, rows, width)
    return low


def check_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """A seed for each picture: seed + k, or the list as it is; else a WorkbenchError."""
    if isinstance(seed, Sequence) and not isinstance(seed, str):
        if len(seed) != count:
            raise WorkbenchError(
                f"There are {len(seed)} seeds for {count} pictures: give one number, or one for each."
            )
        return [check_seed(value) for value in seed]
    first = check_seed(seed)
    if first + count - 1 > MAX_SEED:
        raise WorkbenchError(
            f"Seed {first} and {count} pictures go beyond the largest seed {MAX_SEED}: start lower."
        )
    return list(range(first, first + count))


def check_noise(noise: object, most: float) -> float:
    """`noise` as a float in [0, most]; else a WorkbenchError."""
    number = isinstance(noise, (int, float)) and not isinstance(noise, bool)
    if not number or not 0 <= noise <= most:
        raise WorkbenchError(
            f"The noise is {str(noise)[:40]}: expected a deviation of 0 (none) to {most:g}, the most that "
            "this model was trained with."
        )
    return float(noise)


def check_size(height: int, width: int, factor: int) -> None:
    """WorkbenchError for pictures that would become larger than what can be read again from a file."""
    high, wide = height * factor, width * factor
    if high * wide > MAX_PIXELS or max(high, wide) > MAX_SIDE:
        gib = high * wide * 3 * 5 / 2**30  # as float32 and as the bytes of a file
        raise WorkbenchError(
            f"{width} × {height} px become {wide} × {high} px at factor {factor}, which take {gib:.1f} GiB: "
            f"at most {MAX_PIXELS // 1_000_000} million pixels and {MAX_SIDE} a side are made. Choose a "
            "smaller factor, or shrink or cut the picture."
        )


def check_pictures(images: Tensor, factor: int) -> tuple[int, tuple[int, int]]:
    """N and (H, W) of pictures that can be enlarged."""
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape:
        shape = list(images.shape) if hasattr(images, "shape") else type(images).__name__
        raise WorkbenchError(
            f"The pictures are {shape}: expected a tensor [N, 3, H, W] with values in [-1, 1]."
        )
    count, _, height, width = images.shape
    check_size(height, width, factor)
    if not torch.isfinite(images).all():
        raise WorkbenchError("The pictures hold NaN or infinity: expected values in [-1, 1].")
    return count, (height, width)


def ticker(total: int, progress: Callable[[int, int], None] | None, stop: Stop) -> Callable[[], None]:
    """What is called after each piece: tells how far it is and ends the work when asked to."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)
        if done < total and (stop.is_set() if isinstance(stop, threading.Event) else stop and stop()):
            raise Stopped(f"Stopped after {done} of {total} pieces.")

    return step
