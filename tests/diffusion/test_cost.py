"""Operations, parameters and memory of networks whose numbers can be written down."""

import pytest
import torch
import torch.nn.functional as F
from tiny_diffusion import tiny_diffusion
from torch import nn

from workbench.diffusion.cost import PeakMemory, cost
from workbench.errors import WorkbenchError

KB = 1024


def test_a_convolution_and_a_matrix_product_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16 * 16, 10))
    with torch.inference_mode():
        found = cost(lambda: network(torch.ones(2, 3, 16, 16)), [network, network[0]])
    assert found.parameters == 3 * 8 * 9 + 8 + 8 * 256 * 10 + 10  # a shared part counts once
    assert found.operations == 2 * (2 * 256 * 8 * 27 + 2 * 8 * 256 * 10)  # multiply and add
    assert found.stored_bytes == 2 * found.parameters
    # at its most: the input (held by the caller), what the convolution made, and the answer
    assert found.working_bytes == 4 * (2 * 3 * 256 + 2 * 8 * 256 + 2 * 10)


def test_attention_is_counted():
    q = torch.randn(1, 2, 6, 4)  # heads of length-6 sequences, 4 wide
    found = cost(lambda: F.scaled_dot_product_attention(q, q, q), [])
    assert found.operations == 2 * 2 * (6 * 6 * 4) * 2


def test_peak_memory_by_hand():
    x = torch.zeros(KB, dtype=torch.uint8)
    with PeakMemory([x]) as memory:
        a = x + 1  # 1 kB
        b = torch.cat([a, a])  # 3
        del a  # 2
        c = b[:KB]  # a view is nothing new
        x.add_(1)  # nor is what was there before
        del b
        assert memory.live == 2 * KB  # the view still holds all of it
        del c
        assert memory.live == 0
    assert memory.peak == 3 * KB


def test_steps_of_diffusion_cost_what_one_costs_times_their_number():
    model = tiny_diffusion()

    def of(steps, guidance):
        model._told.clear()
        parts = [model.unet, model.text_encoder]
        return cost(lambda: model("a black dog", steps=steps, guidance=guidance, sampler="ddim"), parts)

    one, two, three = (of(steps, 1.0).operations for steps in (1, 2, 3))
    assert two - one == three - two > 0
    assert of(1, 2.0).operations == pytest.approx(two, rel=0.2)  # guidance calls twice as wide
    assert of(3, 1.0).working_bytes < 1.5 * of(1, 1.0).working_bytes  # but steps hold nothing for each other


def test_only_the_processor_is_counted():
    with pytest.raises(WorkbenchError, match="counted on the CPU"):
        cost(lambda: None, [nn.Linear(1, 1, device="meta")])
