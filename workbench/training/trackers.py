"""Trackers that draw a run's curves and grids beside its own history: TensorBoard and Trackio, both local.

Each gets the lines of history.jsonl. Their packages are an extra and imported when asked for. Nothing is sent
anywhere: Trackio is kept to its local file, and settings by which it would send are refused.
"""

import contextlib
import importlib
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from workbench.errors import WorkbenchError

NAMES = ("tensorboard", "trackio")
# Settings by which Trackio would send what it gets to another machine.
SENDING = (
    "TRACKIO_SPACE_ID",
    "TRACKIO_SERVER_URL",
    "TRACKIO_BUCKET_ID",
    "TRACKIO_DATASET_ID",
    "TRACKIO_REGISTRY_BUCKET_ID",
    "TRACKIO_WEBHOOK_URL",
)
_NOT_CURVES = ("kind", "cur_nimg", "step", "n", "feature_dim")


class Tracker(Protocol):
    """Takes a run's history line by line."""

    def take(self, line: dict) -> None:
        """One line: numbers become curves, a grid a picture, an event a text."""

    def close(self) -> None:
        """Write what is held and let go."""


def opener(name: str | None, run: Path) -> Callable[[int], Tracker] | None:
    """From the images so far to the tracker of that name; None for none.

    Raises WorkbenchError now, before minutes are spent, for a name that is not known, a package that is
    missing, and for Trackio where it would send.
    """
    if name is None:
        return None
    if name not in NAMES:
        raise WorkbenchError(f"tracker is {name!r}: expected {' or '.join(NAMES)}.")
    if name == "trackio":  # read when the package is loaded; a choice of the user's stands
        os.environ.setdefault("TRACKIO_DIR", str(run.resolve().parent / "trackio"))
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise WorkbenchError(
            f"The tracker {name} needs the package {name}, which is not installed ({error}): "
            f"pip install {name}, or train without --tracker; history.jsonl holds the same."
        ) from error
    if name == "tensorboard":
        return partial(TensorBoard, run)
    if found := [setting for setting in SENDING if os.environ.get(setting)]:
        raise WorkbenchError(
            f"{found[0]} is set, by which Trackio would send this run to another machine: unset it, "
            "because runs are tracked on this machine only."
        )
    return partial(Trackio, run)


class TensorBoard:
    """Event files in `<run>/tensorboard`: `tensorboard --logdir <folder of runs>` shows them side by side."""

    def __init__(self, run: Path, cur_nimg: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run = run
        # what was written beyond the checkpoint that the run goes on from is drawn anew
        purge = cur_nimg + 1 if cur_nimg else None
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=purge)

    def take(self, line: dict) -> None:
        """One line of the history, at its count of images."""
        at = line["cur_nimg"]
        for name, value in curves(line).items():
            self._writer.add_scalar(name, value, at)
        if line["kind"] == "sample":
            self._writer.add_image("grid", _pixels(self._run / line["file"]), at, dataformats="HWC")
        elif line["kind"] == "event":
            self._writer.add_text("events", line["text"], at)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Trackio:
    """A run of the project "workbench" in Trackio's local file, in `trackio` beside the run folders.

    `TRACKIO_DIR=<folder of runs>/trackio trackio show` opens it. Trackio cannot take points back: after a
    kill, what came since the last checkpoint stands there twice.
    """

    def __init__(self, run: Path, cur_nimg: int) -> None:
        import trackio

        self._trackio, self._folder = trackio, run
        with contextlib.redirect_stdout(io.StringIO()):  # it greets at length; stdout is for results
            self._run = trackio.init(
                project="workbench",
                name=run.resolve().name,
                space_id=None,
                resume="allow" if cur_nimg else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def take(self, line: dict) -> None:
        """One line of the history, at its count of images."""
        found: dict[str, Any] = dict(curves(line))
        if line["kind"] == "sample":
            found["grid"] = self._trackio.Image(str(self._folder / line["file"]))
        elif line["kind"] == "event":
            found["events"] = self._trackio.Markdown(line["text"])
        if found:
            self._run.log(found, step=line["cur_nimg"])

    def close(self) -> None:
        """Wait until everything is in the file."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


def curves(line: dict) -> dict[str, float]:
    """The numbers of a line, named for grouping: "D.loss" is "D/loss", those of an evaluation "eval/…"."""
    group = {"eval": "eval/", "held-out": "held-out/"}.get(line["kind"], "")
    if line["kind"] not in ("step", "eval", "held-out"):
        return {}
    return {
        group + name.replace(".", "/", 1): float(value)
        for name, value in line.items()
        if name not in _NOT_CURVES and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _pixels(path: Path) -> Any:
    """A picture as uint8 [H, W, 3]."""
    import numpy as np

    from workbench.images import open_picture

    with open_picture(path) as picture:
        return np.asarray(picture.convert("RGB"))
