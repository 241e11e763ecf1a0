"""A chart's SVG stands where its data say, in the colours of the page."""

import re
import xml.etree.ElementTree as ET

import pytest

from workbench.app.curves import Chart, Line, chart_html, evidence_charts, short_count


def chart(points, **more) -> str:
    line = Line(label="a & b", points=points, colour="real")
    return chart_html(Chart(title="T <1>", unit="share", lines=[line], **more))


def test_the_cursor_can_find_its_place():
    """The ends of a line, in the SVG's own coordinates, lie at the shares of the width that the data give."""
    shown = chart([(1000, 0.2), (9000, 0.8)])
    left, right, low, high = (
        float(re.search(f'data-{name}="([^"]+)"', shown)[1]) for name in ("left", "right", "low", "high")
    )
    svg = ET.fromstring(re.search(r"<svg.*</svg>", shown, re.DOTALL)[0])
    width = float(svg.get("viewBox").split()[2])
    path = next(
        e.get("d")
        for e in svg.iter("{http://www.w3.org/2000/svg}path")
        if "clip-path" in e.attrib and "stroke-width: 2.2" in e.get("style", "")
    )
    xs = [float(x) for x in re.findall(r"[ML] (\S+) ", path)]
    for nimg, x in ((1000, xs[0]), (9000, xs[-1])):
        assert left + (nimg - low) / (high - low) * (right - left) == pytest.approx(x / width, abs=2e-3)


def test_text_and_axes_take_the_colour_of_the_page():
    shown = chart([(0, 1.0), (10, 2.0)], levels=[(1.5, "level")], log=True)
    assert "currentColor" in shown and "#010203" not in shown and "#333333" not in shown
    assert "T &lt;1&gt;" in shown and "a &amp; b ends at 2" in shown
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", shown) and "<image" not in shown


def test_what_the_monitor_saw_is_drawn_and_marked_where_it_was_said():
    steps = [{"kind": "step", "cur_nimg": n, "D.real": n / 10, "D.fake": -n / 10} for n in (10, 20, 30)]
    event = {"kind": "event", "event": "overpowering", "text": "…", "shows": ["D.real", "D.fake", "gone"]}
    charts = evidence_charts([*steps, {**event, "cur_nimg": 20}, {**event, "cur_nimg": 30}])
    (seen,) = charts
    assert seen.title == "Seen by the monitor: overpowering" and list(seen.marks) == [20, 30]
    assert [(line.label, line.points[0]) for line in seen.lines] == [
        ("D.real", (10, 1.0)),
        ("D.fake", (10, -1.0)),
    ]
    shown = chart_html(seen)
    assert shown.count('id="wb-mark"') == 2 and "marked at 20 images; marked at 30 images" in shown
    assert evidence_charts([*steps, {"kind": "event", "event": "settings", "text": "…", "cur_nimg": 5}]) == []


def test_nothing_measured_is_said_not_drawn():
    assert "<svg" not in chart([]) and "Not in this history yet" in chart([])


def test_one_point_is_drawn():
    assert "<svg" in chart([(5, 0.5)])


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (950, "950"), (12_000, "12k"), (1.5e6, "1.5M")])
def test_short_counts(number, text):
    assert short_count(number) == text
