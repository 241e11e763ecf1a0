"""Start from weights that exist: of a run (G, D and the heads) or of a model folder (G alone), and of critics
(D and the heads).

What has the same name and shape is taken, the rest keeps its fresh weights: so a trained model can go on with
other pictures, another loss, or more blocks than it had.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.models.clip_io import read_tensors
from workbench.models.critics import read_critics
from workbench.pipeline.model_folder import WEIGHTS, find_folder
from workbench.training import checkpoint, runs
from workbench.training.checkpoint import Tensors
from workbench.training.players import Players

PLAYERS = ("G", "D", "heads")
LEAST = 0.05  # of G's numbers: less is a few biases that happen to be as long


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a start took over. images: that the source's weights had seen, None where it does not say;
    shares: player -> part of its numbers that were taken; fresh: the layers that were not, by name; critics:
    the folder that D and the heads are of, where it is not the source.
    """

    source: str
    images: int | None
    shares: dict[str, float]
    fresh: list[str]
    critics: str | None = None

    @property
    def text(self) -> str:
        """One sentence."""
        parts = ", ".join(f"{share:.0%} of {name}" for name, share in self.shares.items())
        seen = "" if self.images is None else f" after {self.images} images"
        new = f"; new: {', '.join(self.fresh[:6])}{' …' * (len(self.fresh) > 6)}" if self.fresh else ""
        judges = "" if self.critics is None else f", judged by {self.critics}"
        return f"Starts from {self.source}{judges}{seen}: {parts}{new}."


def take_over(players: Players, source: str | Path, critics: str | Path | None = None) -> Taken:
    """Copy what fits of a run's newest checkpoint, or of a model folder, into the players, in place.

    source: a run folder, a model folder or the Hub name of one. critics: folder whose D and heads are taken
    instead of the source's (`workbench export-critics`). Raises WorkbenchError for anything else, for a run
    without a checkpoint, and where nothing of G, or of the critics' D, fits.
    """
    parts, images = _read(source)
    if critics is not None:
        parts |= read_critics(critics)
    shares, fresh = {}, []
    for name, module in players.modules().items():
        if name not in PLAYERS:
            continue
        own, given = module.state_dict(), parts.get(name, {})
        fits = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
        module.load_state_dict(fits, strict=False)
        shares[name] = sum(v.numel() for v in fits.values()) / max(1, sum(v.numel() for v in own.values()))
        if given:
            fresh += sorted({f"{name}.{key.rpartition('.')[0]}" for key in own.keys() - fits.keys()})
    if shares["G"] < LEAST:
        raise WorkbenchError(
            f"Next to nothing of {source} fits this G: {shares['G']:.1%} of its numbers lie in layers of the "
            "same name and shape. Start from a run of the same preset, or of one with as many channels."
        )
    if critics is not None and shares["D"] < LEAST:
        raise WorkbenchError(
            f"Next to nothing of the critics {critics} fits this D: {shares['D']:.1%} of its numbers lie in "
            "layers of the same name and shape. Train with the preset that config.json there names."
        )
    return Taken(
        source=str(source), images=images, shares=shares, fresh=fresh,
        critics=None if critics is None else str(critics),
    )  # fmt: skip


def _read(source: str | Path) -> tuple[dict[str, Tensors], int | None]:
    """(tensors by player, images they have seen)."""
    folder = Path(source)
    if (folder / checkpoint.FOLDER).is_dir():
        runs.read_run(folder)
        found, complaints = checkpoint.newest(folder)
        if found is None:
            why = complaints[0] if complaints else "it was stopped before its first one"
            raise WorkbenchError(f"The run {folder} has no whole checkpoint to start from: {why}")
        return found.tensors(), found.cur_nimg
    folder = find_folder(source)
    if not (folder / WEIGHTS).is_file():
        raise WorkbenchError(
            f"{folder} is no run and no model: it has neither checkpoints nor {WEIGHTS}. Give the folder "
            "named at `workbench train --out`, or a model folder."
        )
    return {"G": read_tensors(folder / WEIGHTS)}, _images(folder)


def _images(folder: Path) -> int | None:
    """What the model's card says of the images it has seen; None where it does not."""
    try:
        card = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("card", {})
    except (OSError, ValueError):  # weights alone are enough to start from
        return None
    images = card.get("images")
    return images if isinstance(images, int) else None
