"""What this machine can do: device, precision, memory format, threads.

Precision is measured, not guessed. bf16 convolutions run some times faster than fp32 on a CPU with AMX or
AVX512-BF16 and some 50 times slower on one with AVX2 alone, where they fall to reference kernels; no flag
tells the two apart as reliably as a second of timing.

bf16 likes channel counts that are multiples of 32, and convolutions on CPU and CUDA want channels_last
(:func:`memory_format`): keep both in mind when a preset is sized.
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F

from workbench.errors import WorkbenchError

PRECISIONS = ("bf16", "fp32")
# Below this gain bf16 is not worth its rounding.
BF16_GAIN = 1.2
# (batch, channels in and out, side): a wide early layer and a narrow late one of a 64 px network.
SHAPES = ((16, 128, 16), (16, 64, 32))
# Names of glibc's mallopt, with the values it starts with.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_THRESHOLD, MMAP_MAX = 128 * 1024, 65_536

Timer = Callable[[str, str, float], float]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as training and sampling see it.

    device: torch device name. precision: "bf16" or "fp32". cores, memory_gib: what this process may use.
    conv_gflops: measured 10⁹ operations a second of 3×3 convolutions, forward and backward, by
    precision (empty: not timed). reason: why this precision, in a sentence.
    """

    device: str
    precision: str
    cores: int
    memory_gib: float
    cpu: str
    conv_gflops: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    gpu: str | None = None
    gpu_memory_gib: float | None = None

    def __post_init__(self) -> None:
        _check_precision(self.precision)


def probe(device: str | None = None, *, quick: bool = True, timer: Timer | None = None) -> Machine:
    """Measure this machine (about a second; five where quick is False) and choose a precision by it.

    device: "cpu", "cuda", "cuda:1", "mps" or None for the best there is. timer(device, precision, seconds) ->
    GFLOP/s replaces the measurement, for tests; without it the answer is kept for the life of the process.
    Raises WorkbenchError when the device is not there.
    """
    chosen = choose_device(device)
    if timer is None:
        return _probe_once(chosen, quick)
    return _probe(chosen, quick, timer)


def choose_device(device: str | None = None) -> str:
    """The device name to use: the one asked for if it is there, else CUDA, MPS or CPU in this order."""
    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    name, _, index = device.partition(":")
    if name == "xla" and importlib.util.find_spec("torch_xla") is not None:
        return device  # a TPU, as Accelerate names it
    if name not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise WorkbenchError(f"The device {device!r} is not known: use cpu, cuda, cuda:0 or mps.")
    if name == "cuda" and not torch.cuda.is_available():
        raise WorkbenchError(
            f"The device {device!r} was asked for, but torch sees no CUDA GPU here: "
            "use cpu, or see `workbench doctor`."
        )
    if name == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise WorkbenchError(
            f"There is no {device!r}: torch sees {torch.cuda.device_count()} CUDA GPU(s), from cuda:0."
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise WorkbenchError("The device 'mps' was asked for, but this is no Mac with an Apple GPU: use cpu.")
    return device


def autocast(device: str | torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Context for forward passes: bf16 autocast, or nothing for fp32. Losses stay outside it."""
    _check_precision(precision)
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def memory_format(device: str | torch.device) -> torch.memory_format:
    """The layout in which convolutions are fastest: channels_last on CPU and CUDA, else the plain one."""
    return torch.channels_last if torch.device(device).type in ("cpu", "cuda") else torch.contiguous_format


def set_threads(count: int | None = None) -> int:
    """Let torch use `count` cores, and return the count. None: OMP_NUM_THREADS, else all that we may use."""
    if count is None:
        asked = os.environ.get("OMP_NUM_THREADS", "")
        count = int(asked) if asked.isdigit() and int(asked) > 0 else usable_cores()
    if count < 1:
        raise WorkbenchError(f"The number of threads is {count}: expected 1 or more.")
    torch.set_num_threads(count)
    return count


def usable_cores() -> int:
    """Cores that this process may use: its affinity, cut by a container's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if quota.isdigit() and period.isdigit():
        affinity = min(affinity, max(1, round(int(quota) / int(period))))
    return affinity


def usable_memory_gib() -> float:
    """Main memory that this process may use, GiB: the machine's, cut by a container's limit."""
    total = psutil.virtual_memory().total
    limit = _read(Path("/sys/fs/cgroup/memory.max"))
    if limit.isdigit():
        total = min(total, int(limit))
    return round(total / 2**30, 1)


def time_convolution(device: str, precision: str, seconds: float) -> float:
    """GFLOP/s of 3×3 convolutions, forward and backward, in channels_last, at SHAPES; about `seconds` long.

    The slowest machine does each shape once: a first pass that is over time already is the measurement.
    """
    flops = elapsed = 0.0
    for batch, channels, side in SHAPES:
        x = torch.randn(batch, channels, side, side, device=device).to(memory_format=memory_format(device))
        weight = torch.randn(channels, channels, 3, 3, device=device).mul_(0.03).requires_grad_()
        x.requires_grad_()
        share = seconds / len(SHAPES)
        best = _time_pass(x, weight, device, precision)
        spent = best
        while spent < share:
            passed = _time_pass(x, weight, device, precision)
            best, spent = min(best, passed), spent + passed
        # Forward is 2·N·C²·9·H·W operations; backward is that twice over.
        flops += 3 * 2.0 * batch * channels**2 * 9 * side**2
        elapsed += best
    return flops / elapsed / 1e9


def _time_pass(x: torch.Tensor, weight: torch.Tensor, device: str, precision: str) -> float:
    """Seconds of one forward and backward pass."""
    _synchronize(device)
    start = time.perf_counter()
    with autocast(device, precision):
        y = F.conv2d(x, weight, padding=1)
    torch.autograd.grad(y.float().square().mean(), (x, weight))
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    name = device.partition(":")[0]
    if name == "cuda":
        torch.cuda.synchronize(device)
    elif name == "mps":
        torch.mps.synchronize()


@functools.cache
def _probe_once(device: str, quick: bool) -> Machine:
    return _probe(device, quick, time_convolution)


def _probe(device: str, quick: bool, timer: Timer) -> Machine:
    kind = device.partition(":")[0]
    gflops: dict[str, float] = {}
    if kind == "mps":
        precision, reason = (
            "fp32",
            "fp32: bf16 is not used on Apple GPUs, where its support varies by system version",
        )
    elif kind == "xla":  # a lazy device: timing it times nothing
        precision, reason = "bf16", "bf16: TPUs compute in it (not measured)"
    elif kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        precision, reason = "fp32", "fp32: this GPU has no bf16 of its own"
    else:
        seconds = 0.2 if quick else 1.2
        # In turns and the best of two, so that another program's burst does not decide.
        rounds = [{p: timer(device, p, seconds) for p in ("fp32", "bf16")} for _ in range(2)]
        gflops = {p: round(max(r[p] for r in rounds), 1) for p in ("fp32", "bf16")}
        gain = gflops["bf16"] / max(gflops["fp32"], 1e-9)
        measured = f"bf16 convolutions run {gain:.2g} times as fast as fp32 here"
        if kind == "cuda":
            precision, reason = "bf16", f"bf16: this GPU computes in it ({measured})"
        elif gain >= BF16_GAIN:
            precision, reason = "bf16", f"bf16: {measured}"
        else:
            precision, reason = "fp32", f"fp32: {measured}, and at least {BF16_GAIN} times is asked for"
    gpu = torch.cuda.get_device_properties(device) if kind == "cuda" else None
    return Machine(
        device=device,
        precision=precision,
        cores=usable_cores(),
        memory_gib=usable_memory_gib(),
        cpu=cpu_name(),
        conv_gflops=gflops,
        reason=reason,
        gpu=gpu.name if gpu else None,
        gpu_memory_gib=round(gpu.total_memory / 2**30, 1) if gpu else None,
    )


def cpu_name() -> str:
    """The processor's name and the widest instruction set that torch uses on it."""
    name = platform.processor() or platform.machine()
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def _read(path: Path) -> str:
    """The text of a system file, or nothing where this system has no such file."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise WorkbenchError(f"The precision {precision!r} is not known: use {' or '.join(PRECISIONS)}.")


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Freed blocks stay with the process meanwhile, to be used again; nothing where there is no glibc.

    Else malloc gives every feature map of some MB back to the kernel as soon as it is freed, and the next one
    comes as fresh pages: sixty thousand page faults a training step. At the end the memory is given back and
    malloc does as it did.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)
        libc.malloc_trim(0)


def peak_mib() -> float:
    """The most memory that this process has held, in MiB.

    By Linux's own count of this program, where there is one: getrusage counts what the process that started
    it held, too.
    """
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
