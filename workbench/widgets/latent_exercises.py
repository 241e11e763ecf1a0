"""Exercises of the notebook on the latent space: importing this adds them to those `ask` and `check` know."""

from __future__ import annotations

import torch

from workbench.evaluation.features import load_judge
from workbench.latents.arithmetic import parse_sum
from workbench.latents.layers import indices, sizes_of
from workbench.latents.pace import spaced_evenly
from workbench.latents.paths import lerp, slerp
from workbench.latents.points import draw
from workbench.pipeline import Pipeline
from workbench.widgets.exercises import EXERCISES, Exercise, ask, check
from workbench.widgets.latents import named, swapped
from workbench.widgets.profile import ASSETS

__all__ = ["ask", "check"]

_SUM = "a black shepherd sitting in the snow - sitting + lying"
_T, _STEPS = torch.tensor([0, 1 / 3, 2 / 3, 1.0], dtype=torch.float64), torch.tensor([1.0, 1.0, 4.0])


def coat_of_w_alone() -> str:
    """The coat that most dogs have whose w says white and whose words say black."""
    pipe = Pipeline.from_pretrained(ASSETS / "models" / "shepherd-64", device="cpu")
    prompts = (f"a {coat} shepherd lying in the snow by day" for coat in ("black", "white"))
    pictures = draw(pipe, swapped(pipe, *prompts, range(4))["w alone"])
    return max(("black", "white"), key=lambda coat: named(load_judge(), pictures, coat=coat))


def half_way(path) -> float:
    """Length of the point half-way between two vectors of length 1 at a right angle."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    return path(a, b, torch.tensor([0.5])).norm().item()


def coarse_layers() -> int:
    """How many style inputs of the shipped model are coarse."""
    G = Pipeline.from_pretrained(ASSETS / "models" / "shepherd-64", device="cpu").G
    return len(indices(G, "coarse"))


def coarse_sizes() -> int:
    """How many sizes these belong to."""
    G = Pipeline.from_pretrained(ASSETS / "models" / "shepherd-64", device="cpu").G
    return len(sizes_of(G, "coarse"))


EXERCISES.update(
    {
        "l1": Exercise(
            question="A black dog keeps its words, but gets the w of the same prompt with 'white'. What "
            "coat do you see: 'black' or 'white'?",
            right=coat_of_w_alone,
            why="In this model the coat listens to the words that cross-attention reads, not to w.",
            hint="Look at the table of what w alone and words alone change, in the row of the coat.",
            near=lambda: {"white": "That would take the words too. In the table w alone changes no coat."},
        ),
        "l2": Exercise(
            question="Two z have length 1 and stand at a right angle. How long is the point half-way between "
            "them on a straight line?",
            right=lambda: half_way(lerp),
            why="The straight line cuts through the inside of the sphere, where no typical z lies.",
            hint="Half-way between (1, 0) and (0, 1) lies (0.5, 0.5). How long is that?",
            near=lambda: {
                half_way(slerp): "That is what slerp keeps: it goes along the circle. The line is shorter.",
                0.5: "That is each of its two numbers. The length is the root of the sum of their squares.",
            },
        ),
        "l3": Exercise(
            question="Four frames lie at t = 0, 1/3, 2/3 and 1; the steps between them are 1, 1 and 4 long. "
            "Even pacing moves them to where the length is even. Where does the second frame go?",
            right=lambda: spaced_evenly(_T, _STEPS)[1].item(),
            why="The path is 6 long, each step should be 2, and after 2 one stands at t = 2/3.",
            hint="Add up the steps, divide by three, and see at which t that length has been walked.",
            near=lambda: {
                1 / 3: "That is where it was, in equal times.",
                spaced_evenly(_T, _STEPS)[2].item(): "That is where the third frame goes.",
            },
        ),
        "l4": Exercise(
            question="How many of the style inputs of this model are coarse?",
            right=coarse_layers,
            why="All layers of the sizes up to 8 px: convolutions, attention, and one rgb for each size.",
            hint='Print `layers.indices(G, "coarse")`.',
            near=lambda: {coarse_sizes(): "That is how many sizes they belong to. Each has several layers."},
        ),
        "l5": Exercise(
            question=f"Add up the signs of the sum {_SUM!r} (the first prompt counts plus one). What must "
            "come out, so that the sum stays among prompts?",
            right=lambda: sum(term.sign for term in parse_sum(_SUM)),
            why="What is taken away is put back by another: the sum weighs as much as one prompt.",
            hint="Each term counts plus or minus one, the first one too.",
            near=lambda: {
                len(parse_sum(_SUM)): "That is how many terms there are. Count those with a minus as -1.",
                0.0: "The first term has a plus, though no one writes it.",
            },
        ),
    }
)
