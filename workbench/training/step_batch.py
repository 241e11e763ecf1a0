"""What one step is given: the rows of a batch, or of a share of one, and the captions they are told from.

Letters: B rows, R of them judged with a wrong caption, d the width of what is made of a caption, e of CLIP's
embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.models.text import TextFeatures
from workbench.training.config import TrainConfig
from workbench.training.shares import WHOLE, Share


@dataclass
class LowPictures:
    """What an upsampler is given. images [B, 3, h, w] in [-1, 1], noise and all; noise [B]: its deviation."""

    images: Tensor
    noise: Tensor


@dataclass
class StepBatch:
    """What one step needs. Rows 2k and 2k+1 are a pair: two pictures of one group under one caption, two z.

    images [B, 3, S, S] in [-1, 1]; text: features of the B captions, None without text; mismatch [B]: for
    each row the place of a caption that is untrue of its picture, -1 where the batch holds none;
    z [B, z_dim]; generator: of the augmentations, a function of (seed, step).

    The others matter where this is a share of a larger batch. wrong: features of captions of other shares;
    places B, B + 1, ... of `mismatch` are theirs. rivals: embeddings of all captions of the whole batch, a
    pair's once, against which a picture's own is told (None: those of `text`). matching: by how much the mean
    over this share's rows with a wrong caption counts, 1 where each share has as many. low: for an upsampler,
    whose `images` are crops [B, 3, H, W] of large pictures.
    """

    images: Tensor
    text: TextFeatures | None
    mismatch: Tensor
    z: Tensor
    generator: torch.Generator
    share: Share = WHOLE
    wrong: TextFeatures | None = None
    rivals: Tensor | None = None
    matching: float = 1.0
    low: LowPictures | None = None

    @property
    def embedding(self) -> Tensor | None:
        """CLIP embeddings of the captions, [B, e]; None without text."""
        return None if self.text is None else self.text.embedding

    @property
    def known_embeddings(self) -> Tensor | None:
        """`embedding`, then those of the wrong captions of other shares, [B + W, e]."""
        return self.embedding if self.wrong is None else torch.cat([self.embedding, self.wrong.embedding])


def mismatched_rows(mismatch: Tensor, config: TrainConfig) -> Tensor:
    """Rows of a batch of real, then generated pictures that are judged with a wrong caption too.

    mismatch [B] -> [R] long, R <= 2B; none where the loss is off, and none for a picture of which every
    caption of the batch may be true.
    """
    known = mismatch >= 0
    if config.matching_weight == 0:
        known = torch.zeros_like(known)
    return torch.cat([known, known & config.matching_generated]).nonzero().flatten()


def caption_sets(t: Tensor | None, batch: StepBatch, rows: Tensor) -> list[Tensor] | None:
    """True and, where `rows` has any, wrong captions of real, then generated pictures: [2B, d] each.

    t [B + W, d]: what is made of the batch's B captions and of its W wrong ones; None without text.
    """
    if t is None:
        return None
    true = t if batch.wrong is None else t[: len(batch.mismatch)]
    own = torch.cat([true, true])
    return [own, torch.cat([t[batch.mismatch], t[batch.mismatch]])] if len(rows) else [own]


def pair_features(text: TextFeatures | None) -> TextFeatures | None:
    """The features of each pair's caption once: T runs on half the rows. None without text."""
    return None if text is None else text.index_select(torch.arange(0, len(text), 2))
