"""Who takes part in a step: G and D, the heads on frozen CLIP features, their optimisers and their guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.evaluation.perceptual import DetailDistance, perceptual_distance
from workbench.models.clip_io import Clip, load_clip
from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.presets import Preset
from workbench.models.text import TextEncoder, TwoEncoders
from workbench.models.upsampler import Upsampler
from workbench.models.vision_aided import ImageTower, VisionAided
from workbench.training.augment import Adaptive
from workbench.training.compiling import compiled
from workbench.training.config import TrainConfig
from workbench.training.scaling import LossScale
from workbench.training.shares import ALONE, Processes

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NORM_BETA = 0.98  # memory of the running gradient norm


class NormGuard(nn.Module):
    """Clips gradients to a multiple of their own running norm: with beta1 = 0 one spike would move the
    weights far.

    The running norms are buffers, so that a resumed run clips as the uninterrupted one does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("G", torch.zeros(()))
        self.register_buffer("D", torch.zeros(()))

    @torch.no_grad()
    def clip(self, name: str, parameters: list[nn.Parameter], multiple: float) -> tuple[Tensor, Tensor]:
        """Scale the gradients in place. Returns the norm before, and whether it was finite (0-d tensors)."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(norm)
        running = getattr(self, name)
        limit = torch.where(running > 0, running * multiple, norm)
        if finite:
            torch._foreach_mul_(gradients, (limit / norm.clamp_min(1e-12)).clamp(max=1.0))
            clipped = torch.minimum(norm, limit)
            running.copy_(torch.where(running > 0, torch.lerp(clipped, running, NORM_BETA), clipped))
        return norm, finite


@dataclass
class Players:
    """Everything that takes part in a step. `trainable()` names the modules whose state a checkpoint must
    hold.
    """

    G: Generator | Upsampler
    D: Discriminator
    heads: VisionAided | None
    tower: ImageTower | None
    text_encoder: TextEncoder | None  # of the CLIP that G and D read; None where they read no text
    captions: TextEncoder | TwoEncoders | None  # what a step's captions go through
    clip: Clip  # the one that sees: its tower, its embedding
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    guard: NormGuard
    lr_multiplier: float = field(default=1.0)  # halved by the monitor at a roll-back
    processes: Processes = ALONE  # that take each step together
    scale: LossScale | None = None  # of float16
    ada: Adaptive | None = None  # how often pictures are changed before the heads
    compiled: dict[str, Callable] = field(default_factory=dict)  # of `compiling`, where it is asked for
    perceptual: DetailDistance | None = None  # of an upsampler's pictures to the true ones

    def modules(self) -> dict[str, nn.Module]:
        """Modules with state of their own, by name."""
        named = {"G": self.G, "D": self.D, "heads": self.heads, "guard": self.guard}
        named |= {"scale": self.scale, "ada": self.ada}
        return {name: module for name, module in named.items() if module is not None}

    def synthesis(self, *inputs: object) -> list[Tensor]:
        """G.synthesis, by the compiled pass where there is one."""
        return self.compiled.get("synthesis", self.G.synthesis)(*inputs)

    def judge(self, *inputs: object, **options: object) -> list:
        """D, by the compiled pass where there is one: not for what is differentiated twice."""
        return self.compiled.get("D", self.D)(*inputs, **options)

    def backward(self, name: str, loss: Tensor) -> None:
        """Add the gradients of player "G" or "D", scaled in float16 until `steps.update`."""
        (loss if self.scale is None else self.scale.scaled(name, loss)).backward()


def _adam(modules: list[nn.Module | None], lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    parameters = [
        p for module in modules if module is not None for p in module.parameters() if p.requires_grad
    ]
    fused = parameters[0].device.type != "xla"  # a TPU's compiler does the fusing
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=fused)


def _reader(preset: Preset, clip: Clip, folder: str | Path) -> TextEncoder | None:
    """The text tower that a preset's networks read, None for networks without text."""
    wanted = preset.generator.text_dim
    if wanted is None:
        return None
    encoder = TextEncoder.from_clip(clip)
    if encoder.text_dim != wanted:
        raise WorkbenchError(
            f"preset {preset.name} expects text features {wanted} wide, but {folder} gives "
            f"{encoder.text_dim}: train with the encoder that the preset was made for."
        )
    return encoder


def _perceptual(
    preset: Preset, config: TrainConfig, clip: str | Path, device: str | torch.device, dtype: torch.dtype
) -> DetailDistance | None:
    """The distance to the true pictures that an upsampler learns from, None where there is none."""
    if not preset.upsamples or config.perceptual_weight == 0:
        return None
    return perceptual_distance(config.perceptual, clip=clip, device=device, dtype=dtype)


def build(
    preset: Preset,
    config: TrainConfig,
    clip_folder: str | Path,
    device: str | torch.device,
    precision: str,
    vision_clip: str | Path | None = None,
) -> Players:
    """Networks of a preset with fresh weights (drawn from config.seed), optimizers, and the frozen CLIP.

    vision_clip: the CLIP by which the vision-aided heads and the contrastive loss see, where it is not the
    one that is read. precision, a key of DTYPES: dtype of the features; parameters and optimizer states are
    float32 in any case. A preset without text gets no encoder. Raises WorkbenchError when a CLIP's width is
    not the preset's.
    """
    clip = load_clip(clip_folder, device=device)
    text_encoder = _reader(preset, clip, clip_folder)
    captions = text_encoder
    if vision_clip is not None:
        clip = load_clip(vision_clip, device=device)
        if text_encoder is not None:
            captions = TwoEncoders(text_encoder, TextEncoder.from_clip(clip))
    dtype = DTYPES[precision]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        G, D = preset.network(), Discriminator(preset.discriminator)
        aided = preset.vision_aided if config.vision_weight > 0 else None
        tower = heads = None
        if aided is not None or config.clip_weight > 0:
            tower = ImageTower(clip, aided.taps if aided else (), dtype)
        if aided is not None:
            heads = VisionAided(aided, tower.widths()[0])
    for module in (G, D):
        module.compute_dtype = dtype
        module.checkpointing = config.gradient_checkpointing
    for module in (G, D, heads, tower):
        if module is not None:
            module.to(device=device, memory_format=torch.channels_last)
    ada = None
    if heads is not None and config.ada_target > 0:
        ada = Adaptive(config.ada_target, config.ada_kimg).to(device)
    return Players(
        G=G, D=D, heads=heads, tower=tower, text_encoder=text_encoder, captions=captions, clip=clip,
        opt_G=_adam([G], config.lr_G, config.betas), opt_D=_adam([D, heads], config.lr_D, config.betas),
        guard=NormGuard().to(device), scale=LossScale().to(device) if precision == "fp16" else None,
        ada=ada, perceptual=_perceptual(preset, config, clip_folder, device, dtype),
        compiled=compiled(G, D, device) if config.compile else {},
    )  # fmt: skip
