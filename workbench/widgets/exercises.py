"""Exercises that check their own answers, offline: `ask("1a")` states one, `check("1a", answer)` judges it.

Right answers are computed from the library's own functions, so that they cannot drift from what it does; a
near miss says which step of the thought went astray.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch

from workbench.errors import WorkbenchError
from workbench.models.attention import SelfAttention
from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.inspect import own_weights
from workbench.models.ops import AdaptiveConv2d
from workbench.training import losses

TOLERANCE = 0.02  # of a number, relative: an answer in two digits is right


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """right: computes the answer, a number or a word; why: said when it is right; hint: when it is wrong.

    near: wrong answers with a known reason -> that reason. Numbers in it are computed too. tolerance: how far
    off a number may be, where the question allows more than TOLERANCE.
    """

    question: str
    right: Callable[[], float | str]
    why: str
    hint: str
    near: Callable[[], Mapping[float | str, str]] = field(default=dict)
    tolerance: float = 1e-9


@dataclass(frozen=True)
class Verdict:
    """word: "right", "nearly" or "not yet"; text: a sentence or two."""

    word: str
    text: str

    def __repr__(self) -> str:
        return f"{self.word.capitalize()}. {self.text}"


def ask(key: str) -> str:
    """The question of an exercise."""
    return _find(key).question


def check(key: str, answer: object) -> Verdict:
    """Judge an answer. `...` (not answered yet) and answers of another kind are met with what is asked."""
    exercise = _find(key)
    right = _right(key)
    if answer is ... or answer is None:
        return Verdict("not yet", "Put your answer in place of the dots.")
    if _same(answer, right, exercise.tolerance):
        return Verdict("right", exercise.why)
    for value, reason in exercise.near().items():
        if _same(answer, value):
            return Verdict("nearly", reason)
    if isinstance(right, str) and not isinstance(answer, str):
        return Verdict("not yet", f"The answer is a word. {exercise.hint}")
    if not isinstance(right, str) and _number(answer) is None:
        return Verdict("not yet", f"The answer is a number. {exercise.hint}")
    return Verdict("not yet", exercise.hint)


def _same(answer: object, value: float | str, tolerance: float = 1e-9) -> bool:
    if isinstance(value, str):
        return isinstance(answer, str) and answer.strip().lower() == value
    number = _number(answer)
    return number is not None and math.isclose(number, value, rel_tol=TOLERANCE, abs_tol=tolerance)


def _number(answer: object) -> float | None:
    """An answer as one number, infinite where it is too large for a float; None for anything else."""
    if isinstance(answer, str | bool) or not hasattr(answer, "__float__"):
        return None
    try:
        return float(answer)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):  # arrays and tensors of several numbers, each its own way
        return None


def _find(key: str) -> Exercise:
    if key not in EXERCISES:
        raise WorkbenchError(f"There is no exercise {key!r}: choose one of {', '.join(EXERCISES)}.")
    return EXERCISES[key]


@cache
def _right(key: str) -> float | str:
    return EXERCISES[key].right()


# --- answers ------------------------------------------------------------------------------------------------


def predictions(levels: int) -> int:
    """Predictions of a D that judges `levels` pyramid levels, from 4 px up, at every later output."""
    sizes = [4 << k for k in reversed(range(levels))]
    config = DiscriminatorConfig(
        resolution=sizes[0], channels=dict.fromkeys(sizes, 8), entries=tuple(sizes),
        exits=tuple([size // 2 for size in sizes[:-1]] + [1]), attention={}, text_dim=None,
    )  # fmt: skip
    return len(config.predictions)


def bank_numbers(kernels: int, channels: int) -> int:
    """Numbers in the kernels of one adaptive 3 x 3 convolution."""
    return AdaptiveConv2d(channels, channels, 3, w_dim=8, kernels=kernels).weight.numel()


def loudest_neighbour() -> str:
    """Whom a pixel attends to most in L2 self-attention with tied queries and keys."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = own_weights(SelfAttention(16, w_dim=None), torch.randn(1, 16, 4, 4))[0, 0]
    return "itself" if torch.equal(weights.argmax(1), torch.arange(16)) else "another"


def matching_at_zero() -> float:
    """The matching-aware loss over both kinds of pairs when D answers 0 to everything."""
    zero = [torch.zeros(4)]
    return (losses.d_matching(zero) + losses.d_matching(zero)).item()


def contrast_of_equals(captions: int) -> float:
    """The contrastive loss when all captions fit a picture equally."""
    same = torch.ones(captions, 2)
    return losses.clip_contrastive(same, same, torch.arange(captions), 1.0).item()


EXERCISES: dict[str, Exercise] = {
    "1a": Exercise(
        question="D judges a pyramid of 5 levels (64, 32, 16, 8 and 4 px); level i is judged at every output "
        "after it, and there are 5 outputs (32, 16, 8, 4 and 1). How many predictions does D make?",
        right=lambda: predictions(5),
        why="The largest level meets all five outputs, the next four, and so on: 5 + 4 + 3 + 2 + 1.",
        hint="Count for each level the outputs that come after it, and add up.",
        near=lambda: {
            5: "That is one for each level. But each level is judged at every later output as well.",
            25: "That is every level with every output. A level meets only outputs smaller than itself.",
            10: "A level also meets the output next to it: 64 px are judged at 32.",
        },
    ),
    "1b": Exercise(
        question="And a D of 3 levels (16, 8, 4 px) with its 3 outputs (8, 4, 1)?",
        right=lambda: predictions(3),
        why="3 + 2 + 1. In general L (L + 1) / 2.",
        hint="The same count, starting at 3.",
        near=lambda: {9: "That is every level with every output; some outputs lie before the level enters."},
    ),
    "2a": Exercise(
        question="A convolution of 3 × 3 from 64 to 64 channels has a bank of 8 kernels. How many kernels "
        "slide over one picture?",
        right=lambda: 1,
        why="The bank is mixed into one kernel for this picture, before anything is convolved.",
        hint="What does the softmax make of the bank, and when?",
        near=lambda: {
            8: "Eight are stored. But they are added up, weighted by the softmax, before they slide."
        },
    ),
    "2b": Exercise(
        question="How many numbers does that bank hold (without biases and the layers that choose)?",
        right=lambda: bank_numbers(8, 64),
        why="8 kernels of 64 · 64 · 3 · 3 numbers: storage grows with the bank, the convolution does not.",
        hint="One kernel has a 3 × 3 patch for each pair of channels.",
        near=lambda: {
            bank_numbers(1, 64): "That is one kernel; the bank holds eight.",
            8 * 64 * 9: "A kernel joins every input channel with every output channel: 64 · 64 patches.",
        },
    ),
    "3": Exercise(
        question="In L2 self-attention with tied queries and keys, to whom does a pixel listen most: "
        "'itself', 'its neighbour' or 'w'?",
        right=loudest_neighbour,
        why="Its distance to itself is zero, and no other can be less.",
        hint="Look at the formula: when is the distance between q_i and q_j smallest?",
        near=lambda: {
            "its neighbour": "A neighbour is often close to it in features too, but one is closer still.",
            "w": "w is one more token, and rarely the closest one.",
        },
    ),
    "4a": Exercise(
        question="A fresh D answers logit 0 to everything. How large is the matching-aware loss, real and "
        "made pictures with false captions together (natural logarithm)?",
        right=matching_at_zero,
        why="softplus(0) = ln 2 for each of the two kinds of pairs.",
        hint="Put u = 0 into log(1 + e^u), and count the kinds of pairs.",
        near=lambda: {
            math.log(2): "That is one kind of pair. Real and made pictures both get false captions.",
            2.0: "Two kinds of pairs, yes; but softplus(0) is ln 2 and not 1.",
        },
    ),
    "4b": Exercise(
        question="CLIP finds 8 captions equally fitting for a picture. How large is the contrastive loss?",
        right=lambda: contrast_of_equals(8),
        why="The softmax gives 1/8 to each, and -ln(1/8) = ln 8.",
        hint="What share does the softmax give to the picture's own caption?",
        near=lambda: {
            3.0: "That is the logarithm to base two; the loss takes the natural one.",
            1 / 8: "That is the share of its own caption. The loss is minus its logarithm.",
            -math.log(8): "The loss is minus the logarithm of the share: mind the sign.",
        },
    ),
}
