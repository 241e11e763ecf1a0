"""Images per second of one process with all cores, and of gloo processes that share cores and batch.

    python benchmarks/scaling.py --processes 2

Same preset, whole batch and data; whole steps with every loss, penalties at their interval, the making of
batches and the meetings of the processes included. Prints one JSON object; `efficiency` is the shared rate
over the single one, `precision` what all computed in, the faster one here unless told. The figure
scaling.gloo2 is its efficiency on an idle machine of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

PICTURES = 450  # of the made-up world: more than a penalty interval shows


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rate(preset: str, clip: str, batch_size: int, precision: str) -> float:
    """Images a second of this process together with the others of its group."""
    from accelerate import Accelerator

    from workbench import hardware
    from workbench.datasets.table import PictureTable
    from workbench.models import presets
    from workbench.training.accumulation import take_step
    from workbench.training.batches import Feed
    from workbench.training.config import TrainConfig
    from workbench.training.players import build
    from workbench.training.shares import Processes

    processes = Processes(Accelerator(cpu=True))
    chosen = presets.preset(preset)
    config = TrainConfig.for_preset(preset, batch_size=batch_size, precision=precision)
    table = PictureTable.from_world(0, PICTURES, chosen.generator.resolution)
    players = build(chosen, config, clip, "cpu", precision)
    players.processes = processes
    feed = Feed(
        table, players.captions, config, chosen.generator.z_dim, torch.device("cpu"),
        rank=processes.rank, world=processes.world,
    )  # fmt: skip

    def run(steps: range) -> float:
        processes.wait()
        begun = time.perf_counter()
        for step in steps:
            take_step(players, feed.parts_at(step), cur_nimg=step * batch_size, step=step, config=config)
        processes.wait()
        return time.perf_counter() - begun

    with hardware.kept_memory():  # as `train` does
        run(range(3))  # weights in their layouts, allocator warm
        seconds = run(range(config.r1_every))
    return batch_size * config.r1_every / seconds


def worker(out: Path, args: argparse.Namespace) -> None:
    """One process of a group: the first writes the group's rate."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = rate(args.preset, args.clip, args.batch_size, args.precision)
    if os.environ.get("RANK", "0") == "0":
        out.write_text(json.dumps(found))


def group_rate(processes: int, threads: int, args: argparse.Namespace) -> float:
    """Images a second of `processes` processes with `threads` threads each. RuntimeError when one fails."""
    shared = {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true"}
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    line = [sys.executable, __file__, "--preset", args.preset, "--clip", args.clip]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "rate.json"
        line += ["--precision", args.precision, "--batch-size", str(args.batch_size), "--worker", str(out)]
        ranks = [{"RANK": str(k), "LOCAL_RANK": str(k)} if processes > 1 else {} for k in range(processes)]
        group = [subprocess.Popen(line, env={**os.environ, **shared, **rank}) for rank in ranks]
        try:
            codes = [process.wait() for process in group]
        finally:
            for process in group:
                process.kill()
        if any(codes):
            raise RuntimeError(f"the processes ended with {codes}")
        return json.loads(out.read_text())


def main() -> None:
    """Measure both in turns, the best of `--rounds` each, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="shepherd-64")
    parser.add_argument("--clip", default="assets/models/mini-clip")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        worker(args.worker, args)
        return
    if args.precision == "auto":  # as a training here would choose
        from workbench import hardware

        args.precision = hardware.probe("cpu").precision
    single, shared = 0.0, 0.0
    for _ in range(args.rounds):  # in turns, so that another program's burst does not decide
        single = max(single, group_rate(1, args.cores, args))
        shared = max(shared, group_rate(args.processes, args.cores // args.processes, args))
    result = {
        "preset": args.preset,
        "batch_size": args.batch_size,
        "precision": args.precision,
        "cores": args.cores,
        "processes": args.processes,
        "images_per_s_1": round(single, 2),
        f"images_per_s_{args.processes}": round(shared, 2),
        "efficiency": round(shared / single, 4),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
