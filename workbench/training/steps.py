"""One training step: fakes once, then D (and the vision-aided heads), then G on the same fakes.

The fakes and their CLIP features are computed once a step: D sees them detached, G's gradient runs through
them after D has moved (Sec. 3.4 for the losses).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.models.discriminator import Discriminator, pyramid_for
from workbench.models.ops import box_pyramid
from workbench.models.text import TextFeatures
from workbench.training import losses
from workbench.training.augment import augment
from workbench.training.config import TrainConfig
from workbench.training.penalties import finite_difference_penalty, gradient_penalty
from workbench.training.players import Players

W_AVG_BETA = 0.995  # running mean of w, kept for truncation (StyleGAN2)


@dataclass
class StepBatch:
    """What one step needs. Rows 2k and 2k+1 are a pair: two pictures of one group under one caption, two z.

    images [B, 3, S, S] in [-1, 1]; text: features of the B captions; mismatch [B]: for each row another row
    whose caption is untrue of its picture, -1 where the batch holds none; z [B, z_dim]; generator: of the
    augmentations, a function of (seed, step).
    """

    images: Tensor
    text: TextFeatures
    mismatch: Tensor
    z: Tensor
    generator: torch.Generator


def mismatched_rows(mismatch: Tensor, config: TrainConfig) -> Tensor:
    """Rows of a batch of real, then generated pictures that are judged with a wrong caption too.

    mismatch [B] -> [R] long, R <= 2B; none where the loss is off, and none for a picture of which every
    caption of the batch may be true.
    """
    known = mismatch >= 0
    if config.matching_weight == 0:
        known = torch.zeros_like(known)
    return torch.cat([known, known & config.matching_generated]).nonzero().flatten()


def caption_sets(t: Tensor, mismatch: Tensor, rows: Tensor) -> list[Tensor]:
    """True and, where `rows` has any, wrong captions of real, then generated pictures: [B, d] -> [2B, d]."""
    own = torch.cat([t, t])
    return [own, torch.cat([t[mismatch], t[mismatch]])] if len(rows) else [own]


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
    if players.tower is not None:
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
    rows = mismatched_rows(batch.mismatch, config)
    decode = size if D.config.reconstruction and config.reconstruction_weight > 0 else 0
    logits = D(judged, caption_sets(t_D, batch.mismatch, rows), reconstruct=decode)
    logits, decoded = logits if decode else (logits, None)
    real, fake = split_logits(logits[0], size)
    stats, loss = _d_losses(logits, real, fake, rows, config)
    if decode:
        target = box_pyramid(batch.images, (decoded.shape[-1],))[0]
        stats["D.reconstruction"] = losses.reconstruction(decoded, target)
        loss = loss + config.reconstruction_weight * stats["D.reconstruction"]
    if players.heads is not None:
        more, vision = _vision_losses(players, batch, real_maps, fake_maps, rows, config)
        stats, loss = stats | more, loss + config.vision_weight * vision
    for name, gamma, pictures in due_penalties(batch, fakes, step, config):
        stats[name] = _penalty(D, pictures, t_D.detach(), batch.generator, config)
        loss = loss + gamma / 2 * config.r1_every * stats[name]
    stats["D.loss"] = loss
    stats["D.real"], stats["D.fake"] = (
        losses.mean_over([x.mean() for x in real]),
        losses.mean_over([x.mean() for x in fake]),
    )
    stats["D.sign"] = losses.mean_over([x.sign().mean() for x in real])
    stats["D.norm"], applied = _apply(players, "D", players.opt_D, loss, config)
    return stats, applied


def _d_losses(
    logits: list[list[Tensor]], real: list[Tensor], fake: list[Tensor], rows: Tensor, config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """The adversarial and the matching-aware loss of D: (statistics, their sum).

    The adversarial one adds a real and a generated half, the matching one is a mean over both: hence the 2.
    """
    relativistic = config.adversarial == "relativistic"
    adversarial = losses.d_relativistic if relativistic else losses.d_nonsaturating
    stats = {"D.adversarial": adversarial(real, fake)}
    loss = stats["D.adversarial"]
    if len(rows):
        matched, mismatched = ([x[rows] for x in judged] for judged in logits)
        # only differences of relativistic logits count, so there a picture's two captions are compared
        # likewise
        stats["D.matching"] = (
            losses.d_relativistic(matched, mismatched) if relativistic else losses.d_matching(mismatched)
        )
        loss = loss + 2 * config.matching_weight * stats["D.matching"]
    return stats, loss


def _vision_losses(
    players: Players, batch: StepBatch, real_maps, fake_maps, rows: Tensor, config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of the heads on frozen CLIP features: (statistics, their sum)."""
    heads = players.heads.requires_grad_(True)
    maps = [torch.cat([r, f.detach()]) for r, f in zip(real_maps, fake_maps, strict=True)]
    logits = heads(maps, caption_sets(batch.text.embedding, batch.mismatch, rows))
    real, fake = split_logits(logits[0], len(batch.images))
    stats = {
        "D.vision": losses.d_hinge(real, fake),
        "V.real": losses.mean_over([x.mean() for x in real]),
        "V.fake": losses.mean_over([x.mean() for x in fake]),
    }
    loss = stats["D.vision"]
    if len(rows):
        stats["D.vision_matching"] = losses.d_matching_hinge([x[rows] for x in logits[1]])
        loss = loss + config.matching_weight * stats["D.vision_matching"]
    return stats, loss


def due_penalties(
    batch: StepBatch, fakes: list[Tensor], step: int, config: TrainConfig
) -> list[tuple[str, float, Tensor]]:
    """R1 at real pictures, half an interval later R2 at generated ones: (name, gamma, pictures)."""
    phase = step % config.r1_every
    due = []
    if config.r1_gamma > 0 and phase == 0:
        due.append(("D.r1", config.r1_gamma, batch.images))
    if config.r2_gamma > 0 and phase == config.r1_every // 2:
        due.append(("D.r2", config.r2_gamma, fakes[0]))
    return due


def _penalty(D: Discriminator, pictures: Tensor, t_D: Tensor, generator, config: TrainConfig) -> Tensor:
    """||grad_x D(x, c)||^2 through the whole pyramid of x."""

    def judge(x: Tensor) -> list[Tensor]:
        return D(box_pyramid(x, D.config.entries), t_D)[0]

    if config.penalty == "exact":
        return gradient_penalty(judge, pictures)
    return finite_difference_penalty(judge, pictures, generator)


def g_step(
    players, batch, captions, fakes, real_maps, fake_maps, image_embedding, *, config
) -> tuple[dict[str, Tensor], bool]:
    """Update G through the fakes it already made. Returns statistics and whether it was applied."""
    stats, loss = _g_losses(players, batch, captions, fakes, config)
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


def _g_losses(
    players: Players, batch: StepBatch, captions: TextFeatures, fakes: list[Tensor], config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """What D's own outputs ask of G: the adversarial loss, and G's side of the matching one."""
    D = players.D.requires_grad_(False)
    with torch.no_grad():
        t_D = D.encode_text(captions).repeat_interleave(2, dim=0)
    rows = (batch.mismatch >= 0).nonzero().flatten()
    asks = config.matching_G != "off" and config.matching_weight > 0 and len(rows) > 0
    sets = [t_D, t_D[batch.mismatch]] if asks else [t_D]
    fake, *wrong = D(pyramid_for(fakes, D.config.entries), sets)
    if config.adversarial == "relativistic":
        with torch.no_grad():  # real logits after D's update too: stale ones made a run diverge
            (real,) = D(box_pyramid(batch.images, D.config.entries), t_D)
        stats = {"G.adversarial": losses.g_relativistic(real, fake)}
    else:
        stats = {"G.adversarial": losses.g_nonsaturating(fake)}
    loss = stats["G.adversarial"]
    if asks:
        stats["G.matching"] = losses.G_MATCHING[config.matching_G]([x[rows] for x in wrong[0]])
        loss = loss + config.matching_weight * stats["G.matching"]
    return stats, loss


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
