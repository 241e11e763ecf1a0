"""The view of a run: its grids under a scrubber, its film, its curves, what the trainer noticed."""

import html
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.app.curves import Chart, Line, chart_html, evidence_charts, short_count
from workbench.app.runs import (
    FACTORS,
    Run,
    Series,
    at,
    loss_keys,
    ratio_series,
    records_of,
    series,
    settings_of,
)

_FACTOR_COLOURS = {"coat": "#E69F00", "pose": "#009E73", "scene": "#56B4E9", "light": "#CC79A7", "all": "gan"}
_DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1)), "-")
_MOST_EVENTS = 30
_LOSS_DASHES = ("-", "--", ":", "-.")
_PARTS = ("G.adversarial", "G.vision", "G.mode_seeking", "G.clip")


def run_html(run: Run, *, alive: bool = False) -> str:
    """The whole view of one run; the same string as long as nothing worth a new drawing was added.

    alive: while it trains, curves are drawn anew when a tenth has been added, not at each line.
    """
    records = records_of(run.folder)
    lines = len([record for record in records if record.get("kind") == "step"])
    told = len(records) - lines
    grown = int(math.log(1 + lines, 1.1)) if alive else lines
    film = run.film()
    begun = (run.folder / "config.json").stat().st_mtime_ns if settings_of(run.folder) else 0
    return _drawn(run, begun, grown, told, len(run.grids()), run.url(film) if film else "")


@lru_cache(maxsize=24)
def _drawn(run: Run, begun: int, grown: int, told: int, grids: int, film: str) -> str:
    """Drawn once for all who look; the arguments say when it is out of date."""
    records = records_of(run.folder)
    if not records and not grids:
        return '<p class="wb-hint">Grids and curves appear here as the run trains.</p>'
    curves = run_series(records)
    drawn = [*evidence_charts(records), *run_charts(records, curves)]
    drawn.sort(key=lambda chart: not any(line.points for line in chart.lines))  # empty ones last
    charts = "".join(chart_html(chart) for chart in drawn)
    return (
        f'<div class="wb-run"><div class="wb-watch">{_player(run, curves)}'
        f'<div class="wb-beside">{_summary(records, curves)}{_film(run)}</div></div>'
        f'{_events(records)}<div class="wb-charts">{charts}</div></div>'
    )


def no_run_html() -> str:
    """What the tab says when there is no run to show."""
    return (
        '<div class="wb-empty"><h3>No training run to show yet</h3>'
        "<p>Start one above. A run folder holds the history of a training, its sample grids and its film. "
        "In a terminal these lines make one:</p>"
        "<pre><code>workbench dataset world --count 12000 --out data/world\n"
        "workbench train --preset shepherd-32 --data data/world --out runs/first\n"
        "workbench gif runs/first</code></pre>"
        "<p><code>make demo-models</code> trains the shipped model and keeps its run. "
        "Everything under <code>runs/</code> appears in the list above and can be watched "
        "while it trains.</p>"
        "</div>"
    )


def run_series(records: list[dict[str, Any]]) -> dict[str, Series]:
    """The measured curves of a run by name: the Fréchet ratio to its floor, each factor, diversity."""
    curves = {"frechet": ratio_series(records, "frechet", "floor"), "diversity": series(records, "diversity")}
    return curves | {name: series(records, name) for name in FACTORS}


def run_charts(records: list[dict[str, Any]], curves: dict[str, Series]) -> list[Chart]:
    """The charts of a run; those without a point say so."""
    palette = ("gan", "real", "#56B4E9", "#CC79A7")

    def lines(keys: Sequence[str], strip: str = "") -> list[Line]:
        return [
            Line(
                label=key.removeprefix(strip),
                points=series(records, key),
                colour=colour,
                dash=dash,
                width=1.8,
            )
            for key, colour, dash in zip(keys, palette, _LOSS_DASHES, strict=False)
        ]

    named = [
        Line(label=name, points=curves[name], colour=colour, dash=dash, width=3 if name == "all" else 2)
        for (name, colour), dash in zip(_FACTOR_COLOURS.items(), _DASHES, strict=True)
    ]
    frechet = Line(label="Fréchet ratio", points=curves["frechet"], colour="gan", width=2.8)
    diversity = Line(label="diversity", points=curves["diversity"], colour="gan", width=2.8)
    return [
        Chart(
            title="Does the picture show what the prompt names?",
            unit="share right",
            lines=named,
            bounds=(0, 1.03),
        ),
        Chart(
            title="Distance to real renders (Fréchet ÷ floor)",
            unit="× floor",
            lines=[frechet],
            log=True,
            levels=[(1, "renders against renders")],
        ),
        Chart(
            title="Do four seeds give four dogs? (diversity)",
            unit="× renders",
            lines=[diversity],
            levels=[(1, "renders")],
        ),
        Chart(title="Losses of G and D", unit="loss", lines=lines(loss_keys(records))),
        Chart(
            title="What D says of real and generated pictures",
            unit="logit",
            lines=lines(("D.fake", "D.real")),
        ),
        Chart(title="Parts of G's loss", unit="loss", lines=lines(_PARTS, strip="G.")),
    ]


def _summary(records: list[dict[str, Any]], curves: dict[str, Series]) -> str:
    """The last figures of the run as tiles; only those that its history holds."""
    tiles = []
    if records:
        tiles.append(("images seen", f"{records[-1]['cur_nimg']:,}"))
    tiles += [(label, text) for label, text in figures_at(curves, records[-1]["cur_nimg"])] if records else []
    cells = "".join(f"<div><dd>{value}</dd><dt>{html.escape(label)}</dt></div>" for label, value in tiles)
    return (
        f'<dl class="wb-tiles">{cells}</dl>'
        if tiles
        else '<p class="wb-hint">The history of this run is empty.</p>'
    )


def figures_at(curves: dict[str, Series], nimg: int) -> list[tuple[str, str]]:
    """(label, value) of what was last measured at or before `nimg` images."""
    found = []
    for name, label in (
        ("all", "all four factors right"),
        ("frechet", "Fréchet ÷ floor"),
        ("diversity", "diversity"),
    ):
        value = at(curves[name], nimg)
        if value is not None:
            found.append(
                (label, f"{value:.1%}" if name == "all" else f"{value:.2f}" + "×" * (name == "frechet"))
            )
    return found


def _player(run: Run, curves: dict[str, Series]) -> str:
    """The scrubber: one picture and one slider; the page's script moves both, and the line in every curve."""
    frames = [
        {"n": n, "src": run.url(file), "label": f"{n:,} images seen",
         "says": " · ".join(f"{label} {value}" for label, value in figures_at(curves, n))}
        for n, file in run.grids()
    ]  # fmt: skip
    if not frames:
        return '<p class="wb-hint">No sample grids yet: they appear under samples/ as the run trains.</p>'
    last, end = frames[-1], len(frames) - 1
    data = html.escape(json.dumps(frames, ensure_ascii=False), quote=True)
    size = _size(run.folder / run.grids()[-1][1])
    return (
        f'<section class="wb-player" data-run="{html.escape(run.name)}" data-frames="{data}" '
        'aria-label="Sample grids over training">'
        f'<img src="{html.escape(last["src"])}" {size} '
        f'alt="Grid of fixed seeds and prompts after {last["label"]}">'
        '<div class="wb-controls"><button type="button" data-play aria-label="Play">▶</button>'
        f'<input type="range" id="scrubber" min="0" max="{end}" value="{end}" step="1" '
        f'aria-label="Moment of training" aria-valuetext="{last["label"]}"></div>'
        f'<p class="wb-moment"><output for="scrubber"><b>{last["label"]}</b></output> '
        f"<span>{last['says']}</span></p>"
        '<p class="wb-hint">The same seeds and prompts at every moment. Arrow keys move one grid.</p>'
        "</section>"
    )


def _size(picture: Path) -> str:
    """The attributes that keep a picture's place on the page until it is loaded; none for one that cannot be
    read, because its run is being copied here."""
    try:
        with Image.open(picture) as grid:
            return f'width="{grid.width}" height="{grid.height}"'
    except OSError:
        return ""


def _events(records: list[dict[str, Any]]) -> str:
    """What the trainer had to say in words, newest first; nothing when it had nothing to say."""
    told = [record for record in reversed(records) if record.get("kind") == "event" and record.get("text")]
    if not told:
        return ""
    rows = "".join(
        f"<li><b>{record['cur_nimg']:,}</b> {html.escape(str(record['text']))}</li>"
        for record in told[:_MOST_EVENTS]
    )
    more = f" (the last {_MOST_EVENTS} of {len(told)})" if len(told) > _MOST_EVENTS else ""
    head = f"<summary>What the trainer noticed{more}</summary>"
    return f'<details class="wb-events">{head}<ul>{rows}</ul></details>'


def _film(run: Run) -> str:
    """The training GIF with the line that makes it, or that line alone."""
    file = run.film()
    if file is None:
        line = html.escape(f"workbench gif {run.folder}")
        return f'<p class="wb-hint">No film yet: <code>{line}</code> makes it.</p>'
    grids = run.grids()
    span = (
        f"from {short_count(grids[0][0])} to {short_count(grids[-1][0])} images" if grids else "of this run"
    )
    url = html.escape(run.url(file))
    return (
        f'<figure class="wb-film"><img src="{url}" alt="Film of the sample grid {span}">'
        f"<figcaption>The film {span}. "
        f'<a href="{url}" download="{html.escape(run.name)}.gif">Download GIF</a></figcaption></figure>'
    )
