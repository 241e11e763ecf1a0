"""Images per second at which the demo GAN and the diffusion baseline train, in turns in one process.

    python benchmarks/training_rates.py --data runs/world --images 210000

What a run's own clock says also holds what else the machine did meanwhile; this says what either training
takes by itself. Whole steps with all losses, penalties at their interval and the making of batches included.
Prints one JSON object: medians over the rounds, and the minutes that `images` pictures take at them.
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

Round = Callable[[int], int]  # number of a round -> pictures that its steps took


def gan_round(data: str, precision: str) -> Round:
    """Whole intervals of the penalties of a fresh shepherd-64."""
    from workbench.datasets.sources import open_table
    from workbench.models import presets
    from workbench.training.accumulation import take_step
    from workbench.training.batches import Feed
    from workbench.training.config import TrainConfig
    from workbench.training.players import build

    chosen, config = presets.preset("shepherd-64"), TrainConfig.for_preset("shepherd-64", precision=precision)
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
    """Time both in turns and print what was found."""
    from workbench import hardware
    from workbench.evaluation.figures import provenance

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="runs/world")
    parser.add_argument("--images", type=int, default=210_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    precision = hardware.probe("cpu").precision
    with hardware.kept_memory():  # as both trainers do
        rounds = {"gan": gan_round(args.data, precision), "diffusion": diffusion_round(args.data, precision)}
        rates: dict[str, list[float]] = {name: [] for name in rounds}
        for number in range(args.rounds + 1):
            for name, run in rounds.items():
                begun = time.perf_counter()
                count = run(number)
                if number > 0:  # the first brings weights into their layouts
                    rates[name].append(count / (time.perf_counter() - begun))
    found = {
        name: {
            "images_per_s": statistics.median(rate), "least": min(rate), "most": max(rate),
            "minutes": args.images / statistics.median(rate) / 60,
        }
        for name, rate in rates.items()
    }  # fmt: skip
    about = {"images": args.images, "rounds": args.rounds, "threads": torch.get_num_threads()}
    print(json.dumps({**about, "precision": precision, **found, **provenance()}, indent=1))


if __name__ == "__main__":
    main()
