"""The lanes of a race: whatever draws pictures of prompts, what it costs, and how to walk through its noise.

Letters: N pictures [N, 3, S, S] in [-1, 1]; F frames of a walk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench import hardware
from workbench.diffusion.model import DiffusionModel
from workbench.diffusion.pretrained import Pretrained
from workbench.diffusion.sampling import GUIDANCE
from workbench.diffusion.schedule import ladder, start_noise
from workbench.errors import WorkbenchError
from workbench.latents.paths import Key, curve, slerp
from workbench.latents.points import draw as draw_points
from workbench.models.generator import Generator
from workbench.pipeline import Pipeline

GAN, DIFFUSION, STUDENT, OTHER = "gan", "diffusion", "student", "other"
STEPS, STUDENT_STEPS = (1, 2, 4, 8, 16, 32, 50), (1, 2, 4)
# As the demo's baseline is most faithful; and as it is nearest to renders, a step at half the price.
GUIDANCES = (GUIDANCE, 1.0)
_AT_ONCE = 16

Draw = Callable[[list[str], list[int]], Tensor]
Along = Callable[[str, tuple[int, int], Tensor], Tensor]  # prompt, two seeds, t [F] in [0, 1] -> frames


@dataclass(frozen=True, eq=False, kw_only=True)
class Lane:
    """name: as tables say it. kind: of this module's four. steps: of its sampler; calls: passes through its
    network a picture (of a foreign pipeline its steps, whatever they call). side: of its pictures in px.
    parameters: of the network that draws. weights: their hash. settings: of its sampler. precision: in which
    it computes, "bf16" or "fp32", None where that is not ours to say. trained: what its card says of its
    training. draw: prompts and seeds -> pictures; along: a walk between the noise of two seeds under one
    prompt, None where the lane has no noise of ours.
    """

    name: str
    kind: str
    steps: int = 1
    calls: int = 1
    side: int
    parameters: int
    weights: str
    settings: dict[str, Any] = field(default_factory=dict)
    precision: str | None = None
    trained: dict[str, Any] = field(default_factory=dict)
    draw: Draw
    along: Along | None = None

    def facts(self) -> dict[str, Any]:
        """What a result says of the lane, as JSON."""
        names = ("name", "kind", "steps", "calls", "side", "parameters", "weights", "settings", "precision",
                 "trained")  # fmt: skip
        return {name: getattr(self, name) for name in names}


def gan_lane(pipeline: Pipeline, *, name: str = "GAN", kind: str = GAN, precision: str = "fp32") -> Lane:
    """A GAN: one pass. kind OTHER for a further one beside the first, such as a row of the ablation."""

    def draw(prompts: list[str], seeds: list[int]) -> Tensor:
        with _computing(pipeline.G, precision):
            return pipeline(prompts, seed=seeds, batch_size=min(_AT_ONCE, len(seeds))).images

    def along(prompt: str, seeds: tuple[int, int], t: Tensor) -> Tensor:
        path = curve(pipeline, [Key(prompt, seed) for seed in seeds], "z")
        with torch.no_grad(), _computing(pipeline.G, precision):
            return draw_points(pipeline, path(t))

    return Lane(
        name=name, kind=kind, side=pipeline.G.config.resolution,
        parameters=sum(p.numel() for p in pipeline.G.parameters()), weights=pipeline.weight_hash,
        precision=precision, trained=_training(pipeline.card), draw=draw, along=along,
    )  # fmt: skip


def diffusion_lane(
    model: DiffusionModel, steps: int, *, sampler: str | None = None, guidance: float | None = None,
    precision: str = "fp32",
) -> Lane:  # fmt: skip
    """A baseline or a student at so many steps. Without guidance (1) a step is one pass instead of two."""
    sampler = sampler or ("dpm++" if not model.is_student and steps > 1 else model.samplers[0])
    guidance = guidance if model.is_student else model.checked_guidance(guidance)
    told = {"sampler": sampler, "guidance": guidance}
    settings = {"steps": steps, **told}
    calls = steps if model.is_student or guidance == 1.0 else 2 * steps
    side = model.config.resolution

    def draw(prompts: list[str], seeds: list[int]) -> Tensor:
        with hardware.autocast(model.device, precision):
            return model(prompts, seed=seeds, batch_size=min(_AT_ONCE, len(seeds)), **settings).images

    def along(prompt: str, seeds: tuple[int, int], t: Tensor) -> Tensor:
        a, b = (start_noise([seed], side).flatten(1) for seed in seeds)
        noise = slerp(a, b, t).view(-1, 3, side, side)
        # What a student draws on its way stays the first seed's: only the start moves.
        with hardware.autocast(model.device, precision):
            walked = model(
                [prompt] * len(t), seed=[seeds[0]] * len(t), noise=noise, batch_size=_AT_ONCE, **settings
            )
        return walked.images

    what = "Student" if model.is_student else "Diffusion"
    how = ", unguided" if guidance == 1 else f", guidance {guidance}"
    how = "" if guidance in (None, GUIDANCE) else how
    return Lane(
        name=f"{what}, {steps} step{'s' * (steps > 1)}{how}", kind=STUDENT if model.is_student else DIFFUSION,
        steps=steps, calls=calls, side=side, parameters=sum(p.numel() for p in model.unet.parameters()),
        weights=model.weight_hash, settings=told, precision=precision, trained=_training(model.card),
        draw=draw, along=along,
    )  # fmt: skip


def pretrained_lane(model: Pretrained, steps: int, *, side: int) -> Lane:
    """Any pipeline of diffusers, its pictures made `side` px by exact means."""

    def draw(prompts: list[str], seeds: list[int]) -> Tensor:
        return model.sized(prompts, seeds, steps=steps, side=side)

    return Lane(
        name=f"{model.name}, {steps} step{'s' * (steps > 1)}", kind=OTHER, steps=steps, calls=steps,
        side=side, parameters=model.parameters, weights=model.weight_hash, draw=draw,
    )  # fmt: skip


def lanes_of(
    *, gan: str | Path | None = None, diffusion: str | Path | None = None, student: str | Path | None = None,
    pretrained: str | Path | None = None, also: Sequence[str | Path] = (), steps: Sequence[int] = STEPS,
    student_steps: Sequence[int] = STUDENT_STEPS, guidances: Sequence[float] = GUIDANCES,
    device: str | None = None, precision: str = "fp32", side: int = 64,
) -> list[Lane]:  # fmt: skip
    """The lanes of model folders, names of lanes all different.

    also: further GANs, named by their folder. guidances: at each of which the baseline takes all its steps.
    precision: "bf16", "fp32" or "auto" (what `hardware.probe` says), of all but a pretrained pipeline, which
    keeps its own. side: pixels to which that pipeline's pictures are brought. Raises WorkbenchError where
    there is none, or one cannot be read.
    """
    for count in (*steps, *student_steps):
        ladder(count)
    lanes: list[Lane] = []
    if precision == "auto":
        precision = hardware.probe(device).precision
    if gan is not None:
        lanes.append(gan_lane(Pipeline.from_pretrained(gan, device=device), precision=precision))
    for folder in also:
        pipeline = Pipeline.from_pretrained(folder, device=device)
        lanes.append(gan_lane(pipeline, name=pipeline.name, kind=OTHER, precision=precision))
    if diffusion is not None:
        model = DiffusionModel.from_pretrained(diffusion, device=device)
        if model.is_student:
            raise WorkbenchError(
                f"{diffusion} is a student: give it as the student, its teacher as diffusion."
            )
        lanes += [
            diffusion_lane(model, count, guidance=guidance, precision=precision)
            for guidance in guidances for count in steps
        ]  # fmt: skip
    if student is not None:
        model = DiffusionModel.from_pretrained(student, device=device)
        if not model.is_student:
            raise WorkbenchError(f"{student} is no student: give it as diffusion.")
        lanes += [diffusion_lane(model, count, precision=precision) for count in student_steps]
    if pretrained is not None:
        model = Pretrained.from_pretrained(pretrained, device=device)
        lanes += [pretrained_lane(model, count, side=side) for count in student_steps]
    names = [lane.name for lane in lanes]
    if not lanes or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        why = "No model was given" if twice is None else f"Two lanes are called {twice!r}"
        raise WorkbenchError(f"{why}: a race needs lanes of different names.")
    return lanes


@contextlib.contextmanager
def _computing(network: Generator, precision: str) -> Iterator[None]:
    """Lets the network compute in a precision for a while: two lanes may share it."""
    before = network.compute_dtype
    network.compute_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        yield
    finally:
        network.compute_dtype = before


def _training(card: dict[str, Any]) -> dict[str, Any]:
    """What a card says of the cost of training."""
    return {
        name: card[name] for name in ("images", "seconds", "teacher_seconds") if card.get(name) is not None
    }
