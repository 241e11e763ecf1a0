"""The Evaluate tab: a real report of a tiny model, two compared or refused, figures, and the page itself."""

import json
import os
from pathlib import Path

import pytest
import torch

from workbench.app import evaluate, evaluate_work
from workbench.app.evaluate_work import PAGE_MODEL, Bench, Wanted
from workbench.app.jobs import Studio
from workbench.app.runs import Run, Shelf
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError

N = 24


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A working folder with a data set of 32 px under runs/."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_world(folder / "runs" / "world", count=N, seed=0, resolution=32)
    return folder


@pytest.fixture
def bench(desk, model_folder, monkeypatch):
    monkeypatch.chdir(desk)
    return Bench(Studio(str(model_folder), desk / "work"), Shelf(shipped=desk / "none", runs=Path("runs")))


@pytest.fixture(scope="module")
def reports(desk, model_folder):
    """Names of two reports, of 24 pictures of two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        bench = Bench(
            Studio(str(model_folder), desk / "work"), Shelf(shipped=desk / "none", runs=Path("runs"))
        )
        told = []
        made = [
            bench.measure(Wanted(model=PAGE_MODEL, data="world", n=N, seed=seed), told.append)
            for seed in (0, 1)
        ]
    assert any("of 24" in sentence for sentence in told)
    return [folder.name for folder in made]


def test_runs_that_draw_no_picture_of_a_prompt_in_one_pass_are_not_offered(bench, tmp_path, monkeypatch):
    kinds = {"gan": "gigagan-pipeline", "base": "diffusion-baseline", "few": "diffusion-student",
             "large": "gigagan-upscaler", "empty": None}  # fmt: skip
    for name, kind in kinds.items():
        (tmp_path / name / "model").mkdir(parents=True)
        if kind is not None:
            (tmp_path / name / "model" / "config.json").write_text(json.dumps({"kind": kind}))
    runs = {name: Run(name=name, folder=tmp_path / name) for name in [*kinds, "unfinished"]}
    monkeypatch.setattr(bench.shelf, "list", lambda: runs)
    assert bench.models() == [PAGE_MODEL, "gan", "empty"]  # of the last, loading says what is wrong


def test_a_model_is_measured_and_its_page_shown(bench, reports):
    assert bench.reports()[0] in reports and reports[0].startswith(f"tiny-on-world-{N}-seed-0-")
    folder = evaluate_work.folder_of(reports[0])
    measured = json.loads((folder / "report.json").read_text())["measurements"]
    assert len(measured) > 5 and all(one["value"] == one["value"] for one in measured)
    page = evaluate_work.page_html(folder)
    assert page.startswith("<iframe") and "srcdoc=" in page and "<script" not in page
    copies = bench.copies(folder)
    assert [Path(path).read_bytes() for path in copies] == [
        (folder / name).read_bytes() for name in ("report.html", "report.json")
    ]


def test_two_reports_are_compared_or_refused(bench, reports, desk):
    with pytest.raises(WorkbenchError, match="seed"):  # of other seeds: not alike
        evaluate_work.compared_html(*reports)
    same = evaluate_work.compared_html(reports[0], reports[0])
    assert same.count("<tr>") > 5 and "equal" in same and "better" not in same
    for name in (None, "", "../../etc", "gone"):
        with pytest.raises(WorkbenchError, match="Choose a report"):
            evaluate_work.folder_of(name)


def test_the_report_that_ships_is_of_the_model_that_ships(bench):
    name = bench.reports()[-1]
    assert name == "shepherd-64 (ships)"
    folder = evaluate_work.folder_of(name)
    model = folder.parents[1] / "models" / "shepherd-64" / "config.json"
    weights = json.loads(model.read_text())["weights"]["generator.safetensors"]
    told = [one["statement"] for one in json.loads((folder / "report.json").read_text())["measurements"]]
    own = {one["model"] for one in told if one["pictures"] == "shepherd-64"}
    assert own == {weights[:12]} and max(one["n"] for one in told) >= 5000
    stated = json.loads((folder.parent / "figures.json").read_text())
    page = (folder / "report.html").read_text()
    assert f"{stated['frechet.ratio_to_floor']['value']:.2f} times its floor" in page


def test_what_others_switch_off_in_the_pages_model_is_not_measured(bench, monkeypatch):
    """Learn does that for a look, while a report draws for minutes."""
    from workbench.evaluation.report import gathering
    from workbench.models import inspect

    def gather(pipeline, *given, **settings):
        drawn.append(pipeline("a white dog", seed=3).images)
        raise WorkbenchError("that will do")

    monkeypatch.setattr(gathering, "gather", gather)
    drawn, page = [], bench.studio.pipeline()
    whole = page("a white dog", seed=3).images
    with bench.studio.alone(), inspect.strength(page.G, "cross-attention", 0.0):
        assert not torch.equal(page("a white dog", seed=3).images, whole)
        with pytest.raises(WorkbenchError, match="that will do"):
            bench.measure(Wanted(model=PAGE_MODEL, data="world", n=N, seed=0), print)
    assert torch.equal(drawn[0], whole)


def test_the_speed_is_taken_while_nobody_else_draws(bench, monkeypatch):
    from workbench.evaluation.report import gathering, timing

    def draw(pipeline, prompts):
        return lambda batch: alone.append(bench.studio._model_lock.locked()) or 0.1 * batch

    def stream(*given, **settings):
        raise WorkbenchError("that will do")

    monkeypatch.setattr(timing, "_drawing", draw)
    monkeypatch.setattr(gathering, "stream", stream)
    alone, told = [], []
    with pytest.raises(WorkbenchError, match="that will do"):
        bench.measure(Wanted(model=PAGE_MODEL, data="world", n=N, seed=0), told.append)
    assert len(alone) > 50 and all(alone) and not bench.studio._model_lock.locked()
    assert told.count("Taking the speed") > 50  # between two draws others have a turn, and Stop is heard


def test_a_model_that_is_missing_is_told_as_everywhere(desk):
    bench = Bench(Studio("assets/models/none", desk / "w"), Shelf(shipped=desk, runs=desk / "runs"))
    with pytest.raises(WorkbenchError, match="make demo-models"):
        bench.measure(Wanted(model=PAGE_MODEL, data="world", n=N, seed=0), print)


def test_what_is_chosen_stays_chosen_while_it_is_there(bench, monkeypatch):
    sets, reports = ["new", "old"], ["c", "b", "a"]
    monkeypatch.setattr(bench.sets, "list", lambda: dict.fromkeys(sets))
    monkeypatch.setattr(bench, "reports", lambda: list(reports))

    def chosen(*now):
        return [each["value"] for each in evaluate._lists(bench, now)]

    assert chosen(PAGE_MODEL, None, None, None, None) == [PAGE_MODEL, "new", None, "c", "b"]
    assert chosen(PAGE_MODEL, "old", "b", "a", "c") == [PAGE_MODEL, "old", "b", "a", "c"]
    assert chosen("a run", "gone", "gone", "b", "gone") == [PAGE_MODEL, "new", None, "b", "c"]
    reports[:], sets[:] = ["a"], []
    assert chosen(PAGE_MODEL, "old", "b", "c", "b") == [PAGE_MODEL, None, None, "a", None]


def test_a_stop_ends_it_and_the_same_report_goes_on(bench):
    class Enough(Exception):
        pass

    def tell(sentence):
        raise Enough

    asked = Wanted(model=PAGE_MODEL, data="world", n=N, seed=2)
    with pytest.raises(Enough):
        bench.measure(asked, tell)
    assert not list(evaluate_work.REPORTS.glob(f"tiny-on-world-{N}-seed-2*"))


def test_reports_of_other_sets_or_weights_have_other_names():
    def name(data="my-dogs", model="tiny", weights="a" * 64):
        wanted = Wanted(model=PAGE_MODEL, data=data, n=200, seed=0)
        return evaluate_work.report_name(wanted, model, weights)

    sets = [
        "datasets/хаски",
        "datasets/собаки",
        "my_dogs",
        "my-dogs",
        f"{'my dogs ' * 9}1",
        f"{'my dogs ' * 9}2",
    ]
    names = [*map(name, sets), name(weights="b" * 64), name(model="Tiny")]
    assert len(set(names)) == len(names) and name() == name()
    assert all(each.isascii() and "/" not in each and len(each) < 160 for each in names)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((PAGE_MODEL, None, 200, "0"), "no data set"),
        ((PAGE_MODEL, "world", 7, "0"), "choose 200, 1000, 5000"),
        ((PAGE_MODEL, "world", None, "0"), "choose"),
        ((PAGE_MODEL, "world", 200, "dog"), "seed"),
    ],
)
def test_what_cannot_be_measured_is_told(given, message):
    with pytest.raises(WorkbenchError, match=message):
        evaluate_work.wanted(*given)


def test_every_stated_figure_stands_in_the_table():
    from workbench.evaluation.goals import GOALS

    table = evaluate_work.figures_html()
    assert all(f"<code>{id}</code>" in table for id in GOALS)
    assert table.count("<tr>") == len(GOALS) + 1


@pytest.mark.browser
def test_the_page_shows_a_report_measures_and_stops(
    watched, a_port, desk, model_folder, reports, monkeypatch
):
    from playwright.sync_api import expect
    from watching import PATIENCE_MS

    expect.set_options(timeout=PATIENCE_MS)
    from workbench.app.server import launch

    monkeypatch.chdir(desk)
    older = write_world(Path("runs") / "older", count=N, seed=1, resolution=32)
    os.utime(older, (0, 0))
    app = launch(model_folder, port=a_port, upscaler="none", block=False)
    page = watched.page
    page.goto(app.local_url)
    page.get_by_role("tab", name="Evaluate").click()
    inside = page.frame_locator("#eval-page iframe").locator("body")
    expect(inside).to_contain_text("shepherd-64")  # nothing was chosen: the one that ships
    page.locator("#eval-which input").click()
    page.get_by_role("option", name=reports[0]).click()
    expect(inside).to_contain_text("tiny")
    page.locator("#eval-data input").click()
    page.get_by_role("option", name="older").click()
    page.get_by_role("tab", name="Compare two").click()
    page.locator("#eval-second input").click()
    page.get_by_role("option", name="ships").click()
    page.get_by_role("tab", name="Learn").click()
    page.get_by_role("tab", name="Evaluate").click()
    expect(page.locator("#eval-second input")).to_have_value("shepherd-64 (ships)")
    page.get_by_role("tab", name="Report").click()
    for part, value in (("data", "older"), ("which", reports[0])):  # the page comes back as it was left
        expect(page.locator(f"#eval-{part} input")).to_have_value(value)
    with page.expect_download() as started:
        page.locator("#eval-json").click()
    kept = evaluate_work.folder_of(reports[0]) / "report.json"
    assert Path(started.value.path()).read_bytes() == kept.read_bytes()
    page.locator("#eval-n label").filter(has_text="5000").click()
    page.locator("#eval-go").click()
    expect(page.locator("#eval-status")).to_contain_text("of 5,000")
    page.locator("#eval-stop").click()
    expect(page.locator("#eval-status")).to_contain_text("Stopped. What was measured is kept")

    page.get_by_role("tab", name="Compare two").click()
    page.locator("#eval-compare").click()
    expect(page.get_by_text("seed").last).to_be_visible()
    page.get_by_role("tab", name="Stated figures").click()
    expect(page.locator("#eval-figures")).to_contain_text("faithfulness.coat")
    watched.leave()
    app.close()
