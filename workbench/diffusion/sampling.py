"""From noise to pictures, step by step: DDIM, DPM-Solver++ of diffusers, and a few-step student's own way.

Letters: N pictures [N, 3, S, S]; x the noisy picture of a step, x0 the estimate of the clean one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from workbench.diffusion import schedule
from workbench.errors import WorkbenchError

Predict = Callable[[Tensor, Tensor], Tensor]  # x [N, 3, S, S], t [N] -> v
TEACHER, STUDENT = ("ddim", "dpm++"), ("consistency",)
STEPS, STUDENT_STEPS = 16, 4  # where nothing is said
GUIDANCE = 1.5  # the demo's baseline is as faithful as at 2, and nearer to renders
MAX_GUIDANCE = 20.0
_FRESH = 1_000  # streams of a seed: the noise that a student's later steps begin from


@dataclass(frozen=True, eq=False)
class Step:
    """What a sampler shows after each step: number `index` (from 0) of `steps`, taken at t; x0 the picture
    that it sees behind the noise, cut to [-1, 1], and x what it goes on from; both [N, 3, S, S] on the CPU.
    """

    index: int
    steps: int
    t: int
    x0: Tensor
    x: Tensor


OnStep = Callable[[Step], None]


def _dpm_solver(times: list[int]) -> Any:
    """diffusers' scheduler of DPM-Solver++ at these t, with the settings of training; estimates are cut to
    [-1, 1].
    """
    from diffusers import DPMSolverMultistepScheduler

    # Thresholding to at most 1 is the same cut: this scheduler has no other.
    solver = DPMSolverMultistepScheduler(
        **schedule.SETTINGS,
        algorithm_type="dpmsolver++",
        solver_order=2,
        thresholding=True,
        sample_max_value=1.0,
    )
    solver.set_timesteps(timesteps=times)
    return solver


def check_sampler(name: object, allowed: Sequence[str]) -> str:
    """`name` if this model can be sampled so."""
    if name not in allowed:
        raise WorkbenchError(f"The sampler is {str(name)[:40]!r}: expected {' or '.join(allowed)}.")
    return str(name)


def draw(
    predict: Predict, seeds: Sequence[int], side: int, *, sampler: str, steps: int,
    device: torch.device | str = "cpu", on_step: OnStep | None = None, noise: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Pictures [N, 3, side, side] in [-1, 1] on the device; row k starts from the noise of seeds[k] alone.

    noise [N, 3, side, side]: to start from instead; what later steps of a student draw is the seeds' own.
    """
    schedule.ladder(steps)
    x = (schedule.start_noise(seeds, side) if noise is None else noise.float()).to(device)
    walk = _jumps if sampler in STUDENT else _descent
    for step in walk(predict, x, seeds, sampler, steps):
        x = step.x
        if on_step is not None:
            seen = (
                each.float().clamp(-1, 1) if each is step.x0 else each.float() for each in (step.x0, step.x)
            )
            x0, noisy = (each.cpu() for each in seen)
            on_step(Step(step.index, steps, step.t, x0, noisy))
    return x.float().clamp(-1, 1)


def _descent(predict: Predict, x: Tensor, seeds: Sequence[int], sampler: str, steps: int):
    """Steps of the teacher: along the path that leads from each noise to one picture.

    The times are ours: where T does not divide by steps, diffusers rounds to one more of them at some counts,
    and its DDIM steps to other times than those it then names.
    """
    times = schedule.ladder(steps)
    solver = None if sampler == "ddim" else _dpm_solver(times[:-1])
    for index, (t, to) in enumerate(pairwise(times)):
        at = torch.full((len(x),), t)
        v = predict(x, at)
        x0 = schedule.x0_of(x, v, at).clamp(-1, 1)
        x = (
            schedule.ddim_step(x, v, at, torch.full_like(at, to))
            if solver is None
            else solver.step(v, t, x).prev_sample
        )
        yield Step(index, steps, t, x0, x)


def _jumps(predict: Predict, x: Tensor, seeds: Sequence[int], sampler: str, steps: int):
    """Steps of a student: to the picture at once, and back to less noise than before, a fresh one
    (multistep consistency sampling, Song et al. 2023, Alg. 1).
    """
    times = schedule.ladder(steps)
    for index, (t, to) in enumerate(pairwise(times)):
        at = torch.full((len(x),), t)
        x0 = schedule.x0_of(x, predict(x, at), at).clamp(-1, 1)
        x = x0
        if to >= 0:
            eps = schedule.start_noise(seeds, x.shape[-1], stream=_FRESH + index).to(x)
            x = schedule.noised(x0, eps, torch.full((len(x),), to))
        yield Step(index, steps, t, x0, x)
