"""Directions: subspaces in closed form, moves that stop where they should, files bound to their model."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import WorkbenchError
from workbench.evaluation.features import FACTOR_CLASSES, load_judge
from workbench.latents import ganspace, sefa, store, supervised
from workbench.latents.directions import Direction, Effect, Move, apply
from workbench.latents.effects import measure_direction
from workbench.latents.points import draw, points
from workbench.latents.text_directions import between_phrases

PROMPT = "a white dog in the snow"


def one(**changes) -> Direction:
    settings = {"name": "one", "source": "ganspace", "layers": (0, 1), "w": Move(vector=torch.ones(32))}
    return Direction(**{**settings, **changes})


# --- moves --------------------------------------------------------------------------------------------------


def test_a_step_is_added_to_its_layers_alone(tiny):
    at = points(tiny, PROMPT, [1, 2])
    moved = one().at(at, [0.5, -2.0])
    assert torch.allclose(moved.ws[0, :2], at.ws[0, :2] + 0.5) and torch.allclose(
        moved.ws[1, :2], at.ws[1, :2] - 2
    )
    assert torch.equal(moved.ws[:, 2:], at.ws[:, 2:])
    assert torch.equal(one().at(at, 0.0).ws, at.ws) and torch.equal(at.ws, points(tiny, PROMPT, [1, 2]).ws)


def test_a_move_in_a_subspace_arrives_at_1_and_leaves_the_rest(tiny):
    basis = torch.linalg.qr(torch.randn(32, 3))[0].t()
    place = torch.randn(3) @ basis
    at = points(tiny, PROMPT, [1, 2])
    direction = one(layers=tuple(range(tiny.G.num_ws)), w=Move(vector=place, basis=basis))
    arrived = direction.at(at, 1.0).ws
    assert torch.allclose(arrived @ basis.t(), (place @ basis.t()).expand(2, tiny.G.num_ws, 3), atol=1e-5)
    change = arrived - at.ws
    assert torch.allclose(change, change @ basis.t() @ basis, atol=1e-5)
    half = direction.at(at, 0.5).ws
    assert torch.allclose(half, (arrived + at.ws) / 2, atol=1e-5)
    assert torch.allclose(direction.at(direction.at(at, 1.0), 1.0).ws, arrived, atol=1e-5)


def test_a_gate_decides_how_far_a_row_goes_and_can_be_opened():
    """sigmoid(0) is a half; opened by ln 3 it is three quarters; without a gate a row goes all the way."""
    gate = torch.zeros(129)
    direction = one(w=None, t=Move(vector=torch.ones(128), gate=gate))
    x, full = torch.zeros(1, 2, 128), torch.ones(1)
    for by, share in ((0.0, 0.5), (math.log(3), 0.75), (None, 1.0)):
        opened = supervised.loosened(direction, by)
        assert torch.allclose(opened.t.shift(x, full), torch.full((1, 2, 128), share))
    assert torch.equal(direction.t.gate, gate)


def test_words_put_in_are_as_loud_as_the_strength(tiny):
    at = points(tiny, PROMPT, [1])
    direction = one(words=torch.randn(2, 128), w=None)
    silent = direction.at(at, 0.0)
    assert torch.allclose(draw(tiny, silent), draw(tiny, at), atol=1e-6)
    assert (direction.at(at, 0.7).texts[0].prior[:, -2:] == 0.7).all()
    assert (direction.at(at, -0.7).texts[0].prior[:, -2:] == 0).all()


def test_several_directions_are_done_one_after_the_other(tiny):
    at = points(tiny, PROMPT, [1])
    a, b = one(), one(name="two", w=Move(vector=torch.arange(32.0)))
    assert torch.equal(apply(at, [(a, 1.0), (b, -0.5)]).ws, b.at(a.at(at, 1.0), -0.5).ws)


def test_what_makes_no_sense_is_refused(tiny):
    at = points(tiny, PROMPT, [1])
    with pytest.raises(WorkbenchError, match="not a finite number: move the slider back"):
        one().at(at, float("nan"))
    with pytest.raises(WorkbenchError, match="made for another model"):
        one(w=Move(vector=torch.ones(8))).at(at, 1.0)
    with pytest.raises(WorkbenchError, match=r"moves the layers \[0, 99\].*made for another model"):
        one(layers=(0, 99)).at(at, 1.0)
    with pytest.raises(WorkbenchError, match="2 strengths of 'one' for 3 points"):
        one().at(at[[0, 0, 0]], [1.0, 2.0])
    with pytest.raises(WorkbenchError, match="expected the lowest and the highest"):
        one(strengths=(1.0, 2.0, 3.0))
    with pytest.raises(WorkbenchError, match="expected low < high"):
        one(strengths=(1.0, -1.0))
    with pytest.raises(WorkbenchError, match="expected a name and one of"):
        one(source="guessed")


# --- linear models ------------------------------------------------------------------------------------------


def known_world(n: int = 600):
    """x made of factors by known effects in known, orthogonal places, and noise elsewhere."""
    generator = torch.Generator().manual_seed(3)
    ids = {
        name: torch.randint(len(values), (n,), generator=generator) for name, values in FACTOR_CLASSES.items()
    }
    basis = torch.linalg.qr(torch.randn(32, 32, generator=generator))[0].t()
    x, at, spans = 0.1 * torch.randn(n, 8, generator=generator) @ basis[24:], 0, {}
    for name, values in FACTOR_CLASSES.items():
        rank = len(values) - 1
        effects = torch.randn(len(values), rank, generator=generator) @ basis[at : at + rank]
        x, spans[name], at = x + effects[ids[name]], basis[at : at + rank], at + rank
    return x, ids, spans


def test_class_means_and_subspaces_find_the_known_ones():
    x, ids, spans = known_world()
    means = supervised.class_means(x, ids)
    bases = supervised.subspaces(means)
    for name, span in spans.items():
        inside = bases[name] @ span.t() @ span
        assert (inside.norm(dim=1) > 0.95).all(), name
        assert torch.allclose(bases[name] @ bases[name].t(), torch.eye(len(span)), atol=1e-5)
        assert supervised.accuracy(x, ids[name], means[name], bases[name]) > 0.95
        for other in spans:
            if other != name:
                assert (bases[name] @ bases[other].t()).abs().max() < 0.15


def test_a_factors_subspace_is_orthogonal_to_the_others_spans_not_to_their_subspaces():
    """Moving in it leaves what lies in those spans as it was; the subspaces lean on one another."""
    x, ids, _ = known_world()
    leak = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)) * 0.5
    skewed = x + F.one_hot(ids["coat"], 5).float() @ leak  # coats leak into the other spans
    means = supervised.class_means(skewed, ids)
    spans, bases = supervised.subspaces(means, orthogonal=False), supervised.subspaces(means)
    move = Move(vector=means["coat"][2] @ bases["coat"].t() @ bases["coat"], basis=bases["coat"])
    changed = move.shift(skewed[:, None], torch.ones(len(skewed)))[:, 0]
    for name, own in bases.items():
        others = torch.cat([span for other, span in spans.items() if other != name])
        assert (own @ others.t()).abs().max() < 1e-5
        # what it lost lies in the others' spans, and nothing else was added
        everything = torch.linalg.qr(torch.cat([spans[name], others]).t())[0].t()
        assert torch.allclose(own @ everything.t() @ everything, own, atol=1e-5)
    for other in ("pose", "scene", "light"):
        assert (changed @ spans[other].t()).abs().max() < 1e-4
    assert max((bases["coat"] @ bases[other].t()).abs().max() for other in ("pose", "scene", "light")) > 0.1


def test_rows_that_name_a_factor_are_those_of_its_longest_phrase(shipped):
    from workbench.models.inspect import words_of

    caption = "A black and tan dog is stretched out in front of houses, in evening light"
    words = words_of(caption, shipped.text_encoder)
    spelled = {
        factor: [
            word.text
            for word in words
            if set(word.rows) <= set(supervised.rows_naming(shipped, words, factor, value))
        ]
        for factor, value in (
            ("coat", "black-and-tan"),
            ("pose", "lying"),
            ("scene", "city"),
            ("light", "sunset"),
        )
    }
    assert spelled["pose"] == ["stretched", "out"] and spelled["scene"] == ["in", "front", "of", "houses"]
    assert spelled["coat"][0] == "black" and spelled["light"] == ["in", "evening", "light"]
    assert supervised.rows_naming(shipped, words, "coat", "white") == ()


def test_supervised_directions_do_what_they_say_on_the_shipped_model(shipped):
    judge = load_judge()
    fit, held = supervised.draw_sample(shipped, 500), supervised.draw_sample(shipped, 24, seed=77)
    found = {d.name: d for d in supervised.fit_factors(shipped, fit, held)}
    assert len(found) == sum(len(values) for values in FACTOR_CLASSES.values())
    for name in ("coat: red", "pose: lying"):
        effect = measure_direction(shipped, judge, found[name], held)
        assert effect.reached >= 0.75 and effect.leaked <= 0.25, (name, effect)
    alone = measure_direction(shipped, judge, supervised.in_w_alone(found["coat: red"]), held)
    assert alone.reached < 0.2  # the words hold the coat


# --- unlabelled ones ----------------------------------------------------------------------------------------


def test_components_are_those_of_a_known_cloud():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8))[0].t()
    cloud = torch.randn(4000, 8) * torch.tensor([5.0, 3.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1]) @ basis + 7
    V, deviations, share = ganspace.components(cloud, 3)
    assert torch.allclose((V @ basis[:3].t()).abs(), torch.eye(3), atol=0.05)
    assert torch.allclose(deviations, torch.tensor([5.0, 3.0, 1.0]), rtol=0.05)
    assert share[0] == pytest.approx(25 / 35, abs=0.02)
    assert (V.gather(1, V.abs().argmax(1, keepdim=True)) > 0).all()
    with pytest.raises(WorkbenchError, match="expected 1 to"):
        ganspace.components(cloud[:3], 5)


def test_ganspace_takes_the_prompts_means_away(tiny):
    found = ganspace.find(tiny, [PROMPT, "a black dog at night"], count=3, seeds=12)
    assert [d.name for d in found] == ["component 1", "component 2", "component 3"]
    assert found[0].facts["share"] >= found[1].facts["share"]
    w = torch.cat([points(tiny, p, range(5)).ws[:, 0] for p in (PROMPT, "a black dog at night")])
    between = w[5:].mean(0) - w[:5].mean(0)
    with pytest.raises(WorkbenchError, match="seeds is 1: expected a whole number of at least 2"):
        ganspace.find(tiny, [PROMPT], seeds=1)
    with pytest.raises(WorkbenchError, match="give at least one"):
        ganspace.find(tiny, [])
    unit = found[0].w.vector / found[0].w.vector.norm()
    assert (unit @ between).abs() / between.norm() < 0.9  # z's own axis, not that of the prompts


def test_sefa_vectors_move_the_modulation_most(tiny):
    A = sefa.modulation(tiny.G, "coarse")
    vectors, values = sefa.eigenvectors(A, 4)
    assert torch.allclose(vectors @ vectors.t(), torch.eye(4), atol=1e-5)
    assert torch.allclose((A @ vectors.t()).square().sum(0), values, rtol=1e-4)
    for other in F.normalize(torch.randn(50, A.shape[1]), dim=1):
        assert (A @ other).square().sum() <= values[0] + 1e-4
    for count in (0, 999, 2.0):
        with pytest.raises(WorkbenchError, match="expected 1 to 32"):
            sefa.find(tiny, count=count)
    with pytest.raises(WorkbenchError, match="This G has no fine layers"):
        sefa.find(tiny, layers="fine")
    with_rows = sefa.modulation(tiny.G, "all", with_selection=True)
    assert len(with_rows) == len(sefa.modulation(tiny.G)) + 2 * 2  # one bank of two kernels in two layers


def test_phrases_that_read_alike_span_nothing(tiny):
    found = between_phrases(tiny, "a dog", "a white dog", seeds=4)
    assert found.words.shape == (1, 128) and found.name == "a dog → a white dog"
    with pytest.raises(WorkbenchError, match="read alike"):
        between_phrases(tiny, "a dog", "a dog")


# --- on disk ------------------------------------------------------------------------------------------------


def test_directions_come_back_as_they_were_and_only_for_their_model(tiny, another, tmp_path):
    basis = torch.linalg.qr(torch.randn(32, 2))[0].t().half().float()
    effect = Effect(n=5, strength=1.0, reached=0.8, leaked=0.2, drift={"x": 0.1}, moved={"x": 0.0})
    saved = [
        one(w=Move(vector=torch.ones(32), basis=basis), target="coat", value="white", effect=effect),
        one(name="two", w=Move(vector=torch.arange(32.0), basis=basis), t=Move(vector=torch.ones(128)),
            words=torch.ones(1, 128), facts={"r2": 0.5}),
    ]  # fmt: skip
    folder = store.save_directions(tmp_path / "latents", saved, tiny)
    loaded = store.load_directions(folder, tiny)
    assert [d.name for d in loaded] == ["one", "two"] and loaded[0].effect == effect
    at = points(tiny, PROMPT, [1])
    for old, new in zip(saved, loaded, strict=True):
        assert torch.equal(old.at(at, 0.5).ws, new.at(at, 0.5).ws)
        assert torch.equal(old.at(at, 0.5).texts[0].t_local, new.at(at, 0.5).texts[0].t_local)
        assert (old.layers, old.facts, old.target) == (new.layers, new.facts, new.target)
    with pytest.raises(WorkbenchError, match=r"made for the model 'tiny-0'.*this one is 'tiny-1'"):
        store.load_directions(folder, another)
    with pytest.raises(WorkbenchError, match="Two directions are called 'one'"):
        store.save_directions(tmp_path / "b", [saved[0], saved[0]], tiny)


@pytest.mark.parametrize("damage", ["cut", "schema", "lacking", "key", "strengths", "layers", "numbers"])
def test_damaged_files_are_refused_in_words(tiny, tmp_path, damage):
    folder = store.save_directions(tmp_path, [one()], tiny)
    facts = folder / store.FACTS
    page = json.loads(facts.read_text())
    if damage == "cut":
        facts.write_text(facts.read_text()[:40])
    elif damage == "lacking":
        (folder / store.NUMBERS).unlink()
    elif damage == "schema":
        facts.write_text(json.dumps({**page, "schema": 9}))
    elif damage == "numbers":
        store.save_directions(tmp_path, [one(w=Move(vector=torch.full((32,), math.nan)))], tiny)
    elif damage in ("strengths", "layers"):
        page["directions"][0][damage] = [1, 2, 99]
        facts.write_text(json.dumps(page))
    else:
        page["directions"][0]["w"]["vector"] = "elsewhere"
        facts.write_text(json.dumps(page))
    with pytest.raises(WorkbenchError, match=r"damaged|no file of directions|holds no directions"):
        store.load_directions(folder, tiny)
