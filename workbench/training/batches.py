"""What a step is fed, and the fixed prompts of the grids.

Every step's batch is a function of (seed, step) alone.

Legend: B pictures of a process's batch (an even number); N captions.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.loading import PairedBatches, PictureTable
from workbench.datasets.world.captions import FACTOR_NAMES, named_factors
from workbench.errors import WorkbenchError
from workbench.models.generator import Generator
from workbench.models.text import TextEncoder
from workbench.noise import draw_z, generator_for
from workbench.training.captions import CaptionTable, Encoder
from workbench.training.config import TrainConfig
from workbench.training.steps import StepBatch

# Streams of the run's seed: z and augmentations of a step never share one with data order, flips or
# mismatches.
_Z, _AUGMENT = 11 << 40, 12 << 40
_DRAW = 50  # pictures drawn at once


class Feed:
    """StepBatches of a run. rank, world: this process takes its share of each batch, pairs kept whole;
    captions: folder where text features are kept between runs.
    """

    def __init__(
        self,
        table: PictureTable,
        encoder: Encoder,
        config: TrainConfig,
        z_dim: int,
        device: torch.device,
        *,
        rank: int = 0,
        world: int = 1,
        captions: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        if config.batch_size % (2 * world):
            raise WorkbenchError(
                f"batch_size is {config.batch_size} on {world} processes: expected a multiple of "
                f"{2 * world}, "
                "whole pairs for each."
            )
        if config.matching_weight > 0 and int(table.groups.max()) == 0:
            raise WorkbenchError(
                "All pictures share one caption, so no caption is wrong for any: expected different captions "
                "(or set matching_weight to 0)."
            )
        # Pairs come in one endless row: batch n of local size is this rank's part of the whole batch.
        self.local, self.rank, self.world = config.batch_size // world, rank, world
        self.pairs = PairedBatches(table, self.local, config.seed, flip=config.flip)
        self.captions = CaptionTable(table.texts, encoder, device, folder=captions, say=say)
        self.seed, self.z_dim, self.device = config.seed, z_dim, device

    def at(self, step: int) -> StepBatch:
        """The batch of `step` (from 0 on). Each row has its own z."""
        turn = step * self.world + self.rank
        batch = self.pairs.batch_at(turn)
        mismatch, valid = self.pairs.mismatched(batch)
        mismatch = mismatch.masked_fill(~valid, -1)
        return StepBatch(
            images=batch.images.to(self.device, memory_format=torch.channels_last),
            text=self.captions.of(batch.captions),
            mismatch=mismatch.to(self.device),
            z=torch.randn(self.local, self.z_dim, generator=generator_for(self.seed, _Z + turn)).to(
                self.device
            ),
            generator=generator_for(self.seed, _AUGMENT + turn),
        )


def grid_plan(table: PictureTable, *, count: int = 36, seed: int = 20_000) -> tuple[list[str], list[int]]:
    """Prompts and seeds of the grids, fixed for a run: half of them single pictures, half pairs with two z
    of one prompt.

    Captions of the data set, those that name the most factors first, taken so that every factor's values come
    in turn.
    """
    singles, pairs = count - count // 2, count // 4
    chosen = _spread_captions(table.texts, singles + pairs)
    prompts = [chosen[k % len(chosen)] for k in range(singles + pairs)]
    prompts = prompts[:singles] + [text for text in prompts[singles:] for _ in range(2)]
    return prompts, [seed + k for k in range(len(prompts))]


@torch.inference_mode()
def draw_pictures(G: Generator, encoder: TextEncoder, prompts: list[str], seeds: list[int]) -> Tensor:
    """Pictures of prompts and seeds in batches, [N, 3, R, R] float32 in [-1, 1] on the CPU."""
    parts, device = [], G.w_avg.device
    for at in range(0, len(prompts), _DRAW):
        z = draw_z(seeds[at : at + _DRAW], G.config.z_dim).to(device)
        text = encoder(prompts[at : at + _DRAW]).to(device)
        parts.append(G(z, text)[0].float().clamp(-1, 1).cpu())
    return torch.cat(parts)


def _spread_captions(texts: list[str], count: int, most: int = 2000) -> list[str]:
    """Up to `count` different captions.

    Greedy: the next is the one whose factor values were shown the least so far.
    """
    distinct = list(dict.fromkeys(texts))
    pool = distinct[:: max(1, len(distinct) // most)][:most]
    claims = {text: named_factors(text) for text in pool}
    full = [text for text in pool if len(claims[text]) == len(FACTOR_NAMES)]
    pool = full if len(full) >= count else pool
    shown: dict[tuple[str, str], int] = {}
    chosen: list[str] = []
    for _ in range(min(count, len(pool))):
        # min takes the first of equals: the order of the data set decides
        best = min(pool, key=lambda text: sum(shown.get(item, 0) for item in claims[text].items()))
        chosen.append(best)
        pool.remove(best)
        for item in claims[best].items():
            shown[item] = shown.get(item, 0) + 1
    return chosen
