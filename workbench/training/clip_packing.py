"""Pack the end of a CLIP's image tower: its last stage and its pooling see few directions of their inputs.

Two thirds of the mini-CLIP's numbers are there, and four fifths of those say nothing that a picture asks for.
What others read of the tower, layers 1 to 3, stays as trained.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.clip_io import Clip
from workbench.models.factored import factors, product

LOST = 0.002  # share of what a layer says that may be lost
_AT_ONCE = 100  # pictures


@torch.no_grad()
def pack(clip: Clip, pictures: Tensor, held_out: Tensor, *, lost: float = LOST) -> dict[str, object]:
    """Replace weights of last stage and pooling by thin factors, kept in `clip.factors`; the facts of it.

    pictures, held_out: [N, 3, S, S] and [M, 3, S, S] in [-1, 1]: those whose inputs count, and those by which
    the embeddings of before and after are compared, the former where there are none. Facts: "lost", "ranks"
    by weight, "cosine_mean" and "cosine_least" of the held-out embeddings. Raises WorkbenchError for a tower
    that is no ModifiedResNet.
    """
    visual = clip.model.visual
    if not hasattr(visual, "layer4") or not hasattr(visual, "attnpool"):
        raise WorkbenchError(
            f"The image tower of {clip.name} is a {type(visual).__name__}: expected open_clip's "
            "ModifiedResNet."
        )
    was_training = clip.model.training
    clip.model.eval()
    held_out = held_out if len(held_out) else pictures
    before = _embeddings(clip, held_out)
    middle = torch.cat([_middle(clip, part) for part in pictures.split(_AT_ONCE)])
    ranks = {}
    for name, module in _weights_in_order(visual):
        pair = factors(module.weight, _moment(visual, module, middle), lost)
        if pair is not None:
            module.weight.copy_(product(pair).to(module.weight))
            clip.factors[f"visual.{name}.weight"] = pair[0].cpu(), pair[1].cpu()
            ranks[name] = pair[0].shape[1]
    cosine = (before * _embeddings(clip, held_out)).sum(dim=1)
    clip.model.train(was_training)
    return {
        "lost": lost, "ranks": ranks, "pictures": len(pictures), "held_out": len(held_out),
        "cosine_mean": cosine.mean().item(), "cosine_least": cosine.min().item(),
    }  # fmt: skip


def _weights_in_order(visual: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions of the last stage as they are called, then what the pooling projects by."""
    for name, module in visual.layer4.named_modules():
        if isinstance(module, nn.Conv2d):
            yield f"layer4.{name}", module
    for name in ("q_proj", "k_proj", "v_proj"):
        yield f"attnpool.{name}", getattr(visual.attnpool, name)


def _moment(visual: nn.Module, module: nn.Module, middle: Tensor) -> Tensor:
    """C [n, n] float64 of a layer's inputs, the layers before it as they are now."""
    if isinstance(module, nn.Linear):
        rows = (_tokens(visual, part).flatten(0, 1) for part in middle.split(_AT_ONCE))
        return _mean_square(rows)
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    for part in middle.split(_AT_ONCE):
        visual.layer4(part)
    hook.remove()
    patches = (F.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride) for x in seen)
    return _mean_square(x.transpose(1, 2).flatten(0, 1) for x in patches)


def _mean_square(parts: Iterator[Tensor]) -> Tensor:
    total, count = 0, 0
    for rows in parts:
        rows = rows.double()
        total, count = total + rows.T @ rows, count + len(rows)
    return total / count


def _tokens(visual: nn.Module, middle: Tensor) -> Tensor:
    """What open_clip's AttentionPool2d projects: the mean and every place, [N, 1 + H W, C]."""
    x = visual.layer4(middle).flatten(2).transpose(1, 2)
    return torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + visual.attnpool.positional_embedding


def _middle(clip: Clip, pictures: Tensor) -> Tensor:
    visual = clip.model.visual
    return visual.layer3(visual.layer2(visual.layer1(visual.stem(clip.normalise(pictures)))))


def _embeddings(clip: Clip, pictures: Tensor) -> Tensor:
    return torch.cat([clip.encode_image(part) for part in pictures.split(_AT_ONCE)])
