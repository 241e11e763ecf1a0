"""A number keeps what it depends on, and two that were measured differently are not compared."""

import json
from dataclasses import replace

import pytest

from workbench.errors import WorkbenchError
from workbench.evaluation.metrics.record import (
    Measurement,
    Statement,
    compare,
    compare_files,
    disagreements,
    read_measurements,
    write_measurements,
)

STATED = Statement(
    n=5000, n_reference=5000, resolution=64, resizer="not resized, 64 px", features="judge, mid-level",
    features_version="abc", reference="world", reference_key="r1", seed=0, truncation=1.0,
    pictures="first", model="m1",
)  # fmt: skip


def measured(value=2.0, *, spread=None, better="lower", name="distance", **changes) -> Measurement:
    statement = replace(STATED, **changes)
    return Measurement(name=name, value=value, spread=spread, better=better, statement=statement)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("n", 1000), ("n_reference", 1000), ("resolution", 128), ("resizer", "tf1 to 299 px"),
        ("features", "CLIP"), ("features_version", "def"), ("reference", "train"), ("reference_key", "r2"),
        ("seed", 1), ("truncation", 0.7), ("settings", {"subsets": 10}),
    ],
)  # fmt: skip
def test_two_that_differ_are_not_compared_and_the_difference_is_named(field, other):
    with pytest.raises(
        WorkbenchError, match=rf"do not compare; they differ in {field}: .*Measure both alike"
    ):
        compare(measured(), measured(**{field: other}))
    assert compare(measured(), measured(3.0, **{field: other}), across=[field]).difference == 1.0


def test_all_differences_are_named_at_once():
    with pytest.raises(WorkbenchError) as said:
        compare(measured(), measured(n=10, seed=4, truncation=0.5))
    for part in ("n: 5000 and 10", "seed: 0 and 4", "truncation: 1.0 and 0.5"):
        assert part in str(said.value)


def test_the_model_is_what_is_compared():
    assert disagreements(STATED, replace(STATED, pictures="second", model="m2")) == []
    with pytest.raises(WorkbenchError, match="name: distance and recall"):
        compare(measured(), measured(name="recall"))
    with pytest.raises(WorkbenchError, match="colour is no field of a statement"):
        disagreements(STATED, STATED, across=["colour"])


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ({"value": 2.0}, {"value": 1.0}, "second is better, error not known"),
        ({"value": 1.0}, {"value": 2.0}, "first is better, error not known"),
        ({"value": 0.4, "better": "higher"}, {"value": 0.5, "better": "higher"}, "second is better, error"),
        ({"value": 2.0, "spread": 0.3}, {"value": 1.1, "spread": 0.4}, "no difference beyond the error"),
        ({"value": 2.0, "spread": 0.3}, {"value": 0.9, "spread": 0.4}, "second is better"),
        ({"value": 2.0}, {"value": 2.0}, "equal"),
        ({"value": 2.0, "better": "stated"}, {"value": 3.0, "better": "stated"}, "second is higher"),
    ],
)  # fmt: skip
def test_verdicts(first, second, verdict):
    found = compare(measured(**{**first, "spread": first.get("spread")}), measured(**second))
    if first.get("spread") is not None:
        assert found.error == pytest.approx(0.5)
        if "no difference" in verdict:
            assert abs(found.difference) <= 2 * found.error
    assert found.verdict.startswith(verdict)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_number(value):
    with pytest.raises(WorkbenchError, match=r"expected a finite number.*nothing was reported"):
        measured(value)
    with pytest.raises(WorkbenchError, match="The spread of distance"):
        measured(spread=value)


def test_a_measurement_is_never_printed_bare():
    said = str(measured(spread=0.25))
    for part in ("distance 2 ± 0.25", "n 5,000", "5,000 of world", "64 px", "judge, mid-level abc", "seed 0",
                 "truncation 1", "first m1"):  # fmt: skip
        assert part in said


def test_files_round_trip_and_compare(tmp_path):
    a, b = measured(), measured(1.5, pictures="second", model="m2")
    write_measurements(tmp_path / "report.json", [a, measured(name="only a")], verdict="fine")
    write_measurements(tmp_path / "b.json", [b, measured(name="only b")])
    assert read_measurements(tmp_path)[0] == a
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "fine"
    found = compare_files(tmp_path, tmp_path / "b.json")
    assert [one.verdict for one in found.comparisons] == ["second is better, error not known"]
    assert (found.only_first, found.only_second) == (["only a"], ["only b"])
    write_measurements(tmp_path / "c.json", [measured(name="only c")])
    with pytest.raises(WorkbenchError, match="no measurement in common"):
        compare_files(tmp_path, tmp_path / "c.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not readable JSON"), ("{}", "no file of measurements"),
     ('{"schema": 1, "kind": "measurements", "measurements": [{"name": "x"}]}', "a measurement without")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(WorkbenchError, match=message):
        read_measurements(tmp_path)
    with pytest.raises(WorkbenchError, match="There is no"):
        read_measurements(tmp_path / "nothing.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match=r"holds neither report\.json nor"):
        read_measurements(tmp_path / "empty")
