"""Paths: ends, spheres, loops, even speed; path length of a map whose length is known."""

import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.evaluation.perceptual import FeatureDistance
from workbench.latents.captions import read
from workbench.latents.pace import EVEN_ENOUGH, spaced_evenly, walk
from workbench.latents.paths import KINDS, Key, curve, lerp, slerp
from workbench.latents.points import draw, points
from workbench.latents.smoothness import path_length, trimmed_mean

A, B = Key("a white dog in the snow", 3), Key("a black dog lying on the beach at night", 4)


def test_slerp_stays_on_the_sphere_at_an_even_angle():
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 16, dtype=torch.float64)
    b = b / b.norm() * a.norm()
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    path = slerp(a, b, t)
    assert torch.allclose(path.norm(dim=1), a.norm().expand(9), atol=1e-12)
    cosines = (path[1:] * path[:-1]).sum(1) / a.norm() ** 2
    angle = math.acos(((a * b).sum() / a.norm() ** 2).item())
    assert torch.allclose(cosines, torch.full((8,), math.cos(angle / 8), dtype=torch.float64), atol=1e-12)
    assert torch.allclose(path[0], a[0]) and torch.allclose(path[-1], b[0])


def test_slerp_where_no_circle_is_defined_goes_straight():
    a = torch.ones(1, 4)
    for b in (a.clone(), -a):
        path = slerp(a, b, torch.tensor([0.0, 0.25, 1.0]))
        assert torch.isfinite(path).all() and torch.allclose(path, lerp(a, b, torch.tensor([0.0, 0.25, 1.0])))


@pytest.mark.parametrize("kind", KINDS)
def test_ends_of_a_path_are_its_pictures(tiny, kind):
    path = curve(tiny, [A, B], kind)
    frames = draw(tiny, path(torch.tensor([0.0, 1.0])), batch_size=1)
    last = {"z": (A.prompt, B.seed), "prompt": (B.prompt, A.seed)}.get(kind, (B.prompt, B.seed))
    expected = tiny([A.prompt, last[0]], seed=[A.seed, last[1]]).images
    assert torch.allclose(frames, expected, atol=2e-5)


def test_a_loop_returns_and_passes_every_key(tiny):
    keys = [A, B, Key("a red dog in the city", 5)]
    path = curve(tiny, keys, loop=True)
    frames = draw(tiny, path(torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])), batch_size=1)
    expected = draw(
        tiny, points(tiny, [key.prompt for key in keys], [key.seed for key in keys]), batch_size=1
    )
    assert torch.allclose(frames, torch.cat([expected, expected[:1]]), atol=1e-4)


def test_a_path_leads_away_from_words(tiny):
    away = Key(A.prompt, A.seed, negative="snow")
    at = curve(tiny, [A, away], "prompt")(torch.tensor([0.0, 1.0]))
    expected = [read(tiny, key.prompt, negative=key.negative).t_global for key in (A, away)]
    assert torch.equal(at.texts[0].t_global, torch.cat(expected)) and not torch.equal(*expected)


def test_positions_in_any_order_give_the_same_points(tiny):
    path = curve(tiny, [A, B, A], "both")
    t = torch.tensor([0.9, 0.1, 0.6, 0.4])
    assert torch.allclose(path(t).ws[1], path(t[1:2]).ws[0], atol=1e-6)


def test_paths_that_make_no_sense_are_refused(tiny):
    with pytest.raises(WorkbenchError, match="no path 'y'"):
        curve(tiny, [A, B], "y")
    with pytest.raises(WorkbenchError, match="two pictures or more"):
        curve(tiny, [A])
    with pytest.raises(WorkbenchError, match="All seeds of this path are the same"):
        curve(tiny, [A, Key(B.prompt, A.seed)], "z")
    with pytest.raises(WorkbenchError, match="All prompts of this path are the same"):
        curve(tiny, [A, Key(A.prompt, 9)], "prompt")
    with pytest.raises(WorkbenchError, match="All pictures"):
        curve(tiny, [A, A])
    with pytest.raises(WorkbenchError, match="numbers from 0 to 1"):
        curve(tiny, [A, B])(torch.tensor([1.5]))
    with pytest.raises(WorkbenchError, match="frames is 1"):
        walk(tiny, curve(tiny, [A, B]), 1)


def test_positions_move_to_where_the_length_is_even():
    """Steps of 1, 1, 2 between 0, 0.2, 0.6, 1: even lengths are 4/3 each, so the places can be computed."""
    t = spaced_evenly(torch.tensor([0.0, 0.2, 0.6, 1.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert torch.allclose(t, torch.tensor([0.0, 0.2 + 0.4 / 3, 0.6 + 0.4 / 3, 1.0], dtype=torch.float64))
    still = torch.linspace(0, 1, 4)
    assert torch.equal(spaced_evenly(still, torch.zeros(3)), still)


def test_a_walk_at_even_speed_is_evener_than_one_in_even_times(shipped):
    distance = FeatureDistance()
    path = curve(
        shipped, [Key("a white dog sitting in the snow by day", 1), Key("a red dog lying at night", 2)]
    )
    plain = walk(shipped, path, 16)
    paced = walk(shipped, path, 16, distance=distance)
    before, after = distance.steps(plain.frames), distance.steps(paced.frames)
    assert torch.equal(after, paced.steps) and paced.max_step_ratio == (after.max() / after.mean()).item()
    assert paced.max_step_ratio < (before.max() / before.mean()).item()
    assert paced.max_step_ratio <= EVEN_ENOUGH
    assert torch.equal(paced.frames[[0, -1]], plain.frames[[0, -1]])


def test_the_feature_distance_is_a_distance_and_can_be_differentiated(shipped):
    distance = FeatureDistance()
    a, b = shipped("a white dog", seed=[1, 2]).images.split(1)
    assert distance(a, a).item() == 0 and torch.allclose(distance(a, b), distance(b, a))
    nearer = a + 0.1 * (b - a)
    assert distance(a, nearer) < distance(a, b)
    x = b.clone().requires_grad_()
    distance(a, x).sum().backward()
    moved = (b - 0.1 * x.grad / x.grad.abs().max()).clamp(-1, 1)
    assert distance(a, moved) < distance(a, b)
    assert "feature distance" in distance.name and "LPIPS" not in distance.name


class Pixels:
    """A distance whose path length is known: root of the summed squares of pixels."""

    def __call__(self, a, b):
        return (a - b).flatten(1).norm(dim=1)


def test_path_length_is_the_squared_speed(tiny, monkeypatch):
    """Pictures that are t alone have the derivative 1 in each of their 3 * 2 * 2 numbers, squared 12."""
    from workbench.latents import smoothness

    monkeypatch.setattr(smoothness, "curve", lambda *args: lambda t: t)
    monkeypatch.setattr(smoothness.Points, "cat", staticmethod(torch.cat))
    monkeypatch.setattr(smoothness, "draw", lambda p, t, batch_size: t.view(-1, 1, 1, 1).expand(-1, 3, 2, 2))
    assert path_length(tiny, "w", n=8, distance=Pixels()) == pytest.approx(12, rel=1e-3)


def test_path_length_of_a_model_is_stable_in_the_step(tiny):
    lengths = [path_length(tiny, "w", n=6, distance=Pixels(), eps=eps) for eps in (2e-2, 1e-2)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.2) and lengths[0] > 0
    assert path_length(tiny, "w", n=6, distance=Pixels()) == path_length(tiny, "w", n=6, distance=Pixels())
    both = path_length(tiny, "w", n=2, distance=Pixels())
    assert 0.1 * lengths[0] < both < 10 * lengths[0]  # of two, neither is left out
    for wrong in ({"kind": "v"}, {"n": 1}, {"n": 2.5}):
        with pytest.raises(WorkbenchError, match="2 or more of"):
            path_length(tiny, **{"kind": "w", **wrong})
    for eps in (0.0, -0.1, 1.0, math.nan):
        with pytest.raises(WorkbenchError, match="step eps is"):
            path_length(tiny, "w", n=2, eps=eps)
    assert trimmed_mean(torch.tensor([1.0, 3.0]), 0.01) == 2.0
    assert trimmed_mean(torch.tensor([0.0, 1.0, 1.0, 1.0, 100.0]), 0.1) == 1.0
