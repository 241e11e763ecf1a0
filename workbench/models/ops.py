"""Building blocks of G and D: equalised layers, the adaptive convolution, filtered resampling.

Letters in shapes: N pictures, K kernels in a bank, O output and I input channels, k kernel side, H x W
pixels. Parameters live in float32; a layer computes in the dtype of the features it is given, so that
bfloat16 activations never meet a silent promotion. Sums that decide a scale (demodulation, softmax) stay in
float32.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_GAIN = math.sqrt(2.0)  # keeps unit variance through leaky ReLU 0.2 (StyleGAN2)
DEMODULATION_EPS = 1e-8


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU 0.2 in place and without its gain: callers fold sqrt(2) into the weights in front, so that
    this takes one pass over the features and no memory. x is a fresh result that nobody else reads.
    """
    return F.leaky_relu(x, 0.2, inplace=True)


def widen(x: Tensor) -> Tensor:
    """x in float32, for sums that decide a scale and for logits; float64 stays what it is (tests)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def state_of(t: Tensor) -> tuple:
    """What differs once a tensor was replaced or written to: torch's count of writes, address, device, and a
    few of its values.

    The values are for writes through `.data`, as some EMA loops make, which torch does not count. They are
    looked at on the CPU alone, where four cost 2 microseconds; on CUDA a look would wait for the GPU. Not
    seen: a `.data` write on CUDA, and one that leaves these four alone. Inference tensors have no count.
    """
    writes = 0 if t.is_inference() else t._version
    if not t.is_cpu:
        return (writes, t.data_ptr(), t.device)
    last = t.numel() - 1
    seen = t.as_strided((4,), (last // 3,)) if last > 3 else t.flatten()
    return (writes, t.data_ptr(), t.device, *seen.tolist())


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: weight ~ N(0, 1) / lr_mul, run-time gain lr_mul /
    sqrt(fan_in).

    [..., in_features] -> [..., out_features]. Karras et al. 2018, Sec. 4.1; the paper (Sec. 3.4, App. A)
    keeps it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: float | None = 0.0,
        lr_mul: float = 1.0,
        gain: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = None if bias is None else nn.Parameter(torch.full((out_features,), float(bias) / lr_mul))
        self.weight_gain = gain * lr_mul / math.sqrt(in_features)
        self.bias_gain = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        weight, gain = self.weight, self.weight_gain
        # the gain goes to whichever side is smaller: a single w beside a large matrix, or many tokens
        x, weight = (x * gain, weight) if x.numel() < weight.numel() else (x, weight * gain)
        bias = self.bias if self.bias is None or self.bias_gain == 1 else self.bias * self.bias_gain
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class EqualConv2d(nn.Module):
    """Convolution with equalised learning rate and "same" padding. [N, I, H, W] -> [N, O, H, W].

    gain: extra factor on the weights at run time; the sqrt(2) of a following leaky ReLU goes here.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, bias: bool = True, gain: float = 1.0
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = gain / math.sqrt(in_channels * kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.gain).to(dtype=x.dtype, memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.conv2d(x, weight, bias, padding=self.weight.shape[-1] // 2)


# --- sample-adaptive kernel selection (Sec. 3.1, Eq. 2; modulation of Eq. 3 as in StyleGAN2) ----------------


def gram(bank: Tensor) -> Tensor:
    """Products of kernels summed over their taps, the pairs n <= m of a symmetric matrix in turn.

    bank [K, O, I, k, k] -> [K (K + 1) / 2, O, I]: G[n, m, o, i] = sum_k K_n[o, i, k] K_m[o, i, k].
    """
    # unbind, not bank[n]: the gradient of an index is a whole bank of zeros with one kernel filled in
    pairs = combinations_with_replacement(bank.unbind(), 2)
    return torch.stack([(kernel * other).sum((2, 3)) for kernel, other in pairs])


def demodulation(products: Tensor, style: Tensor, selection: Tensor | None) -> Tensor:
    """d_no = (eps + sum_{i,k} (s_ni K_n[o,i,k])^2)^(-1/2) without building any sample's mixed kernel K_n.

    products: `gram` of the bank, style [N, I], selection [N, K] or None for K = 1 -> [N, O]. The square of a
    mixture needs the products of all pairs of kernels; per-kernel norms alone would miss the cross terms.
    """
    square = style.square()
    if selection is None:
        norm = square @ products[0].t()
    else:
        norm = 0.0
        pairs = combinations_with_replacement(range(selection.shape[1]), 2)
        for (n, m), product in zip(pairs, products, strict=True):
            weight = selection[:, n] * selection[:, m] * (1.0 if n == m else 2.0)
            norm = norm + weight[:, None] * (square @ product.t())
    return (norm + DEMODULATION_EPS).rsqrt()


def adaptive_conv_shared(
    x: Tensor,
    bank: Tensor,
    style: Tensor,
    selection: Tensor | None,
    *,
    demodulate: bool = True,
    gain: float = 1.0,
    products: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Adaptive convolution as K shared convolutions, mixed after: y_n = d_n . sum_m a_nm (K_m * (s_n . x_n)).

    Cheap when K = 1 or the map is small. Shapes as in `adaptive_conv`; products: the bank's `gram`, if known.
    """
    kernels, out_channels, in_channels, size, _ = bank.shape
    n = x.shape[0]
    scaled = x * style.to(x.dtype)[:, :, None, None]
    weight = bank.reshape(kernels * out_channels, in_channels, size, size)
    y = F.conv2d(scaled, weight.to(dtype=x.dtype, memory_format=torch.channels_last), padding=size // 2)
    if demodulate:
        scale = demodulation(gram(bank) if products is None else products, style, selection) * gain
    else:
        scale = x.new_full((n, out_channels), gain)
    gate = scale[:, None] if selection is None else selection[:, :, None] * scale[:, None]
    gate = gate.to(x.dtype)[..., None, None]
    # One product per kernel keeps channels_last, a sum over a five-dimensional view would not; scaling and
    # adding at once saves a pass over the features for each.
    first, *others = y.split(out_channels, dim=1)
    out = first * gate[:, 0] if bias is None else torch.addcmul(_per_channel(bias, x), first, gate[:, 0])
    for m, part in enumerate(others, start=1):
        out = out.addcmul_(part, gate[:, m])
    return out


def adaptive_conv_grouped(
    x: Tensor,
    bank: Tensor,
    style: Tensor,
    selection: Tensor | None,
    *,
    demodulate: bool = True,
    gain: float = 1.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Adaptive convolution with one mixed kernel per sample, as a grouped convolution (StyleGAN2's way).

    Cost does not grow with K, but N kernels are stored for backward. Shapes as in `adaptive_conv`.
    """
    _, out_channels, in_channels, size, _ = bank.shape
    n, _, h, w = x.shape
    if selection is None:
        mixed = bank.expand(n, -1, -1, -1, -1)
    else:
        mixed = (selection @ bank.flatten(1)).view(n, out_channels, in_channels, size, size)
    weight = mixed * style[:, None, :, None, None]
    if demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + DEMODULATION_EPS).rsqrt()
    weight = (weight * gain).reshape(n * out_channels, in_channels, size, size).to(x.dtype)
    y = F.conv2d(x.reshape(1, n * in_channels, h, w), weight, padding=size // 2, groups=n)
    y = y.view(n, out_channels, h, w).contiguous(memory_format=torch.channels_last)
    return y if bias is None else y.add_(_per_channel(bias, x))


def _per_channel(bias: Tensor, x: Tensor) -> Tensor:
    """A bias [O] as a map [1, O, 1, 1] in the dtype of x."""
    return bias.to(x.dtype).view(1, -1, 1, 1)


def shared_is_cheaper(kernels: int, pixels: int) -> bool:
    """Whether K shared convolutions cost less than one mixed kernel for each sample, on a map of H W pixels.

    Shared, the multiplications grow with K and with the pixels; per sample, mixing and keeping the kernels
    cost the same on any map. Measured on CPU, forward and backward: on small maps per-sample kernels take up
    to nine times as long whatever K is; with two kernels both cost about alike at 16 px (there the shared
    form keeps less for backward), and from 32 px on the shared one takes nearly twice as long.
    """
    return kernels == 1 or pixels <= 8 * 8 or (kernels == 2 and pixels <= 16 * 16)


def adaptive_conv(
    x: Tensor,
    bank: Tensor,
    style: Tensor,
    selection: Tensor | None = None,
    *,
    demodulate: bool = True,
    gain: float = 1.0,
    products: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolve each sample with its own kernel, mixed from a bank and modulated by its style (Eq. 2-3).

    x [N, I, H, W], bank [K, O, I, k, k], style s [N, I], selection a [N, K] (rows sum to 1; None when K = 1),
    products `gram(bank)` where it is known, bias [O] -> [N, O, H, W], times gain, plus bias. Takes the
    cheaper of two equal computations by shape, see `shared_is_cheaper`.
    """
    if shared_is_cheaper(bank.shape[0], x.shape[-1] * x.shape[-2]):
        return adaptive_conv_shared(
            x, bank, style, selection, demodulate=demodulate, gain=gain, products=products, bias=bias
        )
    return adaptive_conv_grouped(x, bank, style, selection, demodulate=demodulate, gain=gain, bias=bias)


class AdaptiveConv2d(nn.Module):
    """Adaptive convolution with its two affine maps from w: style (bias 1) and, for K > 1, the kernel
    selection.

    x [N, I, H, W], w [N, w_dim], bias [O] -> [N, O, H, W]. The bank is stored flat as (K*O, I, k, k): a
    five-dimensional parameter would break `.to(memory_format=channels_last)` on the whole module.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, w_dim: int, kernels: int = 1,
                 demodulate: bool = True, gain: float = 1.0):  # fmt: skip
        super().__init__()
        self.kernels, self.out_channels, self.demodulate = kernels, out_channels, demodulate
        self.weight = nn.Parameter(torch.randn(kernels * out_channels, in_channels, kernel, kernel))
        self.style = EqualLinear(w_dim, in_channels, bias=1.0)
        self.select = EqualLinear(w_dim, kernels) if kernels > 1 else None
        # demodulation sets the scale of the output; without it the kernel is equalised by its fan-in
        self.gain = gain if demodulate else gain / math.sqrt(in_channels * kernel * kernel)
        self._kept: tuple[tuple, Tensor] | None = None

    def products(self, bank: Tensor) -> Tensor | None:
        """The bank's `gram`, kept between calls while no gradient is wanted and the weights stay as they are:
        for one picture it costs as much as the convolutions. None where nothing is demodulated. Write
        weights in place under no_grad, not through `.data`, which `state_of` sees on the CPU alone.
        """
        if not self.demodulate:
            return None
        # what comes next may be an optimiser, and a fused one raises no version; inference tensors have none
        if torch.is_grad_enabled() or self.weight.is_inference():
            self._kept = None
            return gram(bank)
        state = state_of(self.weight)
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, gram(bank))
        return self._kept[1]

    def selection(self, w: Tensor) -> Tensor | None:
        """a = softmax(W_filter^T w + b_filter), [N, w_dim] -> [N, K]; None for K = 1 (Eq. 2)."""
        return None if self.select is None else self.select(w).softmax(dim=-1)

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        bank = self.weight.unflatten(0, (self.kernels, self.out_channels))
        return adaptive_conv(
            x,
            bank,
            self.style(w),
            self.selection(w),
            demodulate=self.demodulate,
            gain=self.gain,
            products=self.products(bank),
            bias=bias,
        )


# --- resampling: the [1, 3, 3, 1] binomial filter both ways (StyleGAN2, App. B) -----------------------------


def upsample(x: Tensor) -> Tensor:
    """Twice the size through [1, 3, 3, 1]: [N, C, H, W] -> [N, C, 2H, 2W].

    Bilinear interpolation at half-pixel centres has exactly these taps (1/4, 3/4 per phase); it repeats the
    border where StyleGAN2 pads with zeros.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def downsample(x: Tensor, gain: float = 1.0) -> Tensor:
    """Half the size through [1, 3, 3, 1], times gain: [N, C, H, W] -> [N, C, H/2, W/2].

    It is a quarter of `upsample`'s transpose, border included (the transpose of a repeated border is a
    repeated border), so a constant stays a constant. On CPU it is computed as that, which keeps both
    derivatives cheap: the gradient is an upsampling, where a depthwise convolution's second derivative runs
    channel by channel, seven times slower. On CUDA the transpose adds in no fixed order, so there the filter
    is spelt out: [1, 3, 3, 1] = [1, 2, 1] * [1, 1], a depthwise 3 x 3 blur, then the mean of 2 x 2. A gain of
    4 saves a pass over the features: a caller whose convolution follows folds the quarter into its weights.
    """
    n, c, h, w = x.shape
    if x.device.type == "cpu":
        size = [n, c, h // 2, w // 2]
        y = torch.ops.aten.upsample_bilinear2d_backward(x, [h, w], size, False, None, None)
        return y if gain == 4 else y * (gain / 4)
    tap = x.new_tensor([0.25, 0.5, 0.25])
    kernel = (gain * tap[:, None] * tap).expand(c, 1, 3, 3)
    return F.avg_pool2d(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=c), 2)


def box_pyramid(x: Tensor, sizes: tuple[int, ...], side: int | None = None) -> list[Tensor]:
    """The picture at each of `sizes` (powers of two, falling) by exact 2 x 2 means: differentiable, for D's
    real side.

    x [N, 3, S, S] -> list of [N, 3, size, size]. side: the size that x counts as, for oblong pictures; S
    otherwise. The paper leaves the filter open (Sec. 3.3).
    """
    levels = []
    for size in sizes:
        factor = (side or x.shape[-1]) // size
        levels.append(x if factor == 1 else F.avg_pool2d(x, factor))
    return levels
