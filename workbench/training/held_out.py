"""What D says of real pictures that it never learned from, beside those it did: does it know these by heart?

Both are asked with their own captions, in the pairs that a step would make of them. Nothing is learned here.
"""

import torch

from workbench.models.ops import box_pyramid
from workbench.training.batches import Feed
from workbench.training.players import Players
from workbench.training.step_batch import StepBatch, pair_features
from workbench.training.terms import text_of_D

_ASKED = 64  # pictures of each kind


class HeldOut:
    """A fixed choice of training and of held-out pictures; `logits` asks D about both."""

    def __init__(self, train: Feed, held: Feed) -> None:
        count = -(-_ASKED // train.config.batch_size)
        self._batches = [[feed.at(step) for step in range(count)] for feed in (train, held)]

    @torch.no_grad()
    def logits(self, players: Players, fake: float | None) -> dict[str, float | None]:
        """D's mean logits over its predictions, by name. fake: that of generated pictures, as last logged."""
        train, held = (
            sum(self._mean(players, batch) for batch in batches) / len(batches) for batches in self._batches
        )
        return {"D.train": train, "D.held_out": held, "D.fake": fake}

    @staticmethod
    def _mean(players: Players, batch: StepBatch) -> float:
        D = players.D
        pictures = box_pyramid(batch.images, D.config.entries, D.config.resolution)
        (judged,) = D(pictures, text_of_D(D, pair_features(batch.text)))
        return float(torch.stack([x.float().mean() for x in judged]).mean())
