"""Points: the pipeline's own picture, indexing and joining, and refusals."""

import numpy as np
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


def test_an_index_of_any_kind_gives_one_point_and_none_gives_none(tiny):
    at = points(tiny, PROMPTS, [3, 4])
    for index in (np.int64(1), np.array(1), torch.tensor(1), torch.tensor([1]), [1], slice(1, 2)):
        assert torch.equal(at[index].ws, at[1].ws) and len(at[index].texts[0].mask) == 1
    for nothing in ([], slice(0, 0), torch.zeros(2, dtype=torch.bool)):
        assert len(at[nothing]) == 0 and draw(tiny, at[nothing]).shape == (0, 3, 16, 16)
    assert torch.equal(at[torch.tensor([False, True])].ws, at[1].ws)


def test_hundreds_of_captions_read_together_are_close_to_each_read_alone(tiny):
    many = texts_of(tiny, PROMPTS + [f"a {'white ' * k}dog" for k in range(70)])
    alone = texts_of(tiny, PROMPTS)
    assert torch.allclose(many.t_global[:2], alone.t_global, atol=1e-5)
    assert torch.equal(many.mask[:2], alone.mask)


def test_a_caption_is_read_once_however_many_seeds_it_has(tiny):
    prompt, again = "a red shepherd lying by night", "  a red  shepherd lying by night"
    read = []
    watched = tiny.text_encoder.register_forward_hook(lambda module, args, out: read.append(list(args[0])))
    try:
        at = points(tiny, [prompt, again] * 50, range(100), truncation=0.7)
    finally:
        watched.remove()
    assert read == [[prompt]]
    own = tiny.text(prompt)
    for text in at.texts:
        assert torch.equal(text.t_local, own.t_local.expand_as(text.t_local))
        assert torch.equal(text.t_global, own.t_global.expand_as(text.t_global))
    plain = points(tiny, prompt, range(64), truncation=0.7)
    assert torch.equal(draw(tiny, plain[63], batch_size=1), tiny(prompt, seed=63, truncation=0.7).images)


def test_captions_come_back_in_the_order_of_the_prompts(tiny):
    many = [f"a {'white ' * k}dog" for k in range(70)]
    shuffled = [many[k] for k in torch.randperm(140, generator=torch.Generator().manual_seed(0)) % 70]
    for wanted in (shuffled, shuffled[:60]):
        text = texts_of(tiny, wanted)
        for row, prompt in enumerate(wanted):
            assert torch.allclose(text.t_global[row], tiny.text(prompt).t_global[0], atol=1e-5)
    with pytest.raises(WorkbenchError, match="not a text"):
        texts_of(tiny, [["a dog"]])


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
