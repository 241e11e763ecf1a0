"""Subcommands of the other way to a picture: train a diffusion baseline, distil it, race it with a GAN."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg
from tyro.extras import SubcommandApp

from workbench.commands.common import (
    CLIP,
    DEMO_MODEL,
    JUDGE,
    STOPPED,
    AsJson,
    File,
    Text,
    Whole,
    app,
    find_model,
    print_json,
    say_progress,
)
from workbench.commands.train_options import Amount, Grid

diffusion = SubcommandApp()
app.command(diffusion, name="diffusion", help="Train and distil a diffusion model on a GAN's terms.")

Minutes = Annotated[float | None, arg(metavar="MINUTES")]
Weight = Annotated[float | None, arg(metavar="WEIGHT")]


@diffusion.command(name="train")
def train(
    *,
    data: str,
    out: Path,
    minutes: Minutes = None,
    images: Amount = None,
    preset: str = "shepherd-64",
    batch_size: Whole = None,
    seed: int = 0,
    lr: Weight = None,
    clip: str = CLIP,
    start_from: Text = None,
    sample_every: Amount = None,
    checkpoint_every: Amount = None,
    grid: Grid = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    device: Text = None,
) -> int:
    """Train a U-Net with as many parameters as a preset's G. Ctrl-C saves; the same line goes on.

    Args:
        data: Data set folder with metadata.jsonl, or shards.
        out: Run folder: config, history, sample grids, checkpoints, model.
        minutes: Wall-clock of steps, over all calls; a GAN's is the seconds of its last history line.
        images: Pictures to show in all (or 2kimg, or 5epochs); whichever end comes first counts.
        preset: The GAN whose G is matched in size, pixels and text.
        batch_size: Pictures a step; 32 when left out.
        seed: Seed of weights, batches and noise.
        lr: Learning rate of Adam; 1e-3 when left out.
        clip: CLIP folder or open_clip name whose text tower reads the captions.
        start_from: Baseline whose weights a new run begins with; what they had seen counts on.
        sample_every: Between two grids of pictures; at first four times as often.
        checkpoint_every: Between two checkpoints.
        grid: Shape of the grids; 6x4 when left out.
        precision: auto measures the machine for a second.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
    """
    from workbench.diffusion.config import DiffusionConfig
    from workbench.diffusion.training import train_baseline

    given = _given(
        batch_size=batch_size, lr=lr, minutes=minutes, images=images, sample_every_nimg=sample_every,
        checkpoint_every_nimg=checkpoint_every, grid=grid,
    )  # fmt: skip
    config = DiffusionConfig(preset=preset, seed=seed, precision=precision, **given)
    start = find_model(start_from)
    result = train_baseline(config, data, out, clip=find_model(clip), start_from=start, device=device)
    return STOPPED if result.reason == "stopped" else 0


@diffusion.command(name="distill")
def distill(
    *,
    teacher: str,
    data: str,
    out: Path,
    minutes: Minutes = None,
    images: Amount = None,
    guidance: Weight = None,
    consistency_weight: Weight = None,
    adversarial_weight: Weight = None,
    score_weight: Weight = None,
    critics: Text = None,
    start_from: Text = None,
    rank: Whole = None,
    batch_size: Whole = None,
    seed: int = 0,
    sample_every: Amount = None,
    checkpoint_every: Amount = None,
    grid: Grid = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    device: Text = None,
) -> int:
    """Distil a baseline to 1 to 4 steps by adapters on its U-Net. Ctrl-C saves; the same line goes on.

    Args:
        teacher: Folder of a baseline, as `workbench diffusion train` left it in RUN/model.
        data: Data set folder with metadata.jsonl, or shards.
        out: Run folder.
        minutes: Wall-clock of steps, over all calls.
        images: Pictures to show in all (or 2kimg, or 5epochs); whichever end comes first counts.
        guidance: Of the teacher, folded in; 1.5 when left out.
        consistency_weight: Of the consistency loss (LCM); 1 when left out, 0 is off.
        adversarial_weight: Of this project's discriminator (ADD); 0.1 when left out, 0 is off.
        score_weight: Of the teacher's word beside the discriminator's; 1 when left out.
        critics: Folder of `export-critics` with whose D the run's discriminator begins; fresh when left out.
        start_from: Student whose adapters a new run begins with; what they had seen counts on.
        rank: Of the adapters; 8 when left out.
        batch_size: Pictures a step; even; 16 when left out.
        seed: Seed of adapters, batches and noise.
        sample_every: Between two grids of pictures; at first four times as often.
        checkpoint_every: Between two checkpoints.
        grid: Shape of the grids; 6x4 when left out.
        precision: auto measures the machine for a second.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
    """
    from workbench.diffusion.config import DistillConfig
    from workbench.diffusion.distilling import distil

    given = _given(
        minutes=minutes, images=images, guidance=guidance, rank=rank, batch_size=batch_size,
        consistency_weight=consistency_weight, adversarial_weight=adversarial_weight,
        score_weight=score_weight, sample_every_nimg=sample_every, checkpoint_every_nimg=checkpoint_every,
        grid=grid,
    )  # fmt: skip
    config = DistillConfig(seed=seed, precision=precision, **given)
    result = distil(
        config, find_model(teacher), data, out, critics=critics and find_model(critics),
        start_from=find_model(start_from), device=device,
    )  # fmt: skip
    return STOPPED if result.reason == "stopped" else 0


@app.command(name="compare")
def compare(
    *,
    gan: Text = DEMO_MODEL,
    diffusion: Text = None,
    student: Text = None,
    pretrained: Text = None,
    also: list[str] | None = None,
    steps: list[int] | None = None,
    student_steps: list[int] | None = None,
    guidance: list[float] | None = None,
    n: int = 200,
    edits: int = 32,
    paths: int = 4,
    rounds: int = 9,
    seed: int = 0,
    out: Path = Path("runs/race"),
    earlier: File = None,
    judge: str = JUDGE,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    device: Text = None,
    as_json: AsJson = False,
) -> None:
    """Race a GAN against diffusion: quality against time, walks through noise, swapped words.

    Args:
        gan: Model folder or Hugging Face name of the GAN.
        diffusion: Folder of a baseline.
        student: Folder of its few-step student.
        pretrained: Any text-to-image pipeline of diffusers, by folder or by a name in the Hub's cache.
        also: Folders of further GANs, such as a row of the ablation.
        steps: Numbers of steps of the baseline; 1 2 4 8 16 32 50 when left out.
        student_steps: Numbers of steps of the student, and of --pretrained; 1 2 4 when left out.
        guidance: Of the baseline, one or several; 1.5 and none (1) when left out.
        n: Pictures by which a lane's quality is told.
        edits: Samples of which one word is swapped.
        paths: Walks from one noise to another.
        rounds: Times that every lane draws a picture by the clock, in turns.
        seed: Seed of prompts and noise.
        out: Folder for race.json, race.md and race.png; interrupted, the same line goes on from there.
        earlier: race.json of another race: what it found of the same weights serves, but never its times.
        judge: Folder of the judge.
        precision: Of all lanes; auto measures the machine for a second.
        device: cpu or cuda; cuda where there is one when left out.
        as_json: Print one JSON object.
    """
    from workbench.diffusion import race, verdict
    from workbench.diffusion.lanes import GUIDANCES, STEPS, STUDENT_STEPS, lanes_of
    from workbench.evaluation.features import load_judge

    seen = load_judge(find_model(judge))
    lanes = lanes_of(
        gan=find_model(gan), diffusion=find_model(diffusion), student=find_model(student),
        pretrained=pretrained, also=[find_model(folder) for folder in also or ()], steps=steps or STEPS,
        student_steps=student_steps or STUDENT_STEPS, guidances=guidance or GUIDANCES, device=device,
        precision=precision, side=seen.config.resolution,
    )  # fmt: skip
    counts = {"n": n, "seed": seed, "rounds": rounds, "edits": edits, "paths": paths}
    result = race.race(lanes, seen, out, **counts, earlier=earlier, progress=say_progress)
    print_json(result) if as_json else print(f"{verdict.table(result)}\n\n{result['paragraph']}")


def _given(**asked: object) -> dict[str, object]:
    """What was asked for: the rest stays at its default."""
    return {name: value for name, value in asked.items() if value is not None}
