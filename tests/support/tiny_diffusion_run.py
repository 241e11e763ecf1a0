"""A diffusion run of seconds, in the test's own process or in one that may be killed."""

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import tiny_run
from tiny_diffusion import tiny_config

from workbench.diffusion.config import DiffusionConfig, DistillConfig
from workbench.diffusion.distilling import distil
from workbench.diffusion.training import train_baseline
from workbench.models.discriminator import DiscriminatorConfig
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


def run_student(inputs: tuple[Path, Path], teacher: Path, out: Path, **options) -> Result:
    """Fields of DistillConfig and arguments of `distil` may be mixed in `options`."""
    known = {n: options.pop(n) for n in list(options) if n in DistillConfig.__dataclass_fields__}
    shape = {"rank": 2, "teacher_steps": 10, "student_steps": 2, "r1_every": 4}
    config = DistillConfig(**{**COMMON, **shape, **known})
    options = {"progress": False, "device": "cpu", "discriminator": tiny_judge(), **options}
    return distil(config, teacher, inputs[0], out, **options)


def tiny_judge() -> DiscriminatorConfig:
    """D at the tiny model's 16 px."""
    return tiny_run.tiny_preset(16).discriminator
