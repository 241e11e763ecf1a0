"""How well inversion finds a picture again: pictures of the model's own, and renders that it never made."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from workbench.datasets.world import draw_factors, render
from workbench.latents.inversion import Inverted, invert
from workbench.latents.points import draw
from workbench.latents.starts import Encode
from workbench.latents.supervised import draw_sample
from workbench.models.checks import check_whole
from workbench.pipeline import Pipeline

HELD_OUT_SEED = 8_300_009  # captions, seeds and renders that nothing was fitted on
GOAL = 30.0  # dB
Progress = Callable[[int, int, str], object]


def measure_recovery(
    pipeline: Pipeline,
    *,
    n: int = 10,
    seed: int = 0,
    steps: int | None = None,
    seconds: float = 60.0,
    encoder: Encode | None = None,
    progress: Progress | None = None,
) -> dict:
    """Invert n pictures of the model (unseen prompts and seeds, neither told) and n unseen renders.

    Returns n and, for "generated" and "renders": _psnr median in dB, _worst, _share_30 of pictures with at
    least 30 dB, _distance median of the features named in distance_name, _seconds median and _longest,
    _steps median, and of where it started _start_psnr median, _start_worst and _start_seconds median. Raises
    WorkbenchError for n below 1.
    """
    check_whole(n, "n")
    own = draw(pipeline, draw_sample(pipeline, n, seed=HELD_OUT_SEED + seed).at, batch_size=1)
    factors = [draw_factors(HELD_OUT_SEED + seed, i) for i in range(n)]
    result: dict = {"n": n, "encoder": encoder is not None}
    for kind, pictures in (("generated", own), ("renders", render(factors, pipeline.G.config.resolution))):
        found = []
        for k, picture in enumerate(pictures):
            found.append(invert(pipeline, picture, steps=steps, seconds=seconds, encoder=encoder))
            if progress is not None:
                progress(k + 1, n, f"inverting {kind}")
        result |= {f"{kind}_{name}": value for name, value in _summary(found).items()}
        result["distance_name"] = found[0].distance_name
    return result


def _summary(found: list[Inverted]) -> dict[str, float]:
    decibels = [one.psnr for one in found]
    return {
        "psnr": median(decibels),
        "worst": min(decibels),
        "share_30": sum(value >= GOAL for value in decibels) / len(decibels),
        "distance": median(one.distance for one in found),
        "seconds": median(one.seconds for one in found),
        "longest": max(one.seconds for one in found),
        "steps": median(one.steps for one in found),
        "start_psnr": median(one.start_psnr for one in found),
        "start_worst": min(one.start_psnr for one in found),
        "start_seconds": median(one.start_seconds for one in found),
    }
