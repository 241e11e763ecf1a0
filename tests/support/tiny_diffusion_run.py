"""A diffusion run of seconds, in the test's own process or in one that may be killed."""

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import tiny_run
from tiny_diffusion import tiny_config

from workbench.diffusion.config import DiffusionConfig
from workbench.diffusion.training import train_baseline
from workbench.training.loop import Result

COMMON = {
    "images": 96,
    "batch_size": 8,
    "precision": "fp32",
    "log_every_nimg": 24,
    "sample_every_nimg": 48,
    "checkpoint_every_nimg": 32,
    "grid": (2, 1),
    "warmup_nimg": 16,
}


def run_baseline(inputs: tuple[Path, Path], out: Path, **options) -> Result:
    """Fields of DiffusionConfig and arguments of `train_baseline` may be mixed in `options`."""
    known = {n: options.pop(n) for n in list(options) if n in DiffusionConfig.__dataclass_fields__}
    config = DiffusionConfig(**{**COMMON, "sample_steps": 1, "preset": "shepherd-32", **known})
    data, clip = inputs
    options = {"progress": False, "device": "cpu", "network": tiny_config(), **options}
    return train_baseline(config, data, out, clip=clip, **options)


def start_baseline(inputs: tuple[Path, Path], out: Path):
    """`run_baseline` in a process of its own, one thread."""
    process = tiny_run.forkserver().Process(target=_alone, args=(inputs, out))
    process.start()
    return process


def _alone(inputs, out) -> None:
    tiny_run._settle()
    with open(os.devnull, "w") as words, redirect_stdout(words), redirect_stderr(words):
        run_baseline(inputs, out)
