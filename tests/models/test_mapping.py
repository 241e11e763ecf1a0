"""T splits the caption at its end of text; M treats z and text alike."""

import torch
from tiny_models import TEXT_DIM, features

from workbench.models.mapping import MappingNetwork, TextTransformer


def test_t_global_is_the_end_of_text_row_and_t_local_the_others_in_order():
    T = TextTransformer(TEXT_DIM, layers=0)  # no layers: only the split is left
    text = features(4)
    rows = T.norm(text.eps_txt)
    t = T(text.eps_txt, text.eot)
    for n, eot in enumerate(text.eot.tolist()):
        assert torch.equal(t.t_global[n], rows[n, eot])
        assert torch.equal(t.t_local[n], torch.cat([rows[n, :eot], rows[n, eot + 1 :]]))
        assert t.mask[n].sum() == eot  # tokens before the end are real, the rest is padding


def test_padding_after_the_end_of_text_changes_nothing():
    T = TextTransformer(TEXT_DIM, layers=2)
    text = features(3)
    before = T(text.eps_txt, text.eot)
    for n, eot in enumerate(text.eot.tolist()):
        text.eps_txt[n, eot + 1 :] = 100.0
    after = T(text.eps_txt, text.eot)
    assert torch.allclose(before.t_global, after.t_global, atol=1e-5)
    seen = before.mask[..., None].expand_as(before.t_local)
    assert torch.allclose(before.t_local[seen], after.t_local[seen], atol=1e-5)


def test_w_ignores_the_scale_of_z_and_of_the_text():
    M = MappingNetwork(8, TEXT_DIM, 24, layers=3, lr_mul=0.01)
    z, t = torch.randn(5, 8), torch.randn(5, TEXT_DIM)
    w = M(z, t)
    assert w.shape == (5, 24)
    assert torch.allclose(M(7 * z, 3 * t), w, atol=1e-4)
    assert not torch.allclose(M(z.flip(0), t), w)
    assert not torch.allclose(M(z, t.flip(0)), w)


def test_repeat_and_select_keep_captions_whole():
    t = TextTransformer(TEXT_DIM, layers=1)(**vars(features(3)))
    twice = t.repeat_interleave(2)
    assert torch.equal(twice.t_global[1], t.t_global[0]) and torch.equal(twice.t_local[4], t.t_local[2])
    assert torch.equal(twice.index_select(torch.tensor([5, 0])).mask, t.mask[[2, 0]])
