"""Edits of a model on a CUDA device: directions are found there as on the CPU, scored and timed."""

import pytest
import torch
from tiny_world_model import tiny_world_model

from workbench.evaluation.features import load_judge
from workbench.latents import supervised
from workbench.latents.finding import find_directions
from workbench.latents.scores import evaluate_edits, time_edit
from workbench.latents.smoothness import path_length
from workbench.latents.store import load_directions, save_directions
from workbench.pipeline import Pipeline

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def there() -> Pipeline:
    """A small model of the world's words on the device, where it would lie by itself."""
    pipeline = tiny_world_model()
    pipeline.G.cuda()
    pipeline.text_encoder.cuda()
    return pipeline


def test_directions_are_found_kept_and_scored(there, tmp_path):
    judge = load_judge()
    found = find_directions(there, judge, fit=200, n=30)
    assert {d.source for d in found} == {"supervised", "ganspace", "sefa", "text"}
    loaded = load_directions(save_directions(tmp_path, found, there), there)
    assert loaded[0].w.vector.is_cuda
    assert evaluate_edits(there, judge, loaded, n=4, pairs=1, frames=4)["n"] == 4
    assert time_edit(there, loaded, count=2)["ms"] > 0
    assert path_length(there, "both", n=4) > 0


def test_directions_of_factors_are_the_cpus(there):
    here = tiny_world_model()
    pairs = []
    for pipeline in (here, there):
        fit, held = supervised.draw_sample(pipeline, 200), supervised.draw_sample(pipeline, 30, seed=5)
        pairs.append(supervised.fit_factors(pipeline, fit, held))
    for a, b in zip(*pairs, strict=True):
        assert a.name == b.name
        assert torch.allclose(a.w.vector, b.w.vector.cpu(), atol=1e-2)
        assert torch.allclose(a.t.vector, b.t.vector.cpu(), atol=1e-2)
