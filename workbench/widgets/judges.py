"""A model's pictures before the judges that ship, for cells that need a discriminator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workbench.datasets.world import draw_factors, render
from workbench.datasets.world.captions import FACTOR_NAMES, full_caption
from workbench.models.clip_io import Clip, load_clip
from workbench.models.critics import load_critics
from workbench.models.discriminator import Discriminator, pyramid_for
from workbench.models.ops import box_pyramid
from workbench.models.text import TextFeatures
from workbench.models.vision_aided import ImageTower, VisionAided
from workbench.noise import draw_z
from workbench.pipeline import Pipeline


@dataclass
class Judges:
    """A pipeline and those who judge it. story: where they come from, in words."""

    pipe: Pipeline
    D: Discriminator
    heads: VisionAided
    tower: ImageTower
    clip: Clip
    story: str


@dataclass
class Bench:
    """One batch for all experiments, rows 2k and 2k+1 of one caption.

    real, made: D's levels, largest first, each [N, 3, s, s]; captions: N texts; text: their features; wrong:
    [N] row of a caption that is untrue of this row's picture.
    """

    real: list[Tensor]
    made: list[Tensor]
    captions: list[str]
    text: TextFeatures
    wrong: Tensor


def load(folder: Path, clip_folder: Path, pipe: Pipeline) -> Judges:
    """Judges of a critics folder with the pictures of `pipe`. Raises WorkbenchError."""
    clip = load_clip(str(clip_folder))
    D, heads, tower = load_critics(folder, clip)
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size, images = f"{D.config.resolution} px", facts.get("images")
    seen = "" if images is None else f" on {images:,} pictures"
    if facts.get("generator") == pipe.weight_hash:
        how = "against" if facts.get("G_learned") else "beside"
        still = "" if facts.get("G_learned") else ", which stood still"
        story = f"D and the heads were trained{seen} {how} the model above{still}."
    else:
        story = (
            f"D and the heads were trained at {size}{seen}. Here they judge what the model above makes, "
            f"brought to {size}."
        )
    return Judges(pipe, D, heads, tower, clip, story)


def bench(judges: Judges, *, pictures: int, seed: int) -> Bench:
    """Real pictures never seen in training, two of each caption, and made ones of the same captions."""
    D, G = judges.D, judges.pipe.G
    firsts = [draw_factors(seed + 5_000_000, k) for k in range(0, pictures, 2)]
    named = [{name: getattr(f, name) for name in FACTOR_NAMES} for f in firsts]
    seconds = [draw_factors(seed + 5_000_000, 2 * k + 1, **same) for k, same in enumerate(named)]
    shown = [f for pair in zip(firsts, seconds, strict=True) for f in pair]
    captions = [full_caption(firsts[k // 2], seed, k // 2) for k in range(len(shown))]
    wrong = torch.tensor([_untrue_of(named, k // 2) * 2 for k in range(len(shown))])
    text, z = judges.pipe.text_encoder(captions), draw_z(range(len(shown)), G.config.z_dim)
    with torch.no_grad():
        encoded = G.encode_text(text)
        pyramid = G.synthesis(G.mapping(z, encoded.t_global), encoded)
    if pyramid[0].shape[-1] == D.config.resolution:
        made = [level.clamp(-1, 1) for level in pyramid_for(pyramid, D.config.entries)]
    else:  # another G's pictures, brought to D's size
        made = box_pyramid(pyramid[0].clamp(-1, 1), D.config.entries)
    real = box_pyramid(render(shown, D.config.resolution), D.config.entries)
    return Bench(real, made, captions, text, wrong)


def _untrue_of(named: list[dict[str, str]], k: int) -> int:
    """The next caption that says something else than caption k."""
    others = [(k + step) % len(named) for step in range(1, len(named))]
    return next((other for other in others if named[other] != named[k]), k)


def damaged(pictures: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The same pictures hurt in four ways, to see which judge notices what. [N, 3, S, S] in [-1, 1].

    blurred: without detail; noisy: with false detail; quarters exchanged: right detail in the wrong place;
    colours exchanged: the right shapes in the wrong colours.
    """
    generator = torch.Generator().manual_seed(seed)
    small = torch.nn.functional.avg_pool2d(pictures, 4)
    half = pictures.shape[-1] // 2
    return {
        "blurred": torch.nn.functional.interpolate(small, pictures.shape[-2:], mode="bilinear"),
        "noisy": (pictures + 0.25 * torch.randn(pictures.shape, generator=generator)).clamp(-1, 1),
        "quarters\nexchanged": pictures.roll((half, half), (2, 3)),
        "colours\nexchanged": pictures.flip(1),
    }
