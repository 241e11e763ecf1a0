"""What notebook 06 shows of the upsampler: true pictures and their heads, what a mean hides, parts, spectra.

Letters: N pictures of S x S pixels in [-1, 1], f the factor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.datasets.world import Factors, draw_factors, head_place, render
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.interpolation import psnr
from workbench.evaluation.perceptual import DetailDistance
from workbench.evaluation.reference import quantised
from workbench.evaluation.spectrum import power_kept, ring_power
from workbench.evaluation.upsampling_report import STYLES, label
from workbench.models.inspect import increments
from workbench.models.upsampler import Upsampler
from workbench.noise import draw_z
from workbench.pipeline import Upscaler
from workbench.pipeline.inputs import add_noise
from workbench.widgets.pictures import Picture, plot, sheet
from workbench.widgets.profile import ASSETS
from workbench.widgets.theory import Page, rows_table

WORLD_SEED = 6_002_978  # of renders that no model has seen; the first four differ in all that has a name
BASELINES = (ASSETS / "models" / "shepherd-up4-l1", ASSETS.parent / "runs" / "up4-l1" / "model")
SIDE = 80  # of a cut-out about a head
QUALITY = 44


# --- true pictures and their parts --------------------------------------------------------------------------


def true_pictures(count: int, side: int) -> tuple[Tensor, list[str], list[Factors]]:
    """Renders [N, 3, side, side] that no model has seen, their captions, and what they show."""
    factors = [draw_factors(WORLD_SEED, k) for k in range(count)]
    captions = [full_caption(one, WORLD_SEED, k) for k, one in enumerate(factors)]
    return quantised(render(factors, side)), captions, factors


def heads(images: Tensor, factors: Sequence[Factors], side: int = SIDE) -> Tensor:
    """Squares [N, 3, side, side] about the heads of dogs, cut out of [N, 3, S, S] without any resizing."""
    most, cut = images.shape[-1] - side, []
    if most < 0:
        raise WorkbenchError(f"A square of {side} px does not fit into {images.shape[-1]} px: cut a smaller.")
    for image, shown in zip(images, factors, strict=True):
        x, y = head_place(shown)
        left, top = (min(max(0, round(at * images.shape[-1] - side / 2)), most) for at in (x, y))
        cut.append(image[:, top : top + side, left : left + side])
    return torch.stack(cut)


def ways_sheet(ways: Mapping[str, Tensor], factors: Sequence[Factors], alt: str, **words: object) -> Picture:
    """A row for each dog's head, a column for each way to enlarge: name -> [N, 3, S, S]."""
    side = min(SIDE, next(iter(ways.values())).shape[-1])
    columns = [heads(images, factors, side) for images in ways.values()]
    rows = torch.stack(columns, dim=1).flatten(0, 1)
    names = [label(name) for name in ways]
    return sheet(rows, len(ways), alt, quality=QUALITY, zoom=1.5, column_names=names, **words)


def head_sheet(
    images: Tensor, shown: Factors, columns: int, alt: str, *, zoom: float = 1.5, **words: object
) -> Picture:
    """Many pictures [N, 3, S, S] of one scene, each cut out about the head."""
    return sheet(heads(images, [shown] * len(images)), columns, alt, quality=QUALITY, zoom=zoom, **words)


def blocks(low: Tensor, factor: int) -> Tensor:
    """Each pixel as a square of f x f: the small picture as large as the large one."""
    return F.interpolate(low, scale_factor=factor, mode="nearest")


def baseline() -> Upscaler | None:
    """The same network trained on the L1 loss alone, where it is at hand."""
    return next((Upscaler.from_pretrained(path) for path in BASELINES if path.is_dir()), None)


# --- many large pictures of one small one -------------------------------------------------------------------


def shuffled(images: Tensor, factor: int, seed: int = 0) -> Tensor:
    """[N, 3, S, S] with the pixels of every f x f square in another order: the same small picture."""
    generator = torch.Generator().manual_seed(seed)
    squares = F.pixel_unshuffle(images, factor).unflatten(1, (3, factor**2))  # [N, 3, f * f, S / f, S / f]
    order = torch.rand(squares[:, :1].shape, generator=generator).argsort(dim=2).expand_as(squares)
    return F.pixel_shuffle(squares.gather(2, order).flatten(1, 2), factor)


def possible_lines(factor: int = 4, pixels: int = 5) -> Tensor:
    """Pictures [f, 3, S, S] of a thin bright line in each of the places that it may have inside the middle
    column of a small picture of `pixels` pixels a side, which is the same for all.
    """
    side = factor * pixels
    images = torch.full((factor, 3, side, side), -0.8)
    for k in range(factor):
        images[k, :, :, factor * (pixels // 2) + k] = 0.8
    return images


def answers(possible: Tensor) -> dict[str, Tensor]:
    """What can be drawn where any of [M, 3, S, S] may be the truth: the first, the mean and the median."""
    return {"one of them": possible[0], "their mean": possible.mean(0), "their median": _median(possible)}


def _median(possible: Tensor) -> Tensor:
    """Between the two middle ones where their number is even, as every place there has the same L1."""
    ordered = possible.sort(dim=0).values
    return (ordered[(len(possible) - 1) // 2] + ordered[len(possible) // 2]) / 2


def losses_table(drawn: Mapping[str, Tensor], possible: Tensor) -> Page:
    """Mean L1 and mean squared error of each answer over all that may be true."""
    rows = []
    for name, answer in drawn.items():
        apart = possible - answer
        rows.append([name, f"{apart.abs().mean():.3f}", f"{apart.square().mean():.3f}"])
    return rows_table(["drawn", "mean L1", "mean squared error"], rows)


# --- the network --------------------------------------------------------------------------------------------


def level_table(U: Upsampler) -> Page:
    """Every level of the U-Net from the smallest up: what is there on the way down and on the way up."""
    config, rows = U.config, []
    for level in config.levels:
        size = f"1/{2**-level} of the input" if level < 0 else "the input" if level == 0 else f"{2**level} ×"
        looks = [
            name
            for name, table in (("itself", config.attention), ("words", config.cross_attention))
            if table.get(level)
        ]
        own = [
            U.blocks[str(level)],
            *(part[str(level)] for part in (U.down, U.skips, U.to_rgb) if str(level) in part),
        ]
        count = sum(p.numel() for module in own for p in module.parameters())
        way = ["down"] if str(level) in U.down else []
        way += ["up"] if config.blocks.get(level) else []
        rgb = "yes" if str(level) in U.to_rgb else ""
        rows.append(
            [
                size,
                str(config.channels[level]),
                " and ".join(way),
                ", ".join(looks),
                rgb,
                f"{count / 1e3:.0f}",
            ]
        )
    return rows_table(["size", "channels", "ways", "looks at", "RGB", "thousand weights"], rows)


@torch.inference_mode()
def pyramid(up: Upscaler, low: Tensor, prompt: str, seed: int = 0) -> list[Tensor]:
    """The upsampler's pictures of one input [1, 3, H, W], largest first, down to the input's size."""
    text = up.text(prompt)
    w = up.U.mapping(draw_z([seed], up.U.config.z_dim), None if text is None else text.t_global)
    return [x.float().clamp(-1, 1) for x in up.U.synthesis(w, text, low)]


def pyramid_sheet(levels: Sequence[Tensor], shown: Factors, alt: str, *, strength: float = 4.0) -> Picture:
    """Above the pictures of all levels about the head, the smallest first, below what each but the first adds
    to the one before, so many times as strong; all as large as the largest.
    """
    small = levels[-1].shape[-1]
    added = [x * strength for x in increments(levels)[:-1]] + [torch.zeros_like(levels[-1])]
    rows = []
    for line in (levels, added):
        cut = [heads(x, [shown], SIDE * x.shape[-1] // levels[0].shape[-1]) for x in reversed(line)]
        rows += [blocks(x, SIDE // x.shape[-1]).clamp(-1, 1) for x in cut]
    names = [f"{small << k} px" for k in range(len(levels))]
    said = {"column_names": names, "row_names": ["picture", f"adds, × {strength:g}"]}
    return sheet(torch.cat(rows), len(levels), alt, quality=QUALITY, zoom=1.6, **said)


def other_prompts(shown: Factors, caption: str) -> dict[str, str]:
    """The caption of a picture, one with another coat, one with another light, and one that says nothing."""
    coat = "black" if shown.coat != "black" else "white"
    light = "at night" if shown.light != "night" else "by day"
    return {
        "true": caption,
        "coat": f"a {coat} shepherd",
        "light": f"a {shown.coat} shepherd {light}",
        "nothing": "a dog",
    }


def in_tiles(up: Upscaler, low: Tensor, prompt: str, seed: int = 0) -> Tensor:
    """What the upscaler makes of a large input [1, 3, H, W] when its memory holds no more than a tile."""
    kept, up.trunk_bytes = up.trunk_bytes, 1
    try:
        return up(low, prompt, seed=seed).images
    finally:
        up.trunk_bytes = kept


def seam_sheet(whole: Tensor, tiled: Tensor, alt: str, *, height: int = 96) -> Picture:
    """Two pictures [1, 3, H, W] and, as bright as it can be, where they differ; shrunk to `height` rows."""
    by = max(1, whole.shape[-2] // height)
    apart = (whole - tiled).abs().amax(dim=1, keepdim=True)
    seams = F.max_pool2d(apart / apart.max().clamp_min(1e-6), by).expand(-1, 3, -1, -1) * 2 - 1
    rows = torch.cat([F.avg_pool2d(whole, by), F.avg_pool2d(tiled, by), seams])
    return sheet(rows, 1, alt, quality=QUALITY, zoom=1.5, row_names=["whole", "in tiles", "apart"])


def noisy(low: Tensor, levels: Sequence[float], seed: int = 0) -> Tensor:
    """One input [1, 3, H, W] under noise of each level, as an upscaler that is told of it sees it."""
    return torch.cat([add_noise(low, [seed], level) for level in levels]).clamp(-1, 1)


# --- measured -----------------------------------------------------------------------------------------------


def ways_table(ways: Mapping[str, Tensor], truth: Tensor, distance: DetailDistance, factor: int) -> Page:
    """PSNR, distance and power kept of each way to enlarge, [N, 3, S, S] each, to the truth."""
    side = truth.shape[-1]
    true_power = ring_power(truth).mean(0)
    rows = []
    for name, images in ways.items():
        with torch.inference_mode():
            far = distance.detail(images, truth).mean().item()
        kept = power_kept(ring_power(images).mean(0), true_power, side=side, above=0.5 / factor)
        rows.append([label(name), f"{psnr(images, truth).mean():.1f}", f"{far:.3f}", f"{kept:.2f}"])
    return rows_table(["", "PSNR, dB", distance.name, "power kept"], rows)


def spectrum_plot(ways: Mapping[str, Tensor], truth: Tensor, factor: int, alt: str) -> Picture:
    """Share of the truth's power at each frequency; shaded where the input holds nothing."""
    side = truth.shape[-1]
    rings = slice(1, side // 2 + 1)
    true_power = ring_power(truth).mean(0)[rings]
    frequency = torch.arange(1, side // 2 + 1) / side
    figure, ax = plt.subplots(figsize=(7.0, 3.0))
    for name, images in ways.items():
        colour, dash = STYLES.get(name, (None, "-"))
        share = (ring_power(images).mean(0)[rings] / true_power).clamp_min(1e-4)
        ax.loglog(frequency, share, color=colour, linestyle=dash, label=label(name))
    ax.axhline(1, color=STYLES["truth"][0], linewidth=1)
    ax.axvspan(0.5 / factor, 0.5, color="#F3EFE6", zorder=0)
    ax.set(xlabel="cycles a pixel", ylabel="share of power", ylim=(1e-3, 3), xlim=(frequency[0], 0.5))
    ax.set_xticks([1 / k for k in (64, 16, 8, 4, 2)], [f"1/{k}" for k in (64, 16, 8, 4, 2)])
    ax.minorticks_off()
    ax.legend(loc="lower left")
    return plot(figure, alt, colours=128)


def report_table(folder: str | Path = ASSETS / "reports") -> Page:
    """What the report says of all held-out pictures; a sentence where none was written yet."""
    file = Path(folder) / "upsampling.json"
    if not file.is_file():
        return Page("No report was written yet: `workbench evaluate upsampler` writes one.")
    found = json.loads(file.read_text(encoding="utf-8"))
    head = [f"n = {found['n']:,}", "Fréchet, tiles", "perceptual", "PSNR, dB", "all four factors"]
    keys = (("frechet", ".3f"), ("distance", ".3f"), ("psnr", ".1f"), ("all", ".1%"))
    rows = [
        [label(name), *(format(own[key], form) if key in own else "" for key, form in keys)]
        for name, own in found["methods"].items()
    ]
    return rows_table(head, rows)
