"""From settings to everything a run needs in memory; the run folder is claimed on the way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from workbench.datasets.sources import open_table
from workbench.errors import WorkbenchError
from workbench.evaluation.features import Judge, load_judge
from workbench.hardware import Machine
from workbench.models.presets import Preset
from workbench.training import players, runs
from workbench.training.batches import Feed, grid_plan
from workbench.training.config import TrainConfig
from workbench.training.loop import share_gradients
from workbench.training.players import Players

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What `prepare` made. config: with the precision that is used; facts: config.json of the run.

    fresh: whether the folder held no run; changes: settings that "extend" changed, name -> (old, new).
    """

    config: TrainConfig
    facts: dict
    fresh: bool
    changes: dict[str, tuple[object, object]]
    device: torch.device
    players: Players
    feed: Feed
    judge: Judge | None
    accelerator: object  # accelerate.Accelerator; not imported here, which would cost every start a second


def prepare(
    config: TrainConfig,
    preset: Preset,
    *,
    data: Path,
    out: Path,
    clip: str | Path,
    vision_clip: str | Path | None = None,
    machine: Machine,
    judge: str | Path | None,
    accelerator,
    resume: str,
    say: Callable[[str], None],
) -> Setup:
    """Read the data, claim the folder, build the networks. The arguments are those of `train`."""
    clip, main = _found(clip), accelerator.is_main_process
    vision_clip = None if vision_clip is None else _found(vision_clip)
    # The main process claims the folder; by the time another looks, the run may be there already.
    old = runs.check_free(out, resume if main else "auto")
    if not data.is_dir():
        raise WorkbenchError(
            f"There is no data set folder {data}: make one with `workbench dataset world --out {data}`."
        )
    table = open_table(data, preset.generator.resolution)
    prompts, seeds = grid_plan(table)
    facts = runs.describe(
        config,
        preset,
        data={"path": str(data), **runs.fingerprint(table)},
        clip=str(clip) if vision_clip is None else f"{clip}, seen by {vision_clip}",
        machine=machine,
        grid={"prompts": prompts, "seeds": seeds},
    )
    facts, changes = _same_run(out, old, facts, resume)
    used = replace(config, precision=_precision(config, machine, old, say))
    device = torch.device(machine.device)
    cast = players.build(preset, used, clip, device, used.precision, vision_clip)
    share_gradients(accelerator, cast.opt_G, cast.opt_D)
    rank, world = accelerator.process_index, accelerator.num_processes
    feed = Feed(
        table, cast.captions, config, preset.generator.z_dim, device,
        rank=rank, world=world, captions=data / "captions", say=say,
    )  # fmt: skip
    measures = _judge(judge, config, say)
    if main and (old is None or changes):  # last: a mistake in the line leaves no run behind that it blocks
        runs.write_facts(out, facts)
    return Setup(
        config=used,
        facts=facts,
        fresh=old is None,
        changes=changes,
        device=device,
        players=cast,
        feed=feed,
        judge=measures,
        accelerator=accelerator,
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


def _precision(config: TrainConfig, machine: Machine, old: dict | None, say: Callable[[str], None]) -> str:
    """What to compute in: as asked, as this run did before on this processor, or as the probe says."""
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


def _judge(folder: str | Path | None, config: TrainConfig, say: Callable[[str], None]) -> Judge | None:
    if folder is None or config.eval_every_nimg == 0:
        return None
    if not Path(folder).is_dir():
        say(f"There is no judge in {folder}: this run is not evaluated (`workbench train-judge` makes one).")
        return None
    return load_judge(folder)


def _found(clip: str | Path) -> str | Path:
    """The CLIP folder from here, or from where the workbench lies; a name of open_clip passes as it is."""
    beside = ROOT / clip
    return beside if not Path(clip).exists() and beside.is_dir() else clip
