"""Which of the two equal computations of the adaptive convolution is taken: the cheaper one by shape."""

import pytest
import torch

from workbench.models import ops


@pytest.mark.parametrize("size", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("kernels", [1, 2, 4, 8])
def test_the_cheaper_form_is_taken(kernels, size, monkeypatch):
    """One kernel and small maps: shared. Beyond 8 px per-sample kernels; at 16 px two kernels are a tie."""
    taken = []
    for name in ("shared", "grouped"):
        monkeypatch.setattr(ops, f"adaptive_conv_{name}", lambda *args, name=name, **kw: taken.append(name))
    selection = None if kernels == 1 else torch.full((1, kernels), 1 / kernels)
    ops.adaptive_conv(
        torch.zeros(1, 1, size, size), torch.zeros(kernels, 1, 1, 3, 3), torch.ones(1, 1), selection
    )
    shared = kernels == 1 or size <= 8 or (kernels, size) == (2, 16)
    assert taken == ["shared" if shared else "grouped"]


@pytest.mark.parametrize(("kernels", "size"), [(1, 32), (2, 16), (2, 32), (4, 8), (4, 16)])
def test_a_shape_on_either_side_of_the_choice_gives_what_both_give(kernels, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    bank = torch.randn(kernels, 4, 3, 3, 3, dtype=torch.float64)
    style = torch.randn(2, 3, dtype=torch.float64)
    selection = None if kernels == 1 else torch.randn(2, kernels, dtype=torch.float64).softmax(1)
    chosen = ops.adaptive_conv(x, bank, style, selection)
    for form in (ops.adaptive_conv_shared, ops.adaptive_conv_grouped):
        assert (form(x, bank, style, selection) - chosen).abs().max() < 1e-12
