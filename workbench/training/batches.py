"""What a step is fed, and the fixed prompts of the grids.

Every step's batch is a function of (seed, step) alone.

Legend: B pictures of a process's batch (an even number); N captions. Text features of all different captions
are computed once, kept in half precision where that holds them, and picked by row at each step.
"""

import torch
from torch import Tensor

from workbench.datasets.captions import FACTOR_NAMES, named_factors
from workbench.datasets.loading import PairedBatches, PictureTable
from workbench.errors import WorkbenchError
from workbench.models.generator import Generator
from workbench.models.text import TextEncoder, TextFeatures
from workbench.noise import draw_z, generator_for
from workbench.training.config import TrainConfig
from workbench.training.steps import StepBatch

# Streams of the run's seed: z and augmentations of a step never share one with data order, flips or
# mismatches.
_Z, _AUGMENT = 11 << 40, 12 << 40
_MOST_BYTES = 2 << 30
_ENCODE, _DRAW = 256, 50  # captions encoded, pictures drawn at once


class CaptionTable:
    """Frozen text features of a data set's captions.

    A set too large for memory is encoded batch by batch instead.
    """

    def __init__(self, texts: list[str], encoder: TextEncoder, device: torch.device) -> None:
        self.encoder, self.device = encoder, device
        distinct = list(dict.fromkeys(texts))
        self.row = {text: k for k, text in enumerate(distinct)}
        self.features: TextFeatures | None = None
        if len(distinct) * encoder.context_length * encoder.text_dim * 2 <= _MOST_BYTES:
            parts = [_halved(encoder(distinct[at : at + _ENCODE])) for at in range(0, len(distinct), _ENCODE)]
            self.features = TextFeatures.cat(parts).to(device)

    def of(self, captions: list[str]) -> TextFeatures:
        """Features of B captions on the device, float32. eps_txt [B, T, d]."""
        if self.features is None:
            return self.encoder(captions).to(self.device)
        picked = self.features.index_select(torch.tensor([self.row[text] for text in captions]))
        return TextFeatures(picked.eps_txt.float(), picked.eot, picked.embedding.float())


class Feed:
    """StepBatches of a run. rank, world: this process takes its share of each batch, pairs kept whole."""

    def __init__(
        self,
        table: PictureTable,
        encoder: TextEncoder,
        config: TrainConfig,
        z_dim: int,
        device: torch.device,
        *,
        rank: int = 0,
        world: int = 1,
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
        self.captions = CaptionTable(table.texts, encoder, device)
        self.seed, self.z_dim, self.device = config.seed, z_dim, device

    def at(self, step: int) -> StepBatch:
        """The batch of `step` (from 0 on). Each row has its own z."""
        turn = step * self.world + self.rank
        batch = self.pairs.batch_at(turn)
        mismatch, valid = self.pairs.mismatched(batch)
        # Where no caption of the batch is certainly false, the next pair's serves: true by chance, but never
        # the own one.
        mismatch = torch.where(valid, mismatch, (torch.arange(self.local) + 2) % self.local)
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


def _halved(features: TextFeatures) -> TextFeatures:
    """float16 where its range holds the features, else bfloat16."""
    low = features.eps_txt.half() if features.eps_txt.abs().max() < 60_000 else features.eps_txt.bfloat16()
    return TextFeatures(low, features.eot, features.embedding.half())
