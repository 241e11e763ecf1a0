"""What a sweep found: its table as JSON and Markdown, its plot, and the best settings for `train`."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.images import write_whole
from workbench.training import sweeps_plot
from workbench.training.sweeps import Sweep, shown
from workbench.training.sweeps_trial import read_rungs
from workbench.training.trials import ROW, page

TABLE, PAGE, PLOT, BEST = "table.json", "table.md", "sweep.png", "best.json"
_ENDS = ("done", "given up", "under way", "failed")
_MEASURES = {
    "frechet_ratio": "Fréchet ÷ floor",
    "all": "all four",
    "diversity": "diversity",
    "recall": "recall",
}


def table(sweep: Sweep, out: str | Path) -> list[dict]:
    """A row for each trial that was measured or failed, the best first.

    Trials that came to the budget stand first, by the objective; then the others by how far they came, and
    the objective. A row holds name, settings (what was drawn), end (`_ENDS`), rung and what was measured.
    """
    rows = []
    for trial, drawn in zip(sweep.plan().trials, sweep.draws(), strict=True):
        run = Path(out) / "trials" / trial.name
        found = (read_rungs(run) or [{}])[-1] | {"end": "under way"}
        if (run / ROW).is_file():
            found = json.loads((run / ROW).read_text(encoding="utf-8"))
        if "rung" in found or found["end"] == "failed":
            rows.append({**found, "name": trial.name, "settings": drawn})

    def rank(row: dict) -> tuple:
        value = row.get(sweep.objective, 0.0)
        return (_ENDS.index(row["end"]), -row.get("rung", 0), value if sweep.best_is_low else -value)

    return sorted(rows, key=rank)


def write_report(sweep: Sweep, out: str | Path) -> Path | None:
    """table.json, table.md, sweep.png and best.json under `out`: the path of the page.

    None where no trial was measured yet; best.json is there once a trial has come to the budget.
    """
    out, rows = Path(out), table(sweep, out)
    if not any("rung" in row for row in rows):
        return None
    _write(out / TABLE, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    _write(out / PAGE, markdown(sweep, rows))
    sweeps_plot.draw(sweep, rows, out / PLOT)
    if rows[0]["end"] == "done":
        _write(out / BEST, json.dumps(settings(sweep, rows[0]), indent=1) + "\n")
    return out / PAGE


def settings(sweep: Sweep, row: dict) -> dict:
    """What `workbench train --config` takes: the preset, and what the trial of this row sets on top of it."""
    return {"preset": sweep.preset, **sweep.train, **row["settings"], "images": sweep.images}


def markdown(sweep: Sweep, rows: list[dict]) -> str:
    """The table as a page."""
    better = "lower" if sweep.best_is_low else "higher"
    asha = ""
    if sweep.halving is not None:
        rungs = ", ".join(f"{images:,}" for images in sweep.rungs()[:-1])
        asha = (
            f" ASHA judges at {rungs} images: the best 1/{sweep.halving.reduction} of the trials that came "
            "there go on."
        )
    words = (
        f"{sweep.preset}, {sweep.images:,} images a trial, measured on {sweep.n:,} pictures. Objective: "
        f"{_MEASURES[sweep.objective]}, {better} is better.{asha} Each trial is a run folder under "
        f"`trials/`; `workbench train --config {BEST}` trains the best one's settings."
    )
    names = ["trial", *sweep.space, "images", "end", *_MEASURES.values()]
    return page("Sweep", words, names, [_cells(sweep, row) for row in rows])


def _cells(sweep: Sweep, row: dict) -> list[str]:
    drawn = [shown(row["settings"][name]) for name in sweep.space]
    measured = [f"{row[name]:.3f}" if name in row else "" for name in _MEASURES]
    return [row["name"], *drawn, f"{row.get('rung', 0):,}", row["end"], *measured]


def _write(file: Path, text: str) -> None:
    write_whole(file, lambda handle: handle.write(text.encode()))
