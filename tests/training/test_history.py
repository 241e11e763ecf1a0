"""history.jsonl: whole lines only, no NaN, truncation at a resume, what a rollback takes back."""

import json

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.training.history import History, read_history


def line(cur_nimg: int, kind: str = "step", **fields: object) -> dict:
    return {"kind": kind, "cur_nimg": cur_nimg, **fields}


def test_round_trip_and_kinds(tmp_path):
    history = History(tmp_path)
    history.append(line(32, loss=0.1 + 0.2, found=torch.tensor(0.5)))
    history.append(line(32, "sample", file="samples/grid_000000032.png"))
    assert read_history(tmp_path, "step") == [line(32, loss=0.30000000000000004, found=0.5)]
    assert len(read_history(tmp_path / "history.jsonl")) == 2
    assert History(tmp_path).size == history.size == (tmp_path / "history.jsonl").stat().st_size


def test_not_a_number_becomes_null(tmp_path):
    History(tmp_path).append(line(0, loss=float("nan"), deep={"x": [float("inf"), True, None]}))
    text = (tmp_path / "history.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == line(
        0, loss=None, deep={"x": [None, True, None]}
    )


def test_truncate_drops_what_came_after(tmp_path):
    history = History(tmp_path)
    history.append(line(1))
    size = history.size
    history.append(line(2))
    again = History(tmp_path)
    again.truncate(size)
    again.append(line(3))
    assert [entry["cur_nimg"] for entry in read_history(tmp_path)] == [1, 3]
    with pytest.raises(WorkbenchError, match="was cut or replaced"):
        History(tmp_path).truncate(10_000)


def test_a_torn_last_line_is_left_out_and_damage_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "step", "cur_nimg": 1}\n{"kind": "st')
    assert [entry["cur_nimg"] for entry in read_history(tmp_path)] == [1]
    whole = '{"kind": "event", "cur_nimg": 1, "text": "Fréchet"}\n'.encode()
    path.write_bytes(whole + whole[: whole.index(b"\xc3") + 1])  # within a letter
    assert [entry["text"] for entry in read_history(tmp_path)] == ["Fréchet"]
    path.write_text('{"kind": "st\n{"kind": "step", "cur_nimg": 1}\n')
    with pytest.raises(WorkbenchError, match=r"Line 1 of .* is no JSON"):
        read_history(tmp_path)
    with pytest.raises(WorkbenchError, match=r"no history\.jsonl"):
        read_history(tmp_path / "elsewhere")


def test_a_rollback_takes_lines_back_but_no_events(tmp_path):
    history = History(tmp_path)
    for entry in (
        line(10),
        line(20),
        line(20, "event", event="collapse", text="…"),
        line(30),
        line(10, "event", event="rollback", text="…", from_nimg=30, back_to_nimg=10),
        line(20, again=True),
    ):
        history.append(entry)
    assert [entry["cur_nimg"] for entry in read_history(tmp_path, "step")] == [10, 20]
    assert read_history(tmp_path, "step")[1]["again"] is True
    assert [entry["event"] for entry in read_history(tmp_path, "event")] == ["collapse", "rollback"]
    assert len(read_history(tmp_path, undone=True)) == 6
