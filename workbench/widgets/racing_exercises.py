"""Exercises of notebook 07: importing this adds them to those that `ask` and `check` know."""

from __future__ import annotations

import torch

from workbench.diffusion import schedule, verdict
from workbench.widgets.exercises import EXERCISES, Exercise, ask, check

__all__ = ["ask", "check"]


def said_at_the_end() -> str:
    """What v is at the last step of the schedule, where nothing of the picture is left."""
    x0, eps = torch.full((1, 3, 2, 2), 0.25), torch.full((1, 3, 2, 2), 0.75)
    v = schedule.velocity(x0, eps, torch.tensor([schedule.T - 1]))
    answers = {"the noise": eps, "the picture": x0, "minus the picture": -x0}
    return next(name for name, value in answers.items() if torch.allclose(v, value, atol=1e-6))


def passes(steps: int, guidance: float) -> int:
    """Pictures that go through the U-Net for one picture; guidance asks twice, but for 1."""
    return steps if guidance == 1.0 else 2 * steps


def fits(gan_ms: float, diffusion_ms: float, steps: int) -> int:
    """Whole steps of diffusion in the GAN's time."""
    return int(gan_ms / (diffusion_ms / steps))


EXERCISES |= {
    "r1": Exercise(
        question=(
            "Diffusion with guidance takes 8 steps. How many pictures go through the U-Net for one that is "
            "drawn?"
        ),
        right=lambda: passes(8, 2.0),
        why="Each step asks twice: with the caption and without.",
        hint="What does guidance compare?",
        near=lambda: {passes(8, 1.0): "That is one for each step; guidance asks a second time."},
    ),
    "r2": Exercise(
        question=(
            "The GAN takes 40 ms, diffusion 480 ms for 16 steps. How many whole steps fit into the GAN's "
            "time?"
        ),
        right=lambda: fits(40, 480, 16),
        why="A step takes 30 ms; the second does not fit any more.",
        hint="How long is one step?",
        near=lambda: {12: "So many times as long is the whole picture.", 40 / 30: "Whole steps."},
    ),
    "r3": Exercise(
        question=(
            "The network names v = alpha · noise - sigma · picture, where alpha is how much of the picture "
            "is left and sigma how much noise there is. When the picture has sunk entirely, alpha = 0 and "
            "sigma = 1. What is v then: 'the noise', 'the picture' or 'minus the picture'?"
        ),
        right=said_at_the_end,
        why="v = minus the picture, so a sampler's first step guesses a whole picture, as a GAN does.",
        hint="Put alpha and sigma into the formula.",
        near=lambda: {"the picture": "Mind the sign.", "the noise": "Its share is alpha, which is 0."},
    ),
    "r4": Exercise(
        question=(
            "Of 200 pictures each, the GAN has 190 right and diffusion 184. Who is better beyond two "
            "standard errors: 'gan', 'diffusion' or 'nobody'?"
        ),
        right=lambda: {"first": "gan", "second": "diffusion", verdict.TIE: "nobody"}[
            verdict.larger_share(190 / 200, 184 / 200, 200)
        ],
        why="The shares differ by three in a hundred, two standard errors of the difference are five.",
        hint="The standard error of a difference is the root of the sum of p (1 - p) / n.",
        near=lambda: {"gan": "Its share is larger; but would it be with another 200 prompts?"},
    ),
}
