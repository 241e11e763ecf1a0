"""Subcommands that make things: models, films."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from workbench.commands.common import (
    CLIP,
    JUDGE,
    STOPPED,
    File,
    Text,
    Whole,
    app,
    check_file,
    find_file,
    find_model,
    show,
)
from workbench.commands.scale import THIS_MACHINE, Cluster, starter
from workbench.commands.train_options import (
    AS_PRESET,
    UNWATCHED,
    USUAL,
    Amount,
    Arithmetic,
    Schedule,
    Watching,
    config_of,
    length,
    settings,
)
from workbench.errors import WorkbenchError


@app.command(name="train-clip")
def train_clip(
    *,
    data: Path,
    out: Path = Path("runs/mini-clip"),
    images: Whole = None,
    seed: int = 0,
    resume: bool = False,
    device: Text = None,
) -> int:
    """Train the mini-CLIP text and image towers on a Shepherd World data set. Ctrl-C saves.

    Args:
        data: Data set folder.
        out: Folder to write the model into; new or empty.
        images: Pictures to show in all; enough for 97 % zero-shot when left out.
        seed: Seed of weights and batches.
        resume: Go on with the training that was begun for this folder.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
    """
    from workbench.training.clip import train_clip

    train_clip(data, out, images=images, seed=seed, resume=resume, device=device)
    return 0


@app.command(name="train-judge")
def train_judge(
    *,
    out: Path = Path("runs/judge"),
    images: int = 9000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Train the judge, which measures whether a prompt came true. Ctrl-C saves; the same line goes on.

    Args:
        out: Folder to write the model into.
        images: Renders to train on.
        seed: Seed of weights and batches.
        overwrite: Replace a judge that is there.
    """
    from workbench.training.judge import train_judge

    train_judge(out, images=images, seed=seed, overwrite=overwrite)


@app.command(name="train")
def train(
    *,
    data: str,
    out: Path,
    preset: Text = None,
    config: File = None,
    seed: Whole = None,
    batch_size: Whole = None,
    conditioning: Literal["auto", "none", "class", "text"] = "auto",
    resume: Literal["auto", "never", "extend"] = "auto",
    start_from: Text = None,
    start_critics: Text = None,
    pause_at: Amount = None,
    clip: str = CLIP,
    vision_clip: Text = None,
    judge: str = JUDGE,
    device: Text = None,
    schedule: Schedule = AS_PRESET,
    arithmetic: Arithmetic = USUAL,
    watching: Watching = UNWATCHED,
    cluster: Cluster = THIS_MACHINE,
) -> int:
    """Train a GAN on a data set into a run folder. Ctrl-C saves; the same line goes on.

    Args:
        data: Data set folder with metadata.jsonl, or shards: a folder of .tar files, a pattern, an address
            such as https://…/{000..099}.tar, or "pipe:" and a command. What is fetched is kept, decoded,
            under ~/.cache/gigagan-workbench.
        out: Run folder: config, history, sample grids, checkpoints.
        preset: Sizes and schedule: shepherd-32, shepherd-64 (when left out), …
        config: JSON file of settings on top of its preset: best.json of a sweep, config.json of a run. What
            the line says goes first.
        seed: Seed of weights, batches and noise; the preset's when left out.
        batch_size: Pictures a step, over all processes; even; the preset's when left out.
        conditioning: What pictures are made from: nothing (none), class names (class), captions (text); auto
            tells by the captions of the set.
        resume: auto goes on with a run of the same settings, never wants a fresh folder, extend
            goes on with changed settings, e.g. more images.
        start_from: Run, model folder or Hub name whose weights a new run takes over where they fit.
        start_critics: Folder of critics (`workbench export-critics`) whose D and heads go on beside that G.
        pause_at: Stop after that many images (or 2kimg, 5epochs), to go on later; schedules do not move.
        clip: CLIP folder or open_clip name whose text tower reads the captions.
        vision_clip: CLIP that sees, for heads and contrastive loss; --clip when left out. Paper: ViT-B-32.
        judge: Folder of the judge that measures along the way, Shepherd World alone; no measuring without.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
        schedule: How long and how often, the preset's when left out; a LENGTH is images, 2kimg or 5epochs.
        arithmetic: How it is computed.
        watching: What looks on.
        cluster: The machines that share the batch.
    """
    asked = {"preset": preset, "seed": seed, "batch_size": batch_size, "conditioning": conditioning}
    result = starter(cluster)(
        config_of({**asked, **settings(schedule, arithmetic)}, find_file(config)),
        data,
        out,
        clip=find_model(clip), vision_clip=find_model(vision_clip), judge=find_model(judge),
        start_from=find_model(start_from), start_critics=find_model(start_critics), device=device,
        resume=resume, stop_after_nimg=length("--pause-at", pause_at), **vars(watching),
    )  # fmt: skip
    return STOPPED if result.reason == "stopped" else 0


@app.command(name="ablate")
def ablate(
    *,
    data: Path = Path("runs/world"),
    out: Path = Path("runs/ablation"),
    images: int = 100_000,
    rows: list[str] | None = None,
    report: File = None,
    clip: str = CLIP,
    judge: str = JUDGE,
    device: Text = None,
) -> int:
    """Train the paper's chain of additions at 32 px, row by row. Ctrl-C saves; the same line goes on.

    Args:
        data: Data set folder with metadata.jsonl.
        out: Folder for the rows' runs; finished rows are not trained again.
        images: Images that each row is trained for.
        rows: Names of rows to train; all when left out.
        report: Folder for ablation.json, ablation.png and the grids; the runs' folder when left out.
        clip: CLIP folder whose towers read the captions and see the pictures.
        judge: Folder of the judge that measures each row.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
    """
    if images < 1:
        raise WorkbenchError(f"--images is {images}: expected a number of images of at least 1.")
    from workbench.images import check_place
    from workbench.training import ablation

    check_place(out if report is None else report)
    table = ablation.ablate(
        data, out, clip=find_model(clip), judge=find_model(judge), images=images, rows=rows, device=device
    )
    if not table:
        print("No row is finished yet.")
        return STOPPED
    show(ablation.summary(table))
    for line in ablation.against_the_paper(table):
        print(f"Not as in the paper: {line}")
    print(ablation.write_report(table, out, out if report is None else report))
    return _status(table, rows or [addition.name for addition in ablation.CHAIN])


@app.command(name="export-critics")
def critics(run: Positional[Path], *, out: Path, clip: str = CLIP, overwrite: bool = False) -> None:
    """Write the judges of a run, D and its heads on CLIP features, into a folder of their own.

    Args:
        run: Run folder.
        out: Folder to write.
        clip: CLIP folder whose image tower the run sees by.
        overwrite: Replace a folder of critics that is there.
    """
    from workbench.training.critics import export_critics

    print(export_critics(run, out, clip=find_model(clip), overwrite=overwrite))


@app.command(name="trials")
def trials(
    *,
    plan: Path = Path("benchmarks/recipe.json"),
    data: Path = Path("runs/world"),
    out: Path = Path("runs/trials"),
    only: list[str] | None = None,
    report: File = None,
    clip: str = CLIP,
    judge: str = JUDGE,
    device: Text = None,
) -> int:
    """Train recipes that differ in one thing each, and compare them. Ctrl-C saves; the same line goes on.

    Args:
        plan: JSON file that names the trials, with preset, images and what each changes.
        data: Data set folder with metadata.jsonl.
        out: Folder for the trials' runs; finished ones are not trained again.
        only: Names of trials to train; all when left out.
        report: Folder for recipe.json and recipe.md; the runs' folder when left out.
        clip: CLIP folder whose towers read the captions and see the pictures.
        judge: Folder of the judge that measures each trial.
        device: cpu, cuda, cuda:0, mps; the best there is when left out.
    """
    from workbench.images import check_place
    from workbench.training.trials import read_plan, run_trials, write_report

    check_place(out if report is None else report)
    chosen = read_plan(find_file(plan))
    models = {"clip": find_model(clip), "judge": find_model(judge)}
    rows = run_trials(chosen, data, out, only=only, device=device, **models)
    if not rows:
        print("No trial is finished yet.")
        return STOPPED
    print(write_report(rows, out if report is None else report))
    return _status(rows, only or [trial.name for trial in chosen.trials])


def _status(rows: list[dict], asked: list[str]) -> int:
    """0 where all that were asked for are among the finished rows, else that of Ctrl-C."""
    return 0 if set(asked) <= {row["name"] for row in rows} else STOPPED


@app.command(name="gif")
def gif(run: Positional[Path], *, out: File = None, mp4: bool = False) -> None:
    """Make training.gif, or training.mp4, from the sample grids of a run.

    Args:
        run: Run folder.
        out: File to write; training.gif or training.mp4 in the run folder when left out.
        mp4: An MP4 with every grid, below 8 MB, in place of the GIF with as many as fit into 3 MB.
    """
    check_file(out)
    if mp4:
        from workbench.training.film import write_mp4

        print(write_mp4(run, out))
        return
    from workbench.training.gif import write_gif

    print(write_gif(run, out))
