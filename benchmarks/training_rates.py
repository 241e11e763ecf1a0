"""Minutes that the trainings of the demo GAN and of the diffusion baseline take on this machine, idle.

    python benchmarks/training_rates.py --data runs/world

What a run's own clock says also holds what else the machine did meanwhile; this says what either training
takes by itself. Each stage of what ships is timed in turns with the others in one process: whole steps with
all losses, penalties at their interval and the making of batches included. Prints one JSON object: medians
over the rounds, and the minutes that the stages' pictures take at them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "assets" / "models" / "mini-clip"
GAN, DIFFUSION = (ROOT / "assets" / "training" / name for name in ("shepherd-64", "shepherd-64-diffusion"))

Round = Callable[[int], int]  # number of a round -> pictures that its steps took


def stages() -> list[tuple[str, dict, int]]:
    """(name, settings of the training, real images) of each stage of the GAN that ships: D that learns beside
    a G that stands still is one by itself.
    """
    facts = json.loads((GAN / "config.json").read_text(encoding="utf-8"))
    laps = facts.get("laps") or [{"config": facts["config"], "images": images_of(GAN), "D_alone": 0}]
    found = []
    for number, lap in enumerate(laps, 1):
        if lap["D_alone"]:
            found.append((f"lap {number}, D alone", {**lap["config"], "lr_G": 0.0}, lap["D_alone"]))
        if learning := lap["images"] - lap["D_alone"]:
            found.append((f"lap {number}", lap["config"], learning))
    return found


def images_of(run: Path) -> int:
    """Real images that a run has seen in all."""
    from workbench.training.history import read_history

    return max(line["cur_nimg"] for line in read_history(run))


def gan_round(data: str, precision: str, settings: dict) -> Round:
    """Some 512 pictures and whole intervals of the penalties of a fresh shepherd-64."""
    from workbench.datasets.sources import open_table
    from workbench.models import presets
    from workbench.training.accumulation import take_step
    from workbench.training.batches import Feed
    from workbench.training.config import TrainConfig
    from workbench.training.players import build

    config = TrainConfig.from_json({**settings, "precision": precision})
    chosen = presets.preset("shepherd-64")
    players = build(chosen, config, CLIP, "cpu", precision)
    table = open_table(data, chosen.generator.resolution, progress=False)
    feed = Feed(table, players.captions, config, chosen.generator.z_dim, torch.device("cpu"))

    def steps(number: int) -> int:
        for step in range(number * config.r1_every, (number + 1) * config.r1_every):
            at = step * config.batch_size
            take_step(players, feed.parts_at(step), cur_nimg=at, step=step, config=config)
        return config.batch_size * config.r1_every

    return steps


def diffusion_round(data: str, precision: str) -> Round:
    """As many steps of a fresh baseline of the same size."""
    from workbench.datasets.sources import open_table
    from workbench.diffusion.baseline import baseline_for
    from workbench.diffusion.config import DiffusionConfig
    from workbench.diffusion.training import Denoising
    from workbench.models import presets
    from workbench.models.text import TextEncoder

    encoder = TextEncoder.from_pretrained(CLIP)
    network = baseline_for(presets.preset("shepherd-64").generator, embed_dim=encoder.embed_dim)
    config = DiffusionConfig(images=1_000)
    table = open_table(data, network.resolution, progress=False)
    task = Denoising(config, network, encoder, table, torch.device("cpu"), precision, facts={})

    def steps(number: int) -> int:
        for step in range(number * 16, (number + 1) * 16):
            task.step(step, step * config.batch_size)
        return config.batch_size * 16

    return steps


def main() -> None:
    """Time all in turns and print what was found."""
    from workbench import hardware
    from workbench.evaluation.figures import provenance

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="runs/world")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    precision = hardware.probe("cpu").precision
    with hardware.kept_memory():  # as both trainers do
        timed = [("gan", name, gan_round(args.data, precision, own), count) for name, own, count in stages()]
        baseline = diffusion_round(args.data, precision)
        timed.append(("diffusion", "the whole", baseline, images_of(DIFFUSION)))
        rates: list[list[float]] = [[] for _ in timed]
        for number in range(args.rounds + 1):
            for (_, _, run, _), seen in zip(timed, rates, strict=True):
                begun = time.perf_counter()
                count = run(number)
                if number > 0:  # the first brings weights into their layouts
                    seen.append(count / (time.perf_counter() - begun))
    found: dict[str, dict] = {
        kind: {"images": 0, "minutes": 0.0, "stages": []} for kind in ("gan", "diffusion")
    }
    for (kind, name, _, images), seen in zip(timed, rates, strict=True):
        rate = statistics.median(seen)
        own = {"name": name, "images": images, "images_per_s": rate, "least": min(seen), "most": max(seen)}
        own["minutes"] = images / rate / 60
        found[kind]["stages"].append(own)
        for total in ("images", "minutes"):
            found[kind][total] += own[total]
    about = {"rounds": args.rounds, "threads": torch.get_num_threads(), "precision": precision}
    print(json.dumps({**about, **found, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
