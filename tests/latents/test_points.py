"""Points: the pipeline's own picture, indexing and joining, and refusals."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.latents.points import Points, draw, points, texts_of

PROMPTS = ["a white dog in the snow", "a black dog lying on the beach at night"]


def test_a_point_is_the_pipelines_picture_to_the_bit(tiny):
    for truncation in (1.0, 0.4):
        at = points(tiny, PROMPTS, [3, 4], truncation=truncation)
        expected = tiny(PROMPTS, seed=[3, 4], truncation=truncation).images
        assert torch.equal(draw(tiny, at, batch_size=1), expected)


def test_company_and_place_change_no_bit(tiny):
    at = points(tiny, PROMPTS, [3, 4])
    crowd = Points.cat([points(tiny, "a red dog", range(5)), at])
    assert torch.equal(crowd[5:].ws, at.ws) and torch.equal(crowd[[6, 5]].ws, at.ws.flip(0))
    assert torch.equal(draw(tiny, crowd, batch_size=1)[5:], draw(tiny, at, batch_size=1))
    assert torch.equal(draw(tiny, crowd[-1], batch_size=1), draw(tiny, at[1], batch_size=1))


def test_hundreds_of_captions_read_together_are_close_to_each_read_alone(tiny):
    many = texts_of(tiny, PROMPTS * 40)
    alone = texts_of(tiny, PROMPTS)
    assert torch.allclose(many.t_global[:2], alone.t_global, atol=1e-5)
    assert torch.equal(many.mask[:2], alone.mask)


def test_one_of_either_serves_all(tiny):
    assert torch.equal(points(tiny, PROMPTS[0], [1, 2]).ws[1], points(tiny, PROMPTS[0], 2).ws[0])
    assert len(points(tiny, PROMPTS, 7)) == 2
    with pytest.raises(WorkbenchError, match="2 prompts and 3 seeds"):
        points(tiny, PROMPTS, [1, 2, 3])
    with pytest.raises(WorkbenchError, match="is empty"):
        points(tiny, " ", 1)


def test_points_of_another_model_and_nan_are_refused(tiny, shipped):
    at = points(tiny, PROMPTS[0], 1)
    with pytest.raises(WorkbenchError, match="made with another model"):
        draw(shipped, at)
    with pytest.raises(WorkbenchError, match="not finite"):
        at.with_ws(at.ws * float("nan"))
    with pytest.raises(WorkbenchError, match="expected \\[N, W, w_dim\\]"):
        Points(at.ws[:, 0], at.texts)
