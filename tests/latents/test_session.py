"""An edit done, undone, kept as JSON and made again: identities and refusals, on a tiny model."""

import json
import math
from dataclasses import replace

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.images import read_recipe, save_png
from workbench.latents import session
from workbench.latents.directions import Direction, Move
from workbench.latents.edits import Edit, Mixed, from_json, to_json
from workbench.latents.history import ONE_GESTURE_S, History
from workbench.latents.mixing import mix_layers
from workbench.latents.paths import Key, curve
from workbench.latents.points import Points, draw, points
from workbench.pipeline import remake

A, B, C = Key("a white dog in the snow", 3), Key("a black dog in the city", 4), Key("a red dog", 5)
PLAIN = Edit(first=A, second=B)


@pytest.fixture(scope="module")
def pipeline(tiny):
    return tiny


@pytest.fixture(scope="module")
def directions(pipeline):
    vector = torch.randn(pipeline.G.config.w_dim, generator=torch.Generator().manual_seed(1))
    layers = tuple(range(pipeline.G.num_ws))
    return [
        Direction(name=name, source="ganspace", layers=layers, w=Move(vector=vector * k))
        for k, name in enumerate(("one", "two"), start=1)
    ]


def drawn(pipeline, directions, edit):
    return draw(pipeline, session.apply(pipeline, directions, edit), batch_size=1)


def test_without_an_edit_the_bits_are_those_of_the_plain_picture(pipeline, directions):
    assert torch.equal(drawn(pipeline, directions, PLAIN), pipeline(A.prompt, seed=A.seed).images)
    less = Edit(first=A, second=B, truncation=0.6, directions=(("one", 0.0),))
    plain = pipeline(A.prompt, seed=A.seed, truncation=0.6).images
    assert torch.equal(drawn(pipeline, directions, less), plain)
    assert PLAIN.plain and not Edit(first=A, second=B, t=0.1).plain
    assert not Edit(first=Key("a (white:2) dog", 1), second=B).plain


@pytest.mark.parametrize("kind", ["z", "w", "prompt", "both"])
def test_the_path_is_that_of_the_library_and_truncation_moves_it_to_the_mean(pipeline, kind):
    t = torch.tensor([0.25, 0.75])
    edit = Edit(first=A, second=B, kind=kind)
    assert torch.equal(session.along(pipeline, [], edit)(t).ws, curve(pipeline, [A, B], kind)(t).ws)
    none = session.along(pipeline, [], Edit(first=A, second=B, kind=kind, truncation=0.0))(t)
    first, second = (pipeline.w_mean(key.prompt) for key in (A, A if kind == "z" else B))
    expected = torch.lerp(first, second, t[:, None])[:, None].expand_as(none.ws)
    torch.testing.assert_close(none.ws, expected)


def test_mixing_then_directions_in_their_order(pipeline, directions):
    edit = Edit(first=A, second=B, mixing=(Mixed(which="fine", key=C),), directions=(("two", 0.5),))
    mixed = mix_layers(pipeline.G, *(points(pipeline, key.prompt, key.seed) for key in (A, C)), "fine")
    assert torch.equal(session.apply(pipeline, directions, edit).ws, directions[1].at(mixed, 0.5).ws)
    assert not torch.equal(drawn(pipeline, directions, edit), drawn(pipeline, directions, PLAIN))


def test_a_path_that_leads_nowhere_stays_and_is_no_film(pipeline):
    edit = Edit(first=A, second=Key(B.prompt, A.seed), kind="z", t=0.5)
    assert edit.still
    assert torch.equal(drawn(pipeline, [], edit), pipeline(A.prompt, seed=A.seed).images)
    with pytest.raises(WorkbenchError, match="alike in what the path 'z' changes"):
        session.along(pipeline, [], edit)


def test_negative_words_lead_both_ends_away(pipeline):
    edit = Edit(first=A, second=B, kind="prompt", negative="snow", t=0.5)
    with_them = Edit(first=A, second=B, kind="prompt", t=0.5)
    assert not torch.equal(drawn(pipeline, [], edit), drawn(pipeline, [], with_them))
    assert not torch.equal(drawn(pipeline, [], edit.before), drawn(pipeline, [], with_them.before))


def test_a_point_found_for_an_upload_is_where_the_edit_starts(pipeline, directions):
    found = points(pipeline, C.prompt, 77)
    moved = replace(found.texts[0], t_local=found.texts[0].t_local + 0.5 * found.texts[0].mask[..., None])
    found = found.with_text(moved)
    edit = Edit(first=C, second=B, start=session.packed(found))
    again = session.apply(pipeline, directions, from_json(json.loads(json.dumps(to_json(edit)))))
    torch.testing.assert_close(again.ws, found.ws, atol=2e-3, rtol=1e-3)
    kept = moved.mask[..., None]
    torch.testing.assert_close(again.texts[1].t_local * kept, moved.t_local * kept, atol=2e-3, rtol=1e-3)
    end = session.apply(pipeline, directions, replace(edit, t=1.0))
    assert torch.equal(end.ws, points(pipeline, B.prompt, B.seed).ws)
    other_words = replace(edit, first=A, start=edit.start.partition(".")[0])
    assert torch.equal(session.apply(pipeline, [], other_words).ws, again.ws)
    with pytest.raises(WorkbenchError, match="made with another model"):
        session.unpacked(session.packed(Points(torch.zeros(1, 2, 3))), pipeline, None)
    with pytest.raises(WorkbenchError, match="damaged"):
        session.unpacked("no base 64!", pipeline, None)


EDITED = Edit(
    first=A, second=B, kind="w", t=0.375, truncation=0.8, negative="snow",
    mixing=(Mixed(which="coarse", key=C),), directions=(("one", -0.25), ("two", 1.5)),
)  # fmt: skip


def test_json_round_trip():
    assert from_json(json.loads(json.dumps(to_json(EDITED)))) == EDITED
    assert from_json(to_json(PLAIN)) == PLAIN and "mixing" not in to_json(PLAIN)


def test_a_png_carries_the_edit_and_comes_out_again_identical(pipeline, directions, tmp_path):
    samples = session.replay(pipeline, directions, EDITED)
    path = save_png(samples.images, tmp_path / "edited.png", samples.recipes[0])
    recipe = read_recipe(path)
    assert session.of_recipe(recipe) == EDITED
    session.check_model(recipe, pipeline)
    again = remake(
        path, pipeline, replay=lambda r: session.replay(pipeline, directions, session.of_recipe(r))
    )
    assert again.verdict == "identical" and again.reasons == []
    first = pipeline(A.prompt, seed=A.seed, truncation=EDITED.truncation).recipes[0]
    assert samples.recipes == [{**first, "edit": to_json(EDITED)}]
    with pytest.raises(WorkbenchError, match="open it in the Edit tab"):
        remake(path, pipeline)
    with pytest.raises(WorkbenchError, match="no direction 'one'"):
        session.replay(pipeline, [], EDITED)
    with pytest.raises(WorkbenchError, match="made by the model"):
        session.check_model({**recipe, "weight_hash": "0" * 64}, pipeline)
    plain = session.replay(pipeline, directions, PLAIN)
    assert plain.recipes == pipeline(A.prompt, seed=A.seed).recipes  # the Create tab opens it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": math.nan}, "place between the two pictures is nan"),
        ({"t": 1.5}, "expected 0"),
        ({"kind": "q"}, "no path 'q'"),
        ({"truncation": math.nan}, "truncation"),
        ({"first": ["a dog", -1]}, "negative"),
        ({"first": [["a"], 1]}, "The prompt of this edit"),
        ({"first": ["a dog"]}, "damaged"),
        ({"mixing": [["rough", "a dog", 1]]}, "no range 'rough'"),
        ({"mixing": [["fine", "a dog", 1]] * 9}, "at most 8"),
        ({"directions": [["one", math.inf]]}, "strength of 'one'"),
        ({"directions": [["one", "much"]]}, "strength of 'one'"),
        ({"directions": 3}, "damaged"),
        ({"t": 10**400}, "place between the two pictures is 1000"),
        ({"truncation": 10**400}, "truncation is 1000"),
        ({"directions": [["one", -(10**400)]]}, "strength of 'one'"),
        ({"first": ["a dog", 1, "snow"]}, "has negative words of its own"),
        ({"mixing": [["fine", "a dog", 1, "snow"]]}, "has negative words of its own"),
        ({"negative": "snow " * 1000}, "at most 1,000 characters"),
    ],
)
def test_a_damaged_edit_is_refused(change, message):
    with pytest.raises(WorkbenchError, match=message):
        from_json({**to_json(PLAIN), **change})


def test_an_edit_is_drawn_once(pipeline, directions):
    """Its recipe is known without the plain picture."""
    drawn = []
    watched = pipeline.G.blocks["4"][0].conv0.register_forward_hook(lambda *args: drawn.append(1))
    try:
        session.replay(pipeline, directions, EDITED)
    finally:
        watched.remove()
    assert drawn == [1]


def test_undo_and_redo_go_the_same_way_back():
    steps = [Edit(first=A, second=B, t=k / 4) for k in range(4)]
    history = History(now=steps[0])
    for k, edit in enumerate(steps[1:]):
        history = history.changed(edit, "t", when=10.0 * k)
    for edit in reversed(steps[:-1]):
        history = history.undone()
        assert history.now == edit
    assert history.undone() == history
    for edit in steps[1:]:
        history = history.redone()
        assert history.now == edit
    assert history.redone() == history
    assert history.undone().changed(EDITED).future == ()


def test_one_gesture_is_one_step_and_no_change_is_none():
    history = History(now=PLAIN)
    for k in range(5):
        edit = Edit(first=A, second=B, t=(k + 1) / 10)
        history = history.changed(edit, "t", when=k * ONE_GESTURE_S / 2)
    assert history.past == (PLAIN,) and history.undone().now == PLAIN
    assert history.changed(history.now, "kind") == history
    assert len(history.changed(EDITED, "kind", when=history.when).past) == 2
