"""The honesty lab: each effect by its direction, and by its size where that is known."""

import numpy as np
import pytest
import torch
from noise_pictures import noise, pixel_features

from workbench.errors import WorkbenchError
from workbench.evaluation import honesty
from workbench.evaluation.distances import frechet_from_features


def smooth(count: int, side: int, seed: int) -> torch.Tensor:
    fine = noise(count, side, seed=seed, std=40).float()
    coarse = torch.nn.functional.interpolate(
        noise(count, 4, seed=seed + 50).float(), size=side, mode="bicubic"
    )
    return (fine * 0.5 + coarse * 0.5).round().clamp(0, 255).to(torch.uint8)


def test_a_careless_resizer_costs_more_than_the_floor():
    own, reference = smooth(300, 32, 0), smooth(300, 32, 1)
    names = ("antialias", "bilinear", "nearest")
    found = honesty.resizer_effect(own, reference, pixel_features(48), side=8, resizers=names)
    assert found.shape == (3,) and found[0] < found[1] < found[2]
    small = honesty.shrunk(own, 8, "antialias"), honesty.shrunk(reference, 8, "antialias")
    by_hand = [honesty.features_of(pixel_features(48), x) for x in small]
    assert found[0] == pytest.approx(frechet_from_features(*by_hand))


def test_jpeg_costs_more_the_lower_its_quality():
    own, reference = smooth(200, 16, 0), smooth(200, 16, 1)
    features = pixel_features(48, side=16)
    found = honesty.jpeg_effect(own, reference, features, qualities=(90, 40, 10))
    assert (np.diff(found) > 0).all()
    mine, theirs = (honesty.features_of(features, x) for x in (own, reference))
    assert found[0] == pytest.approx(frechet_from_features(mine, theirs))
    with pytest.raises(WorkbenchError, match="JPEG quality is 0"):
        honesty.as_jpeg(own, 0)


def test_the_frechet_distance_falls_with_n_and_the_line_over_1_n_ends_near_the_truth():
    """Two normal sets of 8 features, 1 apart in each: the truth is 8."""
    draw = torch.Generator().manual_seed(0)
    own, reference = (torch.randn(20_000, 8, generator=draw) + shift for shift in (0.0, 1.0))
    counts = (50, 100, 200, 800)
    frechet, kernel = honesty.count_effect(own, reference, counts, repeats=60)
    assert (np.diff(frechet.mean(axis=1)) < 0).all()
    assert honesty.at_infinity(counts, frechet) == pytest.approx(8, abs=0.2)
    spread = kernel[0].std() / 60**0.5
    assert abs(kernel[0].mean() - kernel[-1].mean()) < 4 * spread
    with pytest.raises(WorkbenchError, match="expected counts from 2 to 20000"):
        honesty.count_effect(own, reference, (1,))


def test_the_training_set_flatters_a_memory():
    draw = torch.Generator().manual_seed(0)
    training, held_out = torch.randn(200, 20, generator=draw), torch.randn(300, 20, generator=draw)
    flattered, honest = honesty.reference_effect(training.repeat(2, 1), training, held_out)
    assert flattered < 0.05 * honest
