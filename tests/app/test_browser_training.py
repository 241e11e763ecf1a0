"""The Training tab in a real browser: a run is started, watched, paused, found again, gone on with, ended."""

import json
import re
import time

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from saving_slowly import saving_slowly
from watching import PATIENCE_MS

from workbench.app.server import launch
from workbench.datasets.world.folder import write_world
from workbench.training import background, checkpoint
from workbench.training.history import read_history

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def page(watched, model_folder, run_folder, a_port, tmp_path, monkeypatch):
    """The Training tab of an app started in a folder of its own, with one small data set."""
    monkeypatch.chdir(tmp_path)
    write_world(tmp_path / "runs/datasets/dogs", count=16, seed=0, resolution=32, workers=1, progress=False)
    app = launch(model_folder, port=a_port, run=run_folder, upscaler="none", block=False)
    watched.page.goto(app.local_url)
    watched.page.get_by_role("tab", name="Training").click()
    yield watched.page
    watched.leave()  # or it would complain that the app is gone
    app.close()
    for run in (tmp_path / "runs").iterdir():  # a test that failed leaves no process behind
        if background.look(run).kind == "ours":
            background.ask(run, "stop")
            background.wait(run, PATIENCE_MS / 1000)


def begin(page, images):
    page.get_by_role("button", name="Start a training run").click()
    expect(page.locator("#start-estimate")).to_contain_text("workbench train --data runs/datasets/dogs")
    page.locator("#start-images input").fill(str(images))
    page.locator("#start-images input").press("Tab")
    expect(page.locator("#start-estimate")).to_contain_text(f"--images {images}")
    page.locator("#start-go").click()


def test_a_run_is_started_watched_paused_found_again_and_stopped(page, tmp_path):
    begin(page, 20_000)
    live, run = page.locator("#run-live"), tmp_path / "runs" / "my-run"
    expect(live).to_contain_text("Getting ready.")
    expect(live).to_contain_text(re.compile(r"Training: [\d,]+ of 20,000 images"))
    expect(page.locator(".wb-player > img")).to_be_visible()
    begin(page, 20_000)
    expect(page.get_by_text("two runs would slow each other down").first).to_be_visible()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["datasets", "my-run"]

    pid = json.loads((run / ".process" / "start.json").read_text())["pid"]
    page.reload()  # the process does not notice
    page.get_by_role("tab", name="Training").click()
    page.locator("#run input").click()
    page.get_by_role("option", name="my-run", exact=True).click()
    expect(live).to_contain_text("Training:")
    page.locator("#run-pause").click()
    expect(live).to_contain_text(re.compile(r"Paused at [\d,]+ of 20,000 images\. Everything is saved\."))
    at = read_history(run)[-1]["cur_nimg"]
    assert not background.look(run).alive and checkpoint.newest_nimg(run) >= at > 0

    page.locator("#run-resume").click()
    expect(live).to_contain_text("Training:")
    assert json.loads((run / ".process" / "start.json").read_text())["pid"] != pid
    page.locator("#run-stop").click()
    expect(live).to_contain_text("Stopped at")
    assert read_history(run)[-1]["cur_nimg"] >= at
    expect(page.locator("#run-pause")).to_be_hidden()
    expect(page.locator("#run-resume")).to_be_visible()


def test_stop_leaves_at_once_where_the_page_says_that_it_saves(page, tmp_path):
    live = page.locator("#run-live")
    with saving_slowly(tmp_path / "runs" / "my-run") as heard:
        page.locator("#run-refresh").click()
        page.locator("#run input").click()
        page.get_by_role("option", name="my-run", exact=True).click()
        expect(live).to_contain_text("Getting ready.")
        page.locator("#run-pause").click()
        expect(live).to_contain_text("Stop, pressed again, leaves at once")
        expect(page.locator("#run-pause")).to_be_hidden()
        page.locator("#run-stop").click()
        until = time.monotonic() + PATIENCE_MS / 1000
        while "SIGINT" not in heard.read_text() and time.monotonic() < until:
            time.sleep(0.1)
        assert heard.read_text().split() == ["SIGTERM", "SIGINT"]


@pytest.mark.long
def test_the_scrubber_stays_where_it_was_left_while_grids_arrive(page):
    begin(page, 20_000)
    moment, slider = page.locator(".wb-moment"), page.locator("#scrubber")
    expect(page.locator("#run-live")).to_contain_text("Training:")
    expect(slider).to_have_attribute("max", re.compile(r"[1-9]\d*"))
    slider.focus()
    slider.press("Home")
    expect(moment).to_contain_text("0 images seen")
    before = int(slider.get_attribute("max"))
    page.wait_for_function(f"() => +document.querySelector('#scrubber').max > {before}")
    expect(moment).to_contain_text("0 images seen")
    newest = "(s => s.value === s.max)(document.querySelector('#scrubber'))"
    until = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(newest) and time.monotonic() < until:
        slider.press("End")  # again where a new grid took the slider's place under the key
    before = int(slider.get_attribute("max"))
    page.wait_for_function(f"() => +document.querySelector('#scrubber').max > {before}")
    assert page.evaluate(newest)  # from here on it follows
    expect(moment).not_to_have_text(re.compile(r"^0 images seen"))


def test_a_failure_of_the_process_is_told_in_words(page, tmp_path):
    data = tmp_path / "runs" / "datasets" / "dogs"
    for picture in (data / "images").iterdir():
        picture.write_bytes(b"no picture")
    for cache in data.glob("cache-*"):
        cache.unlink()
    begin(page, 1000)
    live = page.locator("#run-live")
    expect(live).to_contain_text("Ended at 0")
    expect(live).not_to_contain_text("Traceback")
    assert background.look(tmp_path / "runs" / "my-run").trouble


def test_on_a_telephone_nothing_is_cut_off(page):
    page.set_viewport_size({"width": 360, "height": 800})
    page.get_by_role("button", name="Start a training run").click()
    expect(page.locator("#start-go")).to_be_visible()
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
