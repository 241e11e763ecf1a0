"""The loop around `train_step`: batch, step, average.

At intervals log, grid, evaluation, checkpoint; then the model.

Exact resume: every batch, noise and schedule is a function of (config, step) alone, and everything else that
a later step reads (weights, optimiser states, average, monitor, the statistics since the last log line) is in
the checkpoint.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from workbench import hardware
from workbench.evaluation.features import JUDGE_FOLDER
from workbench.images import grid, save_png
from workbench.models import presets
from workbench.noise import generator_for
from workbench.training import checkpoint, nonfinite, runs, trackers
from workbench.training.accumulation import take_step
from workbench.training.config import TrainConfig, crossed, sample_due
from workbench.training.ema import EMA, beta_of
from workbench.training.lengths import Length, in_images, parse_length
from workbench.training.loop import Diverged, Result, Statistics, last_words, own_randomness, signals
from workbench.training.monitor import MAX_ROLLBACKS, Monitor, Remark, give_up
from workbench.training.setup import Setup, prepare
from workbench.training.step_batch import StepBatch
from workbench.training.telling import Reporter, progress_bar, set_line

MINI_CLIP = Path("assets/models/mini-clip")
_STEP_NOISE = 13 << 40  # stream of whatever a step draws from torch's global generator


def train(
    config: TrainConfig,
    data: str | Path,
    out: str | Path,
    *,
    clip: str | Path = MINI_CLIP,
    vision_clip: str | Path | None = None,
    device: str | None = None,
    resume: str = "auto",
    stop_after_nimg: Length | None = None,
    progress: bool = True,
    preset: presets.Preset | None = None,
    judge: str | Path | None = JUDGE_FOLDER,
    tracker: str | None = None,
    held_out: str | Path | None = None,
    start_from: str | Path | None = None,
    start_critics: str | Path | None = None,
) -> Result:
    """Train on a data set, as `open_table` takes it, into a run folder, or go on with the run there.

    resume: "auto" goes on if the folder holds a run of the same settings; "never" wants a fresh folder;
    "extend" goes on with changed settings (budget, rates, weights, intervals) and notes them in the history.
    vision_clip: the CLIP that sees, where it is not the one that is read. stop_after_nimg: pause at that
    image count; schedules do not move. preset: networks other than those of config.preset. judge: None =
    never evaluate; none looks at pictures that are not Shepherd World's. tracker: "tensorboard" or "trackio",
    beside the history. held_out: pictures that D is asked about with each grid and never learns from.
    start_from: a run or model folder, or a Hub name, whose weights a new run takes over as far as they fit;
    start_critics: a folder of critics whose D and heads it takes over beside them. SIGINT and SIGTERM finish
    the step, save and return. Raises WorkbenchError and OSError in one sentence.
    """
    from accelerate import Accelerator

    pause = None if stop_after_nimg is None else parse_length("stop_after_nimg", stop_after_nimg)
    out = Path(out)
    track = trackers.opener(tracker, out)
    preset = preset or presets.preset(config.preset)
    accelerator = Accelerator(
        cpu=device == "cpu" or (device is None and not torch.cuda.is_available()), mixed_precision="no"
    )
    main = accelerator.is_main_process
    if main:
        runs.check_free(out, resume)  # before a minute is spent on data
    chosen = str(accelerator.device) if accelerator.num_processes > 1 else device
    machine = hardware.probe(chosen)
    say: Callable[[str], None] = tqdm.write if progress and main else (lambda text: None)
    held = runs.held(out) if main else contextlib.nullcontext()
    with held, own_randomness(), hardware.kept_memory(), signals() as stop:
        for sentence in checkpoint.put_aside(out) if main else ():
            say(sentence)
        accelerator.wait_for_everyone()  # whether there is a checkpoint has to be the same answer for all
        setup = prepare(
            config, preset, data=data, out=out, clip=clip, vision_clip=vision_clip, machine=machine,
            judge=judge, held_out=held_out, accelerator=accelerator, resume=resume, start_from=start_from,
            start_critics=start_critics, say=say, progress=progress,
        )  # fmt: skip
        told = Reporter(out, main=main, say=say, open_tracker=track)
        trainer = Trainer(setup, out, told=told, progress=progress and main)
        return trainer.run(stop, None if pause is None else in_images(pause, setup.epoch))


class Trainer:
    """One run in one process. Made by `train`; its methods are the parts of the loop."""

    def __init__(self, setup: Setup, out: Path, *, told: Reporter, progress: bool) -> None:
        self.out, self.told, self.say, self.progress = out, told, told.say, progress
        self.config, self.facts, self.accelerator = setup.config, setup.facts, setup.accelerator
        self.main, self.device = setup.accelerator.is_main_process, setup.device
        self.players, self.feed, self.subject = setup.players, setup.feed, setup.subject
        self.held_out = setup.held_out
        self.processes = setup.players.processes
        self.ema = EMA(self.players.G)
        self.history, self.monitor, self.statistics = told.history, Monitor(self.config), Statistics()
        self.step = self.cur_nimg = self.rollbacks = 0
        self.seconds = self._logged = 0.0
        self.ratio: float | None = None  # of an evaluation at this very cur_nimg
        self.begins = True  # there is no checkpoint yet
        self._resume(not setup.fresh, setup.changes)

    # ---------------------------------------------------------------- state

    def _resume(self, expected: bool, changes: dict) -> None:
        if self.main:
            checkpoint.clear_leftovers(self.out)
        found, complaints = checkpoint.newest(self.out)
        # All must have looked before one goes on to write: else a late one finds the first checkpoint of the
        # very run that it is to begin with the others, and they wait for each other in different places.
        self.processes.wait()
        self.begins = found is None
        for sentence in complaints:
            self.say(sentence)
        if found is not None:
            self._load(found)
            if self.main:
                self.history.truncate(found.state["history_bytes"])
            left = self.cur_nimg < self.config.images
            already = "Going on at" if left else "Finished already: nothing is trained;"
            self.say(f"{already} {self.cur_nimg} of {self.config.images} images.")
        elif expected and self.main:
            self.history.truncate(0)  # stopped before its first checkpoint: start again
        self.told.begin(self.cur_nimg)
        if changes:
            if self.main:  # not before the checkpoint fits: a mistake must not bar the settings that do
                runs.write_facts(self.out, self.facts)
            text = "; ".join(f"{name} {was!r} -> {now!r}" for name, (was, now) in changes.items())
            self._event(Remark(event="settings", text=f"The settings were changed: {text}."))

    def _names(self) -> dict[int, str]:
        return checkpoint.parameter_names(self.players.modules())

    def _load(self, found: checkpoint.Checkpoint) -> None:
        parts, state, names = found.tensors(), found.state, self._names()
        for name, module in {**self.players.modules(), "G_ema": self.ema.model}.items():
            checkpoint.load_module(module, parts.get(name, {}), name)
        for name in ("opt_G", "opt_D"):
            checkpoint.load_optimizer(getattr(self.players, name), parts[name], names)
        self.step, self.cur_nimg, self.seconds = state["step"], state["cur_nimg"], state["seconds"]
        self.players.lr_multiplier, self.rollbacks = state["lr_multiplier"], state["rollbacks"]
        self.statistics, self.monitor.state = Statistics(state["statistics"]), state["monitor"]
        self.ratio, self._logged = state["frechet_ratio"], state.get("logged", self.seconds)

    def save(self, *, must: bool = False) -> bool:
        """Checkpoint now. A full disk is said and the run goes on (`must`: raised).

        Weights that are not finite are refused.
        """
        parts = {
            name: checkpoint.module_tensors(m)
            for name, m in {**self.players.modules(), "G_ema": self.ema.model}.items()
        }
        if not checkpoint.all_finite(t for tensors in parts.values() for t in tensors.values()):
            bad = nonfinite.bad_weight({**self.players.modules(), "G_ema": self.ema.model})
            raise Diverged(f"The weight {bad} is not finite any more, so no checkpoint was written.")
        for name in ("opt_G", "opt_D"):
            parts[name] = checkpoint.optimizer_tensors(getattr(self.players, name), self._names())
        try:
            if self.main:
                self.history.sync()  # a power cut must not leave less of it than the checkpoint counts on
                checkpoint.write(self.out, parts, self._state())
                checkpoint.prune(self.out, self.config.keep_checkpoints)
        except OSError as error:
            if must:
                raise
            self._event(
                Remark(event="not-saved", text=f"{error} The run goes on; its last good checkpoint is kept.")
            )
            return False
        finally:
            self.processes.wait()
        return True

    def _state(self) -> dict:
        return {
            "step": self.step,
            "cur_nimg": self.cur_nimg,
            "seconds": self.seconds,
            "logged": self._logged,
            "history_bytes": self.history.size,
            "lr_multiplier": self.players.lr_multiplier,
            "rollbacks": self.rollbacks,
            "statistics": self.statistics.to_json(),
            "monitor": self.monitor.state,
            "frechet_ratio": self.ratio,
            "precision": self.config.precision,
        }

    # ---------------------------------------------------------------- the loop

    def run(self, stop: threading.Event, stop_after_nimg: int | None = None) -> Result:
        """Train until the budget, a signal or `stop_after_nimg`; save and write the model."""
        begun, until = time.perf_counter(), min(self.config.images, stop_after_nimg or self.config.images)
        bar = progress_bar(self.out.name, self.config.images, self.cur_nimg, shown=self.progress)
        with bar, contextlib.closing(self.told):
            if self.begins:  # else these two are in the history already
                with self.told.timed():
                    self.sample()
                self.save(must=True)
            while self.cur_nimg < until and not self._any(stop.is_set()):
                try:
                    self._round(bar)
                except Diverged as error:
                    self._roll_back(error, bar)
            done = self.cur_nimg >= self.config.images
            if checkpoint.newest_nimg(self.out) != self.cur_nimg:
                try:
                    self.save(must=True)
                except Diverged as error:
                    self._roll_back(error, bar)
        model = self.out / "model"
        if self.main:
            card = runs.model_card(self.out, self.facts, self.cur_nimg, self.seconds)
            self.subject.save(self.ema.model, model, card)
        reason = "done" if done else "stopped" if stop.is_set() else "paused"
        self.say(
            last_words(reason, self.cur_nimg, self.config.images, model, self.facts["grid"]["prompts"][0])
        )
        return Result(
            run=self.out, cur_nimg=self.cur_nimg, reason=reason, model=model,
            seconds=time.perf_counter() - begun, telling=self.told.seconds,
        )  # fmt: skip

    def _round(self, bar: tqdm) -> None:
        """One step, and whatever is due after it.

        What `Diverged` interrupts is taken back by `_roll_back`.
        """
        started, before, config = time.perf_counter(), self.cur_nimg, self.config
        torch.manual_seed(generator_for(config.seed, _STEP_NOISE + self.step).initial_seed())
        parts = self.feed.parts_at(self.step)
        stats = take_step(self.players, parts, cur_nimg=before, step=self.step, config=config)
        self.statistics.add(stats)
        if not stats["finite"]:
            self._explain(parts, stats)
        self.step, self.cur_nimg, self.ratio = self.step + 1, before + config.batch_size, None
        self.ema.update(self.players.G, beta_of(config, self.cur_nimg))
        last = self.cur_nimg >= config.images
        self.seconds += time.perf_counter() - started
        bar.update(config.batch_size)
        with self.told.timed():
            if last or crossed(config.log_every_nimg, before, self.cur_nimg):
                self.log(bar)
            if last or sample_due(config.sample_every_nimg, before, self.cur_nimg):
                self.sample()
                self.look_at_held_out()
        evaluated = self.subject.measures and (last or crossed(config.eval_every_nimg, before, self.cur_nimg))
        if evaluated:
            self.evaluate()
        if last or evaluated or crossed(config.checkpoint_every_nimg, before, self.cur_nimg):
            self.save(must=last)

    def _explain(self, parts: list[StepBatch], stats: dict[str, Tensor]) -> None:
        """Have the monitor know where a step that was not applied went wrong."""
        batch = self.feed.at(self.step)  # anew: the generator of the one that failed is used up
        origin = nonfinite.find(
            self.players, batch, stats, cur_nimg=self.cur_nimg, step=self.step, config=self.config,
            rerun=self.processes.alone and len(parts) == 1,
        )  # fmt: skip
        self.monitor.refused(origin.text, origin.facts())

    def _any(self, mine: bool) -> bool:
        """Whether any process says yes: all have to leave the loop, or go back, at the same step."""
        return self.processes.any(mine, self.device)

    # ---------------------------------------------------------------- what is due at intervals

    def log(self, bar: tqdm) -> None:
        """A line with the means since the last one, and the monitor's remarks on it."""
        means, flags = self.statistics.take()
        rate = len(flags) * self.config.batch_size / max(1e-9, self.seconds - self._logged)
        self._logged = self.seconds
        line = {
            "kind": "step",
            "cur_nimg": self.cur_nimg,
            "step": self.step,
            **means,
            "not_applied": flags.count(False),
            "lr_multiplier": self.players.lr_multiplier,
            "seconds": round(self.seconds, 2),
            "images_per_s": round(rate, 2),
        }
        self.told.line(line)
        set_line(bar, means, self.device)
        self._heed(self.monitor.steps(self.cur_nimg, flags, means))

    def sample(self) -> None:
        """The grid of the run's fixed prompts, or pictures, and seeds."""
        if not self.main:
            return
        images = self.subject.sheet(self.ema.model)
        file = Path("samples") / f"grid_{self.cur_nimg:09d}.png"
        try:
            (self.out / "samples").mkdir(exist_ok=True)
            save_png(grid(images, self.subject.columns), self.out / file)
        except OSError as error:
            self._event(Remark(event="not-saved", text=f"{error} The run goes on without this grid."))
            return
        self.told.line({"kind": "sample", "cur_nimg": self.cur_nimg, "file": str(file)})

    def look_at_held_out(self) -> None:
        """D's logits of training and held-out pictures, where there are such."""
        if self.held_out is None:
            return
        found = self.held_out.logits(self.players, self.monitor.last("D.fake"))
        self.told.line({"kind": "held-out", "cur_nimg": self.cur_nimg, **found})
        for remark in self.monitor.held_out(self.cur_nimg, found):
            self._event(remark)

    def evaluate(self) -> None:
        """Measure G_ema; the line holds what its subject finds."""
        remarks = []
        if self.main:
            try:
                found = self.subject.measure(self.ema.model)
            except OSError as error:
                remarks = [
                    Remark(event="not-evaluated", text=f"{error} The run goes on without this evaluation.")
                ]
            else:
                self.ratio, numbers = found.ratio, found.numbers
                self.told.line({"kind": "eval", "cur_nimg": self.cur_nimg, **numbers})
                self.say(f"{self.cur_nimg} images: {found.sentence}")
                if self.ratio is not None:
                    remarks = self.monitor.evaluation(
                        self.cur_nimg, self.ratio, numbers["diversity"], numbers
                    )
        self._heed(remarks)

    def _heed(self, remarks: list[Remark]) -> None:
        """Write the remarks; where one asks for it, or another process's does, go back."""
        for remark in remarks:
            if not remark.rollback:
                self._event(remark)
        back = next((remark for remark in remarks if remark.rollback), None)
        to_best = back is not None and back.event == "frechet-jump"
        if self._any(back is not None):
            why = back or Remark(event="diverged", text="Another process diverged.")
            raise Diverged(why.text, to_best=self._any(to_best), facts=why.facts)

    def _roll_back(self, why: "Diverged", bar: tqdm) -> None:
        """To the last good checkpoint (the best, after a jump of the distance), with half the rates."""
        failed_at, multiplier, rollbacks = self.cur_nimg, self.players.lr_multiplier, self.rollbacks + 1
        good = (checkpoint.best(self.out) if why.to_best else None) or checkpoint.newest(self.out)[0]
        if good is None or rollbacks > MAX_ROLLBACKS:
            raise give_up(rollbacks - 1, failed_at, str(why))
        if self.main:
            checkpoint.drop_after(self.out, good.cur_nimg)
        seconds, monitor = self.seconds, self.monitor.state
        self._load(good)
        self.seconds, self.rollbacks, self.players.lr_multiplier = seconds, rollbacks, multiplier / 2
        self.monitor.state = {**self.monitor.state, "said": monitor["said"]}
        self.monitor.rolled_back()
        self.statistics = Statistics()
        bar.update(self.cur_nimg - failed_at)
        self._event(
            Remark(
                event="rollback",
                facts={**why.facts, "from_nimg": failed_at, "back_to_nimg": self.cur_nimg},
                text=(
                    f"{why} Back from {failed_at} to {self.cur_nimg} images; the learning rates are now "
                    f"{self.players.lr_multiplier:g} of "
                    "their schedule."
                ),
            )
        )

    def _event(self, remark: Remark) -> None:
        self.told.event(self.cur_nimg, remark)
