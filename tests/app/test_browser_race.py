"""The Race tab in a real browser: a race seen, a blind vote, and what it says where only the GAN is here."""

import json
import re

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from tiny_diffusion import tiny_diffusion, tiny_student
from watching import PATIENCE_MS

from workbench.app.server import launch
from workbench.diffusion.entrants import RESULTS
from workbench.pipeline import Pipeline

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def page(watched, model_folder, a_port, tmp_path, monkeypatch):
    """The Race tab with a tiny model in each lane; votes go to tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.diffusion.entrants.ROOT", tmp_path)  # what ships is not here
    teacher = tiny_diffusion()
    teacher.save_pretrained(tmp_path / "teacher")
    tiny_student(teacher, tmp_path / "teacher").save_pretrained(tmp_path / "student")
    others = {"diffusion": tmp_path / "teacher", "student": tmp_path / "student"}
    app = launch(model_folder, port=a_port, upscaler="none", **others, block=False)
    watched.page.goto(app.local_url)
    watched.page.get_by_role("tab", name="Race").click()
    yield watched.page
    watched.leave()  # or it would complain that the app is gone
    app.close()


def test_a_race_is_run_seen_and_voted_on(page, model_folder, tmp_path):
    lanes = page.locator("#race-lanes .wb-lane")
    expect(lanes).to_have_count(3)
    expect(lanes.first).to_contain_text("at the start")
    page.locator("#race-go").click()
    expect(page.locator("#race-verdict")).to_contain_text("times the GAN's time")
    expect(lanes.last).to_contain_text("step 16 of 16")
    expect(page.locator("#race-lanes .wb-clock.done")).to_have_count(3)
    expect(page.locator("#race-strips .wb-race-strip")).to_have_count(3)
    steps, needed = page.locator("#race-steps input[type=number]"), page.locator("#race-needed")
    page.locator("#race-equal").click()
    expect(steps).not_to_have_value("16")
    page.locator("#race-equal-quality").click()
    expect(needed).to_contain_text("has not been measured")
    measured = {
        "gan": Pipeline.from_pretrained(model_folder).weight_hash,
        "diffusion": tiny_diffusion().weight_hash,
    }
    lanes_of = [("gan", 1, 2.0), ("diffusion", 8, 3.0), ("diffusion", 24, 2.0), ("diffusion", 32, 1.5)]
    rows = [
        {"kind": kind, "steps": count, "ms": 1.0, "ratio": ratio, "all": 0.5, "weights": measured[kind],
         "settings": {"sampler": "ddim", "guidance": 3.0} if kind == "diffusion" else {}}
        for kind, count, ratio in lanes_of
    ]  # fmt: skip
    result = tmp_path / RESULTS[1]
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"n": 500, "lanes": rows}))
    page.locator("#race-equal-quality").click()
    expect(needed).to_contain_text("At 24 steps the diffusion model is as good as the GAN")
    expect(steps).to_have_value("24")
    page.locator("#race-equal").click()
    expect(needed).not_to_contain_text("as good as the GAN")

    page.locator("#race-blind input").check()
    page.locator("#race-go").click()
    expect(page.locator("#race-cast")).to_be_visible()
    expect(page.locator("#race-lanes")).not_to_contain_text("GAN")
    page.locator("#race-cast").click()
    expect(page.get_by_text("Choose a letter for each question").first).to_be_visible()
    page.locator("#race-best label").first.click()
    page.locator("#race-which label").last.click()
    page.locator("#race-cast").click()
    expect(page.get_by_text("Choose a letter for each question").last).to_be_visible()
    page.locator("#race-which-student label").first.click()
    page.locator("#race-cast").click()
    expect(page.locator("#race-said")).to_contain_text(re.compile("(Right|Wrong): A was the"))
    expect(page.locator("#race-tally")).to_contain_text("1 vote on this machine")
    assert sum(json.loads((tmp_path / "runs" / "race-votes.json").read_text())["best"].values()) == 1
    page.set_viewport_size({"width": 360, "height": 800})
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0


def test_where_only_the_gan_is_here_the_page_says_how_to_train_the_others(
    watched, model_folder, a_port, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.diffusion.entrants.ROOT", tmp_path)  # what ships is not here
    app = launch(model_folder, port=a_port, upscaler="none", block=False)
    page = watched.page
    page.goto(app.local_url)
    page.get_by_role("tab", name="Race").click()
    expect(page.locator("#race-missing")).to_contain_text("workbench diffusion train")
    page.locator("#race-go").click()
    expect(page.locator("#race-verdict")).to_contain_text("alone on the track")
    expect(page.locator("#race-strips .wb-race-strip")).to_have_count(1)
    page.locator("#race-blind input").check()
    page.locator("#race-go").click()
    expect(page.get_by_text("only the GAN is here").first).to_be_visible()
    watched.leave()
    app.close()
