"""One training step in several passes over parts of the batch, for less memory.

D's gradient is added up over all parts before D moves, and G's after it: so the pictures are drawn twice, for
D without their graph. The sums are those of `steps.train_step` on the whole batch, but for rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.training import losses, steps
from workbench.training.config import TrainConfig
from workbench.training.players import Players
from workbench.training.step_batch import StepBatch, pair_features
from workbench.training.terms import d_losses, g_losses


def take_step(
    players: Players, parts: list[StepBatch], *, cur_nimg: int, step: int, config: TrainConfig
) -> dict[str, Tensor]:
    """`steps.train_step` on a process's rows, in one part or in several."""
    about = {"cur_nimg": cur_nimg, "step": step, "config": config}
    if len(parts) == 1:
        return steps.train_step(players, parts[0], **about)
    return accumulated_step(players, parts, **about)


def accumulated_step(
    players: Players, parts: list[StepBatch], *, cur_nimg: int, step: int, config: TrainConfig
) -> dict[str, Tensor]:
    """One D step and one G step on equal parts of a batch. Returns what `steps.train_step` returns."""
    scale = steps.set_rates(players, cur_nimg, config)
    if players.heads is not None and step == 0:
        steps.calibrate(players, parts)
    before_fakes: list[Tensor] = []  # each part's noise where that of its fakes begins: they are drawn again
    spreads: list[Tensor] = []
    stats: list[dict[str, Tensor]] = []
    players.opt_D.zero_grad(set_to_none=True)
    norms = _Norms(players)
    for part in parts:
        norms.rewind()
        found, seen = _d_part(players, part, before_fakes, len(parts), step=step, config=config)
        stats.append(found)
        spreads.append(seen)
    means = _mean_statistics(stats)
    good = True
    if config.adversarial_weight > 0:
        means["D.norm"], good = steps.update(players, "D", players.opt_D, means["D.loss"], config)
    w = torch.zeros_like(players.G.w_avg)
    if good and config.G_learns:
        whole = players.processes.mean(torch.stack(spreads).mean(0))
        stats = []
        players.opt_G.zero_grad(set_to_none=True)
        norms.keep()
        for part, noise in zip(parts, before_fakes, strict=True):
            norms.rewind()
            part.generator.set_state(noise)
            found, seen_w = _g_part(players, part, whole, len(parts), config=config)
            stats.append(found)
            w += seen_w / len(parts)
        means |= _mean_statistics(stats)
        means["G.norm"], good = steps.update(players, "G", players.opt_G, means["G.loss"], config)
    own = torch.stack(spreads).mean(0)
    means["spread.fake"], means["spread.real"] = own[0], own[len(own) // 2]
    return steps.finish(players, means, w, good, config, scale)


def _d_part(
    players: Players,
    part: StepBatch,
    before_fakes: list[Tensor],
    count: int,
    *,
    step: int,
    config: TrainConfig,
) -> tuple[dict[str, Tensor], Tensor]:
    """Add one part's gradient of D and the heads. Returns its statistics and its spreads [2V]."""
    captions = pair_features(part.text)
    # With its graph, which is dropped at once: without one, filter banks keep sums of their weights by a
    # version number that a fused optimiser does not move on.
    fakes = [level.detach() for level in steps.draw_fakes(players, part, captions)[1]]
    real_maps, fake_maps = [], []
    with torch.no_grad():
        if players.heads is not None:
            real_maps = steps.see_reals(players, part, config)
        before_fakes.append(part.generator.get_state())
        if players.tower is not None:
            fake_maps, _ = steps.see_fakes(players, part, fakes, config)
        spreads = losses.spreads([fakes[0], *fake_maps, part.images, *real_maps])
    if config.adversarial_weight == 0:
        return {}, torch.stack(spreads)
    stats, loss = d_losses(players, part, captions, fakes, real_maps, fake_maps, step=step, config=config)
    players.backward("D", loss / count)
    return {name: value.detach() for name, value in stats.items()}, torch.stack(spreads)


def _g_part(
    players: Players, part: StepBatch, spreads: Tensor, count: int, *, config: TrainConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Add one part's gradient of G. Returns its statistics and its mean w."""
    captions = pair_features(part.text)
    w, fakes = steps.draw_fakes(players, part, captions)
    fake_maps, embedding = [], None
    if players.tower is not None:
        fake_maps, embedding = steps.see_fakes(players, part, fakes, config)
    stats, loss = g_losses(
        players, part, captions, fakes, [], fake_maps, embedding, config=config, spreads=spreads.unbind()
    )
    players.backward("G", loss / count)
    return {name: value.detach() for name, value in stats.items()}, w.detach().mean(0)


class _Norms:
    """The running estimates of the heads' spectral norms, which every pass through the heads moves on.

    Each part starts from where the first did, so that all are judged by the weights that a whole batch meets,
    and the estimates end where they end after one pass.
    """

    def __init__(self, players: Players) -> None:
        heads = [] if players.heads is None else players.heads.named_buffers()
        self._vectors = [value for name, value in heads if name.endswith(("._u", "._v"))]
        self.keep()

    def keep(self) -> None:
        """The parts that come start from here."""
        self._kept = [value.clone() for value in self._vectors]

    def rewind(self) -> None:
        """Back to what was kept."""
        for value, kept in zip(self._vectors, self._kept, strict=True):
            value.copy_(kept)


def _mean_statistics(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([stats[name].float() for stats in parts]).mean() for name in parts[0]}
