"""One pass over a source with any number of meters: resumable, and shared among processes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from workbench import hardware
from workbench.evaluation.metrics.meters import Meter
from workbench.evaluation.metrics.sources import Source, digest
from workbench.evaluation.metrics.team import ALONE, Team
from workbench.evaluation.reference import Progress
from workbench.images import write_whole

SCHEMA = 1
CACHE = Path("runs") / "evaluation-cache"
BATCH = 50
SAVE_EVERY = 500  # pictures of one process between two savings, at least, and an eighth of all of them


def stream(
    source: Source,
    meters: Sequence[Meter],
    *,
    batch_size: int = BATCH,
    cache: Path | None = CACHE,
    fresh: bool = False,
    team: Team = ALONE,
    progress: Progress | None = None,
    what: str = "measuring",
    save_every: int | None = None,
) -> None:
    """Show every picture of a source to every meter, once; afterwards each meter holds the sums of all.

    cache: where this process's sums lie between runs, so that an interrupted pass goes on and a finished one
    is not measured again; None keeps nothing. fresh: begin anew. team: each process takes every world-th
    batch; the sums of all are added at the end, in every process. Batches are the same however many
    processes, so that no picture's features depend on that. save_every: pictures between two savings; where
    `progress` raises, all that was measured is saved first.
    """
    n, done = len(source), 0
    batches = [number for number in range(-(-n // batch_size)) if team.takes(number)]
    said = source.facts.captions if any(m.reads_captions for m in meters) else ""
    key = digest(
        SCHEMA, source.facts.cache_key, said, n, batch_size, team.rank, team.world, [m.key for m in meters]
    )
    place = None if cache is None else Path(cache) / f"pass-{key}.safetensors"
    if place is not None and not fresh:
        done = _load(place, key, meters)
    since, every = 0, max(SAVE_EVERY, n // 8) if save_every is None else save_every
    with hardware.kept_memory():
        for at in range(done, len(batches)):
            first = batches[at] * batch_size
            batch = source.batch(first, min(n, first + batch_size))
            for meter in meters:
                meter.add(batch)
            since += len(batch)
            last = at == len(batches) - 1
            if place is not None and (last or since >= every):
                _save(place, key, meters, at + 1)
                since = 0
            if progress is not None and team.is_main:
                try:
                    progress(n if last else min(n, (at + 1) * batch_size * team.world), n, what)
                except BaseException:  # whoever is told may end it: a page's Stop, Ctrl-C
                    if place is not None and since:
                        _save(place, key, meters, at + 1)
                    raise
    for meter in meters:
        team.add_up(meter.state)


def _save(place: Path, key: str, meters: Sequence[Meter], done: int) -> None:
    """Keep the sums. A full or read-only disk costs the next run some minutes, not this one."""
    tensors = {f"{k}.{name}": value for k, meter in enumerate(meters) for name, value in meter.state.items()}
    data = save(tensors, metadata={"facts": json.dumps({"key": key, "done": done})})
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, lambda handle: handle.write(data))
    except OSError as error:
        why = error.strerror or str(error)
        warnings.warn(f"{place} could not be kept ({why}); it is measured again next time.", stacklevel=2)


def _load(place: Path, key: str, meters: Sequence[Meter]) -> int:
    """Fill the meters with what was kept; how many batches that were, 0 where there is nothing or it was cut
    short."""
    if not place.is_file():
        return 0
    try:
        with safe_open(place, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError):
        return 0  # it can always be measured again
    wanted = {f"{k}.{name}": value for k, meter in enumerate(meters) for name, value in meter.state.items()}
    fits = {k: tuple(v.shape) for k, v in tensors.items()} == {k: tuple(v.shape) for k, v in wanted.items()}
    if facts.get("key") != key or not fits:
        return 0
    for name, value in wanted.items():
        value.copy_(tensors[name].to(torch.float64) if value.dtype == torch.float64 else tensors[name])
    return facts["done"]
