"""Joules that something takes, where the machine can say: RAPL on Intel and AMD processors, NVML on GPUs.

Neither is guessed. Where no counter can be read the answer is None, with the reason.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True, kw_only=True)
class Energy:
    """joules: None where they could not be counted; how: by which counter, or why not."""

    joules: float | None
    how: str


def measure(work: Callable[[], object], *, device: str = "cpu", rapl: Path = RAPL) -> Energy:
    """Run `work` once and count what the processor's packages, or the GPU, used meanwhile, idle power
    included."""
    counter, how = _gpu_counter(device) if device.startswith("cuda") else _cpu_counter(rapl)
    if counter is None:
        work()
        return Energy(joules=None, how=how)
    before = counter()
    work()
    return Energy(joules=_passed(before, counter()), how=how)


Reading = list[tuple[float, float]]  # (joules so far, where that counter starts again)


def _passed(before: Reading, after: Reading) -> float:
    """A counter that ran over began at 0 again, once at most."""
    return sum(b - a if b >= a else b + around - a for (a, around), (b, _) in zip(before, after, strict=True))


def _cpu_counter(rapl: Path) -> tuple[Callable[[], Reading] | None, str]:
    packages = []
    for zone in sorted(rapl.glob("*-rapl:*")) if rapl.is_dir() else []:
        name = zone / "name"
        if name.is_file() and name.read_text().startswith("package"):
            packages.append(zone)
    if not packages:
        return None, "this machine shows no RAPL counter"
    try:
        around = [int((zone / "max_energy_range_uj").read_text()) / 1e6 for zone in packages]
        _read_rapl(packages)
    except PermissionError:
        return None, "the RAPL counter may be read by root alone"
    except (OSError, ValueError) as error:
        return None, f"the RAPL counter cannot be read ({error})"
    return lambda: list(zip(_read_rapl(packages), around, strict=True)), f"RAPL, {len(packages)} package(s)"


def _read_rapl(packages: list[Path]) -> list[float]:
    return [int((zone / "energy_uj").read_text()) / 1e6 for zone in packages]


def _gpu_counter(device: str) -> tuple[Callable[[], Reading] | None, str]:
    if importlib.util.find_spec("pynvml") is None:
        return None, "reading a GPU's energy needs nvidia-ml-py (`pip install nvidia-ml-py`)"
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        # by its name, for NVML counts all GPUs and torch those that CUDA_VISIBLE_DEVICES leaves
        name = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{name}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return None, f"this GPU does not tell its energy ({error})"
    return lambda: [(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, 0.0)], "NVML, whole GPU"
