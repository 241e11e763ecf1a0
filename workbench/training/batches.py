"""What a step is fed, and the fixed prompts of the grids.

Every step's batch is a function of (seed, step) alone.

Legend: B pictures of a process's batch (an even number); N captions.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.loading import Batch, PairedBatches, PictureTable
from workbench.datasets.world.captions import FACTOR_NAMES, named_factors
from workbench.errors import WorkbenchError
from workbench.models.generator import Generator
from workbench.models.text import TextEncoder
from workbench.noise import draw_z, generator_for
from workbench.training.captions import CaptionTable, Encoder
from workbench.training.config import TrainConfig
from workbench.training.shares import Share, check_shares
from workbench.training.step_batch import LowPictures, StepBatch

# Streams of the run's seed: z and augmentations of a step never share one with data order, flips or
# mismatches.
_Z, _AUGMENT = 11 << 40, 12 << 40
_DRAW = 50  # pictures drawn at once


class Feed:
    """StepBatches of a run.

    rank, world: this process takes its share of each batch, pairs kept whole, in config.accumulate passes;
    groups: numbers of neighbouring pictures that a discriminator compares; encoder: None without text;
    captions: folder where text features are kept between runs.
    """

    def __init__(
        self,
        table: PictureTable,
        encoder: Encoder | None,
        config: TrainConfig,
        z_dim: int,
        device: torch.device,
        *,
        rank: int = 0,
        world: int = 1,
        groups: tuple[int, ...] = (),
        captions: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        check_shares(config.batch_size, world, config.accumulate, groups)
        if config.matching_weight > 0 and int(table.groups.max()) == 0:
            raise WorkbenchError(
                "All pictures share one caption, so no caption is wrong for any: expected different captions "
                "(or set matching_weight to 0)."
            )
        self.config, self.share = config, Share(rank, world)
        self.pairs = self._paired(table)
        self.captions = (
            None if encoder is None else CaptionTable(table.texts, encoder, device, folder=captions, say=say)
        )
        self.z_dim, self.device = z_dim, device

    def _paired(self, table: PictureTable) -> PairedBatches:
        """Where batches come from."""
        return PairedBatches(table, self.config.batch_size, self.config.seed, flip=self.config.flip)

    def at(self, step: int) -> StepBatch:
        """This process's share of the batch of `step` (from 0 on). Each row has its own z."""
        return self._part(step, self.share)

    def parts_at(self, step: int) -> list[StepBatch]:
        """The same in config.accumulate parts, for as many passes."""
        if self.config.accumulate == 1:
            return [self.at(step)]
        return [self._part(step, part) for part in self.share.parts(self.config.accumulate)]

    def _part(self, step: int, share: Share) -> StepBatch:
        """A share of the batch of `step`. Everything is drawn for the whole batch, so that the number of
        shares changes nothing."""
        total, seed = self.config.batch_size, self.config.seed
        rows = share.rows(total)
        batch = self.pairs.batch_at(step, rows)
        mismatch, valid = self.pairs.mismatched(batch)
        mismatch = mismatch.masked_fill(~valid, -1)
        z = torch.randn(total, self.z_dim, generator=generator_for(seed, _Z + step))
        shared = {} if share.count == 1 else self._of_the_others(batch, mismatch, share)
        images, low = self._seen(batch.images, step, share)
        return StepBatch(
            images=images.to(self.device, memory_format=torch.channels_last),
            text=None if self.captions is None else self.captions.of(batch.captions[rows]),
            mismatch=shared.pop("mismatch", mismatch).to(self.device),
            z=share.own(z).to(self.device),
            generator=generator_for(seed, _AUGMENT + step),
            share=share,
            low=low,
            **shared,
        )

    def _seen(self, pictures: Tensor, step: int, share: Share) -> tuple[Tensor, LowPictures | None]:
        """What D sees of this share's pictures, and what G is given of them: nothing."""
        return pictures, None

    def _of_the_others(self, batch: Batch, mismatch: Tensor, share: Share) -> dict:
        """What a share's StepBatch holds of the other shares, and its `mismatch` by its own count."""
        rows, own, config = share.rows(len(mismatch)), share.own(mismatch), self.config
        if self.captions is None:
            return {"mismatch": own}
        places, texts = [], batch.captions[rows]
        foreign = {}  # caption -> its place behind the share's own
        for at in own.tolist():
            if at < 0 or rows.start <= at < rows.stop:
                places.append(at - rows.start if at >= 0 else -1)
            else:
                places.append(foreign.setdefault(batch.captions[at], len(texts) + len(foreign)))
        known, known_of_all = int((own >= 0).sum()), int((mismatch >= 0).sum())
        asked = config.matching_weight > 0 and known_of_all > 0
        return {
            "mismatch": torch.tensor(places),
            "wrong": self.captions.of(list(foreign)) if asked and foreign else None,
            "rivals": self.captions.of(batch.captions[::2]).embedding if config.clip_weight > 0 else None,
            "matching": known * share.count / known_of_all if asked else 1.0,
        }


def grid_plan(
    table: PictureTable, shape: tuple[int, int] = (6, 6), *, text: bool = True, seed: int = 20_000
) -> tuple[list[str], list[int]]:
    """Prompts and seeds of grids of `shape`, fixed for a run: half of them single pictures, half pairs with
    two z of one prompt; without text, empty prompts.

    Captions of the data set, those that name the most factors first, taken so that every factor's values come
    in turn.
    """
    count = shape[0] * shape[1]
    seeds = [seed + k for k in range(count)]
    if not text:
        return [""] * count, seeds
    pairs = count // 4
    singles = count - 2 * pairs
    chosen = _spread_captions(table.texts, singles + pairs)
    prompts = [chosen[k % len(chosen)] for k in range(singles + pairs)]
    prompts = prompts[:singles] + [text for text in prompts[singles:] for _ in range(2)]
    return prompts, seeds


@torch.inference_mode()
def draw_pictures(G: Generator, encoder: TextEncoder | None, prompts: list[str], seeds: list[int]) -> Tensor:
    """Pictures of prompts and seeds in batches, [N, 3, R, R] float32 in [-1, 1] on the CPU.

    encoder: None for a G without text, which reads no prompt.
    """
    parts, device = [], G.w_avg.device
    for at in range(0, len(prompts), _DRAW):
        z = draw_z(seeds[at : at + _DRAW], G.config.z_dim).to(device)
        text = None if encoder is None else encoder(prompts[at : at + _DRAW]).to(device)
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
