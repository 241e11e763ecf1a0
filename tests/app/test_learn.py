"""The Learn tab: what it says of a prompt by its own parts, and in a real browser."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.app import learn
from workbench.app.jobs import Studio
from workbench.datasets.world.captions import vocabulary
from workbench.errors import WorkbenchError
from workbench.images import to_uint8
from workbench.models.generator import Generator, GeneratorConfig
from workbench.models.glossary import TERMS
from workbench.models.mini_clip import new_mini_clip
from workbench.models.text import TextEncoder
from workbench.pipeline import Pipeline

PROMPT = "a white shepherd in the snow"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """An untrained model of 16 px with every kind of piece."""
    folder = tmp_path_factory.mktemp("learn")
    sizes = (4, 8, 16)
    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=16, channels=dict.fromkeys(sizes, 32), kernels={4: 1, 8: 3, 16: 1},
        blocks=dict.fromkeys(sizes, 1), attention={8: 1}, cross_attention={8: 1}, w_dim=32, mlp_ratio=1,
    )  # fmt: skip
    pipeline = Pipeline(
        Generator(config), TextEncoder.from_clip(new_mini_clip(vocabulary())), {"name": "small"}
    )
    pipeline.save_pretrained(folder / "small")
    return Studio(str(folder / "small"), folder / "work")


def pictures(shown: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', shown)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def test_every_term_has_something_to_say(studio):
    top, shown = learn.look_inside(studio, PROMPT, "3", learn.WHOLE)
    assert set(shown) == {entry.key for entry in TERMS}
    assert len(pictures(top)) == 1
    assert len(pictures(shown["clip"])) == len(pictures(shown["cross-attention"])) == len(PROMPT.split())
    assert len(pictures(shown["multi-scale"])) == 3
    assert len(pictures(shown["self-attention"])) == 3
    for key in ("matching", "contrastive", "vision-aided"):
        assert "01_theory" in shown[key]


def test_the_picture_on_top_is_the_pipelines_own(studio):
    top, _ = learn.look_inside(studio, PROMPT, "3", learn.WHOLE)
    expected = to_uint8(studio.pipeline()(PROMPT, seed=3).images)[0].astype(float)
    assert np.abs(np.asarray(pictures(top)[0], dtype=float) - expected).mean() < 8  # JPEG


def test_the_words_carry_their_shares(studio):
    _, shown = learn.look_inside(studio, PROMPT, "3", learn.WHOLE)
    shares = [int(share) for share in re.findall(r"<figcaption>\w+ (\d+)%", shown["cross-attention"])]
    assert len(shares) == 6 and 0 < sum(shares) <= 103  # the start mark takes the rest


def test_the_bars_of_a_bank_fill_their_row(studio):
    _, shown = learn.look_inside(studio, PROMPT, "3", learn.WHOLE)
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", shown["kernels"])]
    assert len(widths) == 6  # two layers with three kernels each
    assert sum(widths[:3]) == pytest.approx(100, abs=0.2)
    assert "8 px, block 1, conv 2" in shown["kernels"]


@pytest.mark.parametrize("off", [name for name in learn.SWITCHES if name != learn.WHOLE])
def test_a_piece_switched_off_changes_the_picture_and_comes_back(studio, off):
    before, _ = learn.look_inside(studio, PROMPT, "3", learn.WHOLE)
    top, _ = learn.look_inside(studio, PROMPT, "3", off)
    whole, without = pictures(top)
    assert whole.tobytes() == pictures(before)[0].tobytes()
    assert without.tobytes() != whole.tobytes()
    assert learn.SWITCHES[off] in top
    assert learn.look_inside(studio, PROMPT, "3", learn.WHOLE)[0] == before


def test_unknown_words_are_said_and_markup_stays_text(studio):
    top, shown = learn.look_inside(studio, "a <b>zebra</b> in the snow", "3", learn.WHOLE)
    assert "zebra" in top and "never saw" in top
    assert "<b>zebra" not in top + "".join(shown.values())


@pytest.mark.parametrize(
    ("prompt", "seed", "off", "message"),
    [
        (" ", "3", learn.WHOLE, "The prompt is empty"),
        (PROMPT, "-3", learn.WHOLE, "negative"),
        (PROMPT, "3", "colours", "no piece 'colours' to switch off: choose one of nothing"),
    ],
)
def test_a_mistake_is_one_sentence(studio, prompt, seed, off, message):
    with pytest.raises(WorkbenchError, match=message):
        learn.look_inside(studio, prompt, seed, off)


def test_a_model_without_a_piece_says_so(model_folder: Path, tmp_path: Path):
    _, shown = learn.look_inside(Studio(str(model_folder), tmp_path), PROMPT, "3", learn.WHOLE)
    assert "no self-attention" in shown["self-attention"]
    assert "one kernel in every layer" in shown["kernels"]


# --- in a browser ---


@pytest.mark.browser
def test_a_visitor_looks_inside_and_switches_a_piece_off(watched, served):
    from playwright.sync_api import expect
    from watching import PATIENCE_MS

    expect.set_options(timeout=PATIENCE_MS)
    page = watched.page
    page.goto(served)
    page.get_by_role("tab", name="Learn").click()
    expect(page.locator(".wb-term h3")).to_have_count(len(TERMS))
    expect(page.locator("#term-cross-attention figure")).to_have_count(len(learn.PROMPT.split()))
    expect(page.locator(".wb-formula .katex").first).to_be_visible()
    expect(page.locator(".wb-formula .katex-error")).to_have_count(0)
    page.locator("#learn-prompt textarea").fill("a white dog at night")
    page.locator("#look").click()
    expect(page.locator("#term-cross-attention figure")).to_have_count(5)
    page.get_by_label("cross-attention", exact=True).check()
    expect(page.locator("#learn-top figure")).to_have_count(2)
    for width in (400, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        expect(page.locator("#term-kernels")).to_be_visible()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) <= 0
    page.locator("#learn-prompt textarea").fill("")
    page.locator("#look").click()
    expect(page.get_by_text("The prompt is empty.").first).to_be_visible()
