"""Two visitors at once in a real browser: what waits, what is stopped, and what a hasty hand presses."""

import re
import threading
import time

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from watching import PATIENCE_MS, Watched

from workbench.app import create_large, edit_work, race
from workbench.app.edit_work import FIRST
from workbench.app.jobs import Studio
from workbench.app.race_lanes import Track
from workbench.app.server import launch

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE_MS)


class Gate:
    """Work that waits until it is let through; how often it began, and for whom."""

    def __init__(self, work):
        self.work, self.open, self.began = work, threading.Event(), []

    def __call__(self, *values):
        self.began.append(values)
        assert self.open.wait(PATIENCE_MS / 1000)
        return self.work(*values)


@pytest.fixture
def app(model_folder, up_folder, a_port):
    app = launch(model_folder, port=a_port, upscaler=up_folder, block=False)
    yield app
    app.close()


@pytest.fixture
def two(browser, app):
    """The pages of two visitors."""
    seen = [Watched(browser), Watched(browser)]
    for one in seen:
        one.page.goto(app.local_url)
    yield [one.page for one in seen]
    for one in seen:
        one.leave()
        one.context.close()
        assert one.outside == [] and one.errors == []


def ask(page, prompt, seed):
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#seed input, #seed textarea").fill(seed)
    page.locator("#make").click()
    expect(page.locator("#download")).to_have_text(re.compile(f"seed {seed}"))


def test_the_gallery_ends_with_the_newest_prompt(two, monkeypatch):
    one, other = two
    for page in two:
        expect(page.locator("#large-status")).to_contain_text("at 128 px")
    gate = Gate(create_large._enlarged)
    monkeypatch.setattr(create_large, "_enlarged", gate)
    ask(one, "a red dog", "5")  # its large ones keep those of the other waiting
    ask(other, "a white dog", "111")
    ask(other, "a black dog", "222")
    gate.open.set()
    src = other.locator("#gallery img").first
    expect(src).to_have_attribute("src", re.compile("a-black-dog-222-128px.png"))
    expect(other.locator("#large-status")).to_contain_text("Above at 128 px")
    expect(one.locator("#gallery img").first).to_have_attribute("src", re.compile("a-red-dog-5-128px.png"))
    assert len(gate.began) == 2  # the white dog was not enlarged for nobody


def test_stop_says_so_and_two_presses_end_with_the_last(watched, app, monkeypatch):
    page, save = watched.page, Studio._save
    monkeypatch.setattr(Studio, "_save", lambda *given: time.sleep(0.7) or save(*given))
    page.goto(app.local_url)
    expect(page.locator("#gallery img").first).to_be_visible()
    page.locator("#count input[type=number]").fill("16")
    page.locator("#make").click()
    expect(page.locator("#status")).to_contain_text("of 16 …")
    page.locator("#stop").click()
    expect(page.locator("#status")).to_contain_text(re.compile(r"Stopped: \d+ pictures, .* of 16 wanted"))
    page.locator("#dice").click()
    expect(page.locator("#status")).to_contain_text("of 16 …")
    field = page.locator("#seed input, #seed textarea")
    first = field.input_value()
    page.locator("#dice").click()
    expect(field).not_to_have_value(first)
    seed = field.input_value()
    expect(page.locator("#download")).to_have_text(re.compile(f"seed {seed}$"))
    expect(page.locator("#gallery img").first).to_have_attribute("src", re.compile(f"-{seed}-128px.png"))


def test_a_stopped_race_says_so_and_one_that_waits_never_runs(two, monkeypatch):
    one, other = two
    gate = Gate(race.race)
    monkeypatch.setattr(race, "race", gate)
    monkeypatch.setattr(Track, "lanes", lambda track: ("gan",))  # a race of a moment
    for page in two:
        page.get_by_role("tab", name="Race").click()
        expect(page.locator("#race-lanes .wb-lane").first).to_contain_text("at the start")
    one.locator("#race-go").click()
    for _ in range(int(PATIENCE_MS / 100)):
        if gate.began:
            break
        time.sleep(0.1)
    other.locator("#race-go").click()
    expect(other.locator("#race-verdict")).to_contain_text("queue")
    for page in (other, one):
        page.locator("#race-stop").click()
    expect(other.locator("#race-verdict")).to_contain_text("Stopped before it began.")
    gate.open.set()
    expect(one.locator("#race-verdict")).to_contain_text("Stopped: nobody won")
    expect(one.locator("#race-lanes")).to_contain_text("at the start")
    other.locator("#race-go").click()
    expect(other.locator("#race-verdict")).to_contain_text("The GAN took")
    assert len(gate.began) == 2


def test_what_was_typed_stays_when_a_button_is_pressed_next(watched, app, monkeypatch):
    page, draw = watched.page, edit_work.Lab.draw
    page.goto(app.local_url)
    page.get_by_role("tab", name="Edit").click()
    expect(page.locator("#edit-stage .wb-after img")).to_be_visible()
    monkeypatch.setattr(edit_work.Lab, "draw", lambda *given: time.sleep(0.4) or draw(*given))
    typed = page.locator("#edit-first-prompt textarea")
    typed.fill("a white shepherd in the snow")
    page.locator("#edit-second-roll").click()
    first, second = page.locator("#edit-first img"), page.locator("#edit-second img")
    expect(second).not_to_have_attribute("alt", re.compile("seed 6$"))
    expect(first).to_have_attribute("alt", re.compile("a white shepherd in the snow, seed 2"))
    expect(typed).to_have_value("a white shepherd in the snow")
    page.locator("#edit-undo").click()  # takes back the roll
    expect(second).to_have_attribute("alt", re.compile("seed 6$"))
    page.locator("#edit-undo").click()  # and then what was typed
    expect(typed).to_have_value(FIRST[0])
