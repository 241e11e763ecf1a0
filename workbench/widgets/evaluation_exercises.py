"""Exercises of the notebook on evaluation: importing this adds them to those `ask` and `check` know."""

from __future__ import annotations

import torch

from workbench.evaluation.distances import frechet
from workbench.evaluation.metrics.record import share_error
from workbench.widgets.exercises import EXERCISES, Exercise, ask, check

__all__ = ["ask", "check"]


def line_distance(mean: float, std: float) -> float:
    """Fréchet distance of N(mean, std²) to N(0, 1)."""
    one = torch.tensor([[1.0]])
    return frechet(torch.zeros(1), one, torch.tensor([mean]), one * std**2)


def rank_of(n: int, dims: int) -> int:
    """The largest rank that the covariance of n rows of dims features can have."""
    return int(torch.linalg.matrix_rank(torch.randn(n, dims, dtype=torch.float64).T.cov()))


EXERCISES |= {
    "v1": Exercise(
        question=(
            "Along one feature the real pictures have mean 0 and standard deviation 1, the model's mean 3 "
            "and standard deviation 3. What is their Fréchet distance?"
        ),
        right=lambda: line_distance(3, 3),
        why="The means are 3 apart, the deviations 2: 3² + 2².",
        hint="Square the difference of the means and of the standard deviations, and add.",
        near=lambda: {
            line_distance(3, 1): "That is the means' part; the widths differ, too.",
            9 + 64: "The standard deviations count, not the variances.",
        },
    ),
    "v2": Exercise(
        question="20 pictures have 448 features each. What rank can their covariance have at most?",
        right=lambda: rank_of(20, 448),
        why="The mean takes one away. In all other directions the distance knows nothing.",
        hint="20 points minus their mean span so many directions.",
        near=lambda: {20: "The mean is taken out first.", 448: "So many only with more than 448 pictures."},
    ),
    "v3": Exercise(
        question=(
            "A model draws the same perfect picture for every prompt. Which is low: 'precision' or 'recall'?"
        ),
        right=lambda: "recall",
        why="All it draws is real, but of all that is real it draws one.",
        hint="One asks whether what is drawn is real, the other whether what is real is drawn.",
    ),
    "v4": Exercise(
        question=(
            "Two models reach 97 % and 98 % of 1,000 prompts. What is the standard error of the first share, "
            "in percent? (A tenth is near enough.)"
        ),
        right=lambda: round(100 * share_error(0.97, 1000), 2),
        tolerance=0.1,
        why="So a difference of one percent is hardly two errors of the difference. Take more prompts.",
        hint="The square root of p (1 - p) / n.",
        near=lambda: {1.0: "That is the difference between the two."},
    ),
}  # fmt: skip
