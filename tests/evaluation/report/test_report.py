"""A report of a small model: every part is there and agrees with its numbers; a broken model gives none."""

import json
import re

import pytest
import torch
from tiny_world_model import tiny_world_model
from true_renders import render_folder

from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, load_judge
from workbench.evaluation.metrics.record import Measurement, Statement, compare_files, read_measurements
from workbench.evaluation.perceptual import CLIP_FOLDER, FeatureDistance
from workbench.evaluation.report.gathering import Tools, gather
from workbench.evaluation.report.pictures import confusions, neighbours, worst
from workbench.evaluation.report.summary import over_floors
from workbench.evaluation.report.world import class_shares, least_faithful
from workbench.evaluation.report.writing import write_report
from workbench.evaluation.variety import nearest
from workbench.models.clip_io import load_clip

N = 24


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools(judge=load_judge(), clip=load_clip(CLIP_FOLDER), distance=FeatureDistance())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    render_folder(folder / "data", count=30, side=16, seed=5)
    return folder


@pytest.fixture(scope="module")
def gathered(tools, place):
    settings = {"n": N, "cache": place / "cache"}
    return gather(tiny_world_model(), place / "data", tools, **settings)


@pytest.fixture(scope="module")
def page(gathered, place) -> str:
    return write_report(gathered, place / "out").read_text(encoding="utf-8")


def test_the_page_has_every_part_and_needs_nothing_else(page, gathered):
    for part in ("Measures", "Faithfulness", "What the judge sees instead", "Worst prompts",
                 "Nearest pictures of the data", "Speed", "To be read with care"):  # fmt: skip
        assert f"<h2>{part}</h2>" in page
    assert not re.search(r"(src|href)=['\"](?!data:|#)", page)
    assert "@import" not in page and "<script" not in page
    assert page.count("<svg") == 4 and len(page) < 2_000_000
    assert all(alt.strip() for alt in re.findall(r'alt="([^"]*)"', page))
    assert "not measurable here" in page or " J " in page


def test_the_numbers_are_those_of_the_file(page, gathered, place):
    said = json.loads((place / "out" / "report.json").read_text())
    assert read_measurements(place / "out") == gathered.measurements
    for one in gathered.measurements:
        assert f"{one.value:.4g}" in page
        assert one.statement.n in (N, 15, 64, *range(1, 65)) and one.statement.features
    for factor, table in said["confusion"].items():
        assert sum(map(sum, table["counts"])) == N and table["classes"] == list(FACTOR_CLASSES[factor])
        right = sum(row[k] for k, row in enumerate(table["counts"]))
        share = next(m.value for m in gathered.measurements if m.name == f"faithfulness: {factor}")
        assert right / N == pytest.approx(share)
    assert {path.name for path in (place / "out" / "plots").iterdir()} == {
        "distances.png", "faithfulness.png", "nearest.png", "speed.png",
    }  # fmt: skip
    assert said["speed"]["images_per_s"] == max(one["images_per_s"] for one in said["speed"]["by_batch"])
    assert said["machine"] and said["versions"]["torch"] and said["minutes"] >= 0


def test_a_second_run_reads_what_was_kept_and_compares_equal(gathered, tools, place):
    again = gather(tiny_world_model(), place / "data", tools, n=N, cache=place / "cache", timed=False)
    write_report(again, place / "again")
    found = compare_files(place / "out", place / "again")
    assert {one.verdict for one in found.comparisons} == {"equal"}
    other = gather(tiny_world_model(3), place / "data", tools, n=N, cache=place / "cache", timed=False)
    write_report(other, place / "other")
    assert any(one.verdict != "equal" for one in compare_files(place / "out", place / "other").comparisons)
    assert "<h2>Speed</h2>" not in (place / "other" / "report.html").read_text()
    fewer = gather(tiny_world_model(), place / "data", tools, n=12, cache=place / "cache", timed=False)
    write_report(fewer, place / "fewer")
    with pytest.raises(WorkbenchError, match="do not compare; they differ in n: 24 and 12"):
        compare_files(place / "out", place / "fewer")


def test_a_model_that_has_diverged_gives_an_error_and_no_report(tools, place):
    for value, message in ((float("nan"), "The weights hold NaN"), (1e38, "drew values that are not finite")):
        broken = tiny_world_model()
        with torch.no_grad():
            for layer in broken.G.to_rgb.values():
                layer.weight.fill_(value)
        with pytest.raises(WorkbenchError, match=message):
            gather(broken, place / "data", tools, n=N, cache=None)


def test_data_too_small_for_a_distance_is_refused_before_anything_is_drawn(tools, place):
    render_folder(place / "one", count=1, side=16, seed=5)
    drawn = []
    with pytest.raises(WorkbenchError, match="one holds 1 picture: a distance needs 2 at least"):
        gather(
            tiny_world_model(), place / "one", tools, n=N, cache=None, timed=False,
            progress=lambda *said: drawn.append(said),
        )  # fmt: skip
    assert not drawn


def test_data_without_factors_is_measured_by_features_alone(tools, place):
    plain = place / "plain"
    (plain / "images").mkdir(parents=True)
    rows = []
    for k, line in enumerate((place / "data" / "metadata.jsonl").read_text().splitlines()):
        row = json.loads(line)
        (plain / row["file_name"]).write_bytes((place / "data" / row["file_name"]).read_bytes())
        rows.append(json.dumps({"file_name": row["file_name"], "text": f"a dog number {k % 3}"}))
    (plain / "metadata.jsonl").write_text("\n".join(rows))
    found = gather(tiny_world_model(), plain, tools, n=N, cache=None, timed=False)
    assert found.world is None and found.source.texts[:4] == [f"a dog number {k % 3}" for k in range(4)]
    names = [one.name for one in found.measurements]
    assert not any("held-out" in name or "by questions" in name for name in names)
    assert any(name.startswith("Fréchet distance (features judge") for name in names)
    assert "<h2>Faithfulness</h2>" not in write_report(found, place / "plain-out").read_text()
    with pytest.raises(WorkbenchError, match="neither a judge nor features"):
        Tools()


# --- its parts ---


def test_confusions_count_pairs():
    truth = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 0], [1, 1, 2, 2]])
    named = torch.tensor([[0, 0, 0, 0], [1, 1, 2, 0], [1, 2, 2, 2]])
    found = confusions(truth, named)
    assert found["coat"][0].tolist() == [1, 1, 0, 0, 0] and found["coat"][1, 1] == 1
    assert found["pose"][1].tolist() == [0, 1, 1]
    assert class_shares(found["coat"])[0, :2].tolist() == [0.5, 0.5]
    assert least_faithful(found)[0][:3] == ("coat", "black-and-tan", 0.5)


def test_the_worst_have_most_wrong_then_lie_farthest():
    truth = torch.zeros(5, 4, dtype=torch.long)
    named = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    mid = torch.tensor([[9.0], [1.0], [0.0], [5.0], [0.0]])
    assert worst(truth, named, mid, torch.zeros(1, 1), 9) == [2, 3, 1]


def test_neighbours_are_the_nearest_with_their_names():
    others = torch.rand(9, 3 * 16 * 16)
    turned = others.unflatten(1, (3, 16, 16)).flip(-1).flatten(1)
    own = torch.cat([others[4:5] + 0.001, turned[7:8] - 0.001])
    found = neighbours(own, others)
    assert found.number.tolist() == [4, 7] and found.mirrored.tolist() == [False, True]
    assert torch.allclose(found.distance, nearest(own, others), atol=1e-6)


def test_a_distance_stands_over_a_floor_of_about_as_many_pictures_alone():
    def measured(name, value, n):
        stated = Statement(
            n=n, n_reference=n, resolution=64, resizer="none", features="judge", features_version="1",
            reference="world", reference_key="1", seed=0, truncation=1.0, pictures="tiny", model="1",
        )  # fmt: skip
        return Measurement(name=name, value=value, better="lower", statement=stated)

    name = "Fréchet distance (features judge)"
    floor = measured(f"{name}, floor", 0.5, 8000)
    assert over_floors([measured(name, 1.0, 5000), floor]) == {"to the data, judge": 2.0}
    assert over_floors([measured(name, 1.0, 200), floor]) == {}
