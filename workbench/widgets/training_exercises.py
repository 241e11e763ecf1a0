"""Exercises of the notebook on training: importing this adds them to those that `ask` and `check` know."""

from __future__ import annotations

import math

import torch

from workbench.training import losses
from workbench.training.config import TrainConfig
from workbench.training.ema import ema_beta
from workbench.training.lengths import in_images
from workbench.training.monitor import Monitor
from workbench.widgets.exercises import EXERCISES, Exercise, ask, check

__all__ = ["ask", "check"]

_PICTURES, _EPOCHS, _BATCH = 5_000, 100, 16
_SICK = {"D.real": 7.0, "D.fake": -6.0, "spread.fake": 0.17, "spread.real": 0.18, "G.loss": 6.0}


def slope_at(logit: float) -> float:
    """How strongly G's loss of one made picture pulls at a logit: |d softplus(-u) / du|."""
    u = torch.tensor([logit], requires_grad=True)
    losses.g_nonsaturating([u]).backward()
    return abs(u.grad.item())


def way_of_G() -> str:
    """Which way G's loss goes when the made logits fall."""
    level, fallen = (losses.g_nonsaturating([torch.full((4,), u)]) for u in (0.0, -1.0))
    return "up" if fallen > level else "down"


def schedule_steps() -> int:
    """Steps of so many passes over so many pictures."""
    return in_images(f"{_EPOCHS}epochs", _PICTURES) // _BATCH


def half_life_steps(kimg: float, batch: int) -> float:
    """Steps after which an old weight counts half in the average."""
    return math.log(0.5) / math.log(ema_beta(batch, 10**9, kimg))


def first_remark() -> str:
    """What the monitor's remark on the readings is called."""
    remarks = Monitor(TrainConfig(images=200_000)).steps(50_000, [True] * 4, _SICK)
    return remarks[0].event if remarks else "nothing"


EXERCISES.update(
    {
        "t1": Exercise(
            question="D answers logit 0 to every real and every made picture. How large is its adversarial "
            "loss, both halves together?",
            right=lambda: losses.d_nonsaturating([torch.zeros(4)], [torch.zeros(4)]).item(),
            why="softplus(0) = ln 2 for real ones and as much for made ones: a D that knows nothing.",
            hint="softplus(u) = log(1 + e^u), once with -u for real pictures and once with u for made ones.",
            near=lambda: {math.log(2): "That is one half. D pays for real and for made pictures."},
        ),
        "t2": Exercise(
            question="D takes a step and the logits of the made pictures fall. G has not moved. Which way "
            "does G's loss go: 'up' or 'down'?",
            right=way_of_G,
            why="G's loss is softplus(-u): lower logits, higher loss, and the pictures are as they were.",
            hint="G wants its pictures to be judged real. Has it just got nearer to that, or further away?",
            near=lambda: {"down": "That would be D's loss. The two pull against each other."},
        ),
        "t3": Exercise(
            question="D sees through a made picture: logit -6. How strongly does the loss softplus(-u) still "
            "pull at that logit (the size of its slope)?",
            right=lambda: slope_at(-6.0),
            why="Nearly 1: where G is worst it is pulled hardest. Hence its name, non-saturating.",
            hint="The slope of softplus(-u) is minus sigmoid(-u). Put u = -6 in.",
            near=lambda: {
                slope_at(6.0): "That is the slope of log(1 - sigmoid(u)), the loss of the first GAN paper: "
                "it hardly pulls where G is bad. Ours has the other sign inside.",
                slope_at(0.0): "That is the slope at 0, where D is undecided.",
            },
        ),
        "t4": Exercise(
            question=f"The schedule of the project this one grew from: {_PICTURES:,} pictures, {_EPOCHS} "
            f"epochs, {_BATCH} pictures a step. How many steps?",
            right=schedule_steps,
            why="Pictures times epochs, over the pictures of a step.",
            hint="How many images does D see in all, and how many at a time?",
            near=lambda: {
                _PICTURES * _EPOCHS: "That is the images that D sees. A step shows it more than one.",
                _PICTURES / _BATCH: "That is one epoch.",
            },
        ),
        "t5": Exercise(
            question="G_ema has a half-life of 5 thousand images, a step has 32. After how many steps does "
            "an old weight count half?",
            right=lambda: half_life_steps(5.0, 32),
            why="5000 / 32: the half-life is told in images, so that another batch size changes nothing.",
            hint="How many steps are 5,000 images?",
            near=lambda: {5_000: "That is images. How many go into a step?"},
        ),
        "t6": Exercise(
            question="Late in a run: D's mean logits are +7 on real and -6 on made pictures; made pairs "
            "differ by 0.17 a pixel, real ones by 0.18. What does the monitor remark: 'collapse', "
            "'overpowering' or 'nothing'?",
            right=first_remark,
            why="Thirteen logits apart: D is sure of everything, and the pairs differ as they should.",
            hint="Compare the two spreads first, then the two logits.",
            near=lambda: {
                "collapse": "The made pairs differ as much as the real ones: there is no collapse.",
                "nothing": "The spread is fine, yes. But can G still fool this D?",
            },
        ),
    }
)
