"""From text features and noise to what steers G and D: the text encoder T and the mapping network M."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.attention import PixelNorm, TextBlock
from workbench.models.ops import EqualLinear


@dataclass
class Text:
    """A conditioned caption. t_local [N, T-1, d] all tokens but the end of text; t_global [N, d] the
    end-of-text row; mask [N, T-1] True where t_local holds a token of the caption (padding is not attended
    to); prior [N, T-1] >= 0: how loud each row is, its share of cross-attention before the softmax is
    normalised (None: all alike, as in training; 0 is not heard). Mixed captions live on it.
    """

    t_local: Tensor
    t_global: Tensor
    mask: Tensor
    prior: Tensor | None = None

    @property
    def loudness(self) -> Tensor:
        """The prior of each row [N, T-1], ones where there is none."""
        return torch.ones_like(self.t_local[..., 0]) if self.prior is None else self.prior

    def repeat_interleave(self, times: int) -> Text:
        """Each caption `times` in a row."""
        return self._each(lambda part: part.repeat_interleave(times, dim=0))

    def index_select(self, rows: Tensor | slice) -> Text:
        """The captions of `rows`."""
        return self._each(lambda part: part[rows])

    @staticmethod
    def cat(texts: Sequence[Text]) -> Text:
        """All captions one after the other; shorter ones are padded with rows that nobody hears."""
        length = max(text.mask.shape[1] for text in texts)
        padded = [text.padded(length) for text in texts]
        prior = None
        if any(text.prior is not None for text in padded):
            prior = torch.cat([text.loudness for text in padded])
        return Text(*(torch.cat([getattr(t, name) for t in padded]) for name in _PARTS), prior)

    def padded(self, length: int) -> Text:
        """With `length` rows of t_local, those behind the caption's own masked."""
        more = length - self.mask.shape[1]
        if not more:
            return self
        prior = None if self.prior is None else F.pad(self.prior, (0, more), value=1.0)
        return Text(F.pad(self.t_local, (0, 0, 0, more)), self.t_global, F.pad(self.mask, (0, more)), prior)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Text:
        prior = None if self.prior is None else change(self.prior)
        return Text(*(change(getattr(self, name)) for name in _PARTS), prior)


_PARTS = ("t_local", "t_global", "mask")


class TextTransformer(nn.Module):
    """T: trainable attention layers over frozen CLIP features; G and D own one each (Sec. 3.1, "text
    conditioning").

    eps_txt [N, T, text_dim], eot [N] -> Text with d = text_dim. The end of text is split off by its index,
    never as "the last token": padding follows it. Tokens after it carry nothing and are masked (the paper
    leaves this open). Raises WorkbenchError for features of another width.
    """

    def __init__(self, text_dim: int, layers: int):
        super().__init__()
        self.blocks = nn.ModuleList(TextBlock(text_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(text_dim)

    def forward(self, eps_txt: Tensor, eot: Tensor) -> Text:
        wide = self.norm.normalized_shape[0]
        if eps_txt.dim() != 3 or eps_txt.shape[-1] != wide:
            raise WorkbenchError(
                f"The text features have the shape {list(eps_txt.shape)}: expected [N, T, {wide}]. Take the "
                "text encoder that the model was made with."
            )
        t = eps_txt.float()
        n, length, dim = t.shape
        position = torch.arange(length, device=t.device)
        seen = position <= eot[:, None]
        for block in self.blocks:
            t = block(t, seen)
        t = self.norm(t)
        # local rows: every position but the end of text, in order
        local = torch.arange(length - 1, device=t.device).expand(n, -1)
        local = local + (local >= eot[:, None])
        t_local = t.gather(1, local[..., None].expand(-1, -1, dim))
        return Text(t_local, t[torch.arange(n, device=t.device), eot], local <= eot[:, None])


class MappingNetwork(nn.Module):
    """M: (z, t_global) -> w, an MLP of equalised layers (Sec. 3.1; details as in StyleGAN2).

    z [N, z_dim], t_global [N, text_dim] or None (unconditional) -> w [N, w_dim]. Both parts are brought to
    unit second moment on their own before they are joined, so that neither drowns the other.
    """

    def __init__(self, z_dim: int, text_dim: int | None, w_dim: int, layers: int, lr_mul: float):
        super().__init__()
        self.norm = PixelNorm()
        sizes = [z_dim + (text_dim or 0)] + [w_dim] * layers
        gain = math.sqrt(2)
        self.layers = nn.ModuleList(EqualLinear(a, b, lr_mul=lr_mul, gain=gain) for a, b in pairwise(sizes))

    def forward(self, z: Tensor, t_global: Tensor | None = None) -> Tensor:
        w = self.norm(z.float())
        if t_global is not None:
            w = torch.cat([w, self.norm(t_global.float())], dim=1)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), 0.2)
        return w
