"""What the U-Net is told: the caption's tokens, which of them count, its embedding, and how noisy x_t is.

Letters: N captions, T tokens, d their width, e of the embedding; pictures [N, 3, S, S].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench import hardware
from workbench.diffusion import schedule
from workbench.models.text import TextFeatures

NOTHING = ""  # the caption that stands for none


@dataclass
class Condition:
    """tokens [N, T, d], mask [N, T] bool (False behind a caption's end), embedding [N, e]."""

    tokens: Tensor
    mask: Tensor
    embedding: Tensor

    @classmethod
    def of(cls, text: TextFeatures) -> Condition:
        """Of frozen features: tokens normalised as by the tower's next layer, embedding to variance 1."""
        tokens = F.layer_norm(text.eps_txt.float(), text.eps_txt.shape[-1:])
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= text.eot[:, None]
        return cls(tokens, mask, text.embedding.float() * text.embedding.shape[1] ** 0.5)

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        return Condition(self.tokens[rows], self.mask[rows], self.embedding[rows])

    def to(self, device: torch.device) -> Condition:
        return Condition(*(part.to(device) for part in (self.tokens, self.mask, self.embedding)))

    def repeated(self, count: int) -> Condition:
        """One caption for `count` rows."""
        return Condition(*(part.expand(count, *part.shape[1:]) for part in vars(self).values()))

    def replaced(self, rows: Tensor, other: Condition) -> Condition:
        """With the one caption of `other` in the rows [N] bool."""
        parts = zip(vars(self).values(), vars(other.repeated(len(self))).values(), strict=True)
        return Condition(
            *(torch.where(rows.view(-1, *[1] * (a.dim() - 1)), b.to(a.dtype), a) for a, b in parts)
        )

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """Rows of several, one after the other."""
        return Condition(*(torch.cat(each) for each in zip(*(vars(p).values() for p in parts), strict=True)))


def predict(unet: nn.Module, x: Tensor, t: Tensor, told: Condition, precision: str = "fp32") -> Tensor:
    """v of x_t [N, 3, S, S] at t [N], float32."""
    with hardware.autocast(x.device, precision):
        said = unet(
            x, t.to(x.device), told.tokens, class_labels=told.embedding, encoder_attention_mask=told.mask
        ).sample
    return said.float()


def guided(
    unet: nn.Module, x: Tensor, t: Tensor, told: Condition, nothing: Condition, guidance: float,
    precision: str = "fp32",
) -> Tensor:  # fmt: skip
    """v by classifier-free guidance (Ho and Salimans 2022, Eq. 6): v_0 + guidance (v_c - v_0), in one pass.

    guidance 1: the caption alone, at half the price; 0: no caption.
    """
    if guidance == 1.0:
        return predict(unet, x, t, told, precision)
    both = Condition.cat([told, nothing.repeated(len(told))])
    said, plain = predict(unet, torch.cat([x, x]), torch.cat([t, t]), both, precision).chunk(2)
    return plain + guidance * (said - plain)


def estimate(unet: nn.Module, x: Tensor, t: Tensor, told: Condition, precision: str = "fp32") -> Tensor:
    """The picture that the network sees behind x_t: f(x, t) of a consistency model.

    At t = -1 it is x itself by construction, since v joins in with sigma = 0 (Lu and Song 2025, Eq. 6); with
    eps as the target, LCM needs c_skip and c_out for that.
    """
    return schedule.x0_of(x, predict(unet, x, t.clamp_min(0), told, precision), t)
