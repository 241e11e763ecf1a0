"""The app in a real browser: from a typed prompt to a PNG and back, the scrubber, small screens, mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect
from watching import PATIENCE_MS, Watched

from workbench.app.server import launch
from workbench.images import open_picture, read_recipe, to_uint8
from workbench.pipeline import Pipeline

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE_MS)


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_a_prompt_becomes_a_png_and_the_png_comes_back(watched, served, model_folder, tmp_path):
    page = watched.page
    page.goto(served)
    expect(page.locator("#gallery img")).to_have_count(4)  # the page opens with the first example
    expect(page.locator("#top")).to_contain_text("tiny")

    page.locator("#prompt textarea").fill("a white zebra in the snow")
    chip = page.locator(".wb-chip.unknown")
    expect(chip).to_contain_text("zebra")
    expect(chip).to_contain_text("unknown")
    expect(page.locator("#reading")).to_contain_text("coat white, scene snow")

    page.locator("#seed input, #seed textarea").fill("7")
    page.locator("#prompt textarea").press("Enter")
    button = page.locator("#download")
    expect(button).to_have_text(re.compile("seed 7"))
    expect(page.locator("#status")).to_contain_text("ms per picture on this CPU")
    with page.expect_download() as started:
        button.click()
    saved = tmp_path / started.value.suggested_filename
    started.value.save_as(saved)
    assert saved.name == "a-white-zebra-in-the-snow-7.png"
    recipe = read_recipe(saved)
    assert (recipe["prompt"], recipe["seed"]) == ("a white zebra in the snow", 7)
    expected = Pipeline.from_pretrained(model_folder)("a white zebra in the snow", seed=7)
    with open_picture(saved) as picture:
        assert np.array_equal(np.asarray(picture), to_uint8(expected.images)[0])

    page.locator("#gallery button").filter(has_text="seed 9").first.click()
    expect(button).to_have_text(re.compile("seed 9"))
    page.locator("#example-2").click()
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("red shepherd"))
    page.get_by_role("button", name="Drop a picture back").click()
    page.locator("#drop input[type=file]").set_input_files(saved)
    expect(page.locator("#verdict")).to_contain_text("Identical")
    expect(page.locator("#prompt textarea")).to_have_value("a white zebra in the snow")
    expect(page.locator("#seed input, #seed textarea")).to_have_value("7")


def test_the_builder_writes_a_prompt_the_dice_a_seed_and_a_mistake_is_told(watched, served):
    page = watched.page
    page.goto(served)
    expect(page.locator("#gallery img")).to_have_count(4)
    page.get_by_role("button", name="Build a caption").click()
    for name, value in (("coat", "sable"), ("light", "night")):
        page.locator(f"#pick-{name} input").click()
        page.get_by_role("option", name=value, exact=True).click()
    page.locator("#write").click()
    expect(page.locator("#prompt textarea")).to_have_value("a sable shepherd at night")
    page.locator("#dice").click()
    expect(page.locator("#seed input, #seed textarea")).not_to_have_value("1")
    page.get_by_role("button", name="Repeat it in Python").click()
    expect(page.locator("#shell-line")).to_contain_text("workbench sample")

    page.locator("#prompt textarea").fill("")
    page.locator("#make").click()
    expect(page.get_by_text("The prompt is empty.").first).to_be_visible()


def test_the_training_tab_shows_film_and_scrubber(watched, served):
    page = watched.page
    page.goto(served)
    page.get_by_role("tab", name="Training").click()
    film = page.locator(".wb-film img")
    expect(film).to_be_visible()
    loaded = "image => image.complete && image.naturalWidth > 0"
    page.wait_for_function(f"() => ({loaded})(document.querySelector('.wb-film img'))")
    slider, moment = page.locator("#scrubber"), page.locator(".wb-moment")
    expect(moment).to_contain_text("4,000 images seen")
    slider.focus()
    slider.press("ArrowLeft")
    expect(moment).to_contain_text("2,000 images seen")
    expect(page.locator(".wb-player > img")).to_have_attribute("src", re.compile("grid_000002000"))
    page.wait_for_function(f"() => ({loaded})(document.querySelector('.wb-player > img'))")
    expect(page.locator(".wb-cursor").first).to_be_visible()
    slider.press("Home")
    expect(moment).to_contain_text("0 images seen")
    assert slider.get_attribute("aria-valuetext") == "0 images seen"
    for width in (360, 1920):  # a telephone and a projector: nothing is cut off on either tab
        page.set_viewport_size({"width": width, "height": 800})
        page.get_by_role("tab", name="Training").click()
        expect(film).to_be_visible()
        assert overflow(page) <= 0
        page.get_by_role("tab", name="Create").click()
        expect(page.locator("#gallery img")).to_have_count(4)
        assert overflow(page) <= 0


def test_without_a_model_the_page_says_what_to_do(browser, a_port, tmp_path: Path):
    app = launch(tmp_path / "none", port=a_port, upscaler="none", block=False)
    seen = Watched(browser)
    seen.page.goto(app.local_url)
    expect(seen.page.locator("#no-model")).to_contain_text("make demo-models")
    expect(seen.page.locator("#top")).to_contain_text("No model loaded")
    seen.context.close()
    app.close()
