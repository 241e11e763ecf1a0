"""A step of D and a step of G by hand, on one batch of real pictures, with everything before and after.

Letters: B rows of the batch; rows 2k and 2k+1 are two pictures under one caption.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.loading import PictureTable
from workbench.errors import WorkbenchError
from workbench.models.discriminator import pyramid_for
from workbench.models.ops import box_pyramid
from workbench.models.presets import Preset
from workbench.training import checkpoint, steps
from workbench.training.batches import Feed
from workbench.training.config import TrainConfig
from workbench.training.players import Players, build
from workbench.training.step_batch import pair_features

KINDS = ("real, true caption", "real, false caption", "made, true caption", "made, false caption")


@dataclass(frozen=True)
class Look:
    """What one can see between two steps. made: [B, 3, S, S]; logits: kind -> [n], means over D's outputs."""

    made: Tensor
    logits: dict[str, Tensor]

    def mean(self, kind: str) -> float:
        """Mean logit of a kind."""
        return self.logits[kind].mean().item()


@dataclass(frozen=True)
class Move:
    """One step of one player: who, what was seen before and after, and the statistics of the step."""

    who: str
    before: Look
    after: Look
    facts: dict[str, float] = field(default_factory=dict)


class Match:
    """G against D on one batch of a data set, a step at a time; `undo` takes the last step back, bit for bit.

    preset, config: as of a training. clip: folder of the CLIP that reads and sees. rows: pictures of the
    batch, even. Weights are fresh; `sit_down` takes those of a run. Computes in float32 on the CPU.
    """

    def __init__(
        self, preset: Preset, config: TrainConfig, table: PictureTable, clip: str | Path, *, rows: int = 16
    ) -> None:
        self.config = TrainConfig.from_json({**config.to_json(), "batch_size": rows, "precision": "fp32"})
        self.players: Players = build(preset, self.config, clip, "cpu", "fp32")
        feed = Feed(
            table,
            self.players.captions,
            self.config,
            preset.generator.z_dim,
            torch.device("cpu"),
            say=lambda text: None,
        )
        self.batch, self.captions = feed.at(0), feed.pairs.batch_at(0).captions
        self.text = pair_features(self.batch.text)
        if self.players.heads is not None:
            steps.calibrate(self.players, [self.batch])
        steps.set_rates(self.players, 0, self.config)
        self.turn = 0  # steps that D took: its penalties come every so many
        self._past: list[tuple[int, Tensor, dict]] = []
        self.moves: list[Move] = []

    def sit_down(self, run: str | Path) -> None:
        """Put both players where a run left them, optimisers and all. WorkbenchError where there is none."""
        found, _ = checkpoint.newest(run)
        if found is None:
            raise WorkbenchError(f"There is no checkpoint in {run}: train first, or leave the weights fresh.")
        parts, names = found.tensors(), checkpoint.parameter_names(self.players.modules())
        for name, module in self.players.modules().items():
            checkpoint.load_module(module, parts.get(name, {}), name)
        for name in ("opt_G", "opt_D"):
            checkpoint.load_optimizer(getattr(self.players, name), parts[name], names)
        self.turn, self._past, self.moves = found.state["step"], [], []

    # --- looking ---

    @torch.no_grad()
    def look(self) -> Look:
        """The made pictures, and D's verdicts on made and real ones, with true and with false captions."""
        D, wrong = self.players.D, self.batch.mismatch
        _, fakes = steps.draw_fakes(self.players, self.batch, self.text)
        t_D = D.encode_text(self.text).repeat_interleave(2, dim=0)
        levels = {
            "real": box_pyramid(self.batch.images, D.config.entries),
            "made": pyramid_for(fakes, D.config.entries),
        }
        logits = {}
        for name, pyramid in levels.items():
            true, false = D(pyramid, [t_D, t_D[wrong]])
            logits[f"{name}, true caption"] = torch.stack(true).float().mean(0)
            logits[f"{name}, false caption"] = torch.stack(false).float().mean(0)[wrong >= 0]
        return Look(fakes[0].float().clamp(-1, 1), {kind: logits[kind] for kind in KINDS})

    def wishes(self) -> Tensor:
        """What D alone asks of each made picture: minus the slope of G's loss at its pixels, [B, 3, S, S].

        Each picture's wishes are scaled to a largest of 1: grey is no wish, bright is "more of this colour".
        """
        with torch.no_grad():
            _, fakes = steps.draw_fakes(self.players, self.batch, self.text)
            t_D = self.players.D.encode_text(self.text).repeat_interleave(2, dim=0)
        x = fakes[0].detach().requires_grad_(True)
        logits = self.players.D(box_pyramid(x, self.players.D.config.entries), t_D)[0]
        loss = torch.stack([torch.nn.functional.softplus(-one.float()).sum() for one in logits]).mean()
        (slope,) = torch.autograd.grad(loss, x)
        return -slope / slope.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)

    def stages(self) -> list[tuple[str, str, str]]:
        """(name, what it is, shape) of everything a step passes through, in its order."""
        with torch.no_grad():
            text = self.players.G.encode_text(self.text)
            w, fakes = steps.draw_fakes(self.players, self.batch, self.text)
            pyramid = pyramid_for(fakes, self.players.D.config.entries)
            logits = self.players.D(
                pyramid, self.players.D.encode_text(self.text).repeat_interleave(2, dim=0)
            )[0]

        def shape(x: Tensor) -> str:
            return " × ".join(str(size) for size in x.shape)

        return [
            ("x", "real pictures", shape(self.batch.images)),
            ("t_global", "what G's T makes of each pair's caption", shape(text.t_global)),
            ("z", "noise, one for each row", shape(self.batch.z)),
            ("w", "style of each picture", shape(w)),
            *((f"x_{k}", "made pictures", shape(level)) for k, level in enumerate(fakes)),
            ("logits", f"{len(logits)} verdicts of D on each picture", shape(torch.stack(logits))),
        ]

    # --- steps ---

    def step_D(self) -> Move:
        """One optimiser step of D and its heads; G stands still. WorkbenchError, and nothing changed, where a
        loss or a gradient is not finite."""
        return self._move("D")

    def step_G(self) -> Move:
        """One optimiser step of G; D stands still. WorkbenchError as of `step_D`."""
        return self._move("G")

    def undo(self) -> bool:
        """Take the last step back: weights, optimisers, running norms, dice. False when there is none."""
        if not self._past:
            return False
        self._restore(*self._past.pop())
        self.moves.pop()
        return True

    def _move(self, who: str) -> Move:
        kept = {name: copy.deepcopy(part.state_dict()) for name, part in self._stateful().items()}
        now, before = (self.turn, self.batch.generator.get_state(), kept), self.look()
        try:
            facts = self._step(who)
            move = Move(who, before, self.look(), facts)
        except BaseException:  # a Ctrl-C too: a step is whole, with its record, or it never was
            self._restore(*now)
            raise
        self.turn += who == "D"
        self._past.append(now)
        self.moves.append(move)
        return move

    def _restore(self, turn: int, dice: Tensor, kept: dict) -> None:
        self.turn = turn
        self.batch.generator.set_state(dice)
        for name, state in kept.items():
            self._stateful()[name].load_state_dict(state)

    def _stateful(self) -> dict:
        return {**self.players.modules(), "opt_G": self.players.opt_G, "opt_D": self.players.opt_D}

    def _step(self, who: str) -> dict[str, float]:
        players, batch, config = self.players, self.batch, self.config
        _, fakes = steps.draw_fakes(players, batch, self.text)
        real_maps, fake_maps, embedding = [], [], None
        if players.heads is not None:
            real_maps = steps.see_reals(players, batch, config)
        if players.tower is not None:
            fake_maps, embedding = steps.see_fakes(players, batch, fakes, config)
        seen = (players, batch, self.text, fakes, real_maps, fake_maps)
        step_D = partial(steps.d_step, *seen, step=self.turn, config=config)
        stats, good = step_D() if who == "D" else steps.g_step(*seen, embedding, config=config)
        if not good:
            raise WorkbenchError(
                "The step was not applied: a loss or a gradient is not finite. Nothing was changed: take "
                "back the step before it, or begin anew with a smaller learning rate."
            )
        return {name: float(value.detach()) for name, value in stats.items()}
