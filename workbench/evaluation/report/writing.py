"""What was gathered as files: report.json, report.html and plots, each whole or not there at all."""

from __future__ import annotations

from pathlib import Path

from workbench.datasets.writing import write_bytes, write_text
from workbench.evaluation.features import FACTOR_CLASSES
from workbench.evaluation.figures import provenance
from workbench.evaluation.metrics.record import write_measurements
from workbench.evaluation.report import plots
from workbench.evaluation.report.gathering import Gathered, closest
from workbench.evaluation.report.page import page_of
from workbench.evaluation.report.summary import asked, judged, over_floors, verdict
from workbench.evaluation.report.world import least_faithful

NUMBERS, PAGE, PLOTS = "report.json", "report.html", "plots"


def write_report(gathered: Gathered, out: str | Path) -> Path:
    """Write the folder `out`; returns the page. report.json holds every measurement with its statement, and
    is what `record.compare_files` reads. Raises OSError of one clear sentence where it cannot be written.
    """
    out = Path(out)
    (out / PLOTS).mkdir(parents=True, exist_ok=True)
    facts = provenance()
    for name, (title, draw) in drawings(gathered).items():
        write_bytes(out / PLOTS / f"{name}.png", plots.as_png(draw, title=title))
    write_text(out / PAGE, page_of(gathered, facts))
    write_measurements(out / NUMBERS, gathered.measurements, **details(gathered), **facts)
    return out / PAGE


def details(gathered: Gathered) -> dict:
    """What report.json says beside the measurements."""
    said = {
        "verdict": verdict(gathered),
        "warnings": gathered.warnings,
        "minutes": round(gathered.minutes, 2),
        "speed": gathered.speed,
        "nearest": [
            {
                "picture": k,
                "data": int(gathered.nearest.number[k]),
                "distance": round(float(gathered.nearest.distance[k]), 5),
                "mirrored": bool(gathered.nearest.mirrored[k]),
            }
            for k in closest(gathered.nearest, 8)
        ],
    }
    world = gathered.world
    if world is None:
        return said
    return said | {
        "goals_missed": world.missed,
        "judge_on_renders": judged(gathered),
        "confusion": {
            factor: {"classes": list(FACTOR_CLASSES[factor]), "counts": counts.tolist()}
            for factor, counts in world.confusion.items()
        },
        "least_faithful": [
            {"factor": factor, "class": name, "share": share, "n": n}
            for factor, name, share, n in least_faithful(world.confusion)
        ],
        "worst": [
            {"picture": k, "prompt": gathered.source.texts[k], "seen": instead}
            for k, instead in world.worst.items()
        ],
        "memory": gathered.memory,
    }


def drawings(gathered: Gathered) -> dict[str, tuple[str, plots.Draw]]:
    """File name -> (title, plot), of all that there is something to draw of."""
    found = {}
    ratios = over_floors(gathered.measurements)
    if ratios:
        found["distances"] = ("Distances over their floors", plots.distances(ratios))
    if gathered.world is not None:
        model = {name: gathered.world.found[name] for name in FACTOR_CLASSES}
        drawn = plots.faithfulness(model, judged(gathered), asked(gathered.measurements))
        found["faithfulness"] = ("Prompts that come true", drawn)
    fresh = None if gathered.fresh is None else gathered.fresh.tolist()
    near = plots.nearest(
        gathered.nearest.distance.tolist(), fresh, gathered.memory.get("memorised_threshold")
    )
    found["nearest"] = ("Nearest picture of the data", near)
    if gathered.speed is not None:
        found["speed"] = ("Pictures a second", plots.speed(gathered.speed["by_batch"]))
    return found
