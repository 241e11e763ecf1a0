"""One training step: fakes once, then D (and the vision-aided heads), then G on the same fakes.

`build` makes the players of a preset, `train_step` plays one round. The fakes and their CLIP features are
computed once a step: D sees them detached, G's gradient runs through them after D has moved (Sec. 3.4 for the
losses).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.clip_io import Clip, load_clip
from workbench.models.discriminator import Discriminator, pyramid_for
from workbench.models.generator import Generator
from workbench.models.ops import box_pyramid
from workbench.models.presets import Preset
from workbench.models.text import TextEncoder, TextFeatures
from workbench.models.vision_aided import ImageTower, VisionAided
from workbench.training import losses
from workbench.training.augment import augment
from workbench.training.config import TrainConfig
from workbench.training.penalties import gradient_penalty

W_AVG_BETA = 0.995  # running mean of w, kept for truncation (StyleGAN2)
NORM_BETA = 0.98  # memory of the running gradient norm


@dataclass
class StepBatch:
    """What one step needs. Rows 2k and 2k+1 are a pair: two pictures of one group under one caption, two z.

    images [B, 3, S, S] in [-1, 1]; text: features of the B captions; mismatch [B]: for each row another row
    whose caption is untrue of its picture; z [B, z_dim]; generator: of the augmentations, a function of
    (seed, step).
    """

    images: Tensor
    text: TextFeatures
    mismatch: Tensor
    z: Tensor
    generator: torch.Generator


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

    G: Generator
    D: Discriminator
    heads: VisionAided | None
    tower: ImageTower | None
    text_encoder: TextEncoder
    clip: Clip | None
    opt_G: torch.optim.Optimizer
    opt_D: torch.optim.Optimizer
    guard: NormGuard
    lr_multiplier: float = field(default=1.0)  # halved by the monitor at a roll-back

    def modules(self) -> dict[str, nn.Module]:
        """Modules with state of their own, by name."""
        named = {"G": self.G, "D": self.D, "heads": self.heads, "guard": self.guard}
        return {name: module for name, module in named.items() if module is not None}


def _adam(modules: list[nn.Module | None], lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
    parameters = [
        p for module in modules if module is not None for p in module.parameters() if p.requires_grad
    ]
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)


def build(
    preset: Preset, config: TrainConfig, clip_folder: str | Path, device: str | torch.device, precision: str
) -> Players:
    """Networks of a preset with fresh weights (drawn from config.seed), optimizers, and the frozen CLIP.

    precision "bf16" or "fp32": dtype of the features; parameters and optimizer states are float32 either way.
    Raises WorkbenchError when the text width of CLIP is not the preset's.
    """
    clip = load_clip(clip_folder, device=device)
    text_encoder = TextEncoder.from_clip(clip)
    if text_encoder.text_dim != preset.generator.text_dim:
        raise WorkbenchError(
            f"preset {preset.name} expects text features {preset.generator.text_dim} wide, but {clip_folder} "
            f"gives {text_encoder.text_dim}: train with the encoder that the preset was made for."
        )
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        G, D = Generator(preset.generator), Discriminator(preset.discriminator)
        tower = heads = None
        if preset.vision_aided is not None and config.vision_weight > 0:
            tower = ImageTower(clip, preset.vision_aided.taps, dtype)
            channels = [
                m.shape[1]
                for m in tower(torch.zeros(2, 3, clip.image_size, clip.image_size, device=device))[0]
            ]
            heads = VisionAided(preset.vision_aided, channels)
    for module in (G, D):
        module.compute_dtype = dtype
    for module in (G, D, heads, tower):
        if module is not None:
            module.to(device=device, memory_format=torch.channels_last)
    return Players(
        G=G, D=D, heads=heads, tower=tower, text_encoder=text_encoder, clip=clip,
        opt_G=_adam([G], config.lr_G, config.betas), opt_D=_adam([D, heads], config.lr_D, config.betas),
        guard=NormGuard().to(device),
    )  # fmt: skip


def both_sets(t: Tensor, mismatch: Tensor) -> list[Tensor]:
    """True and mismatched captions for a batch of real, then generated pictures: [B, d] -> two of [2B, d]."""
    return [torch.cat([t, t]), torch.cat([t[mismatch], t[mismatch]])]


def split_logits(logits: list[Tensor], size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of [real; fake] rows -> (real, fake), each a list over predictions."""
    return [x[:size] for x in logits], [x[size:] for x in logits]


def pair_features(text: TextFeatures) -> TextFeatures:
    """The features of each pair's caption once: T runs on half the rows."""
    return text.index_select(torch.arange(0, len(text), 2))


def train_step(
    players: Players, batch: StepBatch, *, cur_nimg: int, step: int, config: TrainConfig
) -> dict[str, Tensor]:
    """One D step and one G step. Returns named statistics as detached 0-d tensors; among them "finite".

    Nothing is applied when a loss or a gradient is not finite: the weights are then those before the step (G
    may be held back alone when D's update was sound).
    """
    scale = config.lr_scale(cur_nimg) * players.lr_multiplier
    for optimizer, lr in ((players.opt_G, config.lr_G), (players.opt_D, config.lr_D)):
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
    G = players.G
    captions = pair_features(batch.text)
    text = G.encode_text(captions).repeat_interleave(2)
    w = G.mapping(batch.z, text.t_global)
    fakes = G.synthesis(w, text)
    real_maps, fake_maps, image_embedding = [], [], None
    if players.heads is not None:
        if step == 0:
            players.heads.calibrate(players.tower(batch.images)[0])
        with torch.no_grad():
            real_maps, _ = players.tower(augment(batch.images, config.diffaugment, batch.generator))
        fake_maps, image_embedding = players.tower(augment(fakes[0], config.diffaugment, batch.generator))

    stats, good = d_step(players, batch, captions, fakes, real_maps, fake_maps, step=step, config=config)
    if good:
        more, good = g_step(
            players, batch, captions, fakes, real_maps, fake_maps, image_embedding, config=config
        )
        stats |= more
    with torch.no_grad():
        if good:
            G.w_avg.lerp_(w.detach().mean(0), 1 - W_AVG_BETA)
        stats["spread.fake"] = losses.pair_distance(fakes[0].detach()).mean()
        stats["spread.real"] = losses.pair_distance(batch.images).mean()
    stats["finite"] = torch.as_tensor(good)
    stats["lr"] = torch.as_tensor(config.lr_G * scale)
    return {name: value.detach().float() if name != "finite" else value for name, value in stats.items()}


def d_step(
    players, batch, captions, fakes, real_maps, fake_maps, *, step, config
) -> tuple[dict[str, Tensor], bool]:
    """Update D and the heads on real and (detached) generated pictures. Returns statistics and whether it was
    applied.
    """
    D, size = players.D, len(batch.images)
    D.requires_grad_(True)
    reals = box_pyramid(batch.images, D.config.entries)
    judged = [
        torch.cat([r, f.detach()]) for r, f in zip(reals, pyramid_for(fakes, D.config.entries), strict=True)
    ]
    t_D = D.encode_text(captions).repeat_interleave(2, dim=0)
    matched, mismatched = D(judged, both_sets(t_D, batch.mismatch))
    real, fake = split_logits(matched, size)
    if config.adversarial == "relativistic":
        # only differences of logits count here, so the matching term compares a picture's two captions
        # likewise
        stats = {
            "D.adversarial": losses.d_relativistic(real, fake),
            "D.matching": losses.d_relativistic(matched, mismatched),
        }
    else:
        stats = {
            "D.adversarial": losses.d_nonsaturating(real, fake),
            "D.matching": losses.d_matching(mismatched),
        }
    loss = stats["D.adversarial"] + 2 * config.matching_weight * stats["D.matching"]
    if players.heads is not None:
        heads = players.heads.requires_grad_(True)
        maps = [torch.cat([r, f.detach()]) for r, f in zip(real_maps, fake_maps, strict=True)]
        matched, mismatched = heads(maps, both_sets(batch.text.embedding, batch.mismatch))
        v_real, v_fake = split_logits(matched, size)
        stats["D.vision"] = losses.d_hinge(v_real, v_fake)
        stats["D.vision_matching"] = losses.d_matching_hinge(mismatched)
        loss = loss + config.vision_weight * (
            stats["D.vision"] + config.matching_weight * stats["D.vision_matching"]
        )
        stats["V.real"], stats["V.fake"] = (
            losses.mean_over([x.mean() for x in v_real]),
            losses.mean_over([x.mean() for x in v_fake]),
        )
    if config.r1_gamma > 0 and step % config.r1_every in (0, config.r1_every // 2):
        # R1 at real pictures, half an interval later R2 at generated ones; each lazily, times the interval
        at_real = step % config.r1_every == 0
        pictures = batch.images if at_real else fakes[0]
        t = t_D.detach()
        penalty = gradient_penalty(lambda x: D(box_pyramid(x, D.config.entries), t)[0], pictures)
        stats["D.r1" if at_real else "D.r2"] = penalty
        loss = loss + config.r1_gamma / 2 * config.r1_every * penalty
    stats["D.loss"] = loss
    stats["D.real"], stats["D.fake"] = (
        losses.mean_over([x.mean() for x in real]),
        losses.mean_over([x.mean() for x in fake]),
    )
    stats["D.sign"] = losses.mean_over([x.sign().mean() for x in real])
    stats["D.norm"], applied = _apply(players, "D", players.opt_D, loss, config)
    return stats, applied


def g_step(
    players, batch, captions, fakes, real_maps, fake_maps, image_embedding, *, config
) -> tuple[dict[str, Tensor], bool]:
    """Update G through the fakes it already made. Returns statistics and whether it was applied."""
    D = players.D.requires_grad_(False)
    with torch.no_grad():
        t_D = D.encode_text(captions).repeat_interleave(2, dim=0)
    (fake,) = D(pyramid_for(fakes, D.config.entries), t_D)
    if config.adversarial == "relativistic":
        with torch.no_grad():  # real logits after D's update too: stale ones made a run diverge
            (real,) = D(box_pyramid(batch.images, D.config.entries), t_D)
        stats = {"G.adversarial": losses.g_relativistic(real, fake)}
    else:
        stats = {"G.adversarial": losses.g_nonsaturating(fake)}
    loss = stats["G.adversarial"]
    if players.heads is not None:
        (v_fake,) = players.heads.requires_grad_(False)(fake_maps, [batch.text.embedding])
        stats["G.vision"] = losses.g_hinge(v_fake)
        loss = loss + config.vision_weight * stats["G.vision"]
    if config.clip_weight > 0 and image_embedding is not None:
        target = torch.arange(len(captions), device=fakes[0].device).repeat_interleave(2)
        logit_scale = players.clip.model.logit_scale.exp().item()
        stats["G.clip"] = losses.clip_contrastive(image_embedding, captions.embedding, target, logit_scale)
        loss = loss + config.clip_weight * stats["G.clip"]
    if config.mode_seeking_weight > 0:
        stats["G.mode_seeking"] = losses.mode_seeking([fakes[0], *fake_maps], [batch.images, *real_maps])
        loss = loss + config.mode_seeking_weight * stats["G.mode_seeking"]
    if config.range_weight > 0:
        stats["G.range"] = losses.out_of_range(fakes[0])
        loss = loss + config.range_weight * stats["G.range"]
    stats["G.loss"] = loss
    stats["G.norm"], applied = _apply(players, "G", players.opt_G, loss, config)
    return stats, applied


def _apply(
    players: Players, name: str, optimizer: torch.optim.Optimizer, loss: Tensor, config
) -> tuple[Tensor, bool]:
    """Backward, clip, step; nothing is applied unless loss and gradients are finite. Returns (gradient norm,
    applied).
    """
    optimizer.zero_grad(set_to_none=True)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not torch.isfinite(loss):
        return torch.full((), float("nan")), False
    loss.backward()
    norm, finite = players.guard.clip(name, parameters, config.clip_norm)
    if finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, bool(finite)
