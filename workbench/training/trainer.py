"""The loop around `train_step`: batch, step, average; at intervals log, grid, evaluation, checkpoint; then the model.

Exact resume: every batch, noise and schedule is a function of (config, step) alone, and everything else that a later
step reads (weights, optimiser states, average, monitor, the statistics since the last log line) is in the checkpoint.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from workbench import hardware
from workbench.datasets.loading import PictureTable
from workbench.errors import WorkbenchError
from workbench.evaluation.faithfulness import evaluate
from workbench.evaluation.features import JUDGE_FOLDER, load_judge
from workbench.images import grid, save_png
from workbench.models import presets
from workbench.noise import draw_z, generator_for
from workbench.pipeline import Pipeline
from workbench.training import checkpoint, runs, steps
from workbench.training.batches import Feed, grid_plan
from workbench.training.config import TrainConfig, crossed, sample_due
from workbench.training.ema import EMA, ema_beta
from workbench.training.history import History
from workbench.training.loop import Diverged, Statistics, own_randomness, share_gradients, signals
from workbench.training.monitor import MAX_ROLLBACKS, Monitor, Remark, give_up

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MINI_CLIP = Path("assets/models/mini-clip")
_STEP_NOISE = 13 << 40  # stream of whatever a step draws from torch's global generator
_EVAL_BATCH = 50


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a call of `train` ended. reason: "done", "stopped" (Ctrl-C, SIGTERM) or "paused" (stop_after_nimg);
    model: folder of the pipeline; seconds: spent in this call."""

    run: Path
    cur_nimg: int
    reason: str
    model: Path
    seconds: float


def train(
    config: TrainConfig,
    data: str | Path,
    out: str | Path,
    *,
    clip: str | Path = MINI_CLIP,
    device: str | None = None,
    resume: str = "auto",
    stop_after_nimg: int | None = None,
    progress: bool = True,
    preset: presets.Preset | None = None,
    judge: str | Path | None = JUDGE_FOLDER,
) -> Result:
    """Train on a data set folder into a run folder, or go on with the run that is there.

    resume: "auto" goes on if the folder holds a run of the same settings; "never" wants a fresh folder; "extend" goes on
    with changed settings (budget, rates, weights, intervals) and notes them in the history. stop_after_nimg: pause at
    that image count; schedules do not move. preset: networks other than those of config.preset. judge: None = never
    evaluate. SIGINT and SIGTERM finish the step, save and return. Raises WorkbenchError and OSError in one sentence.
    """
    from accelerate import Accelerator

    out = Path(out)
    preset = preset or presets.preset(config.preset)
    runs.check_free(out, resume)  # before a minute is spent on data
    accelerator = Accelerator(cpu=device == "cpu" or (device is None and not torch.cuda.is_available()), mixed_precision="no")
    main = accelerator.is_main_process
    chosen = str(accelerator.device) if accelerator.num_processes > 1 else device
    machine = hardware.probe(chosen)
    with runs.held(out) if main else contextlib.nullcontext(), own_randomness(), signals() as stop:
        trainer = Trainer(config, preset, data=Path(data), out=out, clip=_found(clip), machine=machine, judge=judge,
                          accelerator=accelerator, resume=resume, progress=progress and main)  # fmt: skip
        return trainer.run(stop, stop_after_nimg)


class Trainer:
    """One run in one process. Made by `train`; its methods are the parts of the loop."""

    def __init__(self, config, preset, *, data, out, clip, machine, judge, accelerator, resume, progress) -> None:
        self.out, self.clip, self.accelerator, self.main = out, clip, accelerator, accelerator.is_main_process
        self.say: Callable[[str], None] = tqdm.write if progress else (lambda text: None)
        self.progress = progress
        old = runs.check_free(out, resume)
        if (folder := Path(data)).is_dir() is False:
            raise WorkbenchError(f"There is no data set folder {folder}: make one with `workbench dataset world --out {folder}`.")
        table = PictureTable.from_folder(data, preset.generator.resolution)
        prompts, seeds = grid_plan(table)
        facts = runs.describe(config, preset, data={"path": str(data), **runs.fingerprint(table)}, clip=str(clip), machine=machine,
                              grid={"prompts": prompts, "seeds": seeds})  # fmt: skip
        self.facts, changes = self._claim_folder(old, facts, resume)
        self.device = torch.device(machine.device)
        self.precision = self._precision(config, machine, old)
        self.config = replace(config, precision=self.precision)
        self.players = steps.build(preset, self.config, clip, self.device, self.precision)
        share_gradients(accelerator, self.players.opt_G, self.players.opt_D)
        self.ema = EMA(self.players.G)
        self.feed = Feed(table, self.players.text_encoder, config, preset.generator.z_dim, self.device,
                         rank=accelerator.process_index, world=accelerator.num_processes)  # fmt: skip
        self.judge = self._load_judge(judge)
        self.history, self.monitor = History(out), Monitor(config)
        self.step = self.cur_nimg = self.rollbacks = 0
        self.seconds = self._logged = 0.0
        self.statistics = Statistics()
        self.ratio: float | None = None  # of an evaluation at this very cur_nimg
        self._resume(old is not None, changes)

    # ---------------------------------------------------------------- start

    def _claim_folder(self, old: dict | None, facts: dict, resume: str) -> tuple[dict, dict]:
        """Write config.json of a fresh run, or check that the one there is this run. Returns (facts, changed settings)."""
        if old is None:
            if self.main:
                runs.write_facts(self.out, facts)
            return facts, {}
        same = {**facts, "data": {**facts["data"], "path": old["data"]["path"]}}  # a moved data set is the same data set
        changes = runs.check_same(self.out, old, same, resume)
        facts = {**old, "config": facts["config"]}
        if changes and self.main:
            runs.write_facts(self.out, facts)
        return facts, changes

    def _precision(self, config: TrainConfig, machine: hardware.Machine, old: dict | None) -> str:
        """What to compute in: as asked, as this run did before on this processor, or as the probe says."""
        if config.precision != "auto":
            return config.precision
        before = old["machine"] if old else None
        if before and (before["device"], before["cpu"]) == (machine.device, machine.cpu):
            return before["precision"]  # a close race between the two must not turn out otherwise at a resume
        if before and before["precision"] != machine.precision:
            self.say(f"This run used {before['precision']} on {before['cpu']}; here {machine.reason}. It goes on, but not bit for bit.")
        return machine.precision

    def _load_judge(self, folder: str | Path | None):
        if folder is None or self.config.eval_every_nimg == 0 or not self.main:
            return None
        if not Path(folder).is_dir():
            self.say(f"There is no judge in {folder}: this run is not evaluated (`workbench train-judge` makes one).")
            return None
        return load_judge(folder)

    def _resume(self, expected: bool, changes: dict) -> None:
        if self.main:
            checkpoint.clear_leftovers(self.out)
        found, complaints = checkpoint.newest(self.out)
        for sentence in complaints:
            self.say(sentence)
        if found is not None:
            self._load(found)
            if self.main:
                self.history.truncate(found.state["history_bytes"])
            self.say(f"Going on at {self.cur_nimg} of {self.config.images} images.")
        elif expected and self.main:
            self.history.truncate(0)  # stopped before its first checkpoint: start again
        if changes:
            text = "; ".join(f"{name} {was!r} -> {now!r}" for name, (was, now) in changes.items())
            self._event(Remark(event="settings", text=f"The settings were changed: {text}."))

    # ---------------------------------------------------------------- state

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
        self.ratio, self._logged = state["frechet_ratio"], self.seconds

    def save(self, *, must: bool = False) -> bool:
        """Checkpoint now. A full disk is said and the run goes on (`must`: raised); weights that are not finite are refused."""
        parts = {name: checkpoint.module_tensors(m) for name, m in {**self.players.modules(), "G_ema": self.ema.model}.items()}
        if not checkpoint.all_finite(t for tensors in parts.values() for t in tensors.values()):
            raise Diverged("Weights are not finite any more, so no checkpoint was written")
        for name in ("opt_G", "opt_D"):
            parts[name] = checkpoint.optimizer_tensors(getattr(self.players, name), self._names())
        try:
            if self.main:
                self.history.flush()
                checkpoint.write(self.out, parts, self._state())
                checkpoint.prune(self.out, self.config.keep_checkpoints)
        except OSError as error:
            if must:
                raise
            self._event(Remark(event="not-saved", text=f"{error} The run goes on; its last good checkpoint is kept."))
            return False
        self.accelerator.wait_for_everyone()
        return True

    def _state(self) -> dict:
        return {
            "step": self.step, "cur_nimg": self.cur_nimg, "seconds": self.seconds, "history_bytes": self.history.size,
            "lr_multiplier": self.players.lr_multiplier, "rollbacks": self.rollbacks,
            "statistics": self.statistics.to_json(), "monitor": self.monitor.state, "frechet_ratio": self.ratio, "precision": self.precision,
        }  # fmt: skip

    # ---------------------------------------------------------------- the loop

    def run(self, stop: threading.Event, stop_after_nimg: int | None = None) -> Result:
        """Train until the budget, a signal or `stop_after_nimg`; save and write the model."""
        begun, until = time.perf_counter(), min(self.config.images, stop_after_nimg or self.config.images)
        with self._bar() as bar:
            if self.cur_nimg == 0:
                self.sample()
                self.save(must=True)
            while self.cur_nimg < until and not self._any(stop):
                try:
                    self._round(bar)
                except Diverged as error:
                    self._roll_back(error, bar)
            done = self.cur_nimg >= self.config.images
            if checkpoint.newest_nimg(self.out) != self.cur_nimg:
                self._save_at_end(bar)
        model = self._write_model()
        reason = "done" if done else "stopped" if stop.is_set() else "paused"
        self._last_words(reason, model)
        return Result(run=self.out, cur_nimg=self.cur_nimg, reason=reason, model=model, seconds=time.perf_counter() - begun)

    def _round(self, bar: tqdm) -> None:
        """One step, and whatever is due after it. What `Diverged` interrupts is taken back by `_roll_back`."""
        started, before, config = time.perf_counter(), self.cur_nimg, self.config
        torch.manual_seed(generator_for(config.seed, _STEP_NOISE + self.step).initial_seed())
        stats = steps.train_step(self.players, self.feed.at(self.step), cur_nimg=before, step=self.step, config=config)
        self.statistics.add(stats)
        self.step, self.cur_nimg, self.ratio = self.step + 1, before + config.batch_size, None
        self.ema.update(self.players.G, ema_beta(config.batch_size, self.cur_nimg, config.ema_halflife_kimg))
        last = self.cur_nimg >= config.images
        self.seconds += time.perf_counter() - started
        bar.update(config.batch_size)
        if last or crossed(config.log_every_nimg, before, self.cur_nimg):
            self.log(bar)
        if last or sample_due(config.sample_every_nimg, before, self.cur_nimg):
            self.sample()
        evaluated = self.judge is not None and (last or crossed(config.eval_every_nimg, before, self.cur_nimg))
        if evaluated:
            self.evaluate()
        if last or evaluated or crossed(config.checkpoint_every_nimg, before, self.cur_nimg):
            self.save(must=last)

    def _save_at_end(self, bar: tqdm) -> None:
        try:
            self.save(must=True)
        except Diverged as error:
            self._roll_back(error, bar)

    def _any(self, stop: threading.Event) -> bool:
        """Whether any process was asked to stop: they have to leave the loop at the same step."""
        if self.accelerator.num_processes == 1:
            return stop.is_set()
        asked = torch.tensor(float(stop.is_set()), device=self.device)
        return bool(self.accelerator.reduce(asked, reduction="sum") > 0)

    # ---------------------------------------------------------------- what is due at intervals

    def log(self, bar: tqdm) -> None:
        """A line with the means since the last one, and the monitor's remarks on it."""
        means, flags = self.statistics.take()
        rate = len(flags) * self.config.batch_size / max(1e-9, self.seconds - self._logged)
        self._logged = self.seconds
        line = {"kind": "step", "cur_nimg": self.cur_nimg, "step": self.step, **means, "not_applied": flags.count(False),
                "lr_multiplier": self.players.lr_multiplier, "seconds": round(self.seconds, 2), "images_per_s": round(rate, 2)}  # fmt: skip
        self._write(line)
        bar.set_postfix({k: f"{means[k]:.2f}" for k in ("G.loss", "D.loss") if k in means}, refresh=False)
        self._heed(self.monitor.steps(self.cur_nimg, flags, means))

    @torch.inference_mode()
    def pictures(self, prompts: list[str], seeds: list[int]) -> Tensor:
        """G_ema's pictures of prompts and seeds, [N, 3, R, R] float32 in [-1, 1] on the CPU."""
        G, parts = self.ema.model, []
        for at in range(0, len(prompts), _EVAL_BATCH):
            text = self.players.text_encoder(prompts[at : at + _EVAL_BATCH]).to(self.device)
            z = draw_z(seeds[at : at + _EVAL_BATCH], G.config.z_dim).to(self.device)
            parts.append(G(z, text)[0].float().clamp(-1, 1).cpu())
        return torch.cat(parts)

    def sample(self) -> None:
        """The grid of the fixed prompts and seeds."""
        if not self.main:
            return
        images = self.pictures(self.facts["grid"]["prompts"], self.facts["grid"]["seeds"])
        if not torch.isfinite(images).all():
            raise Diverged("The pictures are not finite")
        file = Path("samples") / f"grid_{self.cur_nimg:09d}.png"
        try:
            (self.out / "samples").mkdir(exist_ok=True)
            save_png(grid(images, 6), self.out / file)
        except OSError as error:
            self._event(Remark(event="not-saved", text=f"{error} The run goes on without this grid."))
            return
        self._write({"kind": "sample", "cur_nimg": self.cur_nimg, "file": str(file)})

    def evaluate(self) -> None:
        """Measure G_ema with the judge; the line holds what `evaluate` returns."""
        found = evaluate(self.pictures, self.judge, n=self.config.eval_n, seed=0)
        self.ratio = found["frechet"] / found["floor"]
        self._write({"kind": "eval", "cur_nimg": self.cur_nimg, **found})
        self.say(f"{self.cur_nimg} images: all four factors {found['all']:.1%}, Fréchet {self.ratio:.1f} times its floor, "
                 f"diversity {found['diversity']:.2f}")
        self._heed(self.monitor.evaluation(self.cur_nimg, self.ratio, found["diversity"]))

    def _heed(self, remarks: list[Remark]) -> None:
        for remark in remarks:
            if not remark.rollback:
                self._event(remark)
        back = next((remark for remark in remarks if remark.rollback), None)
        if back is not None:
            raise Diverged(back.text, to_best=back.event == "frechet-jump")

    def _roll_back(self, why: "Diverged", bar: tqdm) -> None:
        """Back to the last good checkpoint (the best, after a jump of the distance), with half the learning rate."""
        failed_at, multiplier, rollbacks = self.cur_nimg, self.players.lr_multiplier, self.rollbacks + 1
        good = (checkpoint.best(self.out) if why.to_best else None) or checkpoint.newest(self.out)[0]
        if good is None or rollbacks > MAX_ROLLBACKS:
            raise give_up(rollbacks - 1, failed_at)
        if self.main:
            checkpoint.drop_after(self.out, good.cur_nimg)
        seconds, monitor = self.seconds, self.monitor.state
        self._load(good)
        self.seconds, self.rollbacks, self.players.lr_multiplier = seconds, rollbacks, multiplier / 2
        self.monitor.state = {**self.monitor.state, "said": monitor["said"]}
        self.monitor.rolled_back()
        self.statistics = Statistics()
        bar.update(self.cur_nimg - failed_at)
        self._event(Remark(event="rollback", facts={"from_nimg": failed_at, "back_to_nimg": self.cur_nimg}, text=(
            f"{why} Back from {failed_at} to {self.cur_nimg} images; the learning rates are now {self.players.lr_multiplier:g} of "
            "their schedule.")))

    def _event(self, remark: Remark) -> None:
        self.say(remark.text)
        self._write({"kind": "event", "cur_nimg": self.cur_nimg, "event": remark.event, "text": remark.text, **remark.facts})

    def _write(self, line: dict) -> None:
        if self.main:
            self.history.append(line)

    # ---------------------------------------------------------------- end

    def _write_model(self) -> Path:
        """`model/`: G_ema as a pipeline folder."""
        folder = self.out / "model"
        card = {"name": self.out.resolve().name, "preset": self.config.preset, "images": self.cur_nimg, "seed": self.config.seed,
                "data": self.facts["data"]["path"]}  # fmt: skip
        if self.main:
            Pipeline(self.ema.model, self.players.text_encoder, card).save_pretrained(folder, overwrite=True)
        return folder

    def _last_words(self, reason: str, model: Path) -> None:
        if reason == "done":
            self.say(f"Done: {self.cur_nimg} images. The model is in {model}; next: "
                     f"workbench sample --model {model} --prompt \"{self.facts['grid']['prompts'][0]}\"")
        else:
            self.say(f"{'Stopped' if reason == 'stopped' else 'Paused'} at {self.cur_nimg} of {self.config.images} images and saved. "
                     f"The same command goes on from here; the model so far is in {model}.")

    def _bar(self) -> tqdm:
        return tqdm(total=self.config.images, initial=self.cur_nimg, unit="img", desc=self.out.name, disable=not self.progress,
                    dynamic_ncols=True, mininterval=0.5 if sys.stderr.isatty() else 30.0, smoothing=0.05)  # fmt: skip


def _found(clip: str | Path) -> str | Path:
    """The CLIP folder from here, or from where the workbench lies; a name of open_clip passes as it is."""
    beside = ASSETS.parent / clip
    return beside if not Path(clip).exists() and beside.is_dir() else clip
