"""What a visitor has before him stays there, however many jobs others have done since."""

from pathlib import Path

import pytest

from workbench.app import create_large, upscale_work
from workbench.app.jobs import KEPT_JOBS
from workbench.app.magnifier import Magnifier
from workbench.app.server import build
from workbench.images import open_picture, read_recipe


@pytest.fixture(scope="module")
def page(model_folder, up_folder):
    return build(model_folder, None, up_folder)


@pytest.fixture
def glass(page, up_folder):
    return Magnifier(str(up_folder), page.studio)


def others_work(studio, jobs=KEPT_JOBS):
    """As many jobs as it takes to clear away a folder that nobody writes to."""
    for _ in range(jobs):
        (studio.new_folder() / "picture.png").touch()


def drawn_on(page, way):
    """The file of a picture to enlarge: drawn at the press of a button, or what the tab opens with."""
    name, event = {"drawn": ("up-draw", "click"), "opened": ("upscale", "select")}[way]
    ids = {id for id, block in page.blocks.items() if name in (block.elem_id, getattr(block, "id", None))}
    act = next(fn for fn in page.fns.values() if any((id, event) in fn.targets for id in ids))
    values = act.fn("a white dog", "3", 4, None) if way == "drawn" else act.fn(None, None, "a white dog")
    return values[act.outputs.index(act.inputs[0])] if way == "opened" else values[0]


@pytest.mark.parametrize("way", ["drawn", "opened"])
def test_the_picture_to_enlarge_is_there_after_many_jobs_of_others(page, glass, way):
    path = drawn_on(page, way)
    others_work(page.studio)
    assert read_recipe(path)["prompt"] == "a white dog"
    *_, (what, made) = upscale_work.enlarge(glass, upscale_work.asked(path, "", 4, 0, "1", None))
    assert what == "done" and made.given.drawn and Path(made.png).exists()


def drawing_while_others_work(glass, jobs):
    """An upscaler that takes as long over a picture as others do over some jobs."""
    upscaler = glass.upscaler()

    class Slow:
        def __getattr__(self, name):
            return getattr(upscaler, name)

        def __call__(self, *args, **settings):
            others_work(glass.studio, jobs)
            return upscaler(*args, **settings)

    return Slow()


def test_what_is_drawn_for_long_is_written_all_the_same(page, glass, monkeypatch):
    files = [str(progress.files[0]) for progress in page.studio.generate("a black dog", 5, 1, 1.0)]
    path = page.studio.work / "mine.png"
    path.write_bytes(Path(files[0]).read_bytes())
    asked = upscale_work.asked(str(path), "a dog", 4, 0, "1", None, aura=True)
    slow, quick = (drawing_while_others_work(glass, jobs) for jobs in (KEPT_JOBS, KEPT_JOBS // 2))
    monkeypatch.setattr(glass, "upscaler", lambda: slow)
    monkeypatch.setattr(glass, "aura", lambda: slow)
    for work in (upscale_work.enlarge(glass, asked), upscale_work.two_prompts(glass, asked, "a white dog")):
        assert [what for what, _ in work][-1] == "done"
    monkeypatch.setattr(glass, "upscaler", lambda: quick)
    *_, (what, many) = create_large.enlarged(glass, [str(path)] * 3)
    assert what == "done"
    for file in many.files:
        with open_picture(file) as picture:
            picture.load()
