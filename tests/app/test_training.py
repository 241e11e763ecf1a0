"""The Training tab shows what the files of a run hold."""

import html
import json
import re

from workbench.app.run_view import no_run_html, run_html
from workbench.app.runs import Run


def test_a_run_is_shown_whole(run_folder):
    shown = run_html(Run(name="first-run", folder=run_folder))
    frames = json.loads(html.unescape(re.search(r'data-frames="([^"]*)"', shown)[1]))
    assert [frame["n"] for frame in frames] == [0, 1000, 2000, 4000]
    assert frames[0]["says"] == ""  # before the first evaluation there is nothing to say
    assert frames[2]["says"] == "all four factors right 25.0% · Fréchet ÷ floor 4.00× · diversity 0.25"
    assert all(frame["src"].startswith("run-picture/first-run/samples/grid_") for frame in frames)
    assert "<dd>75.0%</dd>" in shown and "<dd>4.00×</dd>" in shown and "<dd>4,000</dd>" in shown
    assert "run-picture/first-run/training.gif" in shown and shown.count("<svg") == 4
    assert 'type="range"' in shown and 'max="3"' in shown


def test_what_the_trainer_noticed_is_told_in_its_words(tmp_path):
    lines = [
        {"kind": "event", "cur_nimg": 500, "event": "loss-jump", "text": "G's loss <jumped>."},
        {"kind": "step", "cur_nimg": 1000, "G.loss": 1.0, "D.loss": 0.5},
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = run_html(Run(name="r", folder=tmp_path))
    assert "<b>500</b> G&#x27;s loss &lt;jumped&gt;." in shown
    assert "No sample grids yet" in shown and f"workbench gif {tmp_path}" in shown


def test_what_the_monitor_saw_is_drawn_and_marked_above_the_usual_curves(tmp_path):
    lines = [{"kind": "step", "cur_nimg": n, "G.loss": 1.0, "spread.fake": 0.1 / n} for n in (100, 200, 300)]
    lines.insert(
        2, {"kind": "event", "cur_nimg": 200, "event": "low-spread", "text": "T.", "shows": ["spread.fake"]}
    )
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = run_html(Run(name="r", folder=tmp_path))
    assert shown.index("Seen by the monitor: low spread") < shown.index("Losses of G and D")
    assert shown.index("Losses of G and D") < shown.index("Not in this history yet")  # empty charts come last


def test_an_empty_history_is_no_error(tmp_path):
    (tmp_path / "history.jsonl").write_text("")
    assert "Grids and curves appear here" in run_html(Run(name="r", folder=tmp_path))


def test_without_a_run_the_tab_says_how_to_make_one():
    assert "workbench train --preset" in no_run_html() and "make demo-models" in no_run_html()
