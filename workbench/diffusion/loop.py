"""The loop around the steps of a diffusion run, with the parts that a GAN's run is made of.

History, checkpoints, average, statistics, monitor, signals and the lock of the folder are those of
`workbench.training`. Exact resume: every batch, noise and schedule is a function of (seed, step) alone, and
all else that a later step reads is in the checkpoint. One process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from workbench.diffusion.config import RunConfig
from workbench.errors import WorkbenchError
from workbench.images import grid, save_png
from workbench.noise import generator_for
from workbench.training import checkpoint
from workbench.training.config import crossed, sample_due
from workbench.training.lengths import Length, in_images, parse_length
from workbench.training.loop import Diverged, Result, Statistics
from workbench.training.monitor import MAX_ROLLBACKS, Monitor, Remark
from workbench.training.telling import Reporter, memory_gib, progress_bar

_STEP_NOISE = 22 << 40  # stream of whatever a step draws from torch's global generator


class Task(Protocol):
    """What is trained. lr_multiplier is halved at each roll-back."""

    device: torch.device
    lr_multiplier: float

    def modules(self) -> dict[str, nn.Module]:
        """Everything with state of its own, averages among it."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]: ...

    def step(self, step: int, cur_nimg: int) -> dict[str, Tensor]:
        """One step, averages included; 0-d statistics, "finite" among them. Applied only where finite."""

    def sheet(self) -> Tensor:
        """The pictures of a grid, [N, 3, S, S] in [-1, 1]."""

    def save(self, folder: Path, cur_nimg: int, seconds: float) -> None:
        """The model folder."""


def run_task(
    task: Task, config: RunConfig, out: Path, stop: threading.Event, *, epoch: int,
    stop_after_nimg: Length | None, say: Callable[[str], None], progress: bool,
) -> Result:  # fmt: skip
    """Go on with a task in its run folder to its budget, a stop, or `stop_after_nimg`; epoch: pictures of the
    data set.
    """
    pause = None
    if stop_after_nimg is not None:
        pause = in_images(parse_length("stop_after_nimg", stop_after_nimg), epoch)
    told = Reporter(out, main=True, say=say)
    return Loop(task, config, out, told=told, progress=progress).run(stop, pause)


class Loop:
    """One run in one process."""

    def __init__(self, task: Task, config: RunConfig, out: Path, *, told: Reporter, progress: bool) -> None:
        self.task, self.config, self.out, self.told, self.progress = task, config, out, told, progress
        self.history, self.statistics = told.history, Statistics()
        # of the budget it needs to know how often to repeat itself
        self.monitor = Monitor(SimpleNamespace(images=config.images or 1_000_000))
        self.step = self.cur_nimg = self.rollbacks = 0
        self.seconds = self._logged = 0.0
        checkpoint.clear_leftovers(out)
        found, complaints = checkpoint.newest(out)
        for sentence in complaints:
            told.say(sentence)
        self.begins = found is None
        self.history.truncate(0 if found is None else found.state["history_bytes"])
        if found is not None:
            self._load(found)
            told.say(f"Going on at {self.cur_nimg} images, {self.seconds / 60:.1f} minutes.")
        told.begin(self.cur_nimg)

    @property
    def done(self) -> bool:
        """Whether a budget is used up."""
        by_images = self.config.images is not None and self.cur_nimg >= self.config.images
        return by_images or (self.config.minutes is not None and self.seconds >= 60 * self.config.minutes)

    def run(self, stop: threading.Event, stop_after_nimg: int | None = None) -> Result:
        """Train until a budget, a signal or `stop_after_nimg`; save and write the model."""
        begun = time.perf_counter()
        bar = progress_bar(self.out.name, self.config.images, self.cur_nimg, shown=self.progress)
        with bar, contextlib.closing(self.told):
            if self.begins:
                with self.told.timed():
                    self.sample()
                self.save(must=True)
            while not self.done and not stop.is_set():
                if stop_after_nimg is not None and self.cur_nimg >= stop_after_nimg:
                    break
                try:
                    self._round(bar)
                except Diverged as error:
                    self._roll_back(error, bar)
            if checkpoint.newest_nimg(self.out) != self.cur_nimg:
                try:
                    self.save(must=True)
                except Diverged as error:
                    self._roll_back(error, bar)
        model = self.out / "model"
        self.task.save(model, self.cur_nimg, self.seconds)
        reason = "done" if self.done else "stopped" if stop.is_set() else "paused"
        self.told.say(
            f"{reason.capitalize()} at {self.cur_nimg} images after {self.seconds / 60:.1f} minutes of "
            f"steps. The model is in {model}."
            + ("" if reason == "done" else " The same command goes on from here.")
        )
        return Result(
            run=self.out, cur_nimg=self.cur_nimg, reason=reason, model=model,
            seconds=time.perf_counter() - begun, telling=self.told.seconds,
        )  # fmt: skip

    def _round(self, bar: tqdm) -> None:
        started, before, config = time.perf_counter(), self.cur_nimg, self.config
        torch.manual_seed(generator_for(config.seed, _STEP_NOISE + self.step).initial_seed())
        self.statistics.add(self.task.step(self.step, before))
        self.step, self.cur_nimg = self.step + 1, before + config.batch_size
        self.seconds += time.perf_counter() - started
        bar.update(config.batch_size)
        with self.told.timed():
            if self.done or crossed(config.log_every_nimg, before, self.cur_nimg):
                self.log(bar)
            if self.done or sample_due(config.sample_every_nimg, before, self.cur_nimg):
                self.sample()
        if self.done or crossed(config.checkpoint_every_nimg, before, self.cur_nimg):
            self.save(must=self.done)

    # ---------------------------------------------------------------- what is due at intervals

    def log(self, bar: tqdm) -> None:
        """A line with the means since the last one, and the monitor's remarks on it."""
        means, flags = self.statistics.take()
        rate = len(flags) * self.config.batch_size / max(1e-9, self.seconds - self._logged)
        self._logged = self.seconds
        self.told.line(
            {
                "kind": "step",
                "cur_nimg": self.cur_nimg,
                "step": self.step,
                **means,
                "not_applied": flags.count(False),
                "lr_multiplier": self.task.lr_multiplier,
                "seconds": round(self.seconds, 2),
                "images_per_s": round(rate, 2),
            }
        )
        memory = f"{memory_gib(self.task.device):.1f} GiB"
        bar.set_postfix({"loss": f"{means.get('loss', float('nan')):.4f}", "memory": memory}, refresh=False)
        remarks = self.monitor.steps(self.cur_nimg, flags, means)
        for remark in remarks:
            if remark.rollback:
                raise Diverged(remark.text, facts=remark.facts)
            self.told.event(self.cur_nimg, remark)

    def sample(self) -> None:
        """The grid of the run's fixed prompts and seeds."""
        images, file = self.task.sheet(), Path("samples") / f"grid_{self.cur_nimg:09d}.png"
        if not torch.isfinite(images).all():
            raise Diverged("The pictures are not finite.")
        try:
            (self.out / "samples").mkdir(exist_ok=True)
            save_png(grid(images, self.config.grid[0]), self.out / file)
        except OSError as error:
            text = f"{error} The run goes on without this grid."
            self.told.event(self.cur_nimg, Remark(event="not-saved", text=text))
            return
        self.told.line({"kind": "sample", "cur_nimg": self.cur_nimg, "file": str(file)})

    # ---------------------------------------------------------------- state

    def save(self, *, must: bool = False) -> bool:
        """Checkpoint now. A full disk is said and the run goes on (`must`: raised)."""
        modules = self.task.modules()
        parts = {name: checkpoint.module_tensors(module) for name, module in modules.items()}
        if not checkpoint.all_finite(t for tensors in parts.values() for t in tensors.values()):
            raise Diverged("A weight is not finite any more, so no checkpoint was written.")
        names = checkpoint.parameter_names(modules)
        for name, optimizer in self.task.optimizers().items():
            parts[name] = checkpoint.optimizer_tensors(optimizer, names)
        try:
            self.history.sync()
            checkpoint.write(self.out, parts, self._state())
            checkpoint.prune(self.out, self.config.keep_checkpoints)
        except OSError as error:
            if must:
                raise
            text = f"{error} The run goes on; its last good checkpoint is kept."
            self.told.event(self.cur_nimg, Remark(event="not-saved", text=text))
            return False
        return True

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "cur_nimg": self.cur_nimg,
            "seconds": self.seconds,
            "logged": self._logged,
            "history_bytes": self.history.size,
            "lr_multiplier": self.task.lr_multiplier,
            "rollbacks": self.rollbacks,
            "statistics": self.statistics.to_json(),
            "monitor": self.monitor.state,
        }

    def _load(self, found: checkpoint.Checkpoint) -> None:
        parts, state, modules = found.tensors(), found.state, self.task.modules()
        for name, module in modules.items():
            checkpoint.load_module(module, parts.get(name, {}), name)
        names = checkpoint.parameter_names(modules)
        for name, optimizer in self.task.optimizers().items():
            checkpoint.load_optimizer(optimizer, parts.get(name, {}), names)
        self.step, self.cur_nimg, self.seconds = state["step"], state["cur_nimg"], state["seconds"]
        self.task.lr_multiplier, self.rollbacks = state["lr_multiplier"], state["rollbacks"]
        self.statistics, self.monitor.state = Statistics(state["statistics"]), state["monitor"]
        self._logged = state.get("logged", self.seconds)

    def _roll_back(self, why: Diverged, bar: tqdm) -> None:
        """To the last good checkpoint with half the rates; the time that was lost still counts."""
        failed_at, multiplier, rollbacks = self.cur_nimg, self.task.lr_multiplier, self.rollbacks + 1
        good = checkpoint.newest(self.out)[0]
        if good is None or rollbacks > MAX_ROLLBACKS:
            raise WorkbenchError(
                f"Training went back {rollbacks - 1} times and still diverges at {failed_at} images: the "
                f"last good checkpoint is kept. Start again with a third of lr, or precision fp32. {why}"
            )
        seconds, said = self.seconds, self.monitor.state["said"]
        self._load(good)
        self.seconds, self.rollbacks, self.task.lr_multiplier = seconds, rollbacks, multiplier / 2
        self.monitor.state = {**self.monitor.state, "said": said}
        self.monitor.rolled_back()
        self.statistics = Statistics()
        bar.update(self.cur_nimg - failed_at)
        text = (
            f"{why} Back from {failed_at} to {self.cur_nimg} images; the learning rates are now "
            f"{self.task.lr_multiplier:g} of their schedule."
        )
        facts = {**why.facts, "from_nimg": failed_at, "back_to_nimg": self.cur_nimg}
        self.told.event(self.cur_nimg, Remark(event="rollback", facts=facts, text=text))
