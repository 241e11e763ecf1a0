"""Options from the lightweight-gan lineage: skip-layer excitation, gated linear units, a decoder beside D.

None of them is in the GigaGAN paper; all are off unless a config asks for them. Letters as in `ops`.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from workbench.models.ops import LEAKY_GAIN, EqualConv2d, EqualLinear, leaky, upsample, widen

# 1 / sqrt(E sigmoid(b)^2) for b ~ N(0, 1): so a gated unit keeps unit variance
GLU_GAIN = 1.846
OPEN_GATE = 3.0  # sigmoid(3) = 0.953: a gate that starts at 1/2 would halve the signal
DECODED_FROM = 8  # size of the features that are decoded
DECODER_WIDTH = 64


def glu(x: Tensor) -> Tensor:
    """Gated linear unit over channels, a * sigmoid(b) at unit variance: [N, 2C, H, W] -> [N, C, H, W].

    Dauphin et al. 2017.
    """
    a, b = x.chunk(2, dim=1)
    return a * (b.sigmoid() * GLU_GAIN)


class SkipExcitation(nn.Module):
    """Coarse features open and close the channels of fine ones (Liu et al. 2021, Sec. 3.1, "SLE").

    low [N, C_low, S, S], high [N, C_high, S', S'] -> [N, C_high, S', S']: high times a gate in (0, 1) for
    each channel, computed from the mean of each channel of low. Differs from there: the mean over all pixels
    instead of a 4 x 4 pooling, and a bias that starts the gates near 1.
    """

    def __init__(self, low_channels: int, high_channels: int):
        super().__init__()
        hidden = max(32, high_channels // 4)
        self.squeeze = EqualLinear(low_channels, hidden, gain=LEAKY_GAIN)
        self.excite = EqualLinear(hidden, high_channels, bias=OPEN_GATE, gain=0.5)

    def gate(self, low: Tensor) -> Tensor:
        """[N, C_low, S, S] -> [N, C_high] in (0, 1), float32."""
        return self.excite(leaky(self.squeeze(widen(low).mean((2, 3))))).sigmoid()

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return high * self.gate(low).to(high.dtype)[:, :, None, None]


class Decoder(nn.Module):
    """D's features back to a picture: what D cannot repaint, it did not look at (Liu et al. 2021, Sec. 3.2).

    x [N, C, 8, 8] -> [N, 3, resolution / 2, resolution / 2] float32, without a clamp. Its authors decode a
    quadrant of the 16 px map too, at 512 px and more; left out here.
    """

    def __init__(self, channels: int, resolution: int):
        super().__init__()
        doublings = int(math.log2(resolution // 2 // DECODED_FROM))
        widths = [max(16, DECODER_WIDTH >> max(0, i - 1)) for i in range(doublings + 1)]
        self.enter = EqualConv2d(channels, widths[0], 3, gain=LEAKY_GAIN)
        self.convs = nn.ModuleList(EqualConv2d(a, b, 3, gain=LEAKY_GAIN) for a, b in pairwise(widths))
        self.to_rgb = EqualConv2d(widths[-1], 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky(self.enter(x))
        for conv in self.convs:
            x = leaky(conv(upsample(x)))
        return widen(self.to_rgb(x))
