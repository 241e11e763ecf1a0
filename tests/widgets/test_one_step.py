"""A step of D and a step of G by hand: who moves, who stands still, and the way back."""

import io
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_run import make_inputs, tiny_config, tiny_preset

from workbench.datasets.loading import PictureTable
from workbench.errors import WorkbenchError
from workbench.models.ops import box_pyramid
from workbench.training import steps
from workbench.training.losses import g_nonsaturating
from workbench.widgets import step_pictures
from workbench.widgets.by_hand import ByHand
from workbench.widgets.one_step import KINDS, Match


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def match(inputs):
    return new_match(inputs)


def new_match(inputs, **changes):
    data, clip = inputs
    config = replace(tiny_config(), **{"vision_weight": 1.0, "lr_G": 1e-3, "lr_D": 1e-3, **changes})
    return Match(tiny_preset(heads=True), config, PictureTable.from_folder(data, 8), clip, rows=8)


def weights(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_each_step_moves_its_own_player_alone(match):
    for who, own, other in (("D", match.players.D, match.players.G), ("G", match.players.G, match.players.D)):
        before = weights(own), weights(other)
        move = match.step_D() if who == "D" else match.step_G()
        assert move.who == who
        assert not torch.equal(weights(own), before[0]) and torch.equal(weights(other), before[1])


def test_pictures_stand_still_in_ds_step_and_real_verdicts_in_gs(match):
    by_D, by_G = match.step_D(), match.step_G()
    assert torch.equal(by_D.before.made, by_D.after.made)
    assert not torch.equal(by_G.before.made, by_G.after.made)
    for kind in KINDS:
        assert torch.equal(by_G.before.logits[kind], by_G.after.logits[kind]) == kind.startswith("real")
    assert by_D.after.logits.keys() == set(KINDS)


def test_each_player_gets_what_it_wants(inputs):
    """With D's own outputs as the only loss: D parts real from made, G raises its own logits."""
    match = new_match(inputs, vision_weight=0.0, mode_seeking_weight=0.0, range_weight=0.0)
    by_D = match.step_D()
    for _ in range(3):
        match.step_D()
    parted = match.look()
    assert parted.mean(KINDS[0]) - parted.mean(KINDS[2]) > by_D.before.mean(KINDS[0]) - by_D.before.mean(
        KINDS[2]
    )
    before = match.look()
    for _ in range(4):
        match.step_G()
    assert match.look().mean(KINDS[2]) > before.mean(KINDS[2])


def test_taking_back_is_exact_and_so_is_the_same_step_again(match):
    first = match.look()
    match.step_D()
    second = match.step_G()
    assert match.undo()
    again = match.step_G()
    assert torch.equal(again.after.made, second.after.made) and again.facts == second.facts
    assert match.undo() and match.undo() and not match.undo()
    last = match.look()
    assert torch.equal(last.made, first.made)
    assert all(torch.equal(last.logits[kind], first.logits[kind]) for kind in KINDS)
    assert match.moves == [] and match.turn == 0


@pytest.mark.parametrize("who", ["D", "G"])
def test_a_refused_step_changes_nothing_and_undo_goes_on_from_there(match, monkeypatch, who):
    match.step_D()
    good = match.look(), weights(match.players.D), weights(match.players.G), match.batch.generator.get_state()
    take, name = (match.step_D, "d_step") if who == "D" else (match.step_G, "g_step")
    step = getattr(steps, name)
    with monkeypatch.context() as patch:  # the worst case: refused when everything has moved
        patch.setattr(steps, name, lambda *given, **how: (step(*given, **how)[0], False))
        for _ in range(2):
            with pytest.raises(WorkbenchError, match="Nothing was changed"):
                take()
    last = match.look(), weights(match.players.D), weights(match.players.G), match.batch.generator.get_state()
    assert torch.equal(last[0].made, good[0].made) and all(map(torch.equal, last[1:], good[1:]))
    assert (ByHand(match).record, match.turn) == ("D", 1)
    assert match.undo() and not match.undo()
    assert match.moves == [] and match.turn == 0


def test_wishes_are_the_way_that_raises_the_logit(match):
    """A small step of the pixels along the wishes lowers G's loss, one against them raises it."""
    D = match.players.D
    with torch.no_grad():
        x = steps.draw_fakes(match.players, match.batch, match.text)[1][0]
        t_D = D.encode_text(match.text).repeat_interleave(2, dim=0)

        def loss(pictures):
            return g_nonsaturating(D(box_pyramid(pictures, D.config.entries), t_D)[0]).item()

    wishes = match.wishes()
    assert wishes.abs().amax((1, 2, 3)).allclose(torch.ones(8))
    with torch.no_grad():
        assert loss(x + 0.02 * wishes) < loss(x) < loss(x - 0.02 * wishes)


def test_players_of_a_run_sit_down_with_their_optimisers(inputs, tmp_path):
    from tiny_run import run_tiny

    from workbench.training import checkpoint

    run_tiny(inputs, tmp_path / "run", images=32)
    data, clip = inputs
    match = Match(tiny_preset(), tiny_config(), PictureTable.from_folder(data, 8), clip, rows=8)
    with pytest.raises(WorkbenchError, match="no checkpoint"):
        match.sit_down(tmp_path / "none")
    match.sit_down(tmp_path / "run")
    saved = checkpoint.newest(tmp_path / "run")[0]
    assert all(
        torch.equal(value, saved.tensors()["D"][name]) for name, value in match.players.D.state_dict().items()
    )
    assert match.turn == saved.state["step"] == 4
    match.step_D()


def test_the_stages_name_the_shapes_that_are_there(match):
    shapes = {name: shape for name, _, shape in match.stages()}
    assert (
        shapes["x"] == "8 × 3 × 8 × 8"
        and shapes["x_0"] == "8 × 3 × 8 × 8"
        and shapes["x_1"] == "8 × 3 × 4 × 4"
    )
    assert shapes["z"] == "8 × 8" and shapes["w"] == "8 × 16"


def test_pictures_of_a_step_hold_what_they_say(match):
    faces = step_pictures.faces(match, match.look(), "eight real and eight made pictures")
    wishes, move = match.wishes(), match.step_G()
    change = step_pictures.change(match, move, wishes, "before, wishes, after and difference")
    assert faces.image.width > 8 * 8 and change.image.height == 4 * (8 + 3) - 3
    assert step_pictures.arrows(match.step_D(), "arrows of a step").drawing
    said = step_pictures.losses(move)
    assert "G.loss" in said and "G.norm" in said and "D." not in said


def test_buttons_take_steps_and_take_them_back(match):
    hands = ByHand(match)

    def shown():
        return Image.open(io.BytesIO(hands.picture.value)).tobytes()

    first = shown()
    for name in ("D", "G", "G"):
        hands.buttons[name].click()
    assert (hands.record, hands.strip.value) == ("DGG", "steps so far: D G G")
    assert shown() != first
    for _ in range(4):
        hands.buttons["undo"].click()
    assert (hands.record, shown()) == ("", first)
    data, _ = hands._repr_mimebundle_()
    assert data["text/plain"].startswith("Real and made pictures")
