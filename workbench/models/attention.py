"""Attention of G, D and the text encoder T: L2 self-attention, cross-attention, transformer blocks.

Letters: N pictures, L tokens, h heads, d features a head. Every path here has a double backward (gradient
penalties need it): plain matrix products and softmax, no fused kernel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.ops import EqualLinear, leaky

MOMENT_EPS = 1e-8


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, L, h*d] -> [N, h, L, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[N, h, L, d] -> [N, L, h*d]."""
    return x.transpose(1, 2).flatten(2)


def l2_logits(q: Tensor, scale: float, k: Tensor | None = None) -> Tensor:
    """-scale |q_i - k_j|^2 up to a constant in j, as one product: [q_i, 1, 1] . [2 scale k_j, b_j, b'_j].

    q [N, h, L, d], k [N, h, M, d] (q where none is given: tied) -> [N, h, L, M]. |q_i|^2 drops out of the
    softmax. b_j = -scale |k_j|^2 joins as two columns, its value and what rounding left of it: in bfloat16
    one alone would be a third as exact, and adding it to the L x M map after the product costs four passes.
    """
    k = q if k is None else k
    wide = k.to(torch.promote_types(k.dtype, torch.float32))
    bias = -scale * wide.square().sum(-1, keepdim=True)
    coarse = bias.to(q.dtype)
    keys = torch.cat([k * (2 * scale), coarse, (bias - coarse).to(q.dtype)], dim=-1)
    ones = q.new_ones(()).expand(*q.shape[:-1], 2)
    return torch.cat([q, ones], dim=-1) @ keys.transpose(-1, -2)


def l2_attention(q: Tensor, v: Tensor, scale: float, k: Tensor | None = None) -> Tensor:
    """A_ij = softmax_j(-scale |q_i - k_j|^2), A v; tied queries and keys unless k is given (Sec. 3.2).

    q [N, h, L, d], v [N, h, M, d] -> [N, h, L, d]. The softmax sums in float32 whatever its dtype is.
    """
    return l2_logits(q, scale, k).softmax(dim=-1) @ v


def dot_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, prior: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v. q [N, h, L, d], k and v [N, h, M, d], mask bool [N, 1, 1, M] or [L, M],
    True = seen. prior >= 0, shaped like mask: weights of the keys before the softmax is normalised.
    """
    logits = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    if prior is not None:
        logits = logits + prior.clamp_min(torch.finfo(torch.float32).tiny).log().to(logits.dtype)
        mask = prior > 0 if mask is None else mask & (prior > 0)
    if mask is not None:
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return logits.softmax(dim=-1) @ v


def tokens_of(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H*W, C], a view for channels_last features."""
    return x.flatten(2).transpose(1, 2)


def picture_of(tokens: Tensor, x: Tensor) -> Tensor:
    """[N, H*W, C] -> [N, C, H, W] in channels_last, sizes as in x."""
    n, _, h, w = x.shape
    return tokens.transpose(1, 2).reshape(n, -1, h, w).contiguous(memory_format=torch.channels_last)


class _UnitMoment(torch.autograd.Function):
    """x / sqrt(mean_C x^2 + eps). Its gradient is written out, dx = r (g - x r^2 mean_C(g x)), in four passes
    over the features (five in float16); the one that autograd composes takes ten, most of them in float32.
    """

    @staticmethod
    def scale(x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        return (norm.square() / x.shape[-1] + MOMENT_EPS).rsqrt()

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        r = _UnitMoment.scale(x)
        ctx.save_for_backward(x, r)
        return x * r.to(x.dtype)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        x, r = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again, for which r has to know of x
            r = _UnitMoment.scale(x)
        small = r.to(g.dtype)
        if x.dtype == torch.float16:  # r^3 leaves its range where x is small: one pass more, over y = x r
            y = x * small
            along = (g * y).sum(-1, keepdim=True, dtype=r.dtype) / -x.shape[-1]
            return torch.addcmul(g, y, along.to(x.dtype)) * small
        along = (g * x).sum(-1, keepdim=True, dtype=r.dtype) * (r**3 / -x.shape[-1])
        return torch.addcmul(g * small, x, along.to(x.dtype))


class PixelNorm(nn.Module):
    """x / sqrt(mean_C x^2): each token to unit second moment, [..., C] -> [..., C]; the mean in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return _UnitMoment.apply(x)


def head_count(channels: int, head_dim: int) -> int:
    """Heads of `head_dim` features, at least one. Raises WorkbenchError if they don't divide the channels."""
    heads = max(1, channels // head_dim)
    if channels % heads:
        raise WorkbenchError(
            f"{channels} channels cannot be split into {heads} heads: choose multiples of {head_dim}."
        )
    return heads


class SelfAttention(nn.Module):
    """L2 self-attention over the pixels, w joined as one more token, then an MLP; residual gain 0.3 each
    (Sec. 3.2).

    x [N, C, S, S], w [N, w_dim] or None (D has none) -> [N, C, S, S]. q = k (tied). The scale starts at 1 /
    sqrt(8 d): for unit-normal q the variance of |q_i - q_j|^2 is 8 d, so the logits start with unit
    deviation, as the paper asks; 1 / sqrt(d) would put nearly all mass on the token itself.

    The paper argues the distance for D, whose slope it bounds, and speaks of attention in general: G has the
    same form, since its gradient is that slope. Values are projected freely, as in ViTGAN; the bound's proof
    (Kim et al. 2021) ties them to the queries too, at the price of what they can say.
    """

    def __init__(
        self, channels: int, *, w_dim: int | None, head_dim: int = 64, mlp_ratio: int = 2, gain: float = 0.3
    ):
        super().__init__()
        self.heads = head_count(channels, head_dim)
        self.scale = 1 / math.sqrt(8 * channels / self.heads)
        self.gain = gain
        self.norm = PixelNorm()
        self.query = EqualLinear(channels, channels, bias=None)
        self.value = EqualLinear(channels, channels, bias=None)
        self.out = EqualLinear(channels, channels)
        self.token = EqualLinear(w_dim, channels) if w_dim else None
        self.mlp_in = EqualLinear(channels, mlp_ratio * channels, gain=math.sqrt(2))
        self.mlp_out = EqualLinear(mlp_ratio * channels, channels)

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        tokens = tokens_of(x)
        pixels = tokens.shape[1]
        seen = self.norm(tokens)
        if self.token is not None:
            seen = torch.cat([seen, self.norm(self.token(w.to(x.dtype)))[:, None]], dim=1)
        q, v = split_heads(self.query(seen), self.heads), split_heads(self.value(seen), self.heads)
        attended = merge_heads(l2_attention(q, v, self.scale))[:, :pixels]
        tokens = torch.add(tokens, self.out(attended), alpha=self.gain)
        hidden = leaky(self.mlp_in(self.norm(tokens)))
        tokens = torch.add(tokens, self.mlp_out(hidden), alpha=self.gain)
        return picture_of(tokens, x)


class CrossAttention(nn.Module):
    """Each pixel asks the words: queries from the features, keys and values from t_local (Sec. 3.2).

    x [N, C, S, S], t_local [N, T, text_dim], mask bool [N, T] (True = a real token), prior [N, T] (how loud
    each token is; None: all alike) -> [N, C, S, S].
    Scaled dot product: its Lipschitz constant does not matter here, the text is fixed while x changes.
    """

    def __init__(self, channels: int, *, text_dim: int, head_dim: int = 64, gain: float = 0.3):
        super().__init__()
        self.heads = head_count(channels, head_dim)
        self.gain = gain
        self.norm = PixelNorm()
        self.query = EqualLinear(channels, channels, bias=None)
        self.key = EqualLinear(text_dim, channels, bias=None)
        self.value = EqualLinear(text_dim, channels, bias=None)
        self.out = EqualLinear(channels, channels)

    def forward(
        self, x: Tensor, t_local: Tensor, mask: Tensor | None = None, prior: Tensor | None = None
    ) -> Tensor:
        tokens, words = tokens_of(x), t_local.to(x.dtype)
        q = split_heads(self.query(self.norm(tokens)), self.heads)
        k, v = split_heads(self.key(words), self.heads), split_heads(self.value(words), self.heads)
        seen = None if mask is None else mask[:, None, None]
        loud = None if prior is None else prior[:, None, None]
        attended = merge_heads(dot_attention(q, k, v, seen, loud))
        return picture_of(torch.add(tokens, self.out(attended), alpha=self.gain), x)


class TextBlock(nn.Module):
    """One layer of T: pre-norm attention over the caption's tokens, then an MLP. [N, T, d] -> [N, T, d]."""

    def __init__(self, dim: int, *, head_dim: int = 64, mlp_ratio: int = 4):
        super().__init__()
        self.heads = head_count(dim, head_dim)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = EqualLinear(dim, 3 * dim)
        self.out = EqualLinear(dim, dim, gain=0.3)
        self.mlp_in = EqualLinear(dim, mlp_ratio * dim)
        self.mlp_out = EqualLinear(mlp_ratio * dim, dim, gain=0.3)

    def forward(self, t: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            split_heads(part, self.heads) for part in self.qkv(self.norm_attention(t)).chunk(3, dim=-1)
        )
        t = t + self.out(merge_heads(dot_attention(q, k, v, None if mask is None else mask[:, None, None])))
        return t + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(t))))
