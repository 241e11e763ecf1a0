"""workbench.hardware: precision follows what was measured, and refusals say what to do."""

import contextlib
import json
import subprocess
import sys

import pytest
import torch

from workbench import hardware
from workbench.errors import WorkbenchError


def timed(fp32: float, bf16: float):
    """A machine with these speeds, and the list of what was asked of it."""
    asked = []

    def timer(device: str, precision: str, seconds: float) -> float:
        asked.append((device, precision))
        return {"fp32": fp32, "bf16": bf16}[precision]

    return timer, asked


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"),
    [
        (300.0, 1500.0, "bf16"),  # AMX
        (300.0, 360.0, "bf16"),  # just worth it
        (300.0, 359.0, "fp32"),
        (200.0, 4.0, "fp32"),  # AVX2 alone: bf16 in reference kernels
    ],
)
def test_precision_on_a_cpu_follows_the_measured_speeds(fp32, bf16, expected):
    timer, asked = timed(fp32, bf16)
    machine = hardware.probe("cpu", timer=timer)
    assert machine.precision == expected
    assert machine.reason.startswith(f"{expected}: ")
    assert machine.conv_gflops == {"fp32": fp32, "bf16": bf16}
    assert set(asked) == {("cpu", "fp32"), ("cpu", "bf16")}


def test_a_burst_of_another_program_does_not_decide():
    speeds = {"fp32": iter([300.0, 300.0]), "bf16": iter([40.0, 900.0])}
    machine = hardware.probe("cpu", timer=lambda device, precision, seconds: next(speeds[precision]))
    assert machine.precision == "bf16"


def test_the_real_probe_takes_a_second_or_so_once_and_is_then_kept():
    machine = hardware.probe("cpu")
    assert machine is hardware.probe("cpu")
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert machine.conv_gflops["fp32"] > 0
    gain = machine.conv_gflops["bf16"] / machine.conv_gflops["fp32"]
    assert (machine.precision == "bf16") == (gain >= hardware.BF16_GAIN)


def test_time_convolution_counts_the_operations_of_what_it_times(monkeypatch):
    shapes = ((2, 8, 4), (1, 16, 8))
    monkeypatch.setattr(hardware, "SHAPES", shapes)
    monkeypatch.setattr(hardware, "_time_pass", lambda *_: 0.5)
    flops = sum(6 * n * c * c * 9 * side * side for n, c, side in shapes)
    assert hardware.time_convolution("cpu", "fp32", 1.0) == pytest.approx(flops / (0.5 * len(shapes)) / 1e9)


def test_autocast_makes_bf16_convolutions_and_leaves_fp32_alone():
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    with hardware.autocast("cpu", "bf16"):
        assert torch.conv2d(x, weight).dtype == torch.bfloat16
    assert isinstance(hardware.autocast("cpu", "fp32"), contextlib.nullcontext)
    with hardware.autocast(torch.device("cpu"), "fp32"):
        assert torch.conv2d(x, weight).dtype == torch.float32


def test_memory_format_is_channels_last_where_convolutions_want_it():
    assert hardware.memory_format("cpu") == torch.channels_last
    assert hardware.memory_format("cuda:1") == torch.channels_last
    assert hardware.memory_format("mps") == torch.contiguous_format


def test_threads_follow_the_environment_then_the_machine(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert hardware.set_threads() == torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "many")
        assert hardware.set_threads() == hardware.usable_cores()
        with pytest.raises(WorkbenchError, match="threads is 0: expected 1 or more"):
            hardware.set_threads(0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "cpu:-1"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(WorkbenchError, match="is not known: use cpu, cuda, cuda:0 or mps"):
        hardware.probe(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(WorkbenchError, match="'cuda' was asked for, but torch sees no CUDA GPU"):
        hardware.probe("cuda")


def test_unknown_precision_is_refused():
    with pytest.raises(WorkbenchError, match="'fp8' is not known: use bf16 or fp32"):
        hardware.autocast("cpu", "fp8")
    with pytest.raises(WorkbenchError, match="'half' is not known"):
        hardware.Machine(device="cpu", precision="half", cores=1, memory_gib=1.0, cpu="none")


@pytest.mark.gpu
def test_cuda_uses_bf16_where_the_gpu_has_it():
    machine = hardware.probe("cuda")
    assert machine.gpu and machine.gpu_memory_gib > 0
    assert (machine.precision == "bf16") == torch.cuda.is_bf16_supported(including_emulation=False)


KEPT = """
import json, resource, psutil, torch
from workbench import hardware

def faults(mib):
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(mib * 2**20, dtype=torch.uint8)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun) / mib

before = faults(40)
with hardware.kept_memory():
    faults(40)
    inside = faults(40)
    resident = psutil.Process().memory_info().rss
given_back = resident - psutil.Process().memory_info().rss
print(json.dumps([before, inside, given_back, faults(80)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are counted as Linux counts them")
def test_kept_memory_takes_no_fresh_pages_and_gives_them_back():
    """A block freed and taken again is the same pages inside; outside each one is fresh.

    Afterwards a larger one is asked for: where something small came to lie above the block inside, malloc
    keeps its address range (without its pages) and uses it again, on some machines and not on others. In a
    process of its own, because what lies where is decided by all that a process did before.
    """
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    before, inside, given_back, after = json.loads(done.stdout)
    assert inside < 0.1 * before, (before, inside)
    assert given_back > 30 * 2**20
    assert after > 0.5 * before, (before, after)


def test_peak_memory_is_this_process_own():
    """A child counts its own memory, not that of a large parent; what it takes and gives back counts."""
    ballast = torch.zeros(100 << 20, dtype=torch.float32)  # 400 MiB in the parent
    code = (
        "from workbench import hardware; before = hardware.peak_mib();"
        "block = b'x' * (100 << 20); del block; print(before, hardware.peak_mib())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 80 < after - before < 140
    assert hardware.peak_mib() > ballast.numel() * 4 / 2**20
