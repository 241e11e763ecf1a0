"""A diffusion model at 16 px that reads the world's words, with random weights that say something."""

import torch

from workbench.datasets.world.captions import vocabulary
from workbench.diffusion import lora
from workbench.diffusion.baseline import BaselineConfig, build
from workbench.diffusion.lora import LoraConfig
from workbench.diffusion.model import DiffusionModel
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder


def tiny_config(**changes) -> BaselineConfig:
    return BaselineConfig(**{"resolution": 16, "widths": (32, 32), "attention": (8,), **changes})


def tiny_unet(config: BaselineConfig | None = None, *, seed: int = 0):
    """A U-Net of which no layer is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = build(config or tiny_config())
        with torch.no_grad():
            for p in unet.parameters():
                p.add_(0.05 * torch.randn_like(p)).copy_(p.half())  # kept exactly by a model folder
    return unet.eval().requires_grad_(False)


def tiny_encoder() -> TextEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TextEncoder.from_clip(new_mini_clip(vocabulary()))


def tiny_diffusion(*, seed: int = 0) -> DiffusionModel:
    return DiffusionModel(tiny_unet(seed=seed), tiny_config(), tiny_encoder(), {"name": "tiny"})


def tiny_student(teacher: DiffusionModel, folder, *, rank: int = 2, noise: float = 0.1) -> DiffusionModel:
    """A student of a saved teacher, its adapters random."""
    held = DiffusionModel.from_pretrained(folder, device="cpu")
    settings = LoraConfig(rank=rank, alpha=rank)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in lora.attach(held.unet, settings).values():
            p.add_(noise * torch.randn(p.shape, generator=generator)).copy_(p.half())
    held.unet.requires_grad_(False)
    about = {"name": folder.name, "path": folder, "weight_hash": teacher.weight_hash}
    return DiffusionModel(
        held.unet, held.config, held.text_encoder, {"name": "student"}, lora=settings, teacher=about
    )
