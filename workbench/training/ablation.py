"""The paper's chain of additions, one network after the other, each trained for the same number of images.

From a text-conditional StyleGAN2 to GigaGAN at 32 px on Shepherd World (Kang et al. 2023, Table 1, has their
chain at 64 px on web images). Each row adds one thing to the row before it, and resumes where it stopped.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from rich.table import Table

from workbench.datasets.world import draw_factors
from workbench.datasets.world.captions import full_caption
from workbench.errors import WorkbenchError
from workbench.evaluation.features import load_judge
from workbench.evaluation.figures import provenance
from workbench.images import write_whole
from workbench.models.clip_io import load_clip
from workbench.models.discriminator import Discriminator, DiscriminatorConfig
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.glossary import rung
from workbench.models.presets import Preset
from workbench.models.text import TextEncoder
from workbench.models.vision_aided import ImageTower, VisionAidedConfig
from workbench.pipeline import Pipeline
from workbench.training.ablation_plot import draw
from workbench.training.config import TrainConfig
from workbench.training.history import read_history
from workbench.training.setup import check_judged
from workbench.training.shipping import webp_of
from workbench.training.trainer import train

RESOLUTION, IMAGES, EVAL_N = 32, 100_000, 2000
ROW = "row.json"  # in a row's run folder: what was measured of it
SOURCE = "Kang et al. 2023, Table 1: 64 px, FID-10k and CLIP score after 100,000 steps of 256 images"


@dataclass(frozen=True, kw_only=True)
class Addition:
    """One row. change: what it adds, in a few words; G, D, train: fields of the configs that it sets; vision:
    heads on frozen CLIP features; paper: the row's name in the paper's table (`glossary.ABLATION`).
    """

    name: str
    change: str
    paper: str
    G: dict = field(default_factory=dict)
    D: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    vision: bool = False


CHAIN = (
    Addition(name="stylegan2", change="StyleGAN2 with text, tuned", paper="tuned"),
    Addition(
        name="attention",
        change="+ attention",
        paper="attention",
        G={"attention": {8: 1, 16: 1}, "cross_attention": {8: 1, 16: 1}, "text_layers": 2},
        D={"attention": {8: 1}, "text_layers": 2},
    ),
    Addition(
        name="matching-d",
        change="+ matching-aware loss, real pictures",
        paper="matching-aware D",
        train={"matching_weight": 0.5, "matching_generated": False},
    ),
    Addition(
        name="matching-gd",
        change="+ matching-aware loss, generated ones too",
        paper="matching-aware G and D",
        train={"matching_generated": True},
    ),
    Addition(
        name="adaptive-kernels",
        change="+ adaptive kernel selection",
        paper="adaptive convolution",
        G={"kernels": {4: 1, 8: 1, 16: 2, 32: 4}},
    ),
    Addition(
        name="deeper",
        change="+ deeper",
        paper="deeper",
        G={"blocks": {4: 1, 8: 2, 16: 2, 32: 2}},
    ),
    Addition(
        name="clip-loss",
        change="+ CLIP contrastive loss",
        paper="CLIP loss",
        train={"clip_weight": 0.03},
    ),
    Addition(
        name="multi-scale",
        change="+ multi-scale input and output",
        paper="multi-scale",
        D={"entries": (32, 16, 8, 4), "exits": (16, 8, 4, 1)},
    ),
    Addition(
        name="vision-aided",
        change="+ vision-aided heads",
        paper="vision-aided",
        train={"vision_weight": 1.0},
        vision=True,
    ),
)


def row_preset(index: int) -> tuple[Preset, dict]:
    """Networks of row `index` (all additions up to it), and the training settings that it sets."""
    channels = {4: 96, 8: 96, 16: 64, 32: 32}
    G: dict = {
        "resolution": RESOLUTION,
        "channels": channels,
        "kernels": dict.fromkeys(channels, 1),
        "blocks": dict.fromkeys(channels, 1),
        "attention": {},
        "cross_attention": {},
        "w_dim": 128,
        "text_layers": 0,
        "mapping_lr_mul": 0.3,
        "mlp_ratio": 2,
    }
    D: dict = {
        "resolution": RESOLUTION,
        "channels": channels,
        "entries": (RESOLUTION,),
        "exits": (1,),
        "attention": {},
        "text_layers": 0,
        "head_layers": 2,
        "mlp_ratio": 2,
    }
    train = {"matching_weight": 0.0, "clip_weight": 0.0, "vision_weight": 0.0}
    for addition in CHAIN[: index + 1]:
        G, D, train = G | addition.G, D | addition.D, train | addition.train
    vision = VisionAidedConfig(proj=32, width=64) if CHAIN[index].vision else None
    preset = Preset(
        name=f"ablation-{CHAIN[index].name}",
        generator=GeneratorConfig(**G),
        discriminator=DiscriminatorConfig(**D),
        vision_aided=vision,
    )
    return preset, train


def row_config(index: int, *, images: int, seed: int, eval_n: int = EVAL_N) -> TrainConfig:
    """Settings of a row: those of the shepherd presets, but for the losses that the chain adds."""
    preset, train = row_preset(index)
    return TrainConfig(
        preset=preset.name,
        images=images,
        seed=seed,
        eval_n=eval_n,
        lr_G=1e-2,
        lr_D=1e-2,
        mode_seeking_weight=1.0,
        diffaugment="",
        log_every_nimg=max(1, images // 100),
        sample_every_nimg=max(1, images // 10),
        eval_every_nimg=images,
        checkpoint_every_nimg=max(1, images // 8),
        keep_checkpoints=1,
        **train,
    )


def ablate(
    data: str | Path,
    out: str | Path,
    *,
    clip: str | Path,
    judge: str | Path,
    images: int = IMAGES,
    seed: int = 0,
    eval_n: int = EVAL_N,
    rows: list[str] | None = None,
    device: str | None = None,
    say: Callable[[str], None] = print,
) -> list[dict]:
    """Train the rows that are not done (all, or those named) under `out`, and return what is measured so far.

    Each row is a run folder of its own, out/<number>-<name>; an interrupted row goes on, a finished one is
    not trained again. Raises WorkbenchError for an unknown row name, for no judge, for a set that is not
    Shepherd World's alone, and what `train` raises.
    """
    known = [addition.name for addition in CHAIN]
    if unknown := [name for name in rows or () if name not in known]:
        raise WorkbenchError(f"There is no row {unknown[0]!r} in the chain: choose from {', '.join(known)}.")
    load_judge(judge)  # a wrong folder is told here, not after a row is trained
    if any(read_row(row_folder(out, known.index(name)), images) is None for name in rows or known):
        check_judged(data, RESOLUTION)
    for index, addition in enumerate(CHAIN):
        run = row_folder(out, index)
        if (rows and addition.name not in rows) or read_row(run, images) is not None:
            continue
        say(f"Row {index + 1} of {len(CHAIN)}: {addition.change}")
        config = row_config(index, images=images, seed=seed, eval_n=eval_n)
        preset, _ = row_preset(index)
        result = train(config, data, run, clip=clip, judge=judge, preset=preset, device=device)
        if result.reason != "done":
            say("The chain goes on from here with the same command.")
            break
        text = json.dumps(_measure(index, run, clip), indent=1) + "\n"
        write_whole(run / ROW, lambda handle, text=text: handle.write(text.encode()))
    found = [read_row(row_folder(out, index), images) for index in range(len(CHAIN))]
    return [row for row in found if row is not None]


def row_folder(out: str | Path, index: int) -> Path:
    """Run folder of a row."""
    return Path(out) / f"{index + 1:02d}-{CHAIN[index].name}"


def read_row(run: Path, images: int) -> dict | None:
    """What was measured of a row; None where it is not trained for `images` images."""
    if not (run / ROW).is_file():
        return None
    row = json.loads((run / ROW).read_text(encoding="utf-8"))
    return row if row["images"] >= images else None


def _measure(index: int, run: Path, clip: str | Path) -> dict:
    """The figures of a row that is trained, with the paper's numbers beside them."""
    (preset, _), addition, history = row_preset(index), CHAIN[index], read_history(run)
    found = next((record for record in reversed(history) if record["kind"] == "eval"), None)
    if found is None:
        raise WorkbenchError(f"{run} was trained without an evaluation: delete this folder to train it anew.")
    rate = statistics.median(record["images_per_s"] for record in history if record["kind"] == "step")
    paper = rung(addition.paper)
    return {
        "row": index + 1,
        "name": addition.name,
        "change": addition.change,
        "images": found["cur_nimg"],
        "n": found["n"],
        "frechet_ratio": found["frechet"] / found["floor"],
        **{name: found[name] for name in ("all", "coat", "pose", "scene", "light", "diversity")},
        "clip": clip_score(run / "model", clip, min(500, found["n"])),
        "params": {
            "G": _size(Generator, preset.generator),
            "D": _size(Discriminator, preset.discriminator),
        },
        "images_per_s": rate,
        "minutes": round(found["cur_nimg"] / rate / 60, 1),  # at that rate: a run may have been paused
        "grid": f"ablation/{run.name}.webp",
        "paper": {"fid": paper.fid, "clip": paper.clip, "params_M": paper.parameters},
    }


def clip_score(model: Path, clip: str | Path, n: int) -> float:
    """Mean cosine of picture and caption in CLIP's space over n full prompts.

    The rows from the CLIP loss on were trained with this CLIP: it flatters them.
    """
    seed = 9_000_000
    prompts = [full_caption(draw_factors(seed, index), seed, index) for index in range(n)]
    pipe, loaded = Pipeline.from_pretrained(model), load_clip(clip)
    tower, encoder = ImageTower(loaded, (), torch.float32), TextEncoder.from_clip(loaded)
    cosines = []
    for at in range(0, n, 50):
        texts = prompts[at : at + 50]
        pictures = pipe(texts, seed=[seed + at + k for k in range(len(texts))]).images
        with torch.no_grad():
            cosines.append((tower(pictures)[1] * encoder(texts).embedding).sum(1))
    return torch.cat(cosines).mean().item()


def summary(table: list[dict]) -> Table:
    """The rows as a rich.table.Table, the paper's numbers beside ours."""
    names = ("", "paper FID", "Fréchet ÷ floor", "all four", "diversity", "CLIP", "G, M", "images/s")
    printed = Table(*names, title=f"{RESOLUTION} px, {table[0]['images']:,} images a row")
    for row in table:
        printed.add_row(
            row["change"],
            f"{row['paper']['fid']:.2f}",
            f"{row['frechet_ratio']:.2f}",
            f"{row['all']:.1%}",
            f"{row['diversity']:.2f}",
            f"{row['clip']:.3f}",
            f"{row['params']['G'] / 1e6:.2f}",
            f"{row['images_per_s']:.0f}",
        )
    return printed


def against_the_paper(table: list[dict]) -> list[str]:
    """A sentence for each addition that moved the distance here the other way than the paper's FID."""
    told = []
    for before, row in pairwise(table):
        theirs = row["paper"]["fid"] - before["paper"]["fid"]
        ours = row["frechet_ratio"] - before["frechet_ratio"]
        if theirs * ours < 0:
            told.append(
                f"{row['change'].removeprefix('+ ')}: the paper's FID goes from {before['paper']['fid']:.2f} "
                f"to {row['paper']['fid']:.2f}, the distance here from {before['frechet_ratio']:.2f} to "
                f"{row['frechet_ratio']:.2f} times its floor."
            )
    return told


def write_report(table: list[dict], out: str | Path, folder: str | Path) -> Path:
    """ablation.json, ablation.png and the last grid of each row under `folder`; returns the JSON's path."""
    folder, grids = Path(folder), Path(folder) / "ablation"
    grids.mkdir(parents=True, exist_ok=True)
    for row in table:
        run = row_folder(out, row["row"] - 1)
        last = [record for record in read_history(run) if record["kind"] == "sample"][-1]
        data = webp_of(run / last["file"])
        write_whole(folder / row["grid"], lambda handle, data=data: handle.write(data))
    report = {"source": SOURCE, "resolution": RESOLUTION, **provenance(), "rows": table}
    report["against_the_paper"] = against_the_paper(table)
    text = json.dumps(report, indent=1) + "\n"
    write_whole(folder / "ablation.json", lambda handle: handle.write(text.encode()))
    draw(table, folder / "ablation.png")
    return folder / "ablation.json"


def _size(network: type, config: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in network(config).parameters())
