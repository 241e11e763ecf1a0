"""A tiny but whole upscaler: a real network of every kind of part, random weights."""

import torch

from workbench.models.upsampler import Upsampler, UpsamplerConfig


def tiny_upsampler(factor: int = 4, seed: int = 0, **changes) -> Upsampler:
    """A few thousand weights; window 8, so that small pictures have several."""
    grown = dict.fromkeys(range(1, factor.bit_length()), 8)
    settings = {
        "factor": factor,
        "down": 2,
        "channels": {-2: 16, -1: 8, 0: 8, **grown},
        "kernels": {-1: 1, 0: 2, **dict.fromkeys(grown, 1)},
        "blocks": {-1: 1, 0: 1, **dict.fromkeys(grown, 1)},
        "attention": {-1: 1},
        "cross_attention": {-1: 1},
        "window": 8,
        "z_dim": 16,
        "w_dim": 32,
        "mapping_layers": 2,
        "text_dim": 128,
        "text_layers": 1,
        "mlp_ratio": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        U = Upsampler(UpsamplerConfig(**{**settings, **changes})).eval().requires_grad_(False)
        for parameter in U.parameters():  # biases too are something, as after training
            if parameter.dim() <= 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        return U


def smooth_pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """[N, 3, H, W] in [-1, 1] with edges and slopes, as pictures have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, -(-height // 8) + 1, -(-width // 8) + 1, generator=generator) * 2 - 1
    fine = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic")[..., :height, :width]
    return fine.clamp(-1, 1).contiguous()
