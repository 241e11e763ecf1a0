"""torch.compile for the passes of G and D that no double backward runs through.

A penalty differentiates a gradient, which compiled graphs cannot; it goes through D as it is.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

import torch

from workbench.errors import WorkbenchError
from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator

_COMPILERS = ("c++", "g++", "clang++", "cl")


def check_compiler(device: str | torch.device) -> None:
    """WorkbenchError where torch.compile has no C++ compiler (CPU) or no Triton (CUDA) to make code with."""
    kind = torch.device(device).type
    if kind == "cuda":
        there, needed = importlib.util.find_spec("triton") is not None, "Triton (the package triton)"
    elif kind == "cpu":
        there = any(map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS)))
        needed = "a C++ compiler (g++, or CXX set to one)"
    else:
        there, needed = False, "a CPU or a CUDA GPU"
    if not there:
        raise WorkbenchError(
            f"compile is on, but torch.compile cannot work on {kind} here: expected {needed}. Install it, or "
            "train without compile."
        )


def compiled(
    G: Generator, D: Discriminator, device: str | torch.device, backend: str = "inductor"
) -> dict[str, Callable]:
    """ "synthesis" and "D", to be called as `G.synthesis` and `D` are; parameters stay those of G and D.

    Compiled at the first call, for about a minute. Raises WorkbenchError where there is no compiler.
    """
    check_compiler(device)
    return {
        "synthesis": torch.compile(G.synthesis, backend=backend, dynamic=False),
        "D": torch.compile(D, backend=backend, dynamic=False),
    }
