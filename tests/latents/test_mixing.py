"""Layers by name, style tables and truncation: identities and exact places."""

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.latents import layers
from workbench.latents.mixing import mix_layers, mix_prompts, style_table
from workbench.latents.points import Points, draw, points
from workbench.latents.truncation import spread, truncate, truncation_grid

A, B = "a white dog in the snow", "a black dog lying on the beach at night"


def test_layers_are_the_style_inputs_in_the_order_of_synthesis(tiny):
    """Changing one style changes the picture levels from its own size on, and none below."""
    named = layers.layers(tiny.G)
    assert [layer.index for layer in named] == list(range(tiny.G.num_ws))
    at = points(tiny, A, 1)
    with torch.no_grad():
        base = tiny.G.synthesis(at.ws, at.texts)
        for layer in named:
            ws = at.ws.clone()
            ws[:, layer.index] += 1.0
            changed = tiny.G.synthesis(ws, at.texts)
            for level, (x, y) in enumerate(zip(base, changed, strict=True)):
                size = 16 >> level
                assert torch.equal(x, y) == (size < layer.size), (layer, size)


def test_ranges_are_whole_and_apart(tiny, shipped):
    for G in (tiny.G, shipped.G):
        parts = [layers.indices(G, name) for name in layers.RANGES]
        assert sorted(sum(parts, ())) == list(range(G.num_ws)) == list(layers.indices(G, "all"))
    assert layers.indices(tiny.G, 3) == tuple(range(3, tiny.G.num_ws))
    assert layers.indices(tiny.G, [1, 2]) == (1, 2)
    assert layers.indices(tiny.G, tiny.G.num_ws) == ()
    for bad in (-1, tiny.G.num_ws + 1, [99]):
        with pytest.raises(WorkbenchError, match="is not there"):
            layers.indices(tiny.G, bad)
    with pytest.raises(WorkbenchError, match="no range 'low'"):
        layers.indices(tiny.G, "low")


def test_all_layers_of_another_picture_are_the_other_picture(tiny):
    a, b = points(tiny, [A, B], [1, 2])[0], points(tiny, [A, B], [1, 2])[1]
    pictures = draw(tiny, Points.cat([a, b]), batch_size=1)
    assert torch.equal(draw(tiny, mix_layers(tiny.G, a, b, "all"), batch_size=1), pictures[1:])
    assert torch.equal(draw(tiny, mix_layers(tiny.G, a, b, []), batch_size=1), pictures[:1])
    mixed = mix_layers(tiny.G, a, b, "coarse")
    assert torch.equal(mixed.texts[0].t_global, b.texts[0].t_global)
    assert torch.equal(mixed.texts[-1].t_global, a.texts[-1].t_global)


def test_points_that_do_not_pair_are_refused(tiny):
    three, two = points(tiny, A, [1, 2, 3]), points(tiny, B, [3, 4])
    for a, b in ((three, two), (two, three), (two, three[[]])):
        with pytest.raises(WorkbenchError, match=f"{len(a)} points to mix with {len(b)}: expected as many"):
            mix_layers(tiny.G, a, b, "fine")
    assert torch.equal(mix_layers(tiny.G, three, two[1], "all").ws, two[[1, 1, 1]].ws)
    assert torch.equal(mix_layers(tiny.G, two[1], three, "all").ws, three.ws)


def test_a_style_table_is_each_row_with_each_column(tiny):
    sources, styles = points(tiny, A, [1, 2]), points(tiny, B, [3, 4, 5])
    table = style_table(tiny.G, sources, styles, "fine")
    assert len(table) == 6
    for r in range(2):
        for c in range(3):
            single = mix_layers(tiny.G, sources[r], styles[c], "fine")
            assert torch.equal(table[3 * r + c].ws, single.ws)


def test_prompt_mixing_from_layer_0_and_past_the_last(tiny):
    second, first = mix_prompts(tiny, A, B, 7, 0), mix_prompts(tiny, A, B, 7, tiny.G.num_ws)
    assert torch.equal(draw(tiny, second, batch_size=1), tiny(B, seed=7).images)
    assert torch.equal(draw(tiny, first, batch_size=1), tiny(A, seed=7).images)


def test_truncation_ends_and_identity(tiny):
    at = points(tiny, A, [1, 2, 3])
    same = truncate(tiny, at, A, over_all=1.0, over_prompt=1.0)
    assert torch.equal(same.ws, at.ws)
    mean = truncate(tiny, at, A, over_all=0.3, over_prompt=0.0)
    assert torch.equal(mean.ws, tiny.w_mean(A)[:, None].expand_as(mean.ws))
    towards_all = truncate(tiny, at, A, over_all=0.0, over_prompt=1.0)
    assert torch.equal(towards_all.ws, tiny.G.w_avg.expand_as(at.ws))
    half = truncate(tiny, at, A, over_all=1.0, over_prompt=0.5)
    assert torch.allclose(spread(half), 0.5 * spread(at), atol=1e-6)
    grid = truncation_grid(tiny, A, [1, 2, 3], [0.0, 1.0])
    assert torch.equal(grid[3:].ws, at.ws) and len(grid) == 6
    to_all = truncation_grid(tiny, A, [1, 2, 3], [0.0], towards="all")
    assert torch.equal(to_all.ws, towards_all.ws)
    with pytest.raises(WorkbenchError, match=r"truncation is 2"):
        truncate(tiny, at, A, over_all=2.0, over_prompt=1.0)
    with pytest.raises(WorkbenchError, match="mean 'global'"):
        truncation_grid(tiny, A, [1], [0.5], towards="global")
    with pytest.raises(WorkbenchError, match="needs a strength"):
        truncation_grid(tiny, A, [1], [])
