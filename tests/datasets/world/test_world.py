"""Shepherd World: the same picture always, factors that leave one another alone, plain refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import pytest
import torch
from torch.nn import functional as F

from workbench.datasets import world
from workbench.datasets.world.sdf import Cone, Field, march
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_single_cone_is_a_capsule_in_closed_form():
    field = Field(
        [
            Cone(a=(0, 0, 0), b=(1, 0, 0), ra=0.2, rb=0.2),
            Cone(a=(9, 0, 0), b=(9.1, 0, 0), ra=0.1, rb=0.1, fine=True),
        ]
    )
    points = torch.tensor([[0.5, 0.7, 0.0], [-0.6, 0.0, 0.8], [1.3, 0.0, 0.4], [0.2, 0.1, 0.0]]).T
    expected = torch.tensor([0.5, 0.8, 0.3, -0.1])
    assert torch.allclose(field.distance(points), expected, atol=1e-5)
    normal = field.surface(torch.tensor([[0.5], [0.12], [0.16]]))["normal"][:, 0]
    assert torch.allclose(normal, torch.tensor([0.0, 0.6, 0.8]), atol=1e-5)


def test_rays_meet_a_sphere_where_geometry_says():
    field = Field(
        [
            Cone(a=(0, 0, 0), b=(1e-4, 0, 0), ra=0.5, rb=0.5),
            Cone(a=(9, 0, 0), b=(9.1, 0, 0), ra=0.1, rb=0.1, fine=True),
        ]
    )
    direction = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.6, -0.8]]).T
    t = march(
        field,
        torch.tensor([0.0, 0.3, 3.0]),
        direction,
        torch.zeros(2),
        torch.full((2,), 6.0),
        steps=60,
        precision=1e-4,
    )
    assert abs(t[0].item() - (3 - 0.4)) < 1e-3
    assert torch.isinf(t[1])


def test_a_picture_is_the_same_alone_and_in_any_batch():
    factors = [world.draw_factors(3, i) for i in range(5)]
    together = world.render(factors, 32)
    backwards = world.render(factors[::-1], 32).flip(0)
    alone = torch.cat([world.render([f], 32) for f in factors])
    assert torch.equal(together, backwards)
    assert torch.equal(together, alone)
    assert together.shape == (5, 3, 32, 32) and together.dtype == torch.float32
    assert together.min() >= -1 and together.max() <= 1


def test_factors_of_a_seed_and_index_never_change():
    assert world.draw_factors(7, 11) == world.draw_factors(7, 11)
    assert world.draw_factors(7, 11) != world.draw_factors(7, 12)
    assert world.draw_factors(7, 11) != world.draw_factors(8, 11)


def test_a_larger_picture_is_the_same_picture():
    factors = [world.draw_factors(5, i) for i in range(6)]
    small = world.render(factors, 64)
    large = F.avg_pool2d(world.render(factors, 128), 2)
    assert (small - large).abs().mean() < 0.02
    assert (small - large).abs().mean((1, 2, 3)).max() < 0.03


@pytest.mark.parametrize(
    "fixed",
    [{"coat": "white"}, {"pose": "lying", "light": "night"}, {"azimuth_deg": 30.0}, {"x": 0.1, "scenery": 4}],
)
def test_pinned_factors_leave_the_others_alone(fixed):
    for index in range(50):
        free, pinned = world.draw_factors(1, index), world.draw_factors(1, index, **fixed)
        for field in fields(world.Factors):
            expected = fixed.get(field.name, getattr(free, field.name))
            assert getattr(pinned, field.name) == expected


@pytest.mark.parametrize("pose", world.POSES)
def test_a_mirrored_dog_is_the_mirror_image(pose):
    factors = world.draw_factors(2, 3, pose=pose, tongue=0.0)
    mask, mirrored = world.dog_mask(factors, 48), world.dog_mask(world.mirrored(factors), 48).flip(1)
    assert mask.float().mean() > 0.06
    assert (mask != mirrored).float().mean() < 0.004


def test_the_head_is_where_it_is_said_to_be():
    for index in range(20):
        factors = world.draw_factors(5, index)
        x, y = world.head_place(factors)
        assert world.dog_mask(factors, 64)[int(64 * y), int(64 * x)]
        other = world.head_place(world.mirrored(factors))
        assert other == pytest.approx((1 - x, y), abs=1e-5)
        assert y < torch.nonzero(world.dog_mask(factors, 64))[:, 0].float().mean() / 64  # above the rest


def test_azimuth_90_looks_to_the_right_and_minus_90_to_the_left():
    for azimuth, side in ((90.0, 1), (-90.0, -1)):
        mask = world.dog_mask(
            world.Factors(coat="black", pose="standing", scene="studio", light="day", azimuth_deg=azimuth), 48
        )
        rows = torch.nonzero(mask.any(1))[:, 0]
        ears = mask[rows[0] : rows[0] + 4].any(0)
        middle = torch.nonzero(ears)[:, 0].float().mean() - 23.5
        assert middle * side > 4


def test_the_four_factors_are_uniform():
    draws = [world.draw_factors(0, i) for i in range(3000)]
    for name, choices in world.CHOICES.items():
        counts = Counter(getattr(f, name) for f in draws)
        expected = len(draws) / len(choices)
        chi2 = sum((counts[c] - expected) ** 2 / expected for c in choices)
        assert chi2 < 20, (name, counts)  # 4 degrees of freedom: p < 0.001 beyond 18.5
    assert 0.45 < sum(f.azimuth_deg > 0 for f in draws) / len(draws) < 0.55
    assert sum(30 < abs(f.azimuth_deg) < 130 for f in draws) / len(draws) > 0.7


@pytest.mark.parametrize("light", world.LIGHTS)
def test_coats_are_ordered_in_brightness_under_every_light(light):
    base = world.Factors(coat="black", pose="standing", scene="studio", light=light, azimuth_deg=80.0)
    mask = world.dog_mask(base, 32)
    tone = {
        coat: world.render([replace(base, coat=coat)], 32)[0][:, mask].mean().item() for coat in world.COATS
    }
    assert min(tone, key=tone.get) == "black" and max(tone, key=tone.get) == "white"
    assert tone["white"] - tone["sable"] > 0.15 and tone["sable"] - tone["black"] > 0.15


def test_the_dog_stands_out_from_its_ground():
    for coat, scene, light in (
        ("white", "snow", "day"),
        ("white", "snow", "night"),
        ("black", "park", "night"),
        ("black", "city", "night"),
    ):
        factors = world.Factors(coat=coat, pose="lying", scene=scene, light=light)
        picture, mask = world.render([factors], 48)[0], world.dog_mask(factors, 48)
        inner = mask & ~(F.max_pool2d(1 - mask[None].float(), 3, 1, 1)[0] == 0)
        near = F.unfold(picture[None], 5, padding=2).view(3, 25, 48, 48)
        outside = F.unfold((~mask)[None, None].float(), 5, padding=2).view(25, 48, 48)
        gap = ((near - picture[:, None]).abs().mean(0) * outside).sum(0) / outside.sum(0).clamp_min(1)
        assert gap[inner].mean() > 0.15, (coat, scene, light, gap[inner].mean())


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"coat": "purple"}, "black-and-tan"),
        ({"pose": "flying"}, "standing"),
        ({"size": 3.0}, "0.7 to 1.3"),
        ({"azimuth_deg": float("nan")}, "-180 to 180"),
        ({"scenery": -1}, "whole number"),
        ({"colour": "red"}, "no factor"),
    ],
)
def test_bad_factors_are_refused_by_name(wrong, words):
    with pytest.raises(WorkbenchError, match=words):
        world.draw_factors(0, 0, **wrong)


def test_bad_calls_are_refused():
    with pytest.raises(WorkbenchError, match="seed is -1"):
        world.draw_factors(-1, 0)
    with pytest.raises(WorkbenchError, match="resolution 4 "):
        world.render([world.draw_factors(0, 0)], 4)
    assert world.render([], 32).shape == (0, 3, 32, 32)
