"""Variety: explicit loops, closed forms, and pictures that were learnt by heart on purpose."""

import itertools
import math

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.evaluation import variety
from workbench.evaluation.reference import quantised


def normal(n: int, f: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed)) * scale + shift


def by_loops(real: list, generated: list, k: int) -> dict[str, float]:
    """The definitions of the two papers, one pair at a time."""

    def radius(points, i):
        return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    real_balls = [(p, radius(real, i)) for i, p in enumerate(real)]
    own_balls = [(p, radius(generated, i)) for i, p in enumerate(generated)]

    def inside(point, balls):
        return sum(math.dist(point, centre) < r for centre, r in balls)

    return {
        "precision": sum(inside(g, real_balls) > 0 for g in generated) / len(generated),
        "recall": sum(inside(r, own_balls) > 0 for r in real) / len(real),
        "density": sum(inside(g, real_balls) for g in generated) / (k * len(generated)),
        "coverage": sum(any(math.dist(c, g) < r for g in generated) for c, r in real_balls) / len(real),
    }


def test_manifold_agrees_with_loops(monkeypatch):
    monkeypatch.setattr(variety, "_CHUNK", 7)
    real, generated = normal(40, 3, 0), normal(30, 3, 1, shift=0.8, scale=0.7)
    found = vars(variety.manifold(real, generated, k=3))
    expected = by_loops(real.tolist(), generated.tolist(), 3)
    assert found == pytest.approx(expected)
    assert 0 < expected["recall"] < expected["precision"]  # the case can tell the two apart


def test_a_lost_mode_costs_recall_and_coverage_alone():
    real = torch.cat([normal(200, 4, 0), normal(200, 4, 1, shift=20)])
    found = variety.manifold(real, normal(400, 4, 2))
    assert found.precision > 0.9 and found.density > 0.8
    assert found.recall < 0.55 and found.coverage < 0.55


def test_manifold_refuses():
    with pytest.raises(WorkbenchError, match="more than k = 5"):
        variety.manifold(normal(5, 3, 0), normal(50, 3, 1))
    with pytest.raises(WorkbenchError, match="same features"):
        variety.manifold(normal(9, 3, 0), normal(9, 4, 1))


def test_energy_distance_agrees_with_loops_and_a_closed_form(monkeypatch):
    monkeypatch.setattr(variety, "_CHUNK", 4)
    x, y = normal(9, 3, 0), normal(11, 3, 1, shift=0.5)

    def mean(a, b):
        return sum(math.dist(p, q) for p, q in itertools.product(a.tolist(), b.tolist())) / (len(a) * len(b))

    assert variety.energy_distance(x, y) == pytest.approx(
        math.sqrt(2 * mean(x, y) - mean(x, x) - mean(y, y)), rel=1e-6
    )
    assert variety.energy_distance(x, x) < 1e-6
    # two points at distance a: 2a - 0 - 0
    assert variety.energy_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])) == pytest.approx(10**0.5)


def test_geometry_has_unit_circles_and_unit_ranges():
    seen = {
        "azimuth_deg": torch.tensor([0.0, 90.0, -180.0]),
        "x": torch.tensor([-0.16, 0.0, 0.16]),
        "y": torch.tensor([-0.06, 0.0, 0.06]),
        "size": torch.tensor([0.92, 1.0, 1.08]),
    }
    expected = torch.tensor([[0, 1, -1, -1, -1], [1, 0, 0, 0, 0], [0, -1, 1, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(variety.geometry(seen), expected, atol=1e-6, rtol=0)


def pictures(n: int, seed: int) -> torch.Tensor:
    """Smooth random pictures of 64 px, as far apart as pictures of a world are."""
    coarse = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)
    return quantised(torch.nn.functional.interpolate(coarse, size=64, mode="bilinear"))


def test_copies_and_mirrored_copies_count_as_learnt_by_heart(monkeypatch):
    monkeypatch.setattr(variety, "_CHUNK", 16)
    training, held_out, fresh = pictures(60, 0), pictures(60, 1), pictures(40, 2)
    noise = 0.02 * torch.randn(10, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    generated = torch.cat([fresh, training[:10] + noise, training[10:20].flip(-1)])
    small = [variety.thumbnails(x) for x in (generated, held_out, training)]
    assert small[0].shape == (60, 3 * 32 * 32)
    found = variety.memorised(*small)
    assert found["memorised_share"] == pytest.approx(20 / 60)
    assert found["nearest_generated"] < found["nearest_render"] * 1.2
    # the threshold lies between the nearest and the second nearest of sixty fresh pictures
    assert variety.memorised(small[1], small[1], small[2])["memorised_share"] == pytest.approx(1 / 60)


def test_nearest_is_the_root_mean_square_difference():
    training = torch.zeros(3, 3 * 32 * 32)
    training[1] += 1.0
    near = variety.nearest(torch.full((1, 3 * 32 * 32), 0.9), training)
    torch.testing.assert_close(near, torch.tensor([0.1]), atol=1e-4, rtol=0)
