"""The report as one page that needs nothing else: `page_of(gathered, facts)`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from workbench.datasets.check.plots import picture_element
from workbench.datasets.check.report import page
from workbench.datasets.tree import shown
from workbench.evaluation.features import FACTOR_CLASSES
from workbench.evaluation.metrics.record import Measurement
from workbench.evaluation.report import plots
from workbench.evaluation.report.gathering import Gathered, closest
from workbench.evaluation.report.summary import asked, judged, over_floors, verdict
from workbench.evaluation.report.world import class_shares, least_faithful

SHEET, NEAREST = 24, 8
_ARROW = {
    "lower": "↓<span class='long'> lower is better</span>",
    "higher": "↑<span class='long'> higher is better</span>",
    "stated": "",
}


def page_of(gathered: Gathered, facts: dict) -> str:
    """HTML of all that was gathered. facts: `provenance()` and what else the last lines say."""
    title = f"Evaluation: {_text(gathered.source.facts.name)}"
    level = "warning" if gathered.warnings or (gathered.world and gathered.world.missed) else "note"
    body = [
        f"<header><h1>{title}</h1><p class='dim'>{_of_what(gathered)}</p></header>",
        f"<p class='verdict {level}' role='status'>{_text(verdict(gathered))}</p>",
        _tiles(gathered),
        *_notes(gathered),
        *_typical(gathered),
        *_measures(gathered.measurements),
        *_faithful(gathered),
        *_worst(gathered),
        *_nearest(gathered),
        *_speed(gathered),
        _footer(gathered, facts),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return page(title, [part for part in body if part], style=style)


def _of_what(gathered: Gathered) -> str:
    own, data = gathered.source.facts, gathered.data.facts
    return (
        f"{len(gathered.source):,} pictures of {own.resolution} px, seed {own.seed}, truncation "
        f"{own.truncation:g}, weights <code>{own.key}</code>; data <code>{_text(data.name)}</code>, "
        f"{len(gathered.data):,} pictures, <code>{data.key}</code>"
    )


def _tiles(gathered: Gathered) -> str:
    facts = {}
    if gathered.world is not None:
        found = gathered.world.found
        facts["all four factors"] = f"{found['all']:.1%}"
        facts["distance ÷ floor"] = f"{found['ratio']:.2f}"
        facts["recall"] = f"{found['recall']:.2f}"
        facts["too near to the data"] = f"{gathered.memory['memorised_share']:.2%}"
    else:
        facts |= {one.name: f"{one.value:.3g}" for one in gathered.measurements[:4]}
    if gathered.speed is not None:
        facts["one picture"] = f"{gathered.speed['latency_ms']:.0f} ms"
        facts["pictures a second"] = f"{gathered.speed['images_per_s']:.0f}"
    tiles = "".join(f"<div><dt>{_text(name)}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"<dl class='tiles'>{tiles}</dl>"


def _notes(gathered: Gathered) -> list[str]:
    said = [("warning", "Warning", one) for one in gathered.warnings]
    said += [("note", "Goal", one) for one in (gathered.world.missed if gathered.world else [])]
    if not said:
        return []
    rows = [
        f"<article class='finding {level}'><p><span class='badge'>{word}</span>{_text(one)}</p></article>"
        for level, word, one in said
    ]
    return ["<h2>To be read with care</h2>", *rows]


def _typical(gathered: Gathered) -> list[str]:
    batch = gathered.source.batch(0, min(SHEET, len(gathered.source)))
    figures = [
        _figure([picture], _text(text)) for picture, text in zip(batch.pictures, batch.texts, strict=True)
    ]
    note = "The first ones of the pass; none is chosen by its looks."
    return ["<h2>Pictures</h2>", _dim(note), f"<div class='sheet'>{''.join(figures)}</div>"]


def _measures(found: Sequence[Measurement]) -> list[str]:
    """A table with a line for each way of measuring, and under it the numbers that were measured so."""
    groups: dict[str, list[Measurement]] = {}
    for one in found:
        groups.setdefault(_way(one), []).append(one)
    rows = []
    for way, members in groups.items():
        rows.append(f"<tr><th scope='rowgroup' colspan='3'>{way}</th></tr>")
        for one in members:
            spread = "" if one.spread is None else f" <span class='dim'>± {one.spread:.2g}</span>"
            rows.append(
                f"<tr><td>{_text(one.name)}</td><td class='number'>{one.value:.4g}{spread}</td>"
                f"<td class='dim way'>{_ARROW[one.better]}</td></tr>"
            )
    note = (
        "Two values compare only where the line above them, the seed and the truncation agree; "
        "<code>workbench evaluate compare</code> checks that."
    )
    table = f"<div class='wide'><table class='measures'><tbody>{''.join(rows)}</tbody></table></div>"
    return ["<h2>Measures</h2>", _dim(note), table, _over_floors(found)]


def _way(one: Measurement) -> str:
    """What a measurement's statement says beside model and seed, as HTML."""
    s = one.statement
    against = "" if s.n_reference is None else f", against {s.n_reference:,} of {_text(s.reference)}"
    version = f" <code>{_text(s.features_version)}</code>" if s.features_version else ""
    of = "" if s.seed is not None else f" of {_text(s.pictures)}"
    return f"{s.n:,} pictures{of}{against} · {_text(s.features)}{version} · {_text(s.resizer)}"


def _over_floors(found: Sequence[Measurement]) -> str:
    ratios = over_floors(found)
    if not ratios:
        return ""
    drawn = plots.as_svg(plots.distances(ratios), height=1.3 + 0.45 * len(ratios))
    return f"<div class='two plots'>{_plot('Distances over their floors', drawn)}</div>"


def _faithful(gathered: Gathered) -> list[str]:
    world = gathered.world
    if world is None:
        return []
    model = {name: world.found[name] for name in FACTOR_CLASSES}
    drawn = plots.as_svg(plots.faithfulness(model, judged(gathered), asked(gathered.measurements)))
    rows = "".join(
        f"<tr><td>{factor}</td><td>{name}</td><td class='number'>{share:.1%}</td>"
        f"<td class='number'>{n:,}</td></tr>"
        for factor, name, share, n in least_faithful(world.confusion)
    )
    table = (
        "<table class='measures'><thead><tr><th>factor</th><th>least faithful</th><th>comes true</th>"
        f"<th>prompts</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    tables = "".join(_confusion(factor, counts) for factor, counts in world.confusion.items())
    return [
        "<h2>Faithfulness</h2>",
        f"<div class='two plots'>{_plot('Prompts that come true, by factor', drawn)}<div>{table}</div></div>",
        "<h2>What the judge sees instead</h2>",
        _dim("Down: what the prompt says. Across: what the judge names. Shares of each row."),
        f"<div class='tables'>{tables}</div>",
    ]


def _percent(share: float) -> str:
    return "100%" if share == 1 else f"{share:.1%}"


def _confusion(factor: str, counts: Tensor) -> str:
    names, shares = FACTOR_CLASSES[factor], class_shares(counts)
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    rows = []
    for k, name in enumerate(names):
        cells = "".join(
            f"<td class='{'right' if k == j else 'off'}' style='--share:{shares[k, j]:.3f}'>"
            f"{'' if counts[k, j] == 0 else _percent(shares[k, j].item())}</td>"
            for j in range(len(names))
        )
        rows.append(f"<tr><th scope='row'>{name}</th>{cells}</tr>")
    return (
        f"<figure class='confusion'><figcaption>{factor}</figcaption><table><thead><tr><th></th>{head}</tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></figure>"
    )


def _worst(gathered: Gathered) -> list[str]:
    if gathered.world is None or not gathered.world.worst:
        return []
    figures = []
    for k, instead in gathered.world.worst.items():
        batch = gathered.source.batch(k, k + 1)
        seen = ", ".join(f"{factor}: {name}" for factor, name in instead.items())
        words = f"{_text(batch.texts[0])}<br><span class='wrong'>seen: {_text(seen)}</span>"
        figures.append(_figure(list(batch.pictures), words, alt=batch.texts[0]))
    note = "Most factors wrong by the judge; among equals the farthest from any render."
    return ["<h2>Worst prompts</h2>", _dim(note), f"<div class='sheet big'>{''.join(figures)}</div>"]


def _nearest(gathered: Gathered) -> list[str]:
    figures = []
    for k in closest(gathered.nearest, NEAREST):
        own = gathered.source.batch(k, k + 1).pictures
        number = int(gathered.nearest.number[k])
        theirs = gathered.data.batch(number, number + 1).pictures
        if gathered.nearest.mirrored[k]:
            theirs = theirs.flip(-1)
        turned = ", mirrored" if gathered.nearest.mirrored[k] else ""
        words = f"apart by {gathered.nearest.distance[k]:.3f}; number {number} of the data{turned}"
        figures.append(_figure([own[0], theirs[0]], words))
    threshold = gathered.memory.get("memorised_threshold")
    fresh = None if gathered.fresh is None else gathered.fresh.tolist()
    drawn = plots.as_svg(plots.nearest(gathered.nearest.distance.tolist(), fresh, threshold))
    note = "Left what the model drew, right the nearest picture of the data: the nearest pairs of all."
    return [
        "<h2>Nearest pictures of the data</h2>",
        _dim(note),
        f"<div class='sheet big'>{''.join(figures)}</div>",
        f"<div class='two plots'>{_plot('Distance to the nearest picture of the data', drawn)}</div>",
    ]


def _speed(gathered: Gathered) -> list[str]:
    s = gathered.speed
    if s is None:
        return []
    joules = "not measurable here" if s["joules"] is None else f"{s['joules']:.3g} J"
    spread = f"{s['latency_ms_10']:.1f} … {s['latency_ms_90']:.1f}"
    rows = {
        "one picture at a time": f"{s['latency_ms']:.1f} ms (10 … 90 %: {spread})",
        f"at {s['best_batch']} at once": f"{s['images_per_s']:.1f} pictures a second",
        "memory at its peak": f"{s['peak_mib']:.0f} MiB",
        "energy of a picture": f"{joules} <span class='dim'>({_text(s['energy'])})</span>",
        "on": f"{_text(s['device'])}, threads: {s['threads']}; medians of {s['repeats']} repeats",
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())
    drawn = plots.as_svg(plots.speed(s["by_batch"]))
    listed = f"<dl class='statement'>{listed}</dl>"
    return ["<h2>Speed</h2>", f"<div class='two plots'>{_plot('Pictures a second', drawn)}{listed}</div>"]


def _footer(gathered: Gathered, facts: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    where = [
        str(facts.get("machine", "")),
        versions,
        str(facts.get("date", "")),
        f"commit {facts.get('commit')}",
    ]
    return (
        f"<footer><p>{_text('; '.join(where))}; {gathered.minutes:.1f} minutes. Every number with its "
        "statement: <code>report.json</code> beside this page.</p></footer>"
    )


def _figure(pictures: Sequence[Tensor], words: str, *, alt: str = "") -> str:
    """uint8 pictures [3, R, R] side by side over HTML words."""
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
    said = _text(alt) if alt else words
    tags = "".join(picture_element(image, said, side=192) for image in images)
    inside = f"<div class='pairs'>{tags}</div>" if len(images) > 1 else tags
    return f"<figure>{inside}<figcaption>{words}</figcaption></figure>"


def _dim(words: str) -> str:
    return f"<p class='dim'>{words}</p>"


def _plot(title: str, drawn: str) -> str:
    return (
        f"<figure><figcaption>{_text(title)}</figcaption>"
        f"<div role='img' aria-label='{_text(title)}'>{drawn}</div></figure>"
    )


def _text(words: str) -> str:
    """Words from anywhere, made harmless for a page."""
    return html.escape(shown(words))
