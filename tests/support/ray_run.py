"""A tiny run or sweep on a local Ray cluster, in a process that tests may interrupt or kill.

`python ray_run.py train DATA CLIP OUT IMAGES` or `python ray_run.py sweep DATA CLIP OUT SWEEP.json`.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def train(inputs: tuple[Path, Path], out: Path, images: int) -> int:
    """What `workbench train --ray --ray-workers 2` does, with tiny networks."""
    import tiny_run

    from workbench.training.launch import launch

    result = launch(
        tiny_run.tiny_config(images=images),
        inputs[0],
        out,
        workers=2,
        device="cpu",
        clip=inputs[1],
        judge=None,
        preset=tiny_run.tiny_preset(),
    )
    return 130 if result.reason == "stopped" else 0


def sweep(inputs: tuple[Path, Path], out: Path, file: Path) -> int:
    """What `workbench sweep` does, with its cache of renders beside the sweep."""
    from workbench.training import sweeps, sweeps_report, sweeps_run

    chosen = sweeps.read_sweep(file)
    judge = ROOT / "assets/models/judge"
    ended = sweeps_run.run_sweep(
        chosen, inputs[0], out, clip=inputs[1], judge=judge, device="cpu", cache=out.parent / "cache"
    )
    sweeps_report.write_report(chosen, out)
    return 0 if ended else 130


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    what, data, clip, out, last = sys.argv[1:]
    inputs = (Path(data), Path(clip))
    sys.exit(train(inputs, Path(out), int(last)) if what == "train" else sweep(inputs, Path(out), Path(last)))
