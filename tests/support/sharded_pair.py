"""One of two processes that hold G and D in shards and compare their gradients with whole networks."""

import json
import os

import torch
from tiny_models import TEXT_DIM, discriminator_config, features, generator_config
from torch import nn

from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.ops import box_pyramid
from workbench.training import sharding
from workbench.training.penalties import finite_difference_penalty


def losses(G: nn.Module, D: nn.Module) -> torch.Tensor:
    """What a step asks of both: pictures judged, and D's slope by finite differences."""
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    text = G.encode_text(features(4))
    fakes = G.synthesis(G.mapping(z, text.t_global), text)
    t = torch.ones(4, TEXT_DIM)

    def judge(x):
        return D(box_pyramid(x, D.config.entries), t)[0]

    slope = finite_difference_penalty(judge, fakes[0], torch.Generator().manual_seed(2))
    return torch.stack(judge(fakes[0])).square().mean() + slope


def one_of_two(rank: int, port: int, out: str) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    pairs = []
    for kind, config in ((Generator, generator_config()), (Discriminator, discriminator_config())):
        torch.manual_seed(0)
        whole = kind(config)
        torch.manual_seed(0)
        pairs.append((whole, sharding.shard(kind(config), mesh)))
    (G, sharded_G), (D, sharded_D) = pairs
    a, b = losses(G, D), losses(sharded_G, sharded_D)
    a.backward()
    b.backward()
    worst, held = 0.0, 0.0
    for whole, cut in pairs:
        for p, q in zip(whole.parameters(), cut.parameters(), strict=True):
            if p.grad is not None:
                error = (p.grad - q.grad.full_tensor()).abs().max() / p.grad.abs().max().clamp_min(1e-6)
                worst = max(worst, float(error))
        held = max(
            held,
            sum(q.to_local().numel() for q in cut.parameters()) / sum(p.numel() for p in whole.parameters()),
        )
    with open(f"{out}.{rank}", "w") as handle:
        json.dump({"worst": worst, "held": held, "losses": [a.item(), b.item()]}, handle)
    distributed.destroy_process_group()
