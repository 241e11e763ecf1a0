"""The Edit tab in a real browser: the slider and its latency, a cell, undo, directions, files, mistakes."""

import re
import shutil
import statistics
from dataclasses import replace

import pytest

pytest.importorskip("playwright")

import torch
from PIL import Image
from playwright.sync_api import expect
from watching import PATIENCE_MS

from workbench.app import edit_keeping
from workbench.app.edit_work import FIRST, Lab, beginning
from workbench.app.jobs import Studio
from workbench.app.server import launch
from workbench.images import read_recipe
from workbench.latents import session, store
from workbench.latents.directions import Direction, Effect, Move
from workbench.pipeline import Pipeline

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)

MOVES = 20
# From the input event of the slider to the decoded new picture on the screen, in milliseconds.
LATENCY = """(value) => new Promise((told) => {
  const range = document.querySelector('#edit-t input[type=range]');
  const stage = document.querySelector('#edit-stage');
  const before = stage.querySelector('.wb-after img').src;
  const watch = new MutationObserver(() => {
    const picture = stage.querySelector('.wb-after img');
    if (!picture || picture.src === before) return;
    watch.disconnect();
    picture.decode().then(() => requestAnimationFrame(() => told(performance.now() - start)));
  });
  watch.observe(stage, { childList: true, subtree: true, attributes: true });
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(range, String(value));
  const start = performance.now();
  range.dispatchEvent(new Event('input', { bubbles: true }));
})"""


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """The tiny model with one measured direction, and one that was not."""
    folder = tmp_path_factory.mktemp("edit") / "tiny"
    shutil.copytree(model_folder, folder)
    pipeline = Pipeline.from_pretrained(folder)
    vector = 5 * torch.randn(pipeline.G.config.w_dim, generator=torch.Generator().manual_seed(1))
    direction = Direction(
        name="coat: white",
        source="supervised",
        layers=tuple(range(pipeline.G.num_ws)),
        w=Move(vector=vector),
        target="coat",
        value="white",
        effect=Effect(n=200, strength=1.0, reached=0.93, leaked=0.04),
    )
    pose = replace(direction, name="pose: lying", target="pose", value="lying", effect=None)
    store.save_directions(store.folder_of(folder), [direction, pose], pipeline)
    return folder


@pytest.fixture
def page(watched, folder, a_port):
    """The Edit tab, its first picture drawn."""
    app = launch(folder, port=a_port, upscaler="none", block=False)
    watched.page.goto(app.local_url)
    watched.page.get_by_role("tab", name="Edit").click()
    expect(watched.page.locator("#edit-stage .wb-after img")).to_be_visible()
    yield watched.page
    watched.leave()  # or it would complain that the app is gone
    app.close()


def source(page):
    return page.locator("#edit-stage .wb-after img").get_attribute("src")


def said(page):
    return page.locator("#edit-stage .wb-status")


def test_the_slider_redraws_at_once_and_undo_goes_back(page):
    first = source(page)
    times = [page.evaluate(LATENCY, (0.031 * (k + 1)) % 1) for k in range(MOVES)]
    print(f"\nslider to picture: median {statistics.median(times):.0f} ms of {MOVES}, worst {max(times):.0f}")
    expect(said(page)).to_contain_text(re.compile(r"\d+% of the way to the second picture"))
    assert source(page) != first
    page.locator("#edit-undo").click()
    expect(said(page)).to_contain_text("nothing changed yet")  # all moves of one gesture are one step
    assert source(page) == first
    expect(page.locator("#edit-t input[type=number]")).to_have_value("0")
    page.locator("#edit-redo").click()
    expect(said(page)).to_contain_text("of the way")
    page.locator("#edit-t input[type=range]").focus()
    page.keyboard.press("Home")
    expect(said(page)).to_contain_text("nothing changed yet")


def test_a_mistake_leaves_the_picture_and_the_history(page):
    before = source(page)
    page.locator("#edit-first-prompt textarea").fill("")
    page.locator("#edit-first-prompt textarea").press("Enter")
    expect(page.get_by_text("The prompt is empty.").first).to_be_visible()
    assert source(page) == before
    page.evaluate(LATENCY, 0.5)  # the last good prompt still counts
    expect(said(page)).to_contain_text("50% of the way")
    page.locator("#edit-undo").click()
    expect(said(page)).to_contain_text("nothing changed yet")
    expect(page.locator("#edit-first-prompt textarea")).to_have_value(FIRST[0])


def test_a_number_that_is_cleared_to_type_another_changes_nothing(page):
    before, number = source(page), page.locator("#edit-t input[type=number]")
    with page.expect_response(lambda response: "predict" in response.url) as answered:
        number.fill("")  # the page sends null at once
    assert answered.value.ok and source(page) == before
    number.fill("0.5")
    expect(said(page)).to_contain_text("50% of the way")


def test_a_direction_moves_is_reset_and_compared(page):
    page.get_by_role("tab", name="Directions").click()
    shown = page.locator("#edit-directions")
    expect(shown).to_contain_text("reaches white in 93%, other factors changed in 4%")
    slider, before = page.get_by_role("slider", name="coat: white"), source(page)
    slider.focus()
    slider.press("End")
    expect(said(page)).to_contain_text("coat: white +3.00")
    assert source(page) != before
    hold = page.get_by_role("button", name="Hold to see before")
    hold.hover()
    page.mouse.down()
    expect(page.locator("#edit-stage .wb-before img")).to_be_visible()
    expect(page.locator("#edit-stage .wb-after img")).to_be_hidden()
    assert page.locator("#edit-stage .wb-before img").get_attribute("src") == before
    page.mouse.up()
    page.get_by_role("button", name="Side by side").click()
    for side in ("before", "after"):
        expect(page.locator(f"#edit-stage .wb-{side} img")).to_be_visible()
    page.get_by_role("button", name="Reset coat: white").click()
    expect(said(page)).to_contain_text("nothing changed yet")
    slider.press("End")
    expect(said(page)).to_contain_text("coat: white")
    page.locator("#edit-reset").click()
    expect(said(page)).to_contain_text("nothing changed yet")
    expect(slider).to_have_value("0")


def test_a_cell_of_the_table_becomes_the_picture(page):
    page.get_by_role("tab", name="Mix", exact=True).click()
    page.locator("#edit-draw-table").click()
    cell = page.get_by_role("button", name="Take seed 2 with the coarse layers of seed 8")
    wanted = cell.locator("img").get_attribute("src")
    cell.click()
    expect(said(page)).to_contain_text("seed 2: coarse layers of seed 8")
    assert source(page) == wanted
    page.locator("#edit-range").get_by_text("Fine").click()
    expect(page.get_by_role("button", name=re.compile("fine layers")).first).to_be_visible()


def test_a_picture_is_kept_and_opened_again_identical(page, folder, tmp_path):
    page.evaluate(LATENCY, 0.25)
    page.get_by_role("tab", name="Keep").click()
    page.locator("#edit-keep-picture").click()
    link = page.locator("#edit-files a[href*='.png']").first
    with page.expect_download() as started:
        link.click()
    saved = tmp_path / "edited.png"
    started.value.save_as(saved)
    edit = session.of_recipe(read_recipe(saved))
    assert edit.t == 0.25 and not edit.plain
    page.locator("#edit-over").click()
    expect(said(page)).to_contain_text("nothing changed yet")
    page.locator("#edit-drop input[type=file]").set_input_files(saved)
    expect(page.locator("#edit-verdict")).to_contain_text("Identical")
    expect(said(page)).to_contain_text("25% of the way")

    page.get_by_role("tab", name="Create").click()
    page.get_by_role("button", name="Drop a picture back").click()
    page.locator("#drop input[type=file]").set_input_files(saved)
    expect(page.get_by_text("open it in the Edit tab").first).to_be_visible()


@pytest.mark.parametrize("strength", [0.93, 3.3], ids=["between two places", "beyond its end"])
def test_a_slider_that_is_not_moved_keeps_what_an_opened_edit_gave_it(page, folder, tmp_path, strength):
    edit = replace(beginning(), directions=(("coat: white", strength),))
    (png, _), _ = edit_keeping.keep(Lab(Studio(str(folder), tmp_path)), edit)
    page.get_by_role("tab", name="Keep").click()
    page.locator("#edit-drop input[type=file]").set_input_files(png)
    expect(said(page)).to_contain_text(f": coat: white {strength:+.2f}.")
    page.get_by_role("tab", name="Directions").click()
    expect(page.locator("#edit-directions output").first).to_have_text(f"{strength:+.2f}")
    page.locator("#edit-directions summary").filter(has_text="Pose").click()
    lying = page.get_by_role("slider", name="pose: lying")
    lying.focus()
    lying.press("End")
    expect(said(page)).to_contain_text(f": coat: white {strength:+.2f}; pose: lying +3.00.")
    page.get_by_role("button", name="Reset pose: lying").click()
    expect(said(page)).to_contain_text(f": coat: white {strength:+.2f}.")


def test_a_film_is_made_and_stop_stops_one(page):
    page.get_by_role("tab", name="Keep").click()
    number = page.locator("#edit-frames input[type=number]")
    number.fill("120")
    number.press("Tab")
    page.locator("#edit-mp4").click()
    expect(page.locator("#edit-kept")).to_contain_text("Evening out the speed")
    page.locator("#edit-stop").click()
    expect(page.locator("#edit-kept")).to_contain_text("Stopped; nothing was kept.")
    number.fill("8")
    number.press("Tab")
    page.locator("#edit-gif").click()
    expect(page.locator("#edit-kept")).to_contain_text("GIF made")
    expect(page.locator("#edit-files a[href*='.gif']").first).to_be_visible()


def test_an_upload_that_is_too_small_is_refused_in_a_sentence(page, tmp_path):
    pytest.importorskip("workbench.latents.inversion")
    before = source(page)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    page.get_by_role("tab", name="Upload").click()
    page.locator("#edit-upload input[type=file]").set_input_files(tmp_path / "dot.png")
    expect(page.locator("#edit-upload")).to_contain_text("dot")
    page.locator("#edit-find").click()
    expect(page.get_by_text("The picture has 1 × 1 px").first).to_be_visible()
    assert source(page) == before


def test_on_a_telephone_nothing_is_cut_off(page):
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for name in ("Pictures", "Directions", "Mix", "Upload", "Keep"):
        page.set_viewport_size({"width": 1280, "height": 900})
        page.locator("#edit-parts").get_by_role("tab", name=name, exact=True).click()
        if name == "Mix":
            page.locator("#edit-draw-table").click()
            expect(page.locator(".wb-styles")).to_be_visible()
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate(wide) <= 0, name
