"""Gradient checkpointing: the same pictures and gradients, a gradient's gradient too, and less is kept."""

import pytest
import torch
from tiny_models import TEXT_DIM, discriminator_config, features, generator_config

from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.ops import box_pyramid
from workbench.training.penalties import gradient_penalty


def built(kind, config, *, checkpointing):
    torch.manual_seed(0)
    network = kind(config)
    network.checkpointing = checkpointing
    return network


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def kept_bytes(make_loss) -> int:
    """Bytes that autograd keeps for the backward pass of a loss."""
    seen = {}

    def keep(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = make_loss()
    assert loss.requires_grad
    return sum(seen.values())


def g_loss(G):
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    return sum(level.square().mean() for level in G(z, features(4)))


def d_loss(D, *, penalty):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1
    t = torch.randn(4, TEXT_DIM, generator=generator)

    def judge(pictures):
        return D(box_pyramid(pictures, D.config.entries), t)[0]

    return gradient_penalty(judge, x) if penalty else torch.stack(judge(x)).square().mean()


@pytest.mark.parametrize("penalty", [False, True])
def test_d_has_the_same_gradients_and_penalty_gradients(penalty):
    found = []
    for checkpointing in (False, True):
        D = built(Discriminator, discriminator_config(), checkpointing=checkpointing)
        loss = d_loss(D, penalty=penalty)
        loss.backward()
        found.append((loss.detach(), gradients(D)))
    (plain, expected), (again, got) = found
    assert torch.equal(plain, again) and expected.keys() == got.keys()
    assert all(torch.allclose(expected[name], got[name], rtol=1e-4, atol=1e-6) for name in expected)
    assert sum(g.abs().sum() for g in got.values()) > 0


def test_g_has_the_same_pictures_and_gradients():
    found = []
    for checkpointing in (False, True):
        G = built(Generator, generator_config(), checkpointing=checkpointing)
        g_loss(G).backward()
        with torch.no_grad():
            pictures = G(torch.ones(2, 8), features(2))[0]
        found.append((pictures, gradients(G)))
    (plain, expected), (again, got) = found
    assert torch.equal(plain, again)
    assert all(torch.allclose(expected[name], got[name], rtol=1e-4, atol=1e-6) for name in expected)


def test_less_is_kept_for_backward():
    G = [built(Generator, generator_config(), checkpointing=on) for on in (False, True)]
    plain, again = (kept_bytes(lambda network=network: g_loss(network)) for network in G)
    assert again < 0.7 * plain
    D = [built(Discriminator, discriminator_config(), checkpointing=on) for on in (False, True)]
    plain, again = (kept_bytes(lambda network=network: d_loss(network, penalty=False)) for network in D)
    assert again < 0.7 * plain
