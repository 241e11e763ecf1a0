"""From a picture back to a point: which ws and which words make G draw it.

Optimisation of w+ (Abdal et al. 2019, Image2StyleGAN) in the metric of w's own spread, with two changes that
this model asks for. The words act through cross-attention and not only through w, so that the rows of the
caption move too, the same at all sizes. And every layer's w is held near a w that M can make, so that edits
still find their way. The error is that of pixels alone: a term of mini-CLIP features (weight 0.02) took a
sixth more time and gave renders 0.1 dB, though a feature distance smaller by an eighth. The start decides
more than any of it (`starts.py`). Letters: S pixels a side, W style inputs, L rows of t_local.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.evaluation.perceptual import CLIP_FOLDER, FeatureDistance
from workbench.latents.arithmetic import nearest, world_captions
from workbench.latents.points import Points, draw, synthesise, texts_of
from workbench.latents.starts import STREAM, Encode, best_around, best_of_many
from workbench.latents.uploads import prepare
from workbench.models.clip_io import Clip
from workbench.models.mapping import Text
from workbench.models.text import load_clip
from workbench.noise import draw_z
from workbench.pipeline import Pipeline, clean_prompt

__all__ = ["Inverted", "guess_prompt", "invert", "prepare", "psnr"]

STEPS = 150  # what G can draw gains 0.05 dB a step from 100 to 150, from whichever start
LR_W, LR_T, WARM_UP = 0.04, 0.03, 10
# Weight of staying near the start, in squared deviations of w, beside pixels' squared error. It shortens the
# way that w goes by a third, for 0.3 dB of a generated picture and nothing of a render.
NEAR = 0.01
SPREAD_DRAWS = 1024
FLOOR = 0.04  # share of the largest deviation that every direction of w may move by
ALIKE, CLOSE, ROUGH = 34.0, 28.0, 22.0  # dB of the verdicts
Progress = Callable[[int, int, str], object]  # done, of, what; False stops with the best so far


@dataclass(frozen=True)
class Inverted:
    """Where a picture lies. at: one point; image [1, 3, S, S] in [-1, 1], what G draws there; psnr in dB;
    distance: of the features that distance_name says; steps: those that were taken; verdict: in words;
    start_psnr, start_seconds: how near the start was, and how long the search for it took.
    """

    at: Points
    image: Tensor
    psnr: float
    distance: float
    distance_name: str
    prompt: str
    seconds: float
    steps: int
    verdict: str
    start_psnr: float
    start_seconds: float


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal to noise in dB of each pair, [N, 3, S, S] in [-1, 1] -> [N]; infinite where equal."""
    return 10 * torch.log10(4 / (a - b).double().square().mean(dim=(1, 2, 3)))


def invert(
    pipeline: Pipeline,
    picture: Image.Image | str | Path | Tensor,
    *,
    prompt: str | None = None,
    steps: int | None = None,
    seconds: float = 60.0,
    encoder: Encode | None = None,
    distance: FeatureDistance | None = None,
    progress: Progress | None = None,
) -> Inverted:
    """Find the point whose picture is nearest to a given one.

    Args:
        picture: whatever `prepare` takes.
        prompt: what it shows; guessed for a model of Shepherd World when None.
        steps: of the optimisation; the same steps give the same point, unless the time was up before.
        seconds: when to stop with the best so far.
        encoder: says where to start (`encoder.load_encoder`); the best of 48 drawn pictures without.
        distance: what `distance` is measured by; the shipped mini-CLIP's features when None.
        progress: called after each step; returning False stops with the best so far.

    Raises WorkbenchError as `prepare` does, for steps or seconds that are no positive numbers, where no
    prompt is given to a model that does not speak the world's words, and for one that draws no finite
    picture.
    """
    began = time.monotonic()
    _check_limits(steps, seconds)
    target = prepare(picture, pipeline.G.config.resolution).to(pipeline.device)
    prompt = guess_prompt(pipeline, target) if prompt is None else prompt
    prompt = clean_prompt(prompt, pipeline.text_encoder).text
    text = texts_of(pipeline, [prompt])
    looked = time.monotonic()
    if encoder is None:
        start = best_of_many(pipeline, target, text)
    else:
        start = best_around(pipeline, target, text, pipeline.w_mean(prompt), encoder)
    looked = time.monotonic() - looked
    metric = _metric(pipeline, text)
    deadline = began + seconds
    at, taken, first = _descend(pipeline, target, start, metric, steps or STEPS, deadline, progress)
    image = draw(pipeline, at)
    measure = distance or _shipped_distance()
    target = target.cpu()
    with torch.no_grad():
        apart = measure(image, target).item()
    decibels = psnr(image, target).item()
    spent = time.monotonic() - began
    says = verdict(decibels)
    return Inverted(at, image, decibels, apart, measure.name, prompt, spent, taken, says, first, looked)


def verdict(decibels: float) -> str:
    """What a PSNR means, in words."""
    if decibels >= ALIKE:
        return f"Found: {decibels:.1f} dB, the eye sees no difference."
    if decibels >= CLOSE:
        return f"Found: {decibels:.1f} dB, small things differ."
    if decibels >= ROUGH:
        return f"Nearly: {decibels:.1f} dB; the whole is right, its details are not."
    return f"Only roughly: {decibels:.1f} dB; the model has not learnt to draw this."


# --- what the picture shows ---------------------------------------------------------------------------------


def guess_prompt(pipeline: Pipeline, picture: Tensor) -> str:
    """The caption of the world whose mini-CLIP embedding is nearest to the picture's [1, 3, S, S].

    "" for a model without text. Raises WorkbenchError for one whose words are not the world's.
    """
    encoder = pipeline.text_encoder
    if encoder is None:
        return ""
    clip, captions, embeddings = _reader()
    # A vocabulary of thousands is a CLIP of everything: the model behind it may have learnt anything.
    small = encoder.config["text_cfg"]["vocab_size"] <= 2 * clip.model_cfg["text_cfg"]["vocab_size"]
    if not small or any(encoder.unknown_words(caption) for caption in captions):
        raise WorkbenchError(
            f"{pipeline.name} was not trained on Shepherd World, so its prompts cannot be guessed: say what "
            "the picture shows as the prompt."
        )
    with torch.no_grad():
        rows, _ = nearest(clip.encode_image(picture.cpu()), embeddings, 1)
    return captions[int(rows[0, 0])]


@cache
def _reader() -> tuple[Clip, list[str], Tensor]:
    """The shipped mini-CLIP, the captions it may choose from and their embeddings [225, e]."""
    clip = load_clip(CLIP_FOLDER)
    clip.model.eval().requires_grad_(False)
    captions = [caption for _, caption in world_captions()]
    return clip, captions, clip.encode_text(captions)


@cache
def _shipped_distance() -> FeatureDistance:
    return FeatureDistance()


# --- the way down -------------------------------------------------------------------------------------------


@torch.no_grad()
def _metric(pipeline: Pipeline, text: Text | None) -> Tensor:
    """The square root of w's covariance over z under the prompt, [w_dim, w_dim]: a step of one in its
    coordinates is a standard deviation of w in any direction, and a little where w never goes.
    """
    z = draw_z(range(SPREAD_DRAWS), pipeline.G.config.z_dim, stream=STREAM).to(pipeline.device)
    t_global = None if text is None else text.t_global.expand(len(z), -1)
    w = pipeline.G.mapping(z, t_global)
    values, vectors = torch.linalg.eigh(torch.cov(w.t().double()))
    deviations = values.clamp_min(0).sqrt()
    return ((vectors * (deviations + FLOOR * deviations.max())) @ vectors.t()).float()


@torch.enable_grad()
def _descend(
    pipeline: Pipeline,
    target: Tensor,
    start: Points,
    metric: Tensor,
    steps: int,
    deadline: float,
    progress: Progress | None,
) -> tuple[Points, int, float]:
    """Adam on the styles and on the words: (the best point met, steps taken, dB of the start)."""
    text = start.texts[0] if start.texts else None
    moved = torch.zeros_like(start.ws).requires_grad_()  # in deviations of w
    words = None if text is None else torch.zeros_like(text.t_local).requires_grad_()
    free = [moved] if words is None else [moved, words]
    rates = [LR_W, LR_T][: len(free)]
    adam = torch.optim.Adam([{"params": [p]} for p in free], betas=(0.9, 0.99))
    best, least, first = start, math.inf, math.nan
    for step in range(steps + 1):  # one more look than steps: the last one counts too
        at = _moved(start, moved @ metric, words)
        image = synthesise(pipeline, at)
        error = (image.detach().clamp(-1, 1) - target).square().mean().item()
        if step == 0 and not math.isfinite(error):
            raise WorkbenchError(
                f"{pipeline.name} draws a picture that is not finite: its weights are damaged, or its "
                "training has diverged. Take an earlier checkpoint."
            )
        if error < least:
            best, least = _detached(at), error
        reached = 10 * math.log10(4 / max(least, 1e-12))
        first = reached if step == 0 else first
        what = f"inverting, {reached:.1f} dB"
        told = None if progress is None else progress(step, steps, what)
        if step == steps or told is False or time.monotonic() > deadline:
            return best, step, first
        loss = _misfit(image, target) + NEAR * _strain(moved)
        # by `grad`, not `backward`: the weights of G get no gradients, which would cost time and stay there
        for parameter, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
            parameter.grad = gradient
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, steps)
        adam.step()
    raise AssertionError("the loop returns")


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: a linear warm-up, then a cosine to zero."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _misfit(image: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of an unclamped picture: []. Where the target is at its white or black, what goes
    beyond is right, since it is drawn the same; a clamp would hold back pixels that are wrongly beyond.
    """
    right = (image.clamp(-1, 1) == target) & (target.abs() == 1)
    return (image - target).masked_fill(right, 0.0).square().mean()


def _strain(moved: Tensor) -> Tensor:
    """How far ws [1, W, w_dim] have left the start, in squared deviations a number: [] >= 0."""
    return moved.square().mean()


def _moved(start: Points, by: Tensor, words: Tensor | None) -> Points:
    """The point with its styles moved, and with the rows of its caption moved at all sizes alike."""
    at = start.with_ws(start.ws + by)
    if words is None:
        return at
    text = start.texts[0]
    return at.with_text(replace(text, t_local=text.t_local + words * text.mask[..., None]))


def _detached(at: Points) -> Points:
    if not at.texts:
        return Points(at.ws.detach().clone())
    text = at.texts[0]
    return Points(
        at.ws.detach().clone(), (replace(text, t_local=text.t_local.detach().clone()),) * len(at.texts)
    )


def _check_limits(steps: int | None, seconds: float) -> None:
    whole = steps is None or (isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1)
    if not whole:
        raise WorkbenchError(f"The steps are {str(steps)[:40]}: expected a whole number of at least 1.")
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not math.isfinite(seconds) or seconds <= 0:
        raise WorkbenchError(f"The time is {str(seconds)[:40]} s: expected a number above 0.")
