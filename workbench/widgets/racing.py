"""What notebook 07 shows of GAN and diffusion: who races, how each draws, and pictures of both side by side.

Letters: N pictures [N, 3, S, S] in [-1, 1]; F frames of a walk. Plots and tables are in `racing_plots.py`.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.diffusion import entrants
from workbench.diffusion.cost import Cost, cost
from workbench.diffusion.lanes import Lane, diffusion_lane, gan_lane
from workbench.diffusion.model import DiffusionModel
from workbench.diffusion.race import race
from workbench.diffusion.sampling import GUIDANCE
from workbench.diffusion.schedule import alphas_sigmas, noising
from workbench.diffusion.trials import interleaved_times
from workbench.evaluation.features import Judge
from workbench.evaluation.perceptual import FeatureDistance
from workbench.models.inspect import enlarged
from workbench.noise import draw_z
from workbench.pipeline import Pipeline
from workbench.training.history import NAME, read_history
from workbench.widgets.pictures import Picture, sheet
from workbench.widgets.profile import ASSETS
from workbench.widgets.theory import Page

ROOT = ASSETS.parent
GAN = ASSETS / "models" / "shepherd-64"
WORLD_SEED = 8_700_001  # of prompts that no training saw
QUALITY = 22
RATES = Path("benchmarks/results/training-rates.json")
_fresh = itertools.count(1_000)  # numbers of prompts that no model of this process remembers
WORDS = {"gan": "GAN", "diffusion": "diffusion model", "student": "few-step student"}


# --- who races ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Racers:
    """The models at hand, None where there is none. places: where each lies, by kind. Printed, it says who is
    there, and how the others are made.
    """

    gan: Pipeline
    diffusion: DiffusionModel | None
    student: DiffusionModel | None
    places: Mapping[str, Path]

    def __str__(self) -> str:
        return "\n".join(
            f"{words}: {_relative(self.places[kind])}" if kind in self.places else _absent(kind)
            for kind, words in WORDS.items()
        )

    @property
    def weights(self) -> dict[str, str]:
        """Hashes of the models, by kind."""
        models = {kind: getattr(self, kind) for kind in WORDS}
        return {kind: model.weight_hash for kind, model in models.items() if model is not None}

    def lanes(
        self, steps: Sequence[int], student_steps: Sequence[int],
        guidances: Sequence[float] = (GUIDANCE,),
    ) -> list[Lane]:  # fmt: skip
        """The GAN, diffusion at each guidance and number of steps, the student at each of its own; in fp32,
        in which each picture can be made again.
        """
        found = [gan_lane(self.gan)]
        if self.diffusion is not None:
            found += [
                diffusion_lane(self.diffusion, count, guidance=guidance)
                for guidance in guidances for count in steps
            ]  # fmt: skip
        if self.student is not None:
            found += [diffusion_lane(self.student, count) for count in student_steps]
        return found


def at_the_start(root: Path = ROOT) -> Racers:
    """Find and load the models under `root`: what ships first, then the newest finished runs."""
    places = {kind: entrants.find(kind, root) for kind in ("diffusion", "student")}
    loaded = {
        kind: None if place is None else DiffusionModel.from_pretrained(place, device="cpu")
        for kind, place in places.items()
    }
    there = {"gan": GAN} | {kind: place for kind, place in places.items() if place is not None}
    return Racers(gan=Pipeline.from_pretrained(GAN, device="cpu"), **loaded, places=there)


def measured(racers: Racers, root: Path = ROOT) -> tuple[dict[str, Any] | None, str]:
    """The race that was measured of these very models, and a sentence on it; None where there is none."""
    found = entrants.result_of(racers.weights, root)
    if found is None:
        make = entrants.how_to_make("result")
        return None, f"No race of these models has been measured yet: {make} does it."
    path, result = found
    return result, f"{_relative(path, root)}: {told_by(result)}"


def told_by(result: Mapping[str, Any]) -> str:
    """By how many pictures, when and where a race was measured."""
    return f"{result['n']:,} pictures of each lane, {result['date']}, {result['machine']}"


def race_here(
    lanes: Sequence[Lane], judge: Judge, distance: FeatureDistance, *, n: int, edits: int, rounds: int,
    spread: tuple[int, int], seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """The race of `workbench compare`, small, now, on this machine; nothing of it is kept."""
    with tempfile.TemporaryDirectory() as room:
        return race(
            lanes, judge, Path(room), n=n, edits=edits, paths=1, rounds=rounds, spread=spread, seed=seed,
            distance=distance, cache=Path(room) / "renders",
        )  # fmt: skip


def on_one_core(result: Mapping[str, Any], lanes: Sequence[Lane], *, rounds: int) -> dict[str, Any]:
    """A race's result with the times of its lanes taken again on a single core, as a small device has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = interleaved_times(lanes, rounds=rounds)
    finally:
        torch.set_num_threads(threads)
    return {**result, "lanes": [{**row, **times[row["name"]]} for row in result["lanes"]]}


def training_rates(root: Path = ROOT) -> dict[str, Any] | None:
    """What `benchmarks/training_rates.py` found where it was recorded; None where it was not."""
    file = root / RATES
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def histories(racers: Racers) -> dict[str, list[dict]]:
    """The history of each model's training by kind, where it is at hand: beside a run's model, or among what
    ships under the model's name.
    """
    found = {}
    for kind, place in racers.places.items():
        run = place.parent if place.name == "model" else place.parents[1] / "training" / place.name
        if (run / NAME).is_file():
            found[kind] = read_history(run)
    return found


def costs(racers: Racers, lanes: Sequence[Lane]) -> dict[str, Cost]:
    """What one picture of each of the racers' lanes costs, counted while it is drawn of a prompt that nobody
    remembers.
    """
    models = {"gan": racers.gan, "diffusion": racers.diffusion, "student": racers.student}
    found = {}
    for lane in lanes:
        model, k = models[lane.kind], next(_fresh)
        networks = [model.G if lane.kind == "gan" else model.unet, model.text_encoder]
        prompt = full_caption(draw_factors(WORLD_SEED, k), WORLD_SEED, k)
        found[lane.name] = cost(lambda prompt=prompt, lane=lane: lane.draw([prompt], [0]), networks)
    return found


# --- how each draws -----------------------------------------------------------------------------------------


def forward_strip(picture: Tensor, alt: str, *, count: int = 6, seed: int = 0) -> Picture:
    """A picture [1, 3, S, S] under more and more noise, the share of the picture in each above it."""
    frames, times = noising(picture, count=count, seeds=[seed])
    shares = [f"{alphas_sigmas()[0][t]:.0%}" for t in times]
    return sheet(frames[:, 0].clamp(-1, 1), count, alt, quality=QUALITY, zoom=1.4, column_names=shares)


def denoising_sheet(
    model: DiffusionModel, prompt: str, alt: str, *, seed: int = 0, steps: int = 8, columns: int = 5
) -> Picture:
    """After each step: above what the model goes on from, below the picture that it sees behind the noise."""
    seen: list[Any] = []
    model(prompt, seed=seed, steps=steps, on_step=seen.append)
    chosen = [seen[round(k)] for k in torch.linspace(0, steps - 1, min(columns, steps)).tolist()]
    rows = torch.cat([step.x.clamp(-1, 1) for step in chosen] + [step.x0 for step in chosen])
    names = [str(step.index + 1) for step in chosen]
    return sheet(
        rows, len(chosen), alt, quality=QUALITY, zoom=1.4, row_names=["noisy", "seen"], column_names=names
    )


def one_pass_sheet(pipeline: Pipeline, prompt: str, alt: str, *, seed: int = 0) -> Picture:
    """The pictures of all sizes that come out of one pass of G, enlarged to one size."""
    G = pipeline.G
    with torch.no_grad():
        text = pipeline.text(prompt)
        w = G.mapping(draw_z([seed], G.config.z_dim), None if text is None else text.t_global)
        pyramid = G.synthesis(w, text)
    shown = [enlarged(level.float().clamp(-1, 1), G.config.resolution) for level in reversed(pyramid)]
    names = [f"{level.shape[-1]} px" for level in reversed(pyramid)]
    return sheet(torch.cat(shown), len(shown), alt, quality=QUALITY, zoom=1.4, column_names=names)


# --- pictures of both ---------------------------------------------------------------------------------------


def prompts_of(count: int) -> list[str]:
    """Captions of the world that no training saw."""
    return [full_caption(draw_factors(WORLD_SEED, k), WORLD_SEED, k) for k in range(count)]


def lanes_sheet(
    lanes: Sequence[Lane], prompts: Sequence[str], seeds: Sequence[int], alt: str, **words: Any
) -> Picture:
    """A row for each lane: the same prompts with the same seeds."""
    rows = torch.cat([lane.draw(list(prompts), list(seeds)) for lane in lanes])
    names = [short(lane.name) for lane in lanes]
    return sheet(rows, len(prompts), alt, **{"quality": QUALITY, "zoom": 1.3, "row_names": names, **words})


def short(name: str) -> str:
    """A lane's name in a few short lines, for the margin of a sheet."""
    return name.replace(", ", "\n")


def swap_sheet(lanes: Sequence[Lane], before: str, after: str, seeds: Sequence[int], alt: str) -> Picture:
    """Of each lane two rows: one prompt, and the other with the same seeds."""
    count = len(seeds)
    rows = torch.cat([lane.draw([text] * count, list(seeds)) for lane in lanes for text in (before, after)])
    names = [f"{short(lane.name)}\n{when}" for lane in lanes for when in ("before", "after")]
    return sheet(rows, count, alt, quality=QUALITY, zoom=1.2, row_names=names)


def walk(lane: Lane, prompt: str, seeds: tuple[int, int], frames: int) -> Tensor:
    """Frames [F, 3, S, S] from one seed's noise to another's in equal steps of the angle."""
    return lane.along(prompt, seeds, torch.linspace(0, 1, frames))


def walks_sheet(walks: Mapping[str, Tensor], alt: str) -> Picture:
    """A strip for each walk, name -> [F, 3, S, S]."""
    rows = torch.cat(list(walks.values()))
    names = [short(name) for name in walks]
    count = len(next(iter(walks.values())))
    return sheet(rows, count, alt, quality=QUALITY, zoom=1.1, row_names=names)


def if_here(racers: Racers, kind: str, draw: Callable[[DiffusionModel], Picture]) -> Picture | Page:
    """What `draw` shows of the model of a kind; where there is none, a sentence that says how to make it."""
    model = getattr(racers, kind)
    return Page(_absent(kind)) if model is None else draw(model)


def _absent(kind: str) -> str:
    return f"{WORDS[kind]}: none is here yet; {entrants.how_to_make(kind)} makes one that is found here"


def _relative(path: Path, root: Path = ROOT) -> Path:
    """A path as it is said: from the project's folder where it lies there."""
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
