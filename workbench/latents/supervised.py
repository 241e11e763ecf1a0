"""Directions that the world's own factors teach: linear models of w and of the words.

The prompt reaches a picture on two ways, by w = M(z, t_global) and by the words that cross-attention reads,
and each holds against the other (measured: with w of another coat and the old words not one dog in a hundred
changes colour). So a direction moves both. In w: the subspace in which the classes of a factor differ,
without what lies in the spans in which the other factors' classes do. It is orthogonal to these spans as they
were found, not to what is left of them in their own turn. In the words: the subspace in which the rows that
name the factor differ. How far other rows go along is said by a gate, a second linear model that finds the
naming rows: T lets every word hear the others, so that the coat is in all of them, while a scene forced on
all rows changes the light too. `loosened` opens the gate; `finding.py` takes what was best under captions of
their own.

Samples are held out by their captions, not by z: picture i of a sample has the seed FIRST_SEED + seed + i,
and the samples that measure, tune and score have seeds within those of the fit, which saw each of their z
under another caption. Under z that it never saw, the r2 of three turns was higher and of three lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.datasets.world import Factors, draw_factors
from workbench.datasets.world.captions import (
    COAT_WORDS,
    LIGHT_TAGS,
    LIGHT_WORDS,
    POSE_WORDS,
    SCENE_TAGS,
    SCENE_WORDS,
    full_caption,
)
from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, RANGES, Judge, class_ids
from workbench.latents.directions import Direction, Move
from workbench.latents.points import Points, draw, from_z, texts_of
from workbench.models.checks import check_whole
from workbench.models.inspect import Word, words_of
from workbench.models.mapping import Text
from workbench.models.text import TextEncoder
from workbench.noise import draw_z
from workbench.pipeline import Pipeline

FIT_SEED = 8_000_003  # captions that directions are fitted on; measured on others
FIRST_SEED = 80_000_000_000
RIDGE = 1e-2
TURNS = ("azimuth_sin", "azimuth_cos", "x", "y", "size", "head_yaw_deg")
PHRASES = {
    "coat": COAT_WORDS,
    "pose": POSE_WORDS,
    "scene": {k: (*SCENE_WORDS[k], *SCENE_TAGS[k]) for k in SCENE_WORDS},
    "light": {k: (*LIGHT_WORDS[k], *LIGHT_TAGS[k]) for k in LIGHT_WORDS},
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """n captions of the world with one seed each, as G sees them. words: of each caption, as they are read;
    ids: factor -> class [n], on the CPU; text: None and no words where G reads none.
    """

    factors: list[Factors]
    captions: list[str]
    words: list[list[Word]]
    ids: dict[str, Tensor]
    text: Text | None
    at: Points

    @property
    def w(self) -> Tensor:
        """[n, w_dim]."""
        return self.at.ws[:, 0]


def draw_sample(pipeline: Pipeline, n: int, *, seed: int = FIT_SEED) -> Sample:
    """n captions that name all four factors, and a seed each. Raises WorkbenchError for n below 1."""
    check_whole(n, "n")
    factors = [draw_factors(seed, i) for i in range(n)]
    captions = [full_caption(f, seed, i) for i, f in enumerate(factors)]
    text = texts_of(pipeline, captions)
    first = FIRST_SEED + seed
    z = draw_z(range(first, first + n), pipeline.G.config.z_dim)
    encoder = pipeline.text_encoder
    words = [[] if encoder is None else words_of(caption, encoder) for caption in captions]
    return Sample(factors, captions, words, class_ids(factors), text, from_z(pipeline, z, text))


def check_reads(pipeline: Pipeline, why: str) -> None:
    """Raises WorkbenchError for a model without text; why: what needs one, and what to do."""
    if pipeline.text_encoder is None:
        raise WorkbenchError(f"{pipeline.name} reads no text: {why}.")


# --- subspaces of factors -----------------------------------------------------------------------------------


def class_means(x: Tensor, ids: dict[str, Tensor]) -> dict[str, Tensor]:
    """Factor -> mean of x [n, d] for each class with the other factors averaged out, [classes, d].

    Least squares on the one-hot classes of all factors at once, so that a factor which happens to go with
    another in the sample does not lend it its colour; plus the overall mean.
    """
    mean = x.mean(0)
    blocks, sizes = [], []
    for name, classes in FACTOR_CLASSES.items():
        hot = F.one_hot(ids[name], len(classes)).to(x)
        blocks.append(hot - hot.mean(0))
        sizes.append(len(classes))
    design = torch.cat(blocks, dim=1)
    gram = design.t() @ design + RIDGE * torch.eye(design.shape[1]).to(x)
    effects = torch.linalg.solve(gram, design.t() @ (x - mean)).split(sizes)
    return {
        name: mean + effect - effect.mean(0) for name, effect in zip(FACTOR_CLASSES, effects, strict=True)
    }


def subspaces(means: dict[str, Tensor], *, orthogonal: bool = True) -> dict[str, Tensor]:
    """Factor -> orthonormal basis [classes - 1, d] of the span in which its class means differ.

    orthogonal: each without the part that lies in the others' spans, so that moving in one leaves what x
    holds in those spans exactly as it was. The results are orthogonal to these, but not to one another.
    """
    spans = {name: _basis(m - m.mean(0), len(m) - 1) for name, m in means.items()}
    if not orthogonal:
        return spans
    found = {}
    for name, own in spans.items():
        others = torch.cat([span for other, span in spans.items() if other != name])
        others = _basis(others, len(others))
        found[name] = _basis(own - own @ others.t() @ others, len(own))
    return found


def _basis(rows: Tensor, rank: int) -> Tensor:
    """Orthonormal rows of the span of [m, d], the strongest `rank`."""
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    keep = min(rank, int((values > values[0] * 1e-5).sum()))
    return right[:keep]


def accuracy(x: Tensor, ids: Tensor, means: Tensor, basis: Tensor) -> float:
    """Share of x [n, d] whose nearest class mean within the subspace is its own class: under captions that
    were not fitted to.
    """
    apart = torch.cdist(x @ basis.t(), means @ basis.t())
    return (apart.argmin(1) == ids.to(x.device)).double().mean().item()


# --- rows that name a factor --------------------------------------------------------------------------------


def rows_naming(pipeline: Pipeline, words: Sequence[Word], factor: str, value: str) -> tuple[int, ...]:
    """Rows of t_local in which a caption's words say that `factor` is `value`: the longest phrase of it that
    stands there; () where it says it in other words.
    """
    spelled = tuple(word.text.lower() for word in words)
    phrases = [_spelled(phrase, pipeline.text_encoder) for phrase in PHRASES[factor][value]]
    for wanted in sorted(phrases, key=len, reverse=True):
        for start in range(len(spelled) - len(wanted) + 1):
            if spelled[start : start + len(wanted)] == wanted:
                return tuple(row for word in words[start : start + len(wanted)] for row in word.rows)
    return ()


def _rows(pipeline: Pipeline, sample: Sample, factor: str) -> tuple[Tensor, Tensor, Tensor]:
    """(rows of captions that name the factor [m, d], their classes [m], all other rows [q, d])."""
    ids, values = sample.ids[factor].tolist(), FACTOR_CLASSES[factor]
    naming = torch.zeros_like(sample.text.mask)
    for k, words in enumerate(sample.words):
        naming[k, list(rows_naming(pipeline, words, factor, values[ids[k]]))] = True
    classes = sample.ids[factor].to(naming.device)[:, None].expand_as(naming)
    others = sample.text.mask & ~naming
    return sample.text.t_local[naming], classes[naming], sample.text.t_local[others]


def _gate(own: Tensor, others: Tensor, *, steps: int = 60) -> Tensor:
    """Logistic regression by L-BFGS: rows that name the factor against all others; [d + 1], bias last."""
    x = torch.cat([own, others])
    y = torch.cat([torch.ones_like(own[:, 0]), torch.zeros_like(others[:, 0])])
    weight = x.new_zeros(x.shape[1] + 1).requires_grad_()
    optimiser = torch.optim.LBFGS([weight], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weight[:-1] + weight[-1], y)
        value = value + 1e-4 * weight[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return weight.detach()


@cache
def _spelled(phrase: str, encoder: TextEncoder) -> tuple[str, ...]:
    return tuple(word.text.lower() for word in words_of(phrase, encoder))


def _means_of_rows(rows: Tensor, classes: Tensor, count: int) -> Tensor:
    return torch.stack([rows[classes == k].mean(0) for k in range(count)])


# --- the directions -----------------------------------------------------------------------------------------


def fit_factors(pipeline: Pipeline, fit: Sample, held_out: Sample) -> list[Direction]:
    """One direction for each class of each factor ("coat: white"), with its accuracy on held-out captions.

    Strength 1 puts the point where pictures of that class are, in the factor's own subspace; what else w and
    the words hold stays. Raises WorkbenchError for a model without text and for samples whose captions do not
    name every class (of `fit`) or none (of `held_out`).
    """
    check_reads(pipeline, "directions of factors are learnt from captions. Find some with ganspace or sefa")
    means = class_means(fit.w, fit.ids)
    bases = subspaces(means)
    everywhere = tuple(range(pipeline.G.num_ws))
    found = []
    for factor, values in FACTOR_CLASSES.items():
        own, classes, others = _rows(pipeline, fit, factor)
        held_rows, held_classes, _ = _rows(pipeline, held_out, factor)
        if len(classes.unique()) < len(values) or not len(held_classes):
            raise WorkbenchError(
                f"{len(fit.captions)} captions to learn from and {len(held_out.captions)} to test by are too "
                f"few to name every {factor}: expected hundreds. Draw more."
            )
        gate = _gate(own, others)
        row_means = _means_of_rows(own, classes, len(values))
        row_basis = _basis(row_means - row_means.mean(0), len(values) - 1)
        facts = {
            "accuracy_w": accuracy(held_out.w, held_out.ids[factor], means[factor], bases[factor]),
            "accuracy_words": accuracy(held_rows, held_classes, row_means, row_basis),
            "n": len(fit.captions),
            "held_out": len(held_out.captions),
        }
        w_places = means[factor] @ bases[factor].t() @ bases[factor]
        t_places = row_means @ row_basis.t() @ row_basis
        for k, value in enumerate(values):
            found.append(
                Direction(
                    name=f"{factor}: {value}",
                    source="supervised",
                    layers=everywhere,
                    w=Move(vector=w_places[k], basis=bases[factor]),
                    t=Move(vector=t_places[k], basis=row_basis, gate=gate),
                    strengths=(-0.5, 1.5),
                    target=factor,
                    value=value,
                    facts=facts,
                )
            )
    return found


def fit_turns(
    pipeline: Pipeline, judge: Judge, fit: Sample, held_out: Sample, names: Sequence[str] = TURNS
) -> list[Direction]:
    """Directions for what no word names: where the dog looks and stands, its size, its head.

    Ridge regression of what the judge reads in the pictures on w without its factors' subspaces; one unit
    moves the reading by a standard deviation. Each says how much of the reading it explains under held-out
    captions (r2).
    """
    readings, checks = (
        {name: y.to(fit.w.device) for name, y in _readings(judge, draw(pipeline, sample.at)).items()}
        for sample in (fit, held_out)
    )
    blind = torch.cat(list(subspaces(class_means(fit.w, fit.ids), orthogonal=False).values()))
    blind = _basis(blind, len(blind))

    def seen(w: Tensor) -> Tensor:
        centred = w - fit.w.mean(0)
        return (centred - centred @ blind.t() @ blind).double()

    x, x_held = seen(fit.w), seen(held_out.w)
    gram = x.t() @ x / len(x)
    gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    found = []
    for name in names:
        y = readings[name] - readings[name].mean()
        deviation = y.std()
        slope = torch.linalg.solve(gram, x.t() @ (y / deviation) / len(x))
        error = (checks[name] - readings[name].mean()) / deviation - x_held @ slope
        r2 = 1 - (error.square().mean() / (checks[name] / deviation).var()).item()
        # the shortest step that moves the fitted reading by one deviation, in the metric of w itself
        step = gram @ slope
        found.append(
            Direction(
                name=f"turn: {name.removesuffix('_deg')}",
                source="supervised",
                layers=tuple(range(pipeline.G.num_ws)),
                w=Move(vector=(step / (step @ slope)).float()),
                strengths=(-3.0, 3.0),
                suggested=2.0,
                facts={"r2": r2, "deviation": deviation.item(), "n": len(fit.captions)},
            )
        )
    return found


def _readings(judge: Judge, pictures: Tensor) -> dict[str, Tensor]:
    """Name -> what the judge regresses of each picture [N], the azimuth as sine and cosine."""
    found = judge.measure(pictures).regression
    azimuth = found["azimuth_deg"].double().deg2rad()
    return {
        "azimuth_sin": azimuth.sin(),
        "azimuth_cos": azimuth.cos(),
        **{name: found[name].double() for name in RANGES},
    }


def loosened(direction: Direction, by: float | None) -> Direction:
    """The direction with its gate opened `by` (added to its bias), or taken away for None."""
    gate = direction.t.gate
    if by is None:
        gate = None
    elif gate is not None:
        gate = torch.cat([gate[:-1], gate[-1:] + by])
    facts = {**direction.facts, "gate": "open" if by is None else f"{by:g}"}
    return replace(direction, t=replace(direction.t, gate=gate), facts=facts)


def in_w_alone(direction: Direction) -> Direction:
    """The same direction in w alone: what is lost without the words (for lessons)."""
    return Direction(
        name=f"{direction.name} (w alone)",
        source=direction.source,
        layers=direction.layers,
        w=direction.w,
        strengths=direction.strengths,
        suggested=direction.suggested,
        target=direction.target,
        value=direction.value,
    )
