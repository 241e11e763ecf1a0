"""Before a run begins: a mistake in the line is told, and leaves no run behind that blocks the right line."""

import pytest
import tiny_run

from workbench.errors import WorkbenchError


def test_a_mistake_in_the_line_claims_no_folder(inputs, tmp_path):
    data, clip = inputs
    out, broken = tmp_path / "run", tmp_path / "broken"
    broken.mkdir()
    for files, judge, message in (
        ((data, tmp_path / "nowhere"), None, "neither a folder nor a model of open_clip"),
        ((tmp_path / "nowhere", clip), None, "There is no data set folder .*nowhere: make one with"),
        ((broken, clip), None, "is empty: no metadata.jsonl and no picture in it"),
        (inputs, broken, r"config\.json is missing: expected a judge's folder"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            tiny_run.run_tiny(files, out, judge=judge, eval_every_nimg=8, images=16)
        assert not (out / "config.json").exists()
    assert tiny_run.run_tiny(inputs, out, images=16).reason == "done"
