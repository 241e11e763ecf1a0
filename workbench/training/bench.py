"""How fast a preset trains on this machine, and where its time goes."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from workbench import hardware
from workbench.errors import WorkbenchError
from workbench.models.presets import Preset, preset
from workbench.training import steps
from workbench.training.config import TrainConfig
from workbench.training.players import Players, build
from workbench.training.step_batch import StepBatch

# operators that are arithmetic the networks cannot do without: convolutions and matrix products
KERNELS = (
    "convolution",
    "conv2d",
    "aten::mm",
    "aten::bmm",
    "aten::addmm",
    "aten::baddbmm",
    "aten::mv",
    "scaled_dot_product",
    "gemm",
    "cudnn",
    "xmma",
    "cutlass",
)
SHOWN = 15
_FREE = 2**28  # numbers of four bytes: 1 GiB, more than a step of 32 small pictures holds


@dataclass(frozen=True, kw_only=True)
class StepSpeed:
    """Speed of whole training steps: D and G, every loss that the preset trains with (what it leaves off, as
    the reconstruction, stays off), penalties at their interval.

    images_per_s: batch over the mean second of a full penalty interval; kernel_share: self time inside
    convolution and matrix kernels over all operators' self time (None without a profile); profile: (operator,
    share, calls) rows.
    """

    preset: str
    device: str
    precision: str
    batch_size: int
    steps: int
    images_per_s: float
    step_ms_median: float
    kernel_share: float | None
    profile: list[tuple[str, float, int]]

    def to_json(self) -> dict:
        """Plain values for `--json`."""
        return {**vars(self), "profile": [list(row) for row in self.profile]}

    def __rich__(self) -> Table:
        """The profile as a table, the speed as its title."""
        setting = f"{self.preset} on {self.device} in {self.precision}, batch {self.batch_size}"
        title = f"{setting}: {self.images_per_s:.1f} images/s"
        share = (
            ""
            if self.kernel_share is None
            else f"{self.kernel_share:.1%} of the processor time in convolution and matrix kernels"
        )
        table = Table("operator", "share of processor time", "calls a step", title=title, caption=share)
        for name, part, calls in self.profile:
            table.add_row(name, f"{part:.1%}", str(calls))
        return table


def made_up_batch(players: Players, batch_size: int, seed: int) -> StepBatch:
    """A batch of noise pictures with real captions: the arithmetic of a step does not depend on what they
    show.
    """
    generator = torch.Generator().manual_seed(seed)
    device = players.G.w_avg.device
    size = players.G.config.resolution
    captions = [f"a dog number {k}" for k in range(batch_size // 2)]
    text = players.captions(captions).index_select(torch.arange(batch_size) // 2).to(device)
    images = torch.rand(batch_size, 3, size, size, generator=generator) * 2 - 1
    return StepBatch(
        images=images.to(device, memory_format=torch.channels_last),
        text=text,
        mismatch=torch.arange(batch_size, device=device).roll(2),
        z=torch.randn(batch_size, players.G.config.z_dim, generator=generator).to(device),
        generator=generator,
    )


def check_draws(chosen: Preset) -> None:
    """WorkbenchError for an upsampler, whose step these benches don't make."""
    if chosen.upsamples:
        raise WorkbenchError(
            f"{chosen.name} enlarges pictures, and this bench times presets that draw them: give shepherd-32 "
            "or shepherd-64. An upsampler's speed stands in its history as it trains."
        )


def step(
    name: str | Preset = "shepherd-64",
    *,
    clip: str | Path,
    device: str | None = None,
    precision: str = "auto",
    batch_size: int | None = None,
    profiled: bool = False,
) -> StepSpeed:
    """Time one full penalty interval of training steps after a warm-up; with `profiled`, profile one more
    such interval. name: a preset's, or networks of other sizes under the name of the one they are trained as.
    batch_size: the preset's when None.
    """
    machine = hardware.probe(device)
    precision = machine.precision if precision == "auto" else precision
    chosen = preset(name) if isinstance(name, str) else name
    check_draws(chosen)
    own = {} if batch_size is None else {"batch_size": batch_size}
    config = TrainConfig.for_preset(chosen.name, **own, precision=precision)
    batch_size = config.batch_size
    players = build(chosen, config, clip, machine.device, precision)
    batches = [made_up_batch(players, batch_size, seed) for seed in range(4)]

    def run(at: int) -> None:
        steps.train_step(players, batches[at % 4], cur_nimg=at * batch_size, step=at, config=config)
        if machine.device.startswith("cuda"):
            torch.cuda.synchronize()

    with hardware.kept_memory():  # as `train` does
        for at in range(3):  # weights in their layouts, allocator warm
            run(at)
        seconds = []
        for at in range(config.r1_every):
            begun = time.perf_counter()
            run(at)
            seconds.append(time.perf_counter() - begun)
        rows, share = profile_steps(run, config.r1_every) if profiled else ([], None)
    return StepSpeed(
        preset=chosen.name, device=machine.device, precision=precision,
        batch_size=batch_size, steps=len(seconds),
        images_per_s=batch_size * len(seconds) / sum(seconds),
        step_ms_median=1000 * statistics.median(seconds),
        kernel_share=share, profile=rows,
    )  # fmt: skip


def profile_steps(run, count: int) -> tuple[list[tuple[str, float, int]], float]:
    """Profile `count` calls of run(k). Returns the costliest operators as (name, share of self time, calls a
    step), and the share of convolution and matrix kernels in all self time.

    On the CPU on one thread, where an operator's self time is its processor time. With more of them the
    profiler would see wall time: an operator too small to be divided would count for the idle cores too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _profiled(run, count)
    finally:
        torch.set_num_threads(threads)


def _profiled(run, count: int) -> tuple[list[tuple[str, float, int]], float]:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    cpu, cuda, calls = Counter(), Counter(), Counter()
    for at in range(count):
        # A profile for each step, and free memory in one piece before it: what the profiler keeps breaks that
        # up, and every large map would come as fresh pages, as none does in a training (a tenth of the time).
        torch.ones(_FREE)
        with profile(activities=activities) as trace:
            run(at)
        for event in trace.key_averages():
            cpu[event.key] += event.self_cpu_time_total
            cuda[event.key] += event.self_device_time_total
            calls[event.key] += event.count
        del trace
    times = cuda if any(cuda.values()) else cpu
    total = sum(times.values())
    rows = [(key, t / total, round(calls[key] / count)) for key, t in times.most_common(SHOWN)]
    return rows, sum(t for key, t in times.items() if any(part in key for part in KERNELS)) / total
