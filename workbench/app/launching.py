"""Starting, pausing, resuming and stopping runs from the page: each trains in a process of its own.

One at a time: two would halve each other's speed, and on a small machine run out of memory.
"""

import contextlib
import html
import re
import shlex
import threading
from pathlib import Path
from statistics import median
from typing import Any

from workbench.app.live import duration, look
from workbench.app.runs import Run, Shelf, is_run, records_of, series, settings_of
from workbench.app.sets import Sets
from workbench.errors import WorkbenchError

PRESETS = ("shepherd-32", "shepherd-64")  # those whose text comes from the CLIP that ships
ROOT = Path(__file__).resolve().parents[2]
FEWEST, MOST = 64, 100_000_000  # images of a run
_EVALUATED_FROM = 8_000  # images: an evaluation takes seconds, and a beginning has nothing to measure
_OPTIONS = {  # of `workbench train`, beside the budget: what `settings` changes
    "log_every_nimg": "--log-every", "sample_every_nimg": "--sample-every", "eval_every_nimg": "--eval-every",
    "checkpoint_every_nimg": "--checkpoint-every", "ema_halflife_kimg": "--ema-halflife-kimg",
}  # fmt: skip
_GPU_LINES = (
    ("On a CUDA GPU, our first schedule: 128 px, 100 epochs, every 5 a checkpoint and a 3 × 3 grid.",
     "workbench train --preset seed-128 --data runs/datasets/flux --out runs/seed-128 --images 100epochs "
     "--checkpoint-every 5epochs --sample-every 5epochs --grid 3x3"),
    ("The same on all GPUs of this machine.",
     "accelerate launch --multi_gpu -m workbench.cli train --preset seed-128 --data runs/datasets/flux "
     "--out runs/seed-128 --images 100epochs"),
)  # fmt: skip


class Desk:
    """What the Training tab can do to the runs of a shelf, with the data sets that are there."""

    def __init__(self, shelf: Shelf, sets: Sets) -> None:
        self.shelf, self.sets = shelf, sets
        self._one_at_a_time = threading.Lock()

    def start(self, name: str, data: str | None, preset: str, images: float) -> str:
        """Begin a run of this name; returns its name on the shelf.

        Raises WorkbenchError for a name that is taken or no plain word, a data set that is gone, a preset or
        a budget that cannot be had, and while another run trains.
        """
        if not data:
            raise WorkbenchError(
                "There is no data set to train on: draw one, or bring your pictures (Dataset)."
            )
        folder, source, images = self.place(name), self.sets.get(data), check_budget(images)
        if preset not in PRESETS:
            raise WorkbenchError(f"The preset is {preset!r}: choose {' or '.join(PRESETS)} on this page.")
        with self._one_at_a_time:
            self._refuse_if_busy()
            _background().start(folder, job(source, preset, images))
        return self.name_of(folder)

    def place(self, name: str) -> Path:
        """The folder of a new run. Raises WorkbenchError when the name is taken or no plain word."""
        folder = self.shelf.runs / self.sets.place(name).name
        begun = is_run(folder) and not settings_of(
            folder
        )  # ended before it was under way: may be tried again
        if folder.exists() and not begun and any(folder.iterdir()):
            raise WorkbenchError(
                f"There is something in {folder} already: choose another name, or resume that run."
            )
        return folder

    def pause(self, name: str) -> None:
        """Finish the step, save and end; the run says that it is paused."""
        _background().ask(self.shelf.get(name).folder, "pause")

    def stop(self, name: str, *, at_once: bool = False) -> None:
        """Finish the step, save and end; at_once, where it was asked before: leave with nothing saved."""
        _background().ask(self.shelf.get(name).folder, "stop", at_once=at_once)

    def resume(self, name: str) -> None:
        """Go on from the last checkpoint, bit for bit. WorkbenchError while another run trains."""
        folder = self.shelf.get(name).folder
        with self._one_at_a_time:
            self._refuse_if_busy()
            _background().start(folder, _background().job_of(folder))

    def name_of(self, folder: Path) -> str:
        """The name by which the shelf knows a folder."""
        return next(
            run.name for run in self.shelf.list().values() if run.folder.resolve() == folder.resolve()
        )

    def busy(self) -> Run | None:
        """The run that trains now, whoever started it."""
        return next((run for run in self.shelf.list().values() if _trains(run.folder)), None)

    def _refuse_if_busy(self) -> None:
        run = self.busy()
        if run is None:
            return
        seen = look(run.folder)
        how = (
            "Pause or stop it first"
            if seen.ours
            else "It was started in a terminal: press Ctrl-C there first"
        )
        raise WorkbenchError(
            f"{run.name} is training now ({seen.seen:,} images so far), and two runs would slow each other "
            f"down. {how}, or wait until it ends."
        )

    def estimate(self, preset: str, images: float) -> str:
        """How long a run will take, by what was measured here or, where nothing was, on another machine."""
        try:
            images = check_budget(images)
        except WorkbenchError as error:
            return str(error)
        found = self._speeds(preset)
        if not found:
            return "How long it takes is known a minute after the start: no run of this preset was timed yet."
        here = [rate for rate, cpu in found if cpu == this_cpu()]
        rate = median(here or [rate for rate, _ in found])
        where = (
            "by earlier runs on this computer" if here else f"on {found[0][1]}; not timed on this computer"
        )
        return f"About {duration(images / rate)} ({rate:.3g} images a second, {where})."

    def _speeds(self, preset: str) -> list[tuple[float, str]]:
        """(images a second, processor) of the runs of this preset that were timed."""
        found = []
        for run in self.shelf.list().values():
            facts = settings_of(run.folder)
            if facts.get("config", {}).get("preset") != preset:
                continue
            # A history that cannot be read is told where its run is looked at, and is no speed.
            with contextlib.suppress(WorkbenchError, OSError):
                rates = [rate for _, rate in series(records_of(run.folder), "images_per_s")]
                found += [(median(rates), str(facts.get("machine", {}).get("cpu")))] if rates else []
        return found


def check_budget(images: object) -> int:
    """`images` as an int that a run can have, else a WorkbenchError."""
    number = isinstance(images, (int, float)) and not isinstance(images, bool)
    if not number or not FEWEST <= images <= MOST or images != int(images):
        raise WorkbenchError(
            f"The budget is {images}: expected a whole number of images from {FEWEST} to {MOST:,}."
        )
    return int(images)


def settings(preset: str, images: int, *, judged: bool) -> Any:
    """The TrainConfig of a run from the page: the preset's, watched closely enough for its budget.

    judged: whether the judge can measure it, which knows Shepherd World alone.
    """
    from workbench.training.config import TrainConfig

    every = {"log": 100, "sample": 30, "checkpoint": 8}  # at least so many in a run
    usual = TrainConfig.for_preset(preset)
    names = {f"{name}_every_nimg": count for name, count in every.items()}
    often = {name: min(getattr(usual, name), max(1, images // count)) for name, count in names.items()}
    evaluated = min(usual.eval_every_nimg, images // 4) if judged and images >= _EVALUATED_FROM else 0
    return TrainConfig.for_preset(
        preset,
        images=images,
        eval_every_nimg=evaluated,
        ema_halflife_kimg=min(usual.ema_halflife_kimg, images / 16_000),
        **often,
    )


def job(data: Path, preset: str, images: int) -> Any:
    """What the process is to train (`background.Job`)."""
    from workbench.datasets.sources import of_world
    from workbench.evaluation.features import JUDGE_FOLDER
    from workbench.models.presets import preset as networks

    config = settings(preset, images, judged=of_world(data, networks(preset).side))
    clip = ROOT / "assets" / "models" / "mini-clip"
    return _background().Job(config=config.to_json(), data=str(data), clip=str(clip), judge=str(JUDGE_FOLDER))


def shell_line(folder: Path, data: Path, preset: str, images: int) -> str:
    """The command that trains the same from a terminal: what is not as the preset has it stands in it."""
    from workbench.datasets.sources import of_world
    from workbench.models.presets import preset as networks
    from workbench.training.config import TrainConfig

    judged = of_world(data, networks(preset).side)
    config, usual = settings(preset, images, judged=judged), TrainConfig.for_preset(preset)
    words = ["workbench", "train", "--data", str(data), "--out", str(folder), "--preset", preset]
    words += ["--images", str(images)]
    for name, option in _OPTIONS.items():
        value = getattr(config, name)
        words += [option, str(value)] if value != getattr(usual, name) else []
    return shlex.join(words)


def this_cpu() -> str:
    """The name of this computer's processor, as runs note it."""
    from workbench.hardware import probe

    return probe("cpu", timer=lambda *_: 1.0).cpu  # nothing is timed for a name


def gpu_lines_html() -> str:
    """The lines for a real run, for those who have the machine."""
    return "".join(
        f'<p class="wb-hint">{html.escape(said)}</p><pre class="wb-said">{html.escape(line)}</pre>'
        for said, line in _GPU_LINES
    )


def _trains(folder: Path) -> bool:
    """Whether somebody trains in a folder, as far as we can see: one that is closed to us holds nobody up."""
    try:
        return bool(_background().look(folder).alive)
    except OSError:
        return False


def free_name(shelf: Shelf, name: str = "my-run") -> str:
    """This name, or the next of its kind whose folder no run has yet: my-run, my-run-2.

    One that names no folder is given back as it is: what is wrong with it is told beside it.
    """
    taken = {path.name for path in shelf.runs.iterdir()} if shelf.runs.is_dir() else set()
    try:
        if Sets(shelf.runs).place(name).name not in taken:
            return name
    except WorkbenchError:
        return name
    name = Sets(shelf.runs).place(name).name
    stem = re.sub(r"-\d+$", "", name)
    names = [name, *(f"{stem}-{k}" for k in range(2, 1000))]
    return next(name for name in names if name not in taken)


def _background() -> Any:
    """`workbench.training.background`, imported late: the page is up before torch is."""
    from workbench.training import background

    return background
