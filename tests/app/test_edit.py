"""The Edit tab without the page: controls, the table's cells, files, films that stop, and mistakes."""

import base64
import io
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gradio_client import Client
from PIL import Image

from workbench.app import edit_keeping, edit_view, edit_work
from workbench.app.jobs import Studio
from workbench.app.long_work import Stopped, Stops
from workbench.errors import WorkbenchError
from workbench.images import open_picture, read_recipe, save_png, to_uint8
from workbench.latents import session, store
from workbench.latents.directions import Direction, Effect, Move
from workbench.latents.edits import Edit, Mixed, to_json
from workbench.latents.paths import Key
from workbench.pipeline import Pipeline, remake


def write_directions(folder, pipeline, **named):
    """Two directions of chance for a model: one measured and of a factor, one of neither."""
    vector = torch.randn(pipeline.G.config.w_dim, generator=torch.Generator().manual_seed(1))
    common = {"layers": tuple(range(pipeline.G.num_ws)), "w": Move(vector=3 * vector)}
    effect = Effect(n=200, strength=1.0, reached=0.93, leaked=0.04)
    directions = [
        Direction(name="coat: white", source="supervised", target="coat", value="white", effect=effect,
                  strengths=(-0.5, 1.5), **common),
        Direction(name="component 1", source="ganspace", **common),
    ]  # fmt: skip
    store.save_directions(store.folder_of(folder), directions, pipeline)


@pytest.fixture(scope="module")
def lab(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "model"
    shutil.copytree(model_folder, folder)
    write_directions(folder, Pipeline.from_pretrained(folder))
    return edit_work.Lab(Studio(str(folder), tmp_path_factory.mktemp("pictures")))


@pytest.fixture(scope="module")
def edited():
    return Edit(
        first=Key(*edit_work.FIRST),
        second=Key(*edit_work.SECOND),
        t=0.5,
        mixing=(Mixed(which="fine", key=Key("a red dog", 5)),),
        directions=(("coat: white", 0.75),),
    )


def test_the_beginning_is_the_plain_picture(lab):
    edit = edit_work.beginning()
    expected = lab.studio.pipeline()(edit.first.prompt, seed=edit.first.seed).images[0]
    assert torch.equal(lab.draw(edit), expected) and edit.plain
    data = base64.b64decode(lab.picture(edit).partition(",")[2])
    with Image.open(io.BytesIO(data)) as shown:
        assert np.array_equal(np.asarray(shown), to_uint8(expected[None])[0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("first.prompt", " ", "The prompt is empty"),
        ("second.prompt", "?!", "holds no words"),
        ("first.prompt", "a (dog:loud)", "loudness"),
        ("first.seed", "x", "seed"),
        ("t", float("nan"), "between the two pictures is nan"),
        ("t", None, "slider stands at None"),
        ("truncation", float("nan"), "truncation"),
        ("kind", "q", "no path 'q'"),
    ],
)
def test_a_mistake_is_one_sentence(lab, field, value, message):
    with pytest.raises(WorkbenchError, match=message):
        edit_work.with_field(lab, edit_work.beginning(), field, value)


def test_another_seed_leaves_the_upload_and_other_words_keep_its_styles(lab):
    edit = replace(edit_work.beginning(), start="c3R5bGVz.d29yZHM=")
    assert edit_work.with_field(lab, edit, "first.seed", "9").start == ""
    assert edit_work.with_field(lab, edit, "first.prompt", "a white dog").start == "c3R5bGVz"
    assert edit_work.with_field(lab, edit, "second.seed", "9").start == edit.start


def test_strengths_keep_the_order_of_their_use(edited):
    edit = edit_work.with_strengths(edited, {"a new one": 1.0, "coat: white": 0.5})
    assert edit.directions == (("coat: white", 0.5), ("a new one", 1.0))
    for values, message in (({"coat: white": float("nan")}, "strength of 'coat: white'"), (None, "arrive")):
        with pytest.raises(WorkbenchError, match=message):
            edit_work.with_strengths(edited, values)


def test_rolling_keeps_what_is_locked():
    edit = edit_work.beginning()
    seed = edit_work.rolled(edit, "second", lock_seed=False, lock_prompt=True)
    assert seed.second.prompt == edit.second.prompt and seed.second.seed != edit.second.seed
    prompt = edit_work.rolled(edit, "first", lock_seed=True, lock_prompt=False)
    assert prompt.first.seed == edit.first.seed and prompt.first.prompt != edit.first.prompt
    own = replace(edit, start="c3R5bGVz.d29yZHM=")  # a picture of one's own: its styles are its seed
    assert edit_work.rolled(own, "first", lock_seed=True, lock_prompt=False).start == "c3R5bGVz"
    assert edit_work.rolled(own, "first", lock_seed=False, lock_prompt=True).start == ""
    assert edit_work.rolled(own, "second", lock_seed=False, lock_prompt=True).start == own.start
    with pytest.raises(WorkbenchError, match="both locked"):
        edit_work.rolled(edit, "first", lock_seed=True, lock_prompt=True)


def test_a_cell_of_the_table_is_the_edit_it_shows(lab, edited):
    spec, shown = lab.table(edited, "coarse")
    edit = edit_work.cell(edited, spec, 1, 2)
    assert edit.first == Key(edited.first.prompt, edited.first.seed + 1) and edit.t == 0
    assert edit.mixing == (Mixed(which="coarse", key=Key(edited.second.prompt, edited.second.seed + 2)),)
    assert lab.picture(edit) in shown and shown.count("<button") == edit_work.ROWS * edit_work.COLUMNS
    for row, column in ((9, 0), (-1, 0), (0, None), ("0", 1)):
        with pytest.raises(WorkbenchError, match="no such cell"):
            edit_work.cell(edited, spec, row, column)
    with pytest.raises(WorkbenchError, match="no range 'rough'"):
        lab.table(edited, "rough")


def test_a_kept_picture_opens_again_identical_and_its_lines_repeat_it(lab, edited):
    (png, facts), lines = edit_keeping.keep(lab, edited)
    edit, remade = edit_keeping.open_again(lab, png)
    assert edit == edited and remade.verdict == "identical"
    assert json.loads(Path(facts).read_text())["edit"] == read_recipe(png)["edit"] == to_json(edited)
    scope: dict = {}
    exec(compile(lines, "lines", "exec"), scope)
    with open_picture(png) as picture:
        assert np.array_equal(np.asarray(picture), to_uint8(scope["picture"])[0])
    with pytest.raises(WorkbenchError, match="open it in the Edit tab"):
        remake(png, lab.studio.pipeline())


def test_what_cannot_be_opened_is_told(lab, edited, tmp_path):
    (png, _), _ = edit_keeping.keep(lab, edited)
    recipe = read_recipe(png)
    with open_picture(png) as picture:
        other = save_png(picture, tmp_path / "other.png", {**recipe, "weight_hash": "0" * 64})
        damaged = save_png(picture, tmp_path / "damaged.png", {**recipe, "edit": {"first": 3}})
        bare = save_png(picture, tmp_path / "bare.png")
    (tmp_path / "text.png").write_text("no picture")
    for path, message in (
        (other, "means nothing in another model"),
        (damaged, "edit is damaged"),
        (bare, "carries no recipe"),
        (tmp_path / "text.png", "not a picture"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            edit_keeping.open_again(lab, path)


def test_directions_of_another_model_are_refused_and_the_rest_works(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    lab = edit_work.Lab(Studio(str(folder), tmp_path))
    assert lab.directions()[0] == [] and "no directions for this model" in lab.directions()[1]
    pipeline = lab.studio.pipeline()
    write_directions(folder, pipeline)
    facts = store.folder_of(folder) / store.FACTS
    page = json.loads(facts.read_text())
    facts.write_text(json.dumps({**page, "weight_hash": "0" * 64, "model": "another"}))
    found, why = lab.directions()  # looked at again, because the file is another
    assert found == [] and "were made for the model 'another'" in why
    assert "were made for the model" in html_of(lab)
    assert lab.picture(edit_work.beginning()).startswith("data:image/png")


def test_directions_found_anew_are_drawn_anew(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    write_directions(folder, Pipeline.from_pretrained(folder))
    lab = edit_work.Lab(Studio(str(folder), tmp_path))
    edit = edit_work.with_strengths(edit_work.beginning(), {"coat: white": 1.0})
    before, plain = lab.picture(edit), lab.picture(edit.before)
    found, _ = lab.directions()
    other = [replace(each, w=Move(vector=-each.w.vector)) for each in found]
    store.save_directions(store.folder_of(folder), other, lab.studio.pipeline())
    os.utime(store.folder_of(folder) / store.FACTS, (0, 0))  # a clock may be too coarse for two writings
    assert lab.picture(edit) == edit_view.data_uri(lab.draw(edit)) != before
    assert lab.picture(edit.before) == plain


def html_of(lab):
    found, why = lab.directions()
    return edit_view.directions_html(found, {}, why)


def test_directions_say_what_they_were_measured_to_do(lab):
    shown = html_of(lab)
    assert "reaches white in 93%, other factors changed in 4%" in shown and "effect not measured" in shown
    assert shown.index("Coat") < shown.index("GANSpace")


@pytest.mark.parametrize(("strength", "written"), [(0.9312345678, "0.9312345678"), (1, "1"), (-0.5, "-0.5")])
def test_a_slider_carries_its_strength_to_the_last_digit(lab, strength, written):
    shown = edit_view.directions_html(lab.directions()[0], {"coat: white": strength})
    assert f'value="{written}" aria-label="coat: white"' in shown


@pytest.mark.parametrize("kind", ["GIF", "MP4"])
def test_a_film_at_even_speed(lab, edited, kind):
    *told, (what, value) = edit_keeping.film(lab, edited, kind, 8, True, "me")
    assert what == "done" and any("pass 1" in said for _, said in told)
    path, ratio = value
    assert path.endswith(kind.lower()) and 1 <= ratio < 4
    if kind == "GIF":
        with Image.open(path) as film:
            assert film.size == (256, 256) and film.n_frames > 2


def test_stop_ends_a_film_and_nothing_is_kept(lab, edited):
    steps = edit_keeping.film(lab, edited, "GIF", 120, False, "me")
    next(steps)
    assert lab.stops.stop("me") and not lab.stops.stop("somebody else")
    assert list(steps)[-1] == ("stopped", None)
    assert not lab.stops.stop("me")


def test_a_film_of_a_way_that_leads_nowhere_is_refused(lab):
    edit = edit_work.beginning()
    still = Edit(first=edit.first, second=edit.first)
    with pytest.raises(WorkbenchError, match="alike in what the path"):
        list(edit_keeping.film(lab, still, "GIF", 8, True, "me"))


def test_leaving_ends_the_work():
    ended = []

    def work(tell):
        try:
            while True:
                tell("on and on")
        except Stopped:
            ended.append(True)
            raise

    steps = Stops().run(work)
    assert next(steps) == ("told", "on and on")
    steps.close()
    assert ended == [True]


def test_an_uploaded_picture_becomes_the_first_one(lab, tmp_path):
    pytest.importorskip("workbench.latents.inversion")
    pipeline = lab.studio.pipeline()
    path = save_png(pipeline("a white dog", seed=3).images, tmp_path / "mine.png")
    steps = list(edit_keeping.find(lab, edit_work.beginning(), str(path), "a white dog", 3, "me"))
    what, (edit, found, target) = steps[-1]
    assert what == "done" and edit.start and edit.first.prompt == "a white dog" and found.verdict
    assert torch.equal(lab.draw(edit), session.replay(pipeline, [], edit).images[0])
    assert (lab.draw(edit) - found.image[0]).abs().mean() < 0.02
    shown = edit_view.found_html(target, SimpleNamespace(**vars(found)))
    assert "yours" in shown and "as the model draws it" in shown
    (png, _), lines = edit_keeping.keep(lab, edit)
    assert edit_keeping.open_again(lab, png)[1].verdict == "identical" and "read_recipe" in lines


def test_a_search_lets_others_draw_between_its_steps(lab, tmp_path, monkeypatch):
    """Somebody's single picture waits for a step of it, not for its end."""
    from workbench.latents import inversion

    path = save_png(lab.studio.pipeline()("a white dog", seed=3).images, tmp_path / "mine.png")
    begun, steps, waited = threading.Event(), [], []

    def invert(*_, progress, **__):
        for step in range(100):
            assert lab.studio._model_lock.locked()
            steps.append(step)
            begun.set()
            time.sleep(0.005)
            progress(step, 100, "inverting")
        raise WorkbenchError("that will do")

    def draw():
        begun.wait()
        asked = len(steps)
        list(lab.studio.generate("a red dog", 1, 1, 1.0))
        waited.append(len(steps) - asked)

    monkeypatch.setattr(inversion, "invert", invert)
    other = threading.Thread(target=draw)
    other.start()
    with pytest.raises(WorkbenchError, match="that will do"):
        list(edit_keeping.find(lab, edit_work.beginning(), str(path), "a white dog", 3, "me"))
    other.join()
    assert waited[0] <= 3 and not lab.studio._model_lock.locked()


def test_the_encoder_beside_the_model_gives_the_start(lab, model_folder, tmp_path, monkeypatch):
    """None without one; one that arrives later is found; one of another model is told."""
    from workbench.latents import encoder, encoder_fit, inversion

    assert lab.encoder() is None
    shutil.copytree(model_folder, tmp_path / "model")
    own = edit_work.Lab(Studio(str(tmp_path / "model"), tmp_path / "pictures"))
    pipeline, beside = own.studio.pipeline(), tmp_path / "model" / "latents"
    assert own.encoder() is None
    size = encoder_fit.config_for(pipeline.G.config.w_dim)
    made = encoder.Encoder(size, pipeline.G.config.w_dim, encoder.the_eyes())
    encoder.save_encoder(beside, made, pipeline)
    assert own.encoder() is not None and own.encoder() is own.encoder()
    given = []

    def stop(*arguments, **how):
        given.append(how["encoder"])
        raise WorkbenchError("that will do")

    monkeypatch.setattr(inversion, "invert", stop)
    path = save_png(pipeline("a white dog", seed=3).images, tmp_path / "mine.png")
    with pytest.raises(WorkbenchError, match="that will do"):
        list(edit_keeping.find(own, edit_work.beginning(), str(path), "a white dog", 3, "me"))
    assert given == [own.encoder()]
    page = json.loads((beside / "encoder.json").read_text())
    (beside / "encoder.json").write_text(json.dumps({**page, "weight_hash": "0" * 64}, indent=2))
    with pytest.raises(WorkbenchError, match="was trained for the model"):
        own.encoder()


@pytest.mark.parametrize(
    ("size", "message"), [((1, 1), "1 × 1 px"), ((20_000, 20), "20000 × 20 px"), (None, "picture")]
)
def test_an_upload_that_cannot_be_used_is_told(lab, tmp_path, size, message):
    pytest.importorskip("workbench.latents.inversion")
    path = tmp_path / "mine.png"
    if size is None:
        path.write_text("no picture")
    else:
        Image.new("RGB", size).save(path)
    with pytest.raises(WorkbenchError, match=message):
        list(edit_keeping.find(lab, edit_work.beginning(), str(path), "a dog", 3, "me"))
    with pytest.raises(WorkbenchError, match="no picture yet"):
        list(edit_keeping.find(lab, edit_work.beginning(), None, "a dog", 3, "me"))


def test_the_endpoint_draws_an_edit(served, model_folder):
    client = Client(served, verbose=False)
    edit = Edit(first=Key("a white dog", 3), second=Key("a black dog", 4), t=0.5)
    data, recipe = client.predict(edit=to_json(edit), api_name="/edit")
    expected = session.replay(Pipeline.from_pretrained(model_folder), [], edit)
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as picture:
        assert np.array_equal(np.asarray(picture), to_uint8(expected.images)[0])
    assert session.of_recipe(recipe) == edit
    with pytest.raises(Exception, match="edit is damaged"):
        client.predict(edit={"first": 3}, api_name="/edit")
