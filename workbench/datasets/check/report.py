"""The report of a check as one page that needs nothing else: `write_report(report, folder)`."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.datasets.check import plots as plots
from workbench.datasets.check.findings import LEVELS, Finding, Report
from workbench.datasets.rows import read_picture
from workbench.datasets.tree import shown
from workbench.datasets.writing import write_picture, write_text
from workbench.errors import WorkbenchError

_SHEET = 60  # pictures on the contact sheet
_EXAMPLES = 8  # pictures shown with a finding
_LISTED = 2_000  # names listed with a finding; all are in findings.json
_FEW = 5  # names shown at once
_COLUMNS = 8  # columns of the metadata that get a plot
_WORD = {"problem": "Problem", "warning": "Warning", "note": "Note"}


def write_report(report: Report, folder: str | Path) -> Path:
    """Writes `report.html`, `findings.json` and `contact-sheet.png` into `folder`; returns the page.

    The page holds its pictures and plots itself and asks nothing of any address. Raises OSError of one clear
    sentence when it cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = _evenly([look.name for look in report.whole], _SHEET)
    pictures = {name: read_picture(report.path / name) for name in chosen}
    if pictures:
        write_picture(folder / "contact-sheet.png", plots.contact_sheet(list(pictures.values())))
    write_text(folder / "findings.json", json.dumps(report.to_json(), indent=2) + "\n")
    write_text(folder / "report.html", _page(report, pictures))
    return folder / "report.html"


def _page(report: Report, pictures: dict[str, Image.Image]) -> str:
    title = f"Data set check: {_text(report.path.resolve().name)}"
    level = next((level for level in LEVELS if report.of_level(level)), "note")
    body = [
        f"<header><h1>{title}</h1><p class='dim'><code>{_text(str(report.path))}</code></p></header>",
        f"<p class='verdict {level}' role='status'>{_text(report.verdict)}</p>",
        _tiles(report),
        "<h2>Findings</h2>",
        *([_finding(each, report) for each in report.findings] or ["<p>None.</p>"]),
        *_sheet(report, pictures),
        *_measures(report),
        "<footer><p><code>findings.json</code> beside this page holds every name; "
        "<code>contact-sheet.png</code> the sheet as one picture.</p></footer>",
    ]
    return page(title, body)


def page(title: str, body: Sequence[str], *, style: str = "") -> str:
    """A whole page in this project's look that needs nothing else. title and body: HTML; style: more CSS."""
    look = Path(__file__).with_name("report.css").read_text(encoding="utf-8") + style
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{look}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _tiles(report: Report) -> str:
    facts = {"pictures": report.count, "different captions": report.captions, "sizes": len(report.sizes)}
    facts |= {f"{level}s": len(report.of_level(level)) for level in LEVELS}
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value:,}</dd></div>" for name, value in facts.items())
    return f"<dl class='tiles'>{tiles}</dl>"


def _finding(finding: Finding, report: Report) -> str:
    troubles = {look.name: look.trouble for look in report.looks if look.trouble}
    listed = []
    for name in finding.names[:_LISTED]:
        why = f" <span class='dim'>({_text(troubles[name])})</span>" if name in troubles else ""
        listed.append(f"<li>{_text(name)}{why}</li>")
    if len(finding.names) > _LISTED:
        listed.append(f"<li>… and {len(finding.names) - _LISTED:,} more in findings.json</li>")
    names = ""
    if listed:
        few = " open" if len(finding.names) <= _FEW else ""
        head = f"<details{few}><summary>{len(finding.names):,} named</summary>"
        names = f"{head}<ul class='names'>{''.join(listed)}</ul></details>"
    return (
        f"<article class='finding {finding.level}'><h3><span class='badge'>{_WORD[finding.level]}</span>"
        f"<span class='what'>{_text(finding.what)}</span></h3><p>{_text(finding.suggestion)}</p>"
        f"{_examples(finding, report)}{names}</article>"
    )


def _examples(finding: Finding, report: Report) -> str:
    """Pictures of a finding, side by side in pairs where it is about pairs."""
    looks = {look.name: look for look in report.looks if not look.trouble}
    named = [name for name in finding.files or finding.names if name in looks]
    paired = finding.kind.endswith("-copies")
    named = named[: 2 * _EXAMPLES if paired else _EXAMPLES]
    images = []
    for name in named:
        try:
            picture = read_picture(report.path / name)
        except WorkbenchError:
            continue  # gone or changed since the check: the finding names it all the same
        images.append(plots.picture_element(picture, _text(name), title=_text(name)))
    if paired:
        items = [f"<li class='pair'>{a}{b}</li>" for a, b in zip(images[::2], images[1::2], strict=False)]
    else:
        items = [f"<li>{image}</li>" for image in images]
    return f"<ul class='examples'>{''.join(items)}</ul>" if items else ""


def _sheet(report: Report, pictures: dict[str, Image.Image]) -> list[str]:
    if not pictures:
        return []
    figures = []
    for name, picture in pictures.items():
        words = _text(report.texts[name] or name)
        image = plots.picture_element(picture, words, title=_text(name))
        figures.append(f"<figure>{image}<figcaption>{words}</figcaption></figure>")
    what = (
        f"{len(pictures)} of {report.count:,} pictures, evenly chosen"
        if report.count > len(pictures)
        else "All pictures"
    )
    return ["<h2>Contact sheet</h2>", f"<p class='dim'>{what}, each with its first caption.</p>",
            f"<div class='sheet'>{''.join(figures)}</div>"]  # fmt: skip


def _measures(report: Report) -> list[str]:
    if not report.count:
        return []
    sizes = np.array([look.size for look in report.whole])
    features = np.stack([look.features for look in report.whole])
    lengths = [len(text.split()) for text in report.texts.values() if text]
    drawn: list[tuple[str, Callable[[], str]]] = [
        ("Shorter side", lambda: plots.histogram(sizes.min(axis=1), words="px", log=True)),
        (
            "Aspect ratio",
            lambda: plots.histogram(sizes[:, 0] / sizes[:, 1], words="width ÷ height", log=True),
        ),
        ("Brightness", lambda: plots.histogram(features[:, 0], words="mean grey level, 0 … 255")),
        ("Contrast", lambda: plots.histogram(features[:, 1], words="standard deviation of grey levels")),
        ("Colour", lambda: plots.histogram(features[:, 2], words="mean distance of the channels")),
    ]
    if lengths:
        drawn.append(("Caption length", lambda: plots.histogram(lengths, words="words", whole=True)))
    found = ["<h2>Measures</h2>", f"<div class='plots'>{''.join(_plot(*each) for each in drawn)}</div>"]
    kinds = [
        _plot(name, lambda counts=counts: plots.bars(counts, words="rows; dashed: equal shares"))
        for name, counts in list(report.kinds.items())[:_COLUMNS]
    ]
    if kinds:
        found += ["<h2>Balance</h2>", f"<div class='plots'>{''.join(kinds)}</div>"]
    return found


def _plot(title: str, draw: Callable[[], str]) -> str:
    return (
        f"<figure><figcaption>{_text(title)}</figcaption>"
        f"<div role='img' aria-label='{_text(title)}, as a histogram'>{draw()}</div></figure>"
    )


def _evenly(names: Sequence[str], wanted: int) -> list[str]:
    wanted = min(wanted, len(names))
    return [names[at * len(names) // wanted] for at in range(wanted)]


def _text(words: str) -> str:
    """Words from anywhere, made harmless for a page: markup escaped, control characters shown."""
    return html.escape(shown(words))
