"""The Evaluate tab: a report of any model here, two reports held against each other, the stated figures.

Layout and wiring; `evaluate_work.py` measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from workbench.app import evaluate_work
from workbench.app.evaluate_work import COUNTS, PAGE_MODEL, Bench, wanted
from workbench.app.jobs import in_words
from workbench.app.long_work import Stops, Wish
from workbench.app.upscale_view import status_html

_LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_ACT = {**_LIGHT, "queue": True}  # what may be refused goes through the queue, or the page shows no sentence
# Minutes of measuring share the machine with everybody else's prompts instead of keeping them waiting.
_LONG = {"concurrency_id": "evaluate", "concurrency_limit": 1, "show_progress": "hidden",
         "api_visibility": "private"}  # fmt: skip


def evaluate_tab(bench: Bench, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; must be called inside `tab`. What is here is looked up at each visit."""
    with gr.Tabs():
        with gr.Tab("Report"):
            report = _report_part()
        with gr.Tab("Compare two"):
            two = _compare_part()
        with gr.Tab("Stated figures") as stated:
            table = gr.HTML(elem_id="eval-figures")
    stops = Stops()
    lists = [report["model"], report["data"], report["which"], two["first"], two["second"]]
    _wire_report(bench, stops, report, lists)
    two["go"].click(
        in_words(evaluate_work.compared_html), [two["first"], two["second"]], two["table"], **_ACT
    )
    stated.select(in_words(evaluate_work.figures_html), None, table, **_ACT)
    shown = [report["page"], *report["files"]]
    tab.select(in_words(lambda *now: _visited(bench, now)), lists, [*lists, *shown], **_ACT)


def _report_part() -> dict[str, Any]:
    with gr.Row(equal_height=True):
        model = gr.Dropdown([PAGE_MODEL], value=PAGE_MODEL, label="Model", elem_id="eval-model", scale=3)
        data = gr.Dropdown([], label="Its training set", elem_id="eval-data", scale=3)
        n = gr.Radio(
            list(COUNTS), value=COUNTS[0], label="Pictures", elem_id="eval-n", scale=3, min_width=280
        )
        seed = gr.Textbox("0", label="Seed", max_lines=1, elem_id="eval-seed", scale=1, min_width=90)
    with gr.Row(elem_classes="wb-under"):
        go = gr.Button("Measure", variant="primary", elem_id="eval-go", scale=0, min_width=150)
        stop = gr.Button("Stop", elem_id="eval-stop", scale=0, min_width=100)
        hint = (
            "Few pictures say little: a distance falls as they grow in number, so its floor stands beside it."
        )
        status = gr.HTML(status_html(hint), elem_id="eval-status")
    with gr.Row(equal_height=True):
        which = gr.Dropdown([], label="Report", elem_id="eval-which", scale=4)
        files = [
            gr.DownloadButton(
                f"Download {name}", elem_id=f"eval-{kind}", scale=0, min_width=240, visible=False
            )
            for kind, name in (("html", "the page"), ("json", "the numbers"))
        ]
    page = gr.HTML(elem_id="eval-page")
    return {"model": model, "data": data, "n": n, "seed": seed, "go": go, "stop": stop, "status": status,
            "which": which, "files": files, "page": page}  # fmt: skip


def _compare_part() -> dict[str, Any]:
    with gr.Row(equal_height=True):
        first = gr.Dropdown([], label="First", elem_id="eval-first", scale=3)
        second = gr.Dropdown([], label="Second", elem_id="eval-second", scale=3)
        go = gr.Button("Compare", variant="primary", elem_id="eval-compare", scale=0, min_width=140)
    return {"first": first, "second": second, "go": go, "table": gr.HTML(elem_id="eval-compared")}


def _wire_report(bench: Bench, stops: Stops, report: dict[str, Any], lists: list[Any]) -> None:
    shown, wish = [report["page"], *report["files"]], gr.State(Wish())
    outputs = [report["status"], *shown, report["which"]]

    @in_words
    def run(wish: Wish, request: gr.Request) -> Iterator[list[Any]]:
        if (asked := wish.take()) is None:  # stopped while it waited for others
            yield [gr.skip()] * len(outputs)
            return
        yield from _measured(bench, stops, wanted(*asked), request.session_hash or "")

    def halt(wish: Wish, request: gr.Request) -> Any:
        stops.stop(request.session_hash or "")
        return status_html("Stopped before it began.") if wish.drop() else gr.skip()

    asked = [report[name] for name in ("model", "data", "n", "seed")]
    pressed = report["go"].click(Wish.ask, [wish, *asked], None, **_ACT)
    begun = pressed.success(run, wish, outputs, **_LONG)
    begun.success(in_words(lambda *now: _lists(bench, now)[3:]), lists, lists[3:], **_ACT)
    report["stop"].click(halt, wish, report["status"], **_LIGHT)
    report["which"].input(in_words(lambda name: _opened(bench, name)), report["which"], shown, **_ACT)


def _measured(bench: Bench, stops: Stops, asked: Any, visitor: str) -> Iterator[list[Any]]:
    """Status, page, files and the list of reports, again as the work goes on."""
    for what, found in stops.run(lambda tell: bench.measure(asked, tell), visitor):
        if what == "told":
            yield [status_html(found), *[gr.skip()] * 4]
        elif what == "stopped":
            said = "Stopped. What was measured is kept: the same report goes on from there."
            yield [status_html(said), *[gr.skip()] * 4]
        else:
            chosen = gr.update(choices=bench.reports(), value=found.name)
            yield [status_html(f"Done: {found}"), *_opened(bench, found.name), chosen]


def _opened(bench: Bench, name: str | None) -> list[Any]:
    """A report's page and its files."""
    folder = evaluate_work.folder_of(name)
    files = [gr.update(value=path, visible=True) for path in bench.copies(folder)]
    return [evaluate_work.page_html(folder), *files]


def _visited(bench: Bench, now: Sequence[str | None]) -> list[Any]:
    """The lists, and where no report is open yet the last of them: one that ships, if it does."""
    lists, reports = _lists(bench, now), bench.reports()
    if not reports or now[2] in reports:
        return [*lists, *[gr.skip()] * 3]
    lists[2] = gr.update(choices=reports, value=reports[-1])
    return [*lists, *_opened(bench, reports[-1])]


def _lists(bench: Bench, now: Sequence[str | None]) -> list[Any]:
    """Models, data sets, reports and the two compared, as they are here now, in the order of the page.

    now: what is chosen in each. That stays while it is there; else the newest is chosen, of reports none.
    """
    sets, reports = list(bench.sets.list()), bench.reports()
    first = now[3] if now[3] in reports else next(iter(reports), None)
    offered = [bench.models(), sets, reports, reports, reports]
    fresh = [PAGE_MODEL, next(iter(sets), None), None, first, next((r for r in reports if r != first), None)]
    return [
        gr.update(choices=names, value=chosen if chosen in names else other)
        for names, chosen, other in zip(offered, now, fresh, strict=True)
    ]
