"""A training run of seconds, in the test's own process or in one that may be killed."""

import json
import multiprocessing as mp
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch

from workbench import hardware
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError
from workbench.models.discriminator import DiscriminatorConfig
from workbench.models.generator import GeneratorConfig
from workbench.models.mini_clip import new_mini_clip
from workbench.models.presets import Preset
from workbench.models.text import save_clip
from workbench.models.upsampler import UpsamplerConfig
from workbench.models.vision_aided import VisionAidedConfig
from workbench.training import checkpoint, setup
from workbench.training.config import TrainConfig
from workbench.training.trainer import Result, train


def tiny_preset(resolution: int = 8, *, heads: bool = False) -> Preset:
    """Networks of some 10,000 weights with every kind of part."""
    sizes = [4 << i for i in range(resolution.bit_length() - 2)]
    return Preset(
        name="tiny",
        generator=GeneratorConfig(
            resolution=resolution,
            channels=dict.fromkeys(sizes, 8),
            kernels=dict.fromkeys(sizes, 2),
            blocks=dict.fromkeys(sizes, 1),
            attention={},
            cross_attention={8: 1},
            z_dim=8,
            w_dim=16,
            mapping_layers=2,
            text_dim=128,
            text_layers=1,
            mlp_ratio=1,
        ),
        discriminator=DiscriminatorConfig(
            resolution=resolution,
            channels=dict.fromkeys(sizes, 8),
            entries=(resolution,),
            exits=(4, 1),
            attention={},
            text_dim=128,
            text_layers=1,
            head_layers=1,
            mlp_ratio=1,
        ),
        vision_aided=VisionAidedConfig(proj=8, width=8) if heads else None,
    )


def tiny_upsampler(**changes: object) -> UpsamplerConfig:
    """2 times, two halvings, with every kind of part."""
    levels = (-2, -1, 0, 1)
    fields = {
        "factor": 2, "down": 2, "channels": dict.fromkeys(levels, 8), "kernels": dict.fromkeys(levels, 2),
        "blocks": dict.fromkeys(levels, 1), "attention": {-2: 1, -1: 1}, "cross_attention": {-2: 1},
        "window": 8, "z_dim": 8, "w_dim": 16, "mapping_layers": 2, "text_dim": 128, "text_layers": 1,
        "mlp_ratio": 1, "mapping_lr_mul": 0.3,
    }  # fmt: skip
    return UpsamplerConfig(**{**fields, **changes})


def tiny_upsampler_preset() -> Preset:
    """Of 4 px crops to 8 px, of pictures of 16 px; D takes oblong crops too."""
    base = tiny_preset(8)
    judge = replace(base.discriminator, entries=(8, 4), exits=(4, 1), collapse="mean", group=0)
    return replace(base, generator=tiny_upsampler(), discriminator=judge)


UPSAMPLING = {"picture_size": 16, "mode_seeking_weight": 0.0, "pixel_weight": 1.0, "grid": (4, 2)}


def tiny_config(**changes: object) -> TrainConfig:
    """24 steps of 8 pictures; everything happens at least twice."""
    fields = {
        "images": 192,
        "batch_size": 8,
        "precision": "fp32",
        "vision_weight": 0.0,
        "r1_every": 4,
        "log_every_nimg": 24,
        "sample_every_nimg": 64,
        "eval_every_nimg": 0,
        "checkpoint_every_nimg": 48,
        "keep_checkpoints": 2,
    }
    return TrainConfig(**{**fields, **changes})


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """A data set of 40 pictures and a mini-CLIP with random weights: (data, clip)."""
    data, clip = folder / "data", folder / "clip"
    if not data.is_dir():
        write_world(data, count=40, seed=3, resolution=16, workers=1, progress=False)
    if not clip.is_dir():
        from workbench.datasets.world.captions import vocabulary

        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_clip(new_mini_clip(vocabulary()), clip)
    return data, clip


def run_tiny(
    inputs: tuple[Path, Path],
    out: Path,
    *,
    heads: bool = False,
    resolution: int = 8,
    upsamples: bool = False,
    **options,
) -> Result:
    """Train in this process. Fields of TrainConfig and arguments of `train` may be mixed in `options`."""
    known = {name: options.pop(name) for name in list(options) if name in TrainConfig.__dataclass_fields__}
    if heads:
        known = {"vision_weight": 1.0, **known}
    if upsamples:
        known = {**UPSAMPLING, **known}
    preset = tiny_upsampler_preset() if upsamples else tiny_preset(resolution, heads=heads)
    data, clip = inputs
    options = {"judge": None, "progress": False, "device": "cpu", **options}
    return train(tiny_config(**known), data, out, clip=clip, preset=preset, **options)


def forkserver() -> mp.context.BaseContext:
    """Where tests start processes: what they import is loaded once for all of them, a start takes moments."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "accelerate",
            "workbench.training.trainer",
            "workbench.training.sharding",
            "workbench.datasets.world.folder",
        ]
    )
    return context


def start_process(inputs: tuple[Path, Path], out: Path, said: Path | None = None) -> mp.process.BaseProcess:
    """`run_tiny` in a process of its own, one thread; what it prints goes into the file `said`."""
    process = forkserver().Process(target=_run_alone, args=(inputs, out, said))
    process.start()
    return process


def _settle() -> None:
    """In a process of its own: one thread, and nobody measures how fast this machine is."""
    torch.set_num_threads(1)
    hardware.time_convolution = lambda *args: 1.0


def _run_alone(inputs: tuple[Path, Path], out: Path, said: Path | None) -> None:
    _settle()
    with open(said or os.devnull, "w", buffering=1) as words, redirect_stdout(words), redirect_stderr(words):
        run_tiny(inputs, out, progress=True)


def start_pair(
    inputs: tuple[Path, Path], out: Path, port: int, *, late: float = 0.0, images: int = 64, **options
) -> list[mp.process.BaseProcess]:
    """One tiny run by two processes, as `accelerate launch` or torchrun start them.

    late: seconds that the second one loses before it looks for a checkpoint. options: as of `run_tiny`. Each
    writes its weights to rank*.json beside the run, or the error that ended it to rank*.txt.
    """
    context = forkserver()
    options["images"] = images
    pair = [
        context.Process(target=_run_rank, args=(inputs, out, rank, port, late, options)) for rank in range(2)
    ]
    for process in pair:
        process.start()
    return pair


def _run_rank(inputs: tuple[Path, Path], out: Path, rank: int, port: int, late: float, options: dict) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    _settle()
    players = []
    built = setup.players.build

    def build(*args, **kwargs):
        players.append(built(*args, **kwargs))
        return players[0]

    newest = checkpoint.newest

    def newest_after_a_while(run: Path):
        time.sleep(late * rank)
        return newest(run)

    checkpoint.newest = newest_after_a_while
    setup.players.build = build  # to look at this process's own weights afterwards
    try:
        run_tiny(inputs, out, **options)
    except WorkbenchError as error:
        (out.parent / f"rank{rank}.txt").write_text(str(error))
        raise SystemExit(2) from error  # as the command line does
    weights = [p.detach().double().flatten() for m in players[0].modules().values() for p in m.parameters()]
    (out.parent / f"rank{rank}.json").write_text(json.dumps(torch.cat(weights).tolist()))
