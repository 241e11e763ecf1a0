"""More than one machine, more than one run: options of `workbench train` for a Ray cluster, and sweeps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.commands.common import CLIP, JUDGE, STOPPED, Text, Whole, app, find_file, find_model
from workbench.errors import WorkbenchError


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The machines that share the batch; all see data and run folder under the same path."""

    ray: bool = False
    """Train on a Ray cluster (pip install workbench[cluster]); this machine alone without an address."""
    ray_workers: Whole = None
    """Processes; one for each GPU, or for each machine where there is none, when left out."""
    ray_address: Text = None
    """A running Ray cluster, such as auto or 10.0.0.5:6379."""


THIS_MACHINE = Cluster()


def starter(cluster: Cluster) -> Callable:
    """`train`, or what calls it on the workers of a Ray cluster."""
    if not cluster.ray:
        for name in ("ray_workers", "ray_address"):
            if getattr(cluster, name) is not None:
                raise WorkbenchError(f"--{name.replace('_', '-')} goes with --ray: add it.")
        from workbench.training.trainer import train

        return train
    from functools import partial

    from workbench.training.launch import launch

    return partial(launch, workers=cluster.ray_workers, address=cluster.ray_address)


@app.command(name="sweep")
def sweep(
    *,
    config: Path = Path("benchmarks/sweep.json"),
    data: Path = Path("runs/world"),
    out: Path = Path("runs/sweep"),
    ray_address: Text = None,
    clip: str = CLIP,
    judge: str = JUDGE,
    device: Text = None,
) -> int:
    """Search training settings with Ray Tune and ASHA. Ctrl-C saves; the same line goes on.

    Args:
        config: JSON file of the sweep: preset, images, objective, space, samples, halving.
        data: Data set folder with metadata.jsonl.
        out: Folder for the trials' runs, table.json, table.md, sweep.png and best.json; trials that ended
            are not trained again.
        ray_address: A running Ray cluster, such as auto or 10.0.0.5:6379; this machine alone when left out.
        clip: CLIP folder whose towers read the captions and see the pictures.
        judge: Folder of the judge that measures each trial.
        device: cpu, cuda, cuda:0, mps; a GPU for each trial where the cluster has some when left out.
    """
    from workbench.training.sweeps import read_sweep
    from workbench.training.sweeps_report import BEST, write_report
    from workbench.training.sweeps_run import run_sweep

    chosen = read_sweep(find_file(config))
    ended = run_sweep(
        chosen,
        data,
        out,
        clip=find_model(clip),
        judge=find_model(judge),
        address=ray_address,
        device=device,
    )
    page = write_report(chosen, out)
    print("No trial is measured yet." if page is None else page)
    if (out / BEST).is_file():
        print(f"The best settings: {out / BEST}; next: workbench train --config {out / BEST} --data {data}")
    return 0 if ended else STOPPED
