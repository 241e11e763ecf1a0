"""The Dataset tab in a real browser: turn a dog, draw a set and stop it, bring pictures and check them."""

import shutil
import threading

import pytest

pytest.importorskip("playwright")

from PIL import Image
from playwright.sync_api import expect
from watching import PATIENCE_MS, Watched

from workbench.app.server import launch
from workbench.datasets import writing
from workbench.datasets.rows import read_folder
from workbench.datasets.world.folder import write_world

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def page(watched, model_folder, run_folder, a_port, tmp_path, monkeypatch):
    """The Dataset tab of an app started in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    app = launch(model_folder, port=a_port, run=run_folder, upscaler="none", block=False)
    watched.page.goto(app.local_url)
    watched.page.get_by_role("tab", name="Dataset").click()
    yield watched.page
    watched.leave()  # or it would complain that the app is gone
    app.close()


def test_a_dog_is_turned_and_the_next_one_comes(page):
    picture = page.locator("#turned img")
    expect(picture).to_be_visible()
    first = picture.get_attribute("src")
    expect(page.locator("#turn-words")).to_contain_text("claims black-and-tan, standing, park, day")
    page.locator("#turn-coat input").click()
    page.get_by_role("option", name="white", exact=True).click()
    expect(page.locator("#turn-words")).to_contain_text("claims white")
    expect(picture).not_to_have_attribute("src", first)
    page.locator("#turn-next").click()
    expect(page.locator("#turn-index input")).to_have_value("1")


@pytest.fixture
def held_at_eight(monkeypatch):
    """Pictures from the eighth on are written only when the event is set: a fast machine would be through
    with all of them before anybody can press Cancel."""
    pressed, write = threading.Event(), writing.write_picture

    def gated(file, picture):
        if int(file.stem) >= 8:
            assert pressed.wait(PATIENCE_MS / 1000)
        write(file, picture)

    monkeypatch.setattr(writing, "write_picture", gated)
    yield pressed
    pressed.set()


def test_a_set_is_drawn_stopped_and_finished(page, tmp_path, held_at_eight):
    page.get_by_role("tab", name="Draw a set").click()
    page.locator("#draw-name textarea, #draw-name input").fill("../up")
    page.locator("#draw-go").click()
    expect(page.get_by_text("expected letters, digits").first).to_be_visible()
    page.locator("#draw-name textarea, #draw-name input").fill("mine")
    page.locator("#draw-count input[type=number]").fill("24")
    page.locator("#draw-go").click()
    folder, status = tmp_path / "runs" / "datasets" / "mine", page.locator("#draw-status")
    expect(status).to_contain_text("Drawing: 8 of 24")
    expect(page.locator("#draw-go")).to_be_disabled()
    page.locator("#draw-stop").click()
    expect(status).to_contain_text("Stopping")
    held_at_eight.set()
    expect(status).to_contain_text("Stopped")
    # Cancel stops the work itself, behind the pictures that it was at.
    assert sorted(file.name for file in folder.glob("images/*")) == [f"{k:06d}.png" for k in range(12)]
    page.locator("#draw-go").click()
    expect(page.locator("#draw-sheet img")).to_have_count(24)
    assert len(read_folder(folder)) == 24
    expect(page.locator("#draw-summary")).to_contain_text("workbench train --data runs/datasets/mine")


def ask_for(page, name, count):
    page.get_by_role("tab", name="Draw a set").click()
    page.locator("#draw-name textarea, #draw-name input").fill(name)
    page.locator("#draw-count input[type=number]").fill(str(count))
    page.locator("#draw-go").click()


def test_cancel_takes_back_what_waits_and_another_press_keeps_its_place(
    page, browser, tmp_path, held_at_eight
):
    seen = Watched(browser)
    other, folder = seen.page, tmp_path / "runs" / "datasets"
    other.goto(page.url)
    other.get_by_role("tab", name="Dataset").click()
    ask_for(page, "mine", 24)
    expect(page.locator("#draw-status")).to_contain_text("Drawing: 8 of 24")
    ask_for(other, "yours", 16)
    expect(other.locator("#draw-go")).to_be_disabled()
    other.locator("#draw-stop").click()
    expect(other.locator("#draw-status")).to_contain_text("Stopped before it began.")
    ask_for(other, "hers", 17)
    expect(other.locator("#draw-go")).to_be_disabled()
    held_at_eight.set()
    expect(other.locator("#draw-sheet img")).to_have_count(17)
    expect(page.locator("#draw-sheet img")).to_have_count(24)
    assert sorted(path.name for path in folder.iterdir()) == ["hers", "mine"]
    for one in (page, other):
        expect(one.locator("#draw-go")).to_be_enabled()
    seen.leave()
    seen.context.close()
    assert seen.outside == [] and seen.errors == []


def test_a_damaged_set_is_told_and_another_can_be_chosen(page, tmp_path):
    folder = tmp_path / "runs" / "datasets"
    for name in ("whole", "torn"):
        write_world(folder / name, count=4, seed=0, resolution=32, workers=1, progress=False)
    next((folder / "torn" / "images").iterdir()).write_bytes(b"no picture")
    page.get_by_role("tab", name="Look and check").click()
    expect(page.locator("#set-status")).to_contain_text("Check it")
    page.locator("#set input").click()
    page.get_by_role("option", name="datasets/whole", exact=True).click()
    expect(page.locator("#set-sheet img")).to_have_count(4)
    expect(page.locator("#set-status")).to_be_empty()


def test_own_pictures_become_a_set_and_are_checked(page, tmp_path):
    for k in range(4):
        file = tmp_path / "dogs" / ("red" if k % 2 else "blue") / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 64), (60 * k, 90, 160)).save(file)
    (tmp_path / "dogs" / "blue" / "broken.png").write_bytes(b"no picture")
    page.get_by_role("tab", name="Your pictures").click()
    archive = shutil.make_archive(str(tmp_path / "dogs"), "zip", tmp_path / "dogs")
    page.locator("#own-files input[type=file]").set_input_files(archive)
    expect(page.locator("#own-files")).to_contain_text("dogs")
    page.locator("#own-go").click()
    expect(page.locator("#own-status")).to_contain_text("4 pictures from 4 files")
    expect(page.locator("#own-status")).to_contain_text("blue/broken.png")
    expect(page.locator("#own-sheet img")).to_have_count(4)
    page.get_by_role("tab", name="Look and check").click()
    expect(page.locator("#set-summary")).to_contain_text("pictures")
    page.locator("#set-check").click()
    report = page.frame_locator("#set-report iframe")
    expect(report.locator("h1")).to_have_text("Data set check: my-pictures")
    expect(report.locator(".verdict")).to_contain_text("training")
