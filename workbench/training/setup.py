"""From settings to everything a run needs in memory; the run folder is claimed on the way."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import open_clip
import torch

from workbench import hub
from workbench.datasets.aspects import AspectTable
from workbench.datasets.shards.files import public_name
from workbench.datasets.shards.report import ShardReport
from workbench.datasets.sources import home_of, means_shards, of_world, open_table
from workbench.datasets.table import PictureTable
from workbench.errors import WorkbenchError
from workbench.evaluation.features import Judge, load_judge
from workbench.hardware import Machine
from workbench.models.clip_io import load_clip
from workbench.models.presets import Preset
from workbench.pipeline.model_folder import find_folder
from workbench.training import checkpoint, conditioning, players, runs, sharding, warm_start
from workbench.training.batches import Feed, grid_plan
from workbench.training.config import TrainConfig
from workbench.training.crops import CropFeed
from workbench.training.held_out import HeldOut
from workbench.training.players import Players
from workbench.training.shares import Processes
from workbench.training.subjects import Drawing, Enlarging, enlarging_plan

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What `prepare` made. config: as it is used (precision, conditioning); facts: config.json of the run.

    epoch: pictures of the data set; fresh: whether the folder held no run; changes: settings that "extend"
    changed, name -> (old, new).
    """

    config: TrainConfig
    facts: dict
    epoch: int
    fresh: bool
    changes: dict[str, tuple[object, object]]
    device: torch.device
    players: Players
    feed: Feed
    held_out: HeldOut | None
    subject: Drawing | Enlarging
    accelerator: object  # accelerate.Accelerator; not imported here, which would cost every start a second


def prepare(
    config: TrainConfig,
    preset: Preset,
    *,
    data: str | Path,
    out: Path,
    clip: str | Path,
    vision_clip: str | Path | None = None,
    machine: Machine,
    judge: str | Path | None,
    held_out: str | Path | None = None,
    accelerator,
    resume: str,
    start_from: str | Path | None = None,
    start_critics: str | Path | None = None,
    say: Callable[[str], None],
    progress: bool = False,
) -> Setup:
    """Read the data, claim the folder, build the networks. The arguments are those of `train`."""
    sharding.check_launch(accelerator)
    main, processes = accelerator.is_main_process, Processes(accelerator)
    clip, vision_clip = _named(out, clip, vision_clip, (start_from, start_critics))
    # The main process claims the folder; by the time another looks, the run may be there already.
    old = runs.check_free(out, resume if main else "auto")
    side = _side(preset, config)
    any_aspect = preset.upsamples and config.aspects
    table = _table(data, side, say, aspects=any_aspect, progress=progress and main)
    config = config.for_epoch(len(table))
    used, preset = conditioning.settle(config, preset, table)
    seen_by = str(clip) if vision_clip is None else f"{clip}, seen by {vision_clip}"
    facts = _facts(config, used, preset, table, data=public_name(data), clip=seen_by, machine=machine)
    facts, changes = _same_run(out, old, facts, resume)
    used = replace(used, precision=_shared_precision(config, machine, old, processes, say))
    device = torch.device(machine.device)
    cast = players.build(preset, used, clip, device, used.precision, vision_clip)
    facts |= _warm(cast, out, old, (start_from, start_critics), say)
    conditioning.explain(used.conditioning, table, cast.text_encoder, say)
    cast.processes = processes
    feed = _feed(
        table, cast, used, preset, device,
        rank=processes.rank, world=processes.world, groups=_groups(preset),
        captions=home_of(data) / "captions", say=say,
    )  # fmt: skip
    unseen = None
    if held_out is not None and main:
        others = _table(held_out, side, say, aspects=any_aspect, progress=progress)
        alone = replace(used, matching_weight=0.0, accumulate=1)
        unseen = HeldOut(feed, _feed(others, cast, alone, preset, device, say=say))
    if preset.upsamples:
        asked = table if unseen is None else others
        subject = Enlarging(cast.text_encoder, used, facts["grid"], table, asked, clip)
    else:
        judge = _judge(judge, config, table, facts, out, say)
        subject = Drawing(cast.text_encoder, used, facts["grid"], judge)
    if main and old is None:  # last: a mistake in the line leaves no run behind that it blocks
        runs.write_facts(out, facts)
    return Setup(
        config=used, facts=facts, epoch=len(table), fresh=old is None, changes=changes, device=device,
        players=cast, feed=feed, held_out=unseen, subject=subject, accelerator=accelerator,
    )  # fmt: skip


def check_judged(data: str | Path, resolution: int) -> None:
    """WorkbenchError, before long work, where a data set is not there, or is none that the judge can measure
    runs on. resolution: in which shards are read.
    """
    _check_there(data)
    if not of_world(data, resolution):
        raise WorkbenchError(
            f"{public_name(data)} is not Shepherd World alone, and runs are compared here by the judge, "
            "which knows no other pictures. Take a set that `workbench dataset world` drew; on your own "
            "pictures compare runs of `workbench train` by `workbench evaluate report`."
        )


def _warm(cast: Players, out: Path, old: dict | None, start: tuple, say: Callable[[str], None]) -> dict:
    """Take over the weights that the run is to start from, unless it goes on from a checkpoint of its own;
    what config.json says of it. start: (source, critics); a run that was begun keeps to its own.
    """
    source, critics = start
    if old is not None:
        source, critics = map(old.get("started_from", {}).get, ("source", "critics"))
    if source is None and critics is not None:
        raise WorkbenchError(
            f"The critics {critics} were given without a G that they judge: name its model folder too."
        )
    if source is None or checkpoint.newest_nimg(out) is not None:
        return {}
    taken = warm_start.take_over(cast, source, critics)
    say(taken.text)
    return {"started_from": vars(taken)}


def _side(preset: Preset, config: TrainConfig) -> int:
    """Side of the pictures that a run reads: G's, or those that an upsampler's crops are cut from."""
    if preset.upsamples:
        return config.picture_size or preset.discriminator.resolution
    return preset.side


def _feed(
    table: PictureTable, cast: Players, config: TrainConfig, preset: Preset, device: torch.device, **about
) -> Feed:
    if preset.upsamples:
        return CropFeed(table, cast.captions, config, preset, device, **about)
    return Feed(table, cast.captions, config, preset.generator.z_dim, device, **about)


def _check_there(data: str | Path) -> None:
    if not means_shards(data) and not Path(data).is_dir():
        raise WorkbenchError(
            f"There is no data set folder {data}: make one with `workbench dataset world --out {data}`."
        )


def _table(
    data: str | Path, resolution: int, say: Callable[[str], None], *, aspects: bool, progress: bool
) -> PictureTable | AspectTable:
    _check_there(data)
    report = ShardReport()
    table = open_table(data, resolution, report=report, progress=progress, aspects=aspects)
    if report.findings:
        say(f"Something in the shards is broken and left out. {report.text()}")
    return table


def _facts(
    config: TrainConfig,
    used: TrainConfig,
    preset: Preset,
    table: PictureTable,
    *,
    data: str,
    clip: str,
    machine,
) -> dict:
    """config.json of the run as it is asked for; `used`: the settings once the conditioning is decided."""
    text = used.conditioning != "none"
    if preset.upsamples:
        grid = enlarging_plan(table, config, text=text)
    else:
        grid = dict(zip(("prompts", "seeds"), grid_plan(table, config.grid, text=text), strict=True))
    return runs.describe(
        conditioning.recorded(config, used.conditioning, table),
        preset,
        data={"path": data, **runs.fingerprint(table)},
        clip=clip,
        machine=machine,
        grid=grid,
    )


def _same_run(
    out: Path, old: dict | None, facts: dict, resume: str
) -> tuple[dict, dict[str, tuple[object, object]]]:
    """Check that the run in the folder, if there is one, is this one; (its facts, changed settings)."""
    if old is None:
        return facts, {}
    # The same pictures or CLIP by another path are the same.
    moved = {**facts, "data": {**facts["data"], "path": old["data"]["path"]}}
    if Path(_found(old["clip"])).resolve() == Path(facts["clip"]).resolve():
        moved["clip"] = old["clip"]
    changes = runs.check_same(out, old, moved, resume)
    return {**old, "config": facts["config"]}, changes


def _groups(preset: Preset) -> tuple[int, ...]:
    """Numbers of neighbouring pictures that the discriminators compare."""
    return tuple(part.group for part in (preset.discriminator, preset.vision_aided) if part is not None)


def _shared_precision(
    config: TrainConfig, machine: Machine, old: dict | None, processes: Processes, say: Callable[[str], None]
) -> str:
    """The main process's choice, for all: two that were measured apart could choose apart."""
    names = list(players.DTYPES)
    mine = names.index(_precision(config, machine, old, say))
    return names[processes.of_main(mine, torch.device(machine.device))]


def _precision(config: TrainConfig, machine: Machine, old: dict | None, say: Callable[[str], None]) -> str:
    """What to compute in: as asked, as this run did before on this processor, or as the probe says."""
    if config.precision == "fp16" and not machine.device.startswith("cuda"):
        raise WorkbenchError(
            f"precision is 'fp16' on {machine.device}: expected a CUDA GPU. Use bf16, fp32 or auto here."
        )
    if config.precision != "auto":
        return config.precision
    before = old["machine"] if old else None
    if before and (before["device"], before["cpu"]) == (machine.device, machine.cpu):
        return before["precision"]  # a close race between the two must not turn out otherwise at a resume
    if before and before["precision"] != machine.precision:
        say(
            f"This run used {before['precision']} on {before['cpu']}; here {machine.reason}. It goes on, but "
            "not bit for bit."
        )
    return machine.precision


def _judge(
    folder: str | Path | None, config: TrainConfig, table: PictureTable, facts: dict, out: Path,
    say: Callable[[str], None],
) -> Judge | None:  # fmt: skip
    """Who measures the run along the way, if anybody.

    Nobody where the pictures are not the world's, whoever names the judge: it measures how near they are to
    renders of shepherds, and by that best checkpoints are kept and runs that move away are taken back.
    """
    if folder is None or config.eval_every_nimg == 0:
        return None
    if not table.of_world:
        report = ["--model", str(out / "model"), "--data", facts["data"]["path"]]
        report += ["--out", str(out / "report")]
        say(
            "The judge knows Shepherd World alone: this run is not measured along the way; "
            f"`workbench evaluate report {shlex.join(report)}` does afterwards."
        )
        return None
    if not Path(folder).is_dir():
        say(f"There is no judge in {folder}: this run is not evaluated (`workbench train-judge` makes one).")
        return None
    return load_judge(folder)


def _named(
    out: Path, clip: str | Path, vision_clip: str | Path | None, start: tuple
) -> tuple[str | Path, str | Path | None]:
    """The two CLIPs, found. What is named and is nowhere is told before the data is read, and before the run
    that may be in the folder is compared. start: (source, critics), of which a run with a checkpoint asks no
    more.
    """
    clips = tuple(None if one is None else _found(one) for one in (clip, vision_clip))
    for one in clips:
        if one is not None and not Path(one).is_dir() and str(one) not in open_clip.list_models():
            load_clip(one)  # which says what is wrong with it
    for source in start if checkpoint.newest_nimg(out) is None else ():
        if source is not None and not hub.NAME.fullmatch(str(source)):
            find_folder(source)
    return clips


def _found(clip: str | Path) -> str | Path:
    """The CLIP folder from here, or from where the workbench lies; a name of open_clip passes as it is."""
    beside = ROOT / clip
    return beside if not Path(clip).exists() and beside.is_dir() else clip
