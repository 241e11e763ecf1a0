"""One training step: fakes once, then D (and the vision-aided heads), then G on the same fakes.

The fakes and their CLIP features are computed once a step: D sees them detached, G's gradient runs through
them after D has moved (Sec. 3.4 for the losses).
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.models.generator import Generator
from workbench.models.mapping import Text
from workbench.models.text import TextFeatures
from workbench.training import losses
from workbench.training.augment import augment
from workbench.training.config import TrainConfig
from workbench.training.players import Players
from workbench.training.step_batch import StepBatch, pair_features
from workbench.training.terms import d_losses, g_losses

W_AVG_BETA = 0.995  # running mean of w, kept for truncation (StyleGAN2)


def text_of_G(G: Generator, captions: TextFeatures | None) -> Text | None:
    """What G's T makes of each pair's caption, for both its rows; None without text."""
    text = G.encode_text(captions)
    return None if text is None else text.repeat_interleave(2)


def train_step(
    players: Players, batch: StepBatch, *, cur_nimg: int, step: int, config: TrainConfig
) -> dict[str, Tensor]:
    """One D step and one G step. Returns named statistics as detached 0-d tensors; among them "finite".

    Nothing is applied when a loss or a gradient is not finite: the weights are then those before the step (G
    may be held back alone when D's update was sound). A G whose rate is 0 has no step.
    """
    scale = set_rates(players, cur_nimg, config)
    captions = pair_features(batch.text)
    real_maps, fake_maps, image_embedding = [], [], None
    if players.heads is not None:
        if step == 0:
            calibrate(players, [batch])
        real_maps = see_reals(players, batch, config)
    with torch.set_grad_enabled(config.G_learns):
        w, fakes = draw_fakes(players, batch, captions)
        if players.tower is not None:
            fake_maps, image_embedding = see_fakes(players, batch, fakes, config)

    stats, good = {}, True
    if config.adversarial_weight > 0:
        stats, good = d_step(players, batch, captions, fakes, real_maps, fake_maps, step=step, config=config)
    if good and config.G_learns:
        more, good = g_step(
            players, batch, captions, fakes, real_maps, fake_maps, image_embedding, config=config
        )
        stats |= more
    with torch.no_grad():
        stats["spread.fake"] = losses.pair_distance(fakes[0].detach()).mean()
        stats["spread.real"] = losses.pair_distance(batch.images).mean()
    return finish(players, stats, w.detach().mean(0), good, config, scale)


def set_rates(players: Players, cur_nimg: int, config: TrainConfig) -> float:
    """Give both optimisers their rate of this step; returns it as a share of the full one."""
    scale = config.lr_scale(cur_nimg) * players.lr_multiplier
    for optimizer, lr in ((players.opt_G, config.lr_G), (players.opt_D, config.lr_D)):
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
    return scale


def draw_fakes(
    players: Players, batch: StepBatch, captions: TextFeatures | None
) -> tuple[Tensor, list[Tensor]]:
    """(w [B, w_dim], the pyramid of generated pictures) of the batch's z and captions."""
    text = text_of_G(players.G, captions)
    t_global = None if text is None else text.t_global
    if batch.low is None:
        w = players.G.mapping(batch.z, t_global)
        return w, players.synthesis(w, text)
    w = players.G.mapping(batch.z, t_global, batch.low.noise)
    return w, players.synthesis(w, text, batch.low.images)


@torch.no_grad()
def see_reals(players: Players, batch: StepBatch, config: TrainConfig) -> list[Tensor]:
    """Frozen CLIP's maps of the augmented real pictures."""
    return players.tower(_changed(players, batch, batch.images, config))[0]


def see_fakes(
    players: Players, batch: StepBatch, fakes: list[Tensor], config: TrainConfig
) -> tuple[list[Tensor], Tensor]:
    """Frozen CLIP's (maps, embedding [B, e]) of the augmented generated pictures."""
    return players.tower(_changed(players, batch, fakes[0], config))


def _changed(players: Players, batch: StepBatch, pictures: Tensor, config: TrainConfig) -> Tensor:
    p = None if players.ada is None else players.ada.p
    return augment(pictures, config.diffaugment, batch.generator, batch.share, probability=p)


def calibrate(players: Players, batches: list[StepBatch]) -> None:
    """Scale the heads' projections by the first real pictures, those of all shares alike.

    Heads that were taken over keep the scale that they learned with.
    """
    if players.heads.calibrated:
        return
    powers, scale = [], players.heads.projection.scale
    for batch in batches:
        players.heads.calibrate(players.tower(batch.images)[0])
        powers.append(scale.pow(-2))  # a mean square, and so the batch's is the shares' mean
    if len(batches) > 1 or not players.processes.alone:
        scale.copy_(players.processes.mean(torch.stack(powers).mean(0)).rsqrt())


def finish(
    players: Players, stats: dict[str, Tensor], w: Tensor, good: bool, config: TrainConfig, scale: float
) -> dict[str, Tensor]:
    """Move the running mean of w, and how often pictures are changed, if the step was applied; the step's
    statistics, of all processes.

    w [w_dim]: this process's mean; scale: of the learning rates.
    """
    with torch.no_grad():
        if good and config.G_learns:
            players.G.w_avg.lerp_(players.processes.mean(w), 1 - W_AVG_BETA)
    stats = players.processes.mean_statistics(stats)
    if players.ada is not None and good:
        stats["ada.p"] = players.ada.move(stats["V.sign"], config.batch_size)
    stats["finite"] = torch.as_tensor(good)
    stats["lr"] = torch.as_tensor(config.lr_G * scale)
    return {name: value.detach().float() if name != "finite" else value for name, value in stats.items()}


def d_step(
    players, batch, captions, fakes, real_maps, fake_maps, *, step, config
) -> tuple[dict[str, Tensor], bool]:
    """Update D and the heads on real and (detached) generated pictures. Returns statistics and whether it was
    applied.
    """
    stats, loss = d_losses(players, batch, captions, fakes, real_maps, fake_maps, step=step, config=config)
    stats["D.norm"], applied = _apply(players, "D", players.opt_D, loss, config)
    return stats, applied


def g_step(
    players, batch, captions, fakes, real_maps, fake_maps, image_embedding, *, config
) -> tuple[dict[str, Tensor], bool]:
    """Update G through the fakes it already made. Returns statistics and whether it was applied."""
    stats, loss = g_losses(
        players, batch, captions, fakes, real_maps, fake_maps, image_embedding, config=config
    )
    stats["G.norm"], applied = _apply(players, "G", players.opt_G, loss, config)
    return stats, applied


def _apply(
    players: Players, name: str, optimizer: torch.optim.Optimizer, loss: Tensor, config
) -> tuple[Tensor, bool]:
    """Backward, clip, step; nothing is applied unless loss and gradients are finite. Returns (gradient norm,
    applied).
    """
    optimizer.zero_grad(set_to_none=True)
    alone = players.processes.alone  # else all have to meet below, whatever one of them finds
    if alone and not torch.isfinite(loss):
        return torch.full((), float("nan")), False
    players.backward(name, loss)
    return update(players, name, optimizer, None if alone else loss, config)


def update(
    players: Players, name: str, optimizer: torch.optim.Optimizer, loss: Tensor | None, config
) -> tuple[Tensor, bool]:
    """Average the processes' gradients, clip and step, as `_apply` does. loss: None = known to be finite."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm, finite = torch.full((), float("nan")), torch.tensor(True)
    if loss is not None:
        finite = torch.isfinite(players.processes.mean_gradients(parameters, loss))
    sound = finite
    if finite:
        if players.scale is not None:
            players.scale.unscale(name, parameters)
        norm, finite = players.guard.clip(name, parameters, config.clip_norm)
    if finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if sound and players.scale is not None:  # an overflow of float16 is mended by a lower scale
        return norm, players.scale.settle(name, bool(finite))
    return norm, bool(finite)
