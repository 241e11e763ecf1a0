"""The Upscale tab in a real browser: from Create, an upload, the slider, the file, Stop, mistakes."""

import re

import pytest

pytest.importorskip("playwright")

import numpy as np
from PIL import Image
from playwright.sync_api import expect
from watching import PATIENCE_MS

from workbench.images import read_recipe

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def page(watched, served_up):
    watched.page.goto(served_up)
    return watched.page


def picture(path, side):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def upload(page, path):
    page.locator("#up-upload input[type=file]").set_input_files(path)
    expect(page.locator("#up-given")).to_contain_text(path.name)


def download(page, button, folder):
    with page.expect_download() as started:
        page.locator(button).click()
    saved = folder / started.value.suggested_filename
    started.value.save_as(saved)
    return saved


def test_create_shows_both_sizes_and_sends_one_to_be_compared(page, tmp_path):
    expect(page.locator("#large-status")).to_contain_text("Above at 128 px")  # all of them: no more comes
    expect(page.locator("#gallery-small img")).to_have_count(4)
    expect(page.locator("#gallery img").first).to_have_attribute("src", re.compile("128px.png"))
    page.locator("#gallery button").filter(has_text="seed 2").first.click()
    expect(page.locator("#download-large")).to_have_text(re.compile("Download 128 px, seed 2"))
    expect(page.locator("#download")).to_have_text(re.compile("seed 2"))
    recipe = read_recipe(download(page, "#download-large", tmp_path))
    assert (recipe["kind"], recipe["seed"], recipe["size"]) == ("upscaled", 2, [128, 128])
    assert read_recipe(download(page, "#download", tmp_path))["size"] == [32, 32]

    page.locator("#send-up").click()
    expect(page.locator("#up-numbers")).to_contain_text("32 × 32 → 128 × 128 px")
    expect(page.locator("#up-given")).to_contain_text("seed 2")
    expect(page.locator("#up-slider img")).to_have_count(2)
    saved = download(page, "#up-download", tmp_path)
    page.get_by_role("tab", name="Open a PNG").click()
    page.locator("#up-drop input[type=file]").set_input_files(saved)
    expect(page.locator("#up-verdict")).to_contain_text("Identical")
    page.get_by_role("tab", name="Two prompts").click()
    page.locator("#up-both").click()
    expect(page.locator("#up-pair")).to_contain_text("only the words differ")

    page.get_by_role("tab", name="Create").click()
    page.locator("#large-on input").uncheck()
    page.locator("#seed input, #seed textarea").fill("9")
    page.locator("#make").click()
    expect(page.locator("#download")).to_have_text(re.compile("seed 9"))
    expect(page.locator("#gallery-small")).to_have_count(0)
    expect(page.locator("#gallery img").first).not_to_have_attribute("src", re.compile("128px.png"))


def test_an_upload_is_enlarged_its_line_moves_and_it_is_downloaded(page, tmp_path):
    page.get_by_role("tab", name="Upscale").click()
    expect(page.locator("#up-slider img")).to_have_count(2)  # of Create, or drawn here
    upload(page, picture(tmp_path / "mine.png", 24))
    page.locator("#up-prompt textarea").fill("a white zebra")
    expect(page.locator("#up-reading .wb-chip.unknown")).to_contain_text("zebra")
    page.locator("#up-go").click()
    expect(page.locator("#up-numbers")).to_contain_text("24 × 24 → 96 × 96 px")
    after = page.locator("#up-slider img").nth(1)
    expect(after).to_have_attribute("src", re.compile("mine-4x.png"))
    page.locator("#up-line input[type=range]").focus()
    page.keyboard.press("Home")
    expect(after).to_have_attribute("style", re.compile(r"0px 0px 0%|inset\(0px 0px 0px [01]?\d(\.\d+)?%\)"))
    recipe = read_recipe(download(page, "#up-download", tmp_path))
    assert recipe["kind"] == "upscaled" and recipe["input"]["size"] == [24, 24] and recipe["factor"] == 4
    page.get_by_role("tab", name="Tiles").click()
    expect(page.locator("#up-tiles")).to_contain_text("Exact.")
    for name in ("Compare", "Tiles", "Two prompts", "Open a PNG"):
        page.set_viewport_size({"width": 1280, "height": 900})
        page.locator("#up-parts").get_by_role("tab", name=name, exact=True).click()
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate(WIDER) <= 0, name


def test_stop_ends_it_and_a_mistake_is_told(page, tmp_path):
    page.get_by_role("tab", name="Upscale").click()
    expect(page.locator("#up-slider img")).to_have_count(2)
    expect(page.locator("#up-status")).to_contain_text("Done.")  # with what the page opens with
    upload(page, picture(tmp_path / "wide.png", 1_024))  # thousands of tiles: Stop comes before the last
    page.locator("#up-tile input").click()
    page.get_by_role("option", name="16", exact=True).click()
    page.locator("#up-go").click()
    expect(page.locator("#up-status")).to_contain_text("Tile")
    page.locator("#up-stop").click()
    expect(page.locator("#up-status")).to_contain_text("Stopped; nothing was kept.")

    (tmp_path / "text.png").write_bytes(b"no picture")
    page.locator("#up-upload").get_by_role("button", name="Clear").click()
    page.locator("#up-upload input[type=file]").set_input_files(tmp_path / "text.png")
    expect(page.get_by_text("text.png cannot be enlarged").first).to_be_visible()
    page.locator("#up-seed input, #up-seed textarea").fill("seven")
    page.locator("#up-go").click()
    expect(page.locator("#up-status")).to_contain_text("not a whole number")
