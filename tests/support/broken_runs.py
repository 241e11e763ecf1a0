"""Tiny runs, each broken on purpose in one way, and their histories as the monitor's tests read them.

    python tests/support/broken_runs.py [name ...]

trains them anew (half a minute each on a quiet machine) and writes tests/training/histories/<name>.jsonl: the
statistics that the monitor reads, rounded.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tiny_run
import torch

from workbench.datasets.world.folder import write_world
from workbench.evaluation.features import Judge, JudgeConfig
from workbench.training import signs
from workbench.training.batches import Feed
from workbench.training.history import read_history
from workbench.training.step_batch import StepBatch

HISTORIES = Path(__file__).resolve().parents[1] / "training" / "histories"
IMAGES = 3_200
SETTINGS = {
    "images": IMAGES,
    "lr_G": 1e-2,
    "lr_D": 1e-2,
    "constant_share": 1.0,
    "r1_every": 16,
    "log_every_nimg": 80,
    "sample_every_nimg": 800,
    "checkpoint_every_nimg": IMAGES,
}
KEPT = (*signs.READ, signs.LOSS_G, *signs.HELD_OUT, "frechet", "floor", "diversity")


@dataclass(frozen=True, kw_only=True)
class Broken:
    """says: the event that the monitor has to find in it, None for a healthy run. settings: what it trains
    with otherwise; pictures: of its data set, few, so that D learns to read captions within so short a run;
    batch: what each batch is turned into; judged: evaluated too; held_out: D is asked about held-out ones.
    """

    says: str | None
    settings: dict = field(default_factory=dict)
    pictures: int = 24
    batch: Callable[[StepBatch], None] | None = None
    judged: bool = False
    held_out: bool = False


def draw(folder: Path, count: int, seed: int = 3) -> None:
    """A set of Shepherd World."""
    write_world(folder, count=count, seed=seed, resolution=16, workers=1, progress=False)


def without_noise(batch: StepBatch) -> None:
    """G gets the same z for every picture."""
    batch.z = torch.ones_like(batch.z)


def strange_captions(batch: StepBatch) -> None:
    """Each pair comes under the caption of any other: no caption says anything about a picture."""
    pairs = torch.randperm(len(batch.z) // 2)
    batch.text = batch.text.index_select((pairs[:, None] * 2 + torch.arange(2)).flatten())


RUNS = {
    "healthy": Broken(says=None),
    "collapse": Broken(says="collapse", settings={"mode_seeking_weight": 0.0}, batch=without_noise),
    "overpowering": Broken(
        says="overpowering", settings={"lr_G": 1e-7, "lr_D": 2e-2, "r1_gamma": 0.0, "r2_gamma": 0.0}
    ),
    "ignored-prompt": Broken(says="ignored-prompt", batch=strange_captions),
    "overfitting": Broken(
        says="overfitting",
        pictures=8,
        settings={"r1_gamma": 0.0, "r2_gamma": 0.0, "flip": False},
        held_out=True,
    ),
    "stalled": Broken(says="stalled", settings={"lr_G": 1e-8}, judged=True),
}


def record(name: str, scratch: Path) -> Path:
    """Train the run of that name and write its history; returns the file."""
    broken = RUNS[name]
    data, held = scratch / "data", scratch / "held"
    clip = tiny_run.make_inputs(scratch / "inputs")[1]
    draw(data, broken.pictures)
    draw(held, 64, seed=4)
    judge = None
    if broken.judged:
        judge = scratch / "judge"
        torch.manual_seed(0)
        Judge(JudgeConfig(resolution=16, channels=(8, 8))).save_pretrained(judge)
    every = {"eval_every_nimg": 400, "eval_n": 32} if broken.judged else {}
    original = Feed.at
    try:
        if broken.batch is not None:
            Feed.at = _turned(original, broken.batch)
        tiny_run.run_tiny(
            (data, clip),
            scratch / "run",
            resolution=16 if broken.judged else 8,  # no smaller picture can be rendered to judge by
            judge=judge,
            held_out=held if broken.held_out else None,
            **{**SETTINGS, **every, **broken.settings},
        )
    finally:
        Feed.at = original
    lines = [
        _thin(line) for line in read_history(scratch / "run") if line["kind"] in ("step", "eval", "held-out")
    ]
    HISTORIES.mkdir(parents=True, exist_ok=True)
    file = HISTORIES / f"{name}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def _turned(original, turn: Callable[[StepBatch], None]):
    def at(self, step):
        batch = original(self, step)
        turn(batch)
        return batch

    return at


def _thin(line: dict) -> dict:
    kept = {name: float(f"{line[name]:.4g}") for name in KEPT if line.get(name) is not None}
    return {"kind": line["kind"], "cur_nimg": line["cur_nimg"], **kept}


if __name__ == "__main__":
    import os

    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or RUNS:
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)  # the cache of renders lies below
            print(record(chosen, Path(place)), flush=True)
            os.chdir("/")
