"""What was seen in the samples: notes that fit the figure, of pictures that are there."""

import json

from workbench.evaluation import figures


def test_the_notes_count_what_the_figure_says():
    notes = json.loads((figures.FIGURES.parent / "look.json").read_text(encoding="utf-8"))
    assert len(notes["model"]) == 64 and notes["measure"]
    assert all(0 <= int(number) < 100 and fault for number, fault in notes["broken"].items())
    assert figures.read()["broken_of_100"]["value"] == len(notes["broken"])
