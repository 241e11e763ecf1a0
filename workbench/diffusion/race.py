"""GAN against diffusion on equal terms: quality against time, evenness of walks, what a swapped word changes.

Every lane draws the same prompts and is judged by the same judge against the same renders; times are medians
of one run in which the lanes take turns. What was measured of a lane is kept, so that an interrupted race
goes on, and a further lane does not ask for the others again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench import hardware
from workbench.diffusion import race_plot, verdict
from workbench.diffusion.lanes import OTHER, Lane
from workbench.diffusion.trials import edit_consistency, interleaved_times, smoothness
from workbench.errors import WorkbenchError
from workbench.evaluation.faithfulness import evaluate
from workbench.evaluation.features import FACTOR_CLASSES, Judge
from workbench.evaluation.figures import provenance
from workbench.evaluation.perceptual import FeatureDistance
from workbench.evaluation.reference import CACHE, Progress, check_request
from workbench.images import check_place, write_whole

SCHEMA = 1
RESULT, TABLE, PLOT, KEPT = "race.json", "race.md", "race.png", "measured.json"
_QUALITY = ("coat", "pose", "scene", "light", "all", "frechet", "floor", "ratio", "diversity")
SPREAD = 16, 4  # prompts, and pictures of each, that tell how various a prompt's pictures are


def race(
    lanes: Sequence[Lane], judge: Judge, out: str | Path, *, n: int = 200, seed: int = 0, rounds: int = 9,
    edits: int = 32, paths: int = 4, spread: tuple[int, int] | None = None,
    distance: FeatureDistance | None = None, progress: Progress | None = None, cache: Path | None = CACHE,
    earlier: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure all lanes and write race.json, race.md and race.png into `out`; the result.

    n: pictures of a lane by which quality is told; edits, paths: samples of `edit_consistency`, walks of
    `smoothness`; spread: prompts and pictures of each for diversity, SPREAD when None; rounds: of
    `interleaved_times`. distance: for the walks, the shipped mini-CLIP's features when None. earlier:
    race.json of another race; what it found of the same weights and settings serves, but never its times.
    The result holds "lanes", "race" (the figures that texts state) and "paragraph".
    """
    check_request(n, seed)
    _check_race(lanes, rounds=rounds, edits=edits, paths=paths)
    out = Path(out)
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    distance = distance or FeatureDistance()
    about = {
        "n": n, "seed": seed, "edits": edits, "paths": paths, "spread": list(spread or SPREAD),
        "judge": judge.version, "features": judge.feature_dim, "distance": distance.name,
        "threads": torch.get_num_threads(), "cpu": hardware.cpu_name(),
    }  # fmt: skip
    measured, before = [], {} if earlier is None else _earlier(Path(earlier))
    for index, lane in enumerate(lanes):
        if progress is not None:
            progress(index + 1, len(lanes), f"lane {lane.name}")
        measured.append(_measured(lane, judge, distance, out / KEPT, before, about, progress, cache))
    times = interleaved_times(lanes, rounds=rounds, seed=seed)
    rows = [
        {**lane.facts(), **found, **times[lane.name]} for lane, found in zip(lanes, measured, strict=True)
    ]
    result = {"schema": SCHEMA, **about, "rounds": rounds, "lanes": rows, **provenance()}
    result |= {"race": verdict.figures(result), "paragraph": verdict.paragraph(result)}
    write_report(result, out)
    return result


def _check_race(lanes: Sequence[Lane], *, rounds: int, edits: int, paths: int) -> None:
    """Refuse what would fail after an hour, or compare what cannot be compared."""
    if not lanes:
        raise WorkbenchError("There is nothing to race: give at least one lane.")
    least_of = {"rounds": (rounds, 1), "edits": (edits, len(FACTOR_CLASSES)), "paths": (paths, 1)}
    for name, (value, least) in least_of.items():
        if value < least:
            raise WorkbenchError(f"{name} is {value}: expected {least} or more.")
    sides = {lane.side: lane.name for lane in lanes if lane.kind != OTHER}
    if len(sides) > 1:
        told = ", ".join(f"{name} {side} px" for side, name in sides.items())
        raise WorkbenchError(
            f"The lanes draw pictures of several sizes ({told}), whose distances have floors of their own: "
            "race models of one size. A further GAN of another size may run beside them (--also)."
        )


def write_report(result: dict[str, Any], out: str | Path) -> list[Path]:
    """race.json, race.md and race.png of a result."""
    out = Path(out)
    text = f"{verdict.table(result)}\n\n{result['paragraph']}\n"
    facts = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    return [
        write_whole(out / RESULT, lambda handle: handle.write(facts.encode())),
        write_whole(out / TABLE, lambda handle: handle.write(text.encode())),
        race_plot.draw(result, out / PLOT),
    ]


def _measured(
    lane: Lane, judge: Judge, distance: FeatureDistance, kept: Path, before: dict[str, dict],
    about: dict[str, Any], progress: Progress | None, cache: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Quality, walks and edits of one lane; what the file `kept`, or an earlier race, has of the same lane
    and settings serves.
    """
    key = _key(about, lane.facts())
    known = before | _read_kept(kept)
    if key not in known:
        n, seed, (prompts, samples) = about["n"], about["seed"], about["spread"]
        try:
            found = evaluate(
                lane.draw, judge, n=n, seed=seed, progress=progress, cache=cache, batch_size=16,
                diversity_prompts=prompts, diversity_samples=samples,
            )  # fmt: skip
        except WorkbenchError as error:
            raise WorkbenchError(f"The lane {lane.name!r} cannot be measured: {error}") from error
        known[key] = {
            **{name: found[name] for name in _QUALITY},
            "walk": smoothness(lane, distance, paths=about["paths"], seed=seed),
            "edit": edit_consistency(lane, judge, n=about["edits"], seed=seed),
        }
        data = json.dumps(known, indent=1).encode()
        write_whole(kept, lambda handle: handle.write(data))
    return known[key]


def _key(about: dict[str, Any], facts: dict[str, Any]) -> str:
    """What a lane and the settings of a race must have in common for one measurement to serve both."""
    settings = {name: about[name] for name in ("n", "seed", "edits", "paths", "spread", "judge", "distance")}
    names = ("name", "steps", "calls", "side", "weights", "settings", "precision")
    return json.dumps([settings, {name: facts[name] for name in names}], sort_keys=True)


def _earlier(path: Path) -> dict[str, dict]:
    """What a race.json found of its lanes, by `_key`. Raises WorkbenchError for anything else."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {
            _key(told, row): {name: row[name] for name in (*_QUALITY, "walk", "edit")}
            for row in told["lanes"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(
            f"{path} is no report of a race ({type(error).__name__}: {error}): give its race.json."
        ) from error


def _read_kept(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkbenchError(
            f"{path} is damaged ({error}): delete it, its lanes are measured again."
        ) from error
    return known if isinstance(known, dict) else {}
