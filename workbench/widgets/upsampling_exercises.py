"""Exercises of the notebook on the upsampler: importing this adds them to those `ask` and `check` know."""

from __future__ import annotations

import math

from workbench.models.presets import preset
from workbench.widgets.exercises import EXERCISES, Exercise, ask, check
from workbench.widgets.upsampling import answers, possible_lines

__all__ = ["ask", "check"]


def free_numbers(factor: int) -> int:
    """How many of the numbers of a square of f x f pixels one mean leaves open."""
    return factor**2 - 1


def best_answer(power: int) -> str:
    """Which of `answers` has the least error, to the power, where a line may be in any place of a pixel."""
    possible = possible_lines()
    errors = {
        name: (possible - drawn).abs().pow(power).mean().item() for name, drawn in answers(possible).items()
    }
    return min(errors, key=errors.get).removeprefix("their ")


def psnr_of_offset(offset: float) -> float:
    """PSNR in dB of a picture that is off by the same amount everywhere, on the scale from -1 to 1."""
    return 10 * math.log10(4 / offset**2)


def passes_to(factor: int) -> int:
    """How often the shipped upsampler's factor goes into this one."""
    one = preset("shepherd-up4").generator.factor
    return round(math.log(factor, one))


EXERCISES.update(
    {
        "u1": Exercise(
            question="At factor 4 each pixel of the input is the mean of a square of pixels. How many "
            "numbers of that square, in one colour, does the mean leave open?",
            right=lambda: free_numbers(4),
            why="Sixteen numbers, one equation: all but one may be anything.",
            hint="Count the pixels of a square, and how many equations the mean gives.",
            near=lambda: {
                16: "That is how many there are. One of them follows from the mean and the others.",
                3: "That is along one side. A square has two.",
            },
        ),
        "u2": Exercise(
            question="What is the finest wave that the small picture can hold, in cycles a pixel of the "
            "large one, at factor 4?",
            right=lambda: 0.5 / 4,
            why="Two pixels of the input for each period, and each of them is four pixels wide.",
            hint="A row of pixels can hold half a cycle a pixel. How wide is a pixel of the input?",
            near=lambda: {
                0.5: "That is what the large picture can hold.",
                0.25: "A wave needs two pixels of the input, not one.",
            },
        ),
        "u3": Exercise(
            question="A bright line one pixel wide may stand in any of four places, all equally likely. What "
            "does a network draw that is trained on L1 alone: 'one of them', the 'mean' or the 'median'?",
            right=lambda: best_answer(1),
            why="At each place most of the possible pictures are dark, so dark has the least L1: no line.",
            hint="Look at the table of the three answers, in the column of L1.",
            near=lambda: {best_answer(2): "That is what the squared error asks for."},
        ),
        "u4": Exercise(
            question="All values of a picture in [-1, 1] are off by 0.2. What is its PSNR in dB?",
            right=lambda: psnr_of_offset(0.2),
            why="The range is 2, a tenth of it is missing everywhere: 20 log10(10).",
            hint="10 times the logarithm of (range squared / mean squared error). The range is 2.",
            near=lambda: {psnr_of_offset(0.4): "The range is 2, not 1: its square is 4."},
        ),
        "u5": Exercise(
            question="How often does a picture of 64 px go through this upsampler until it has 1024 px?",
            right=lambda: passes_to(16),
            why="Each pass makes every side four times as long, and the passes multiply.",
            hint="By what is 64 multiplied in all, and by what in one pass?",
            near=lambda: {4: "Factors multiply, they do not add."},
        ),
    }
)
