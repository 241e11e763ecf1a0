"""What a step asks of D and of G: the losses of a share of a batch, put together by a run's settings.

Every term is such that its mean over equal shares of a batch is the term of the whole batch, value and
gradient. Letters: B rows of a share, W wrong captions that are no row's of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workbench.models.discriminator import Discriminator, pyramid_for
from workbench.models.ops import box_pyramid
from workbench.models.text import TextFeatures
from workbench.training import losses
from workbench.training.config import TrainConfig
from workbench.training.penalties import finite_difference_penalty, gradient_penalty, wide_enough
from workbench.training.players import Players
from workbench.training.step_batch import StepBatch, caption_sets, mismatched_rows


def split_logits(logits: list[Tensor], size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of [real; fake] rows -> (real, fake), each a list over predictions."""
    return [x[:size] for x in logits], [x[size:] for x in logits]


def text_of_D(
    D: Discriminator, captions: TextFeatures | None, wrong: TextFeatures | None = None
) -> Tensor | None:
    """t_D [B + W, d] of each pair's caption for both its rows, then of W wrong ones; None without text."""
    if wrong is None:
        t_D = D.encode_text(captions)
        return None if t_D is None else t_D.repeat_interleave(2, dim=0)
    t_D = D.encode_text(TextFeatures.cat([captions, wrong]))
    return torch.cat([t_D[: len(captions)].repeat_interleave(2, dim=0), t_D[len(captions) :]])


def d_losses(
    players, batch, captions, fakes, real_maps, fake_maps, *, step, config
) -> tuple[dict[str, Tensor], Tensor]:
    """What D and the heads are asked: (statistics, the sum of the losses)."""
    D, size = players.D, len(batch.images)
    D.requires_grad_(True)
    reals = box_pyramid(batch.images, D.config.entries, D.config.resolution)
    judged = [
        torch.cat([r, f.detach()]) for r, f in zip(reals, pyramid_for(fakes, D.config.entries), strict=True)
    ]
    t_D = text_of_D(D, captions, batch.wrong)
    rows = mismatched_rows(batch.mismatch, config)
    decode = size if D.config.reconstruction and config.reconstruction_weight > 0 else 0
    logits = players.judge(judged, caption_sets(t_D, batch, rows), reconstruct=decode)
    logits, decoded = logits if decode else (logits, None)
    real, fake = split_logits(logits[0], size)
    stats, loss = _judged_losses(logits, real, fake, rows, batch, config)
    if decode:
        target = box_pyramid(batch.images, (decoded.shape[-1],))[0]
        stats["D.reconstruction"] = losses.reconstruction(decoded, target)
        loss = loss + config.reconstruction_weight * stats["D.reconstruction"]
    if players.heads is not None:
        more, vision = _vision_losses(players, batch, real_maps, fake_maps, rows, config)
        stats, loss = stats | more, loss + config.vision_weight * vision
    for name, gamma, pictures in due_penalties(batch, fakes, step, config):
        stats[name] = _penalty(D, pictures, t_D, batch, config)
        loss = loss + gamma / 2 * config.r1_every * stats[name]
    stats["D.loss"] = loss
    stats["D.real"], stats["D.fake"] = (
        losses.mean_over([x.mean() for x in real]),
        losses.mean_over([x.mean() for x in fake]),
    )
    stats["D.sign"] = losses.mean_over([x.sign().mean() for x in real])
    stats["D.sign_fake"] = losses.mean_over([x.sign().mean() for x in fake])
    return stats, loss


def _judged_losses(
    logits: list[list[Tensor]],
    real: list[Tensor],
    fake: list[Tensor],
    rows: Tensor,
    batch: StepBatch,
    config: TrainConfig,
) -> tuple[dict[str, Tensor], Tensor]:
    """The adversarial and the matching-aware loss of D: (statistics, their sum).

    The adversarial one adds a real and a generated half, the matching one is a mean over both: hence the 2.
    """
    relativistic = config.adversarial == "relativistic"
    adversarial = losses.d_relativistic if relativistic else losses.d_nonsaturating
    stats = {"D.adversarial": adversarial(real, fake)}
    loss = stats["D.adversarial"]

    def matching() -> Tensor:
        matched, mismatched = ([x[rows] for x in judged] for judged in logits)
        # only differences of relativistic logits count, so there a picture's two captions are compared
        # likewise
        return losses.d_relativistic(matched, mismatched) if relativistic else losses.d_matching(mismatched)

    if (term := _over_rows(rows, batch, matching)) is not None:
        stats["D.matching"] = term
        loss = loss + 2 * config.matching_weight * term
        stats |= _caption_gaps(logits, rows, batch, config.matching_generated)
    return stats, loss


def _caption_gaps(
    logits: list[list[Tensor]], rows: Tensor, batch: StepBatch, generated: bool
) -> dict[str, Tensor]:
    """How far a picture's logit falls from its own caption to a wrong one, for the monitor.

    The rows are of real and, with `generated`, then of as many generated pictures.
    """
    kinds = ("D.gap_real", "D.gap_fake") if generated else ("D.gap_real",)
    if not len(rows):
        return dict.fromkeys(kinds, torch.zeros((), device=rows.device))
    gaps = [(own[rows] - wrong[rows]).detach().float() for own, wrong in zip(*logits, strict=True)]
    parts = zip(*(gap.chunk(len(kinds)) for gap in gaps), strict=True)
    return {
        kind: batch.matching * losses.mean_over([gap.mean() for gap in part])
        for kind, part in zip(kinds, parts, strict=True)
    }


def _vision_losses(
    players: Players, batch: StepBatch, real_maps, fake_maps, rows: Tensor, config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of the heads on frozen CLIP features: (statistics, their sum)."""
    heads = players.heads.requires_grad_(True)
    maps = [torch.cat([r, f.detach()]) for r, f in zip(real_maps, fake_maps, strict=True)]
    logits = heads(maps, caption_sets(batch.known_embeddings, batch, rows))
    real, fake = split_logits(logits[0], len(batch.images))
    stats = {
        "D.vision": losses.d_hinge(real, fake),
        "V.real": losses.mean_over([x.mean() for x in real]),
        "V.fake": losses.mean_over([x.mean() for x in fake]),
    }
    if players.ada is not None:
        stats["V.sign"] = losses.mean_over([x.detach().sign().mean() for x in real])
    loss = stats["D.vision"]
    term = _over_rows(rows, batch, lambda: losses.d_matching_hinge([x[rows] for x in logits[1]]))
    if term is not None:
        stats["D.vision_matching"] = term
        loss = loss + config.matching_weight * term
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


def _penalty(
    D: Discriminator, pictures: Tensor, t_D: Tensor | None, batch: StepBatch, config: TrainConfig
) -> Tensor:
    """||grad_x D(x, c)||^2 through the whole pyramid of x."""
    t_D = None if t_D is None else t_D[: len(pictures)].detach()

    def judge(x: Tensor) -> list[Tensor]:
        return D(box_pyramid(x, D.config.entries, D.config.resolution), t_D)[0]

    with wide_enough(D):
        if config.penalty == "exact":
            return gradient_penalty(judge, pictures)
        return finite_difference_penalty(judge, pictures, batch.generator, share=batch.share)


def g_losses(
    players, batch, captions, fakes, real_maps, fake_maps, image_embedding, *, config, spreads=None
) -> tuple[dict[str, Tensor], Tensor]:
    """What G is asked: (statistics, the sum of the losses).

    spreads: `losses.spreads` of generated, then of real pictures over all shares, where they are known.
    """
    stats, loss = {}, torch.zeros((), device=fakes[0].device)
    if config.adversarial_weight > 0:
        stats, loss = _asked_by_D(players, batch, captions, fakes, config)
        loss = config.adversarial_weight * loss
    if players.heads is not None:
        seen = None if batch.embedding is None else [batch.embedding]
        (v_fake,) = players.heads.requires_grad_(False)(fake_maps, seen)
        stats["G.vision"] = losses.g_hinge(v_fake)
        loss = loss + config.vision_weight * stats["G.vision"]
    if config.clip_weight > 0 and image_embedding is not None:
        target = torch.arange(len(captions), device=fakes[0].device).repeat_interleave(2)
        rivals = captions.embedding
        if batch.rivals is not None:
            rivals, target = batch.rivals, target + batch.share.index * len(captions)
        logit_scale = players.clip.model.logit_scale.exp().item()
        stats["G.clip"] = losses.clip_contrastive(image_embedding, rivals, target, logit_scale)
        loss = loss + config.clip_weight * stats["G.clip"]
    if config.mode_seeking_weight > 0:
        stats["G.mode_seeking"] = _mode_seeking(players, batch, fakes, real_maps, fake_maps, spreads)
        loss = loss + config.mode_seeking_weight * stats["G.mode_seeking"]
    if batch.low is not None:
        more, term = _fidelity(players, batch, fakes, config)
        stats, loss = stats | more, loss + term
    if config.range_weight > 0:
        stats["G.range"] = losses.out_of_range(fakes[0])
        loss = loss + config.range_weight * stats["G.range"]
    stats["G.loss"] = loss
    return stats, loss


def _fidelity(
    players: Players, batch: StepBatch, fakes: list[Tensor], config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """What an upsampler owes the true picture: (statistics, their sum)."""
    stats, loss = {}, torch.zeros((), device=fakes[0].device)
    if config.pixel_weight > 0:
        stats["G.pixel"] = losses.pixel(fakes[0], batch.images)
        loss = loss + config.pixel_weight * stats["G.pixel"]
    if config.perceptual_weight > 0:
        stats["G.perceptual"] = players.perceptual.detail(fakes[0], batch.images).mean()
        loss = loss + config.perceptual_weight * stats["G.perceptual"]
    return stats, loss


def _mode_seeking(
    players: Players, batch: StepBatch, fakes: list[Tensor], real_maps, fake_maps, spreads
) -> Tensor:
    """`losses.mode_seeking` of the whole batch, whose mean spreads it bends."""
    fake = losses.spreads([fakes[0], *fake_maps])
    if spreads is None:
        real = losses.spreads([batch.images, *real_maps])
        if players.processes.alone:
            return losses.spread_shortfall(fake, real)
        spreads = players.processes.mean(torch.stack([*fake, *real]).detach()).unbind()
    fake = [losses.as_of_whole(own, whole) for own, whole in zip(fake, spreads, strict=False)]
    return losses.spread_shortfall(fake, spreads[len(fake) :])


def _asked_by_D(
    players: Players, batch: StepBatch, captions: TextFeatures, fakes: list[Tensor], config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """What D's own outputs ask of G: the adversarial loss, and G's side of the matching one."""
    D = players.D.requires_grad_(False)
    with torch.no_grad():
        known = text_of_D(D, captions, batch.wrong)
    t_D = None if known is None else known[: len(batch.mismatch)]
    rows = (batch.mismatch >= 0).nonzero().flatten()
    asks = config.matching_G != "off" and config.matching_weight > 0
    sets = [t_D, known[batch.mismatch]] if asks and len(rows) else t_D
    fake, *wrong = players.judge(pyramid_for(fakes, D.config.entries), sets)
    if config.adversarial == "relativistic":
        with torch.no_grad():  # real logits after D's update too: stale ones made a run diverge
            (real,) = players.judge(box_pyramid(batch.images, D.config.entries, D.config.resolution), t_D)
        stats = {"G.adversarial": losses.g_relativistic(real, fake)}
    else:
        stats = {"G.adversarial": losses.g_nonsaturating(fake)}
    loss = stats["G.adversarial"]
    matching = losses.G_MATCHING.get(config.matching_G)
    term = _over_rows(rows, batch, lambda: matching([x[rows] for x in wrong[0]])) if asks else None
    if term is not None:
        stats["G.matching"] = term
        loss = loss + config.matching_weight * term
    return stats, loss


def _over_rows(rows: Tensor, batch: StepBatch, mean: Callable[[], Tensor]) -> Tensor | None:
    """A mean over rows with a wrong caption as this share's part of the batch's mean.

    None where the whole batch has no such row, 0 where only other shares have some.
    """
    if len(rows):
        return batch.matching * mean()
    return torch.zeros((), device=rows.device) if batch.matching == 0 else None
