"""The subcommands of `workbench`: one thin function each, calling what notebooks and app call.

Heavy imports stay inside the functions, so that --help answers at once and importing launches nothing.
"""

from workbench.commands import (  # each adds its own to the tree
    carry,
    data,
    diffusion,
    evaluate,
    latents,
    make,
    measure,
    scale,
    upscale,
    use,
)
from workbench.commands.common import STOPPED, app, find_model

__all__ = [
    "STOPPED",
    "app",
    "carry",
    "data",
    "diffusion",
    "evaluate",
    "find_model",
    "latents",
    "make",
    "measure",
    "scale",
    "upscale",
    "use",
]
