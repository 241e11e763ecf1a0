"""What an upsampler's step is fed: crops of large pictures, and the small noisy pictures they came from.

Letters: B rows of a batch, f the factor, H x W pixels of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.datasets.aspects import AspectTable
from workbench.datasets.loading import PairedBatches
from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError
from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.presets import Preset
from workbench.noise import generator_for
from workbench.training.batches import Feed
from workbench.training.buckets import Buckets
from workbench.training.config import TrainConfig
from workbench.training.degrading import shrink
from workbench.training.shares import Share
from workbench.training.step_batch import LowPictures

_CROPS, _LOW = 14 << 40, 15 << 40  # streams of the run's seed
_ASPECTS = (1.0, 4 / 3, 3 / 4, 16 / 9, 9 / 16)  # width / height


def crop_shapes(D: DiscriminatorConfig, factor: int, aspects: bool) -> tuple[tuple[int, int], ...]:
    """(height, width) of the crops that steps take, all of about D's own area; D's own square first.

    Raises WorkbenchError where D can only judge squares.
    """
    side = D.resolution
    if not aspects:
        return ((side, side),)
    if D.collapse != "mean" or D.reconstruction:
        raise WorkbenchError(
            "aspects is on, but this D collapses its last map by a linear layer over 4 x 4 pixels and judges "
            'squares alone: expected collapse="mean" and no reconstruction. Leave aspects off.'
        )
    unit = max(side // 4, min(64, side // 2), factor)  # whole pixels of D's smallest map, whole CLIP tiles
    shapes = []
    for aspect in _ASPECTS:
        height = max(1, round(side / aspect**0.5 / unit)) * unit
        width = max(1, round(side * aspect**0.5 / unit)) * unit
        if (height, width) not in shapes:
            shapes.append((height, width))
    return tuple(shapes)


class CropFeed(Feed):
    """StepBatches of an upsampler: `images` are crops, `low` what is to be enlarged.

    Crops begin at multiples of the factor, so that a small crop is a crop of the small picture, and the last
    one at the far border. Half of the rows are clean, as inputs mostly are; the noise on the others has a
    deviation of 0 to noise_max. Of square pictures the shapes come in turn, of others by `Buckets`.
    """

    def __init__(
        self, table: PictureTable | AspectTable, encoder, config: TrainConfig, preset: Preset, device, **about
    ) -> None:
        self.factor, self.noise_max = preset.generator.factor, preset.generator.noise_max
        self.shapes = crop_shapes(preset.discriminator, self.factor, config.aspects)
        of_any = isinstance(table, AspectTable)
        side, need = table.side, max(self.shapes[0] if of_any else max(self.shapes, key=max))
        if side < need or side % self.factor:
            raise WorkbenchError(
                f"The pictures are {side} px: expected at least {need} px, the largest crop, in multiples of "
                f"{self.factor}. Give a larger picture_size (and pictures as large)."
            )
        super().__init__(table, encoder, config, preset.generator.z_dim, device, **about)

    def _paired(self, table: PictureTable | AspectTable) -> PairedBatches | Buckets:
        if not isinstance(table, AspectTable):
            return super()._paired(table)
        config = self.config
        return Buckets(table, self.shapes, config.batch_size, config.seed, flip=config.flip)

    def _shape(self, step: int) -> tuple[int, int]:
        """(height, width) of the crops of a step."""
        if isinstance(self.pairs, Buckets):
            return self.pairs.shape_at(step)
        return self.shapes[step % len(self.shapes)]

    def _seen(self, pictures: Sequence[Tensor], step: int, share: Share) -> tuple[Tensor, LowPictures]:
        total, seed = share.total(len(pictures)), self.config.seed
        height, width = self._shape(step)
        places = share.own(torch.rand(total, 2, generator=generator_for(seed, _CROPS + step)))
        pairs = zip(pictures, places, strict=True)
        crops = torch.stack([self._cut(picture, place, height, width) for picture, place in pairs])
        dice = generator_for(seed, _LOW + step)
        draws = torch.rand(total, 4, generator=dice)
        noise = self.noise_max * (2 * draws[:, 3] - 1).clamp_min(0)
        grain = torch.randn(total, 3, height // self.factor, width // self.factor, generator=dice)
        low = shrink(crops, self.factor, self.config.degradations, share.own(draws[:, :3]))
        low = low + share.own(noise)[:, None, None, None] * share.own(grain)
        return crops, LowPictures(low.to(self.device), share.own(noise).to(self.device))

    def _cut(self, picture: Tensor, place: Tensor, height: int, width: int) -> Tensor:
        """[3, H, W] -> [3, height, width]; place [2] in [0, 1): where between the borders it begins."""
        free = picture.shape[-2] - height, picture.shape[-1] - width
        top, left = (
            min(int(at * (-(-most // self.factor) + 1)) * self.factor, most)
            for at, most in zip(place, free, strict=True)
        )
        return picture[:, top : top + height, left : left + width]
