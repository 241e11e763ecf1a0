"""Two runs told as one: counts go on, grids of a G that stood still are left out, a third lap can follow."""

import json

import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.training.grids import find_grids
from workbench.training.history import read_history
from workbench.training.laps import join_laps
from workbench.training.shipping import ship_run


def lap(folder, counts, *, still_until=-1, suffix="png", shares=None):
    """A run as it lies on disk: a step, a grid and its line at each count; no G.loss before `still_until`."""
    (folder / "samples").mkdir(parents=True)
    lines = []
    for count in counts:
        name = f"samples/grid_{count:09d}.{suffix}"
        Image.new("RGB", (96, 96), (count % 256, 0, 0)).save(folder / name)
        learns = {"G.loss": 1.0} if count > still_until else {}
        lines += [
            {"kind": "sample", "cur_nimg": count, "file": name},
            {"kind": "step", "cur_nimg": count, "seconds": count / 10, **learns},
        ]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {"preset": "shepherd-64", "images": counts[-1]}
    facts = {"schema": 1, "kind": "gigagan-run", "config": config}
    if shares is not None:
        facts["started_from"] = {"shares": shares}
    (folder / "config.json").write_text(json.dumps(facts))
    return folder


def test_counts_go_on_and_a_still_G_shows_no_grid(tmp_path):
    first = lap(tmp_path / "a", [0, 100, 200], suffix="webp")
    second = lap(tmp_path / "b", [0, 50, 100, 150], still_until=50)
    out = join_laps([first, second], tmp_path / "out")
    assert list(find_grids(out)) == [0, 100, 200, 300, 350]
    assert find_grids(out)[350].read_bytes() == find_grids(second)[150].read_bytes()
    assert [line["cur_nimg"] for line in read_history(out, "step")] == [0, 100, 200, 200, 250, 300, 350]
    assert all((out / line["file"]).is_file() for line in read_history(out, "sample"))
    assert [line["cur_nimg"] for line in read_history(out, "sample")] == [0, 100, 200, 300, 350]
    (event,) = read_history(out, "event")
    assert event["cur_nimg"] == 200 and "a fresh D. For 50 images D learns alone" in event["text"]
    assert [line["seconds"] for line in read_history(out, "step")] == [0, 10, 20, 20, 25, 30, 35]
    facts = json.loads((out / "config.json").read_text())
    assert facts["config"]["images"] == 150
    assert [(each["config"]["images"], each["images"]) for each in facts["laps"]] == [(200, 200), (150, 150)]
    assert [each["D_alone"] for each in facts["laps"]] == [0, 50]


def test_a_roll_back_in_a_later_lap_takes_back_its_own_lines_alone(tmp_path):
    first = lap(tmp_path / "a", [0, 100, 200])
    second = lap(tmp_path / "b", [0, 100, 200, 300])
    back = {"kind": "event", "event": "rollback", "cur_nimg": 200, "from_nimg": 300, "back_to_nimg": 200}
    again = {"kind": "step", "cur_nimg": 250, "seconds": 35, "G.loss": 1.0}
    with open(second / "history.jsonl", "a") as file:
        file.write("".join(json.dumps({**line, "text": "x"}) + "\n" for line in (back, again)))
    out = join_laps([first, second], tmp_path / "out")
    assert [line["cur_nimg"] for line in read_history(out, "step")] == [0, 100, 200, 200, 300, 400, 450]
    (event,) = (line for line in read_history(out, "event") if line["event"] == "rollback")
    assert (event["cur_nimg"], event["from_nimg"], event["back_to_nimg"]) == (400, 500, 400)


def test_a_lap_of_D_alone_may_be_a_run_by_itself(tmp_path):
    still = lap(tmp_path / "b", [0, 50], still_until=50)
    laps = [lap(tmp_path / "a", [0, 100]), still, lap(tmp_path / "c", [0, 70], shares={"G": 1.0, "D": 1.0})]
    out = join_laps(laps, tmp_path / "out")
    assert list(find_grids(out)) == [0, 100, 150, 220]
    alone, on = (line["text"] for line in read_history(out, "event"))
    assert alone.endswith("a fresh D. For 50 images D learns alone, beside a G that stands still.")
    assert on == "A new run goes on from this G, with its D."
    facts = json.loads((out / "config.json").read_text())
    assert [(each["images"], each["D_alone"]) for each in facts["laps"]] == [(100, 0), (50, 50), (70, 0)]


def test_a_joined_run_ships_and_takes_a_third_lap(tmp_path):
    two = join_laps([lap(tmp_path / "a", [0, 100]), lap(tmp_path / "b", [0, 10])], tmp_path / "2")
    three = join_laps(
        [ship_run(two, tmp_path / "ships", grids=3), lap(tmp_path / "c", [0, 7])], tmp_path / "3"
    )
    facts = json.loads((three / "config.json").read_text())
    assert [each["images"] for each in facts["laps"]] == [100, 10, 7]
    assert max(find_grids(three)) == 117 and len(read_history(three, "event")) == 2


def test_refusals(tmp_path):
    first = lap(tmp_path / "a", [0, 100])
    with pytest.raises(WorkbenchError, match="already there"):
        join_laps([first, first], first)
    with pytest.raises(WorkbenchError, match="is no run folder"):
        join_laps([first, tmp_path], tmp_path / "out")
    silent = lap(tmp_path / "b", [0])
    (silent / "history.jsonl").write_text("")
    with pytest.raises(WorkbenchError, match="has told nothing of its training yet"):
        join_laps([first, silent], tmp_path / "out")
    assert not (tmp_path / "out").exists()
