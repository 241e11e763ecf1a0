"""What a run shows, measures and leaves behind of its G: of one that draws prompts, and of an upsampler.

The trainer asks at its intervals and knows no more than this. Letters: N pictures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.datasets.loading import pictures_of
from workbench.datasets.table import PictureTable
from workbench.evaluation import interpolation
from workbench.evaluation.faithfulness import evaluate
from workbench.evaluation.features import Judge
from workbench.evaluation.perceptual import DetailDistance, perceptual_distance
from workbench.models.generator import Generator
from workbench.models.text import TextEncoder
from workbench.models.upsampler import Upsampler
from workbench.noise import draw_z
from workbench.pipeline import Pipeline
from workbench.pipeline.upscaler import Upscaler
from workbench.training.batches import draw_pictures, grid_plan
from workbench.training.config import TrainConfig
from workbench.training.loop import Diverged

_AT_ONCE = 4  # large pictures
_MEASURED = 64  # of them


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One evaluation. numbers: for the history; sentence: for people; ratio: Fréchet distance over its floor,
    None where none was measured.
    """

    numbers: dict
    sentence: str
    ratio: float | None = None


class Drawing:
    """A G that draws prompts. grid: prompts and seeds of its sheets."""

    def __init__(self, encoder: TextEncoder | None, config: TrainConfig, grid: dict, judge: Judge | None):
        self.encoder, self.config, self.grid, self.judge = encoder, config, grid, judge
        self.columns = config.grid[0]

    @property
    def measures(self) -> bool:
        return self.judge is not None

    def sheet(self, G: Generator) -> Tensor:
        """The pictures of a grid, [N, 3, R, R] in [-1, 1] on the CPU. Raises Diverged where they are not
        finite.
        """
        return self._pictures(G, self.grid["prompts"], self.grid["seeds"])

    def measure(self, G: Generator) -> Finding:
        """By the judge: faithfulness, Fréchet distance, diversity."""
        found = evaluate(
            lambda prompts, seeds: self._pictures(G, prompts, seeds), self.judge, n=self.config.eval_n, seed=0
        )
        ratio = found["frechet"] / found["floor"]
        sentence = (
            f"all four factors {found['all']:.1%}, Fréchet {ratio:.1f} times its floor, diversity "
            f"{found['diversity']:.2f}"
        )
        return Finding(numbers=found, sentence=sentence, ratio=ratio)

    def save(self, G: Generator, folder: Path, card: dict) -> None:
        """The model folder."""
        Pipeline(G, self.encoder, card).save_pretrained(folder, overwrite=True)

    def _pictures(self, G: Generator, prompts: list[str], seeds: list[int]) -> Tensor:
        return _finite(draw_pictures(G, self.encoder, prompts, seeds))


class Enlarging:
    """An upsampler. grid: rows of the table that its sheets show, with their captions and seeds."""

    columns = 4  # of a sheet: the small picture, bicubic, the upsampler's, the true one

    def __init__(
        self, encoder: TextEncoder | None, config: TrainConfig, grid: dict, shown: PictureTable,
        asked: PictureTable, clip: str | Path,
    ):  # fmt: skip
        """shown: pictures of the sheets; asked: those that are measured, held out where there are such."""
        self.encoder, self.config, self.grid = encoder, config, grid
        self.shown, self.asked, self.clip = shown, asked, clip
        self.measures = config.eval_every_nimg > 0
        self._distance: DetailDistance | None = None

    def sheet(self, U: Upsampler) -> Tensor:
        """[N, 3, R, R] in [-1, 1], row by row. Raises Diverged where the pictures are not finite."""
        true = pictures_of(self.shown, torch.tensor(self.grid["rows"]), None)
        made = self._enlarged(U, true, self.grid["prompts"], self.grid["seeds"])
        rows = [
            torch.stack(
                [
                    F.interpolate(low, scale_factor=U.config.factor, mode="nearest")[0],
                    _bicubic(low, U.config.factor)[0],
                    large,
                    real,
                ]
            )
            for low, large, real in zip(
                interpolation.box_mean(true, U.config.factor).split(1), made, true, strict=True
            )
        ]
        return torch.cat(rows)

    def measure(self, U: Upsampler) -> Finding:
        """PSNR and perceptual distance to the true pictures beside bicubic's, on up to 64 of them."""
        started = time.perf_counter()
        if self._distance is None:
            self._distance = perceptual_distance(self.config.perceptual, clip=self.clip)
        n = min(_MEASURED, self.config.eval_n, len(self.asked))
        true = pictures_of(self.asked, torch.arange(n), None)
        made = self._enlarged(U, true, self.asked.texts[:n], list(range(n)))
        plain = _bicubic(interpolation.box_mean(true, U.config.factor), U.config.factor)
        numbers = {
            "n": n,
            "psnr": interpolation.psnr(made, true).mean().item(),
            "psnr_bicubic": interpolation.psnr(plain, true).mean().item(),
            "distance": self._far(made, true), "distance_bicubic": self._far(plain, true),
            "distance_name": self._distance.name,
            "seconds": time.perf_counter() - started,
        }  # fmt: skip
        sentence = (
            f"PSNR {numbers['psnr']:.2f} dB (bicubic {numbers['psnr_bicubic']:.2f}), "
            f"{self._distance.name} {numbers['distance']:.3f} ({numbers['distance_bicubic']:.3f})"
        )
        return Finding(numbers=numbers, sentence=sentence)

    def save(self, U: Upsampler, folder: Path, card: dict) -> None:
        """The model folder."""
        Upscaler(U, self.encoder, card).save_pretrained(folder, overwrite=True)

    @torch.no_grad()
    def _far(self, made: Tensor, true: Tensor) -> float:
        parts = zip(made.split(_AT_ONCE), true.split(_AT_ONCE), strict=True)
        return torch.cat([self._distance.detail(a, b) for a, b in parts]).mean().item()

    @torch.inference_mode()
    def _enlarged(self, U: Upsampler, true: Tensor, prompts: list[str], seeds: list[int]) -> Tensor:
        device, parts = U.w_avg.device, []
        for at in range(0, len(true), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            text = None if self.encoder is None else self.encoder(prompts[part]).to(device)
            z = draw_z(seeds[part], U.config.z_dim).to(device)
            low = interpolation.box_mean(true[part], U.config.factor).to(device)
            parts.append(U(low, z, text)[0].float().clamp(-1, 1).cpu())
        return _finite(torch.cat(parts)).clone()


def enlarging_plan(table: PictureTable, config: TrainConfig, *, text: bool) -> dict:
    """Rows, captions and seeds of an upsampler's sheets, fixed for a run: captions of many kinds."""
    prompts, seeds = grid_plan(table, (config.grid[1], 2), text=text)
    rows = []
    for k, prompt in enumerate(prompts):
        fits = [row for row, caption in enumerate(table.texts) if not prompt or caption == prompt]
        rows.append(next((row for row in fits if row not in rows), fits[k % len(fits)]))
    count = config.grid[1]
    rows, seeds = rows[:count], seeds[:count]
    return {"prompts": [table.texts[row] for row in rows], "seeds": seeds, "rows": rows}


def _bicubic(low: Tensor, factor: int) -> Tensor:
    """Enlarged as any viewer does, clamped to [-1, 1]."""
    return interpolation.bicubic(low, factor).clamp(-1, 1)


def _finite(pictures: Tensor) -> Tensor:
    if not torch.isfinite(pictures).all():
        raise Diverged("The pictures are not finite")
    return pictures
