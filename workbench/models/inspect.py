"""A look into G, D and the vision heads while they work, and switches that turn one piece off and back on.

Everything is read through hooks, so that the networks know nothing of being watched. Letters: N pictures,
S pixels a side, h heads, L rows of t_local, K kernels in a bank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.attention import CrossAttention, SelfAttention, split_heads, tokens_of
from workbench.models.discriminator import Discriminator
from workbench.models.generator import Generator
from workbench.models.mapping import Text
from workbench.models.ops import AdaptiveConv2d, upsample
from workbench.models.text import TextEncoder, TextFeatures
from workbench.models.vision_aided import ImageTower, VisionAided

DIM = 0.26  # brightness of a spotlight where a word is not heard at all
PIECES = {"self-attention": SelfAttention, "cross-attention": CrossAttention}


# --- words of a prompt --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A word that the encoder reads. rows: its places in t_local (several where it is spelled in pieces);
    number: its place among all words of the prompt, unread ones counted.
    """

    text: str
    rows: tuple[int, ...]
    number: int = field(default=0, compare=False)


def words_of(prompt: str, encoder: TextEncoder) -> list[Word]:
    """The words of `prompt` with their rows of t_local, in order; unknown and truncated ones are left out.

    Row 0 is the start mark. The end of text has no row: t_local leaves it out.
    """
    found, row = [], 1
    eot = int(encoder.tokenizer([prompt]).argmax(dim=-1))
    for number, (text, pieces) in enumerate(encoder.tokenizer.spelled(prompt)):
        if row + pieces > eot:
            break
        if pieces:
            found.append(Word(text, tuple(range(row, row + pieces)), number))
        row += pieces
    return found


# --- one look into G ----------------------------------------------------------------------------------------


@dataclass
class Look:
    """What G did for N pictures.

    pyramid: as of `Generator.synthesis`, largest first. cross: size -> [N, L, S, S], which share of its
    attention each pixel gives to each row of t_local, mean over heads and layers. own: size ->
    [N, S*S, S*S+1], self-attention likewise, the last column being the token of w. selection: "8 px, block 1,
    conv 1" -> [N, K].
    """

    pyramid: list[Tensor] = field(default_factory=list)
    cross: dict[int, Tensor] = field(default_factory=dict)
    own: dict[int, Tensor] = field(default_factory=dict)
    selection: dict[str, Tensor] = field(default_factory=dict)


def cross_weights(
    layer: CrossAttention,
    x: Tensor,
    t_local: Tensor,
    mask: Tensor | None = None,
    prior: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d)) of one layer for its own inputs: [N, h, S*S, L]; masked rows get 0."""
    q = split_heads(layer.query(layer.norm(tokens_of(x))), layer.heads)
    k = split_heads(layer.key(t_local.to(x.dtype)), layer.heads)
    logits = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    weights = None if mask is None else mask.to(logits.dtype)
    if prior is not None:
        weights = prior if weights is None else weights * prior
    if weights is not None:
        logits = logits + weights.log()[:, None, None].clamp_min(torch.finfo(logits.dtype).min)
    return logits.softmax(-1)


def own_weights(layer: SelfAttention, x: Tensor, w: Tensor | None = None) -> Tensor:
    """softmax_j(-s |q_i - q_j|^2) of one layer for its own inputs: [N, h, S*S, S*S (+ 1 for w)]."""
    seen = layer.norm(tokens_of(x))
    pixels = seen.shape[1]
    if layer.token is not None:
        seen = torch.cat([seen, layer.norm(layer.token(w.to(x.dtype)))[:, None]], dim=1)
    q = split_heads(layer.query(seen), layer.heads).float()
    length = q.square().sum(-1)
    apart = length[..., :, None] + length[..., None, :] - 2 * q @ q.transpose(-1, -2)
    return (-layer.scale * apart).softmax(-1)[:, :, :pixels]


def look(G: Generator, w: Tensor, text: Text | None) -> Look:
    """Draw the pictures of w [N, w_dim] (or ws [N, num_ws, w_dim]) and `text`, and note on the way what every
    attention layer and every kernel bank did. No gradients.
    """
    seen, cross, own, handles = Look(), {}, {}, []
    for size, stack in G.blocks.items():
        for number, block in enumerate(stack, start=1):
            watched = [(layer, cross, cross_weights) for layer in block.cross]
            watched += [(layer, own, own_weights) for layer in block.attention]
            for layer, into, weights in watched:
                handles.append(_note_weights(layer, into.setdefault(int(size), []), weights))
            for conv_number, conv in enumerate((block.conv0, block.conv1), start=1):
                if conv.select is not None:
                    name = f"{size} px, block {number}, conv {conv_number}"
                    handles.append(_note_selection(conv, seen.selection, name))
    try:
        with torch.no_grad():
            seen.pyramid = G.synthesis(w, text)
    finally:
        for handle in handles:
            handle.remove()
    seen.cross = {
        size: torch.stack(maps).mean(0).transpose(1, 2).unflatten(2, (size, size))
        for size, maps in cross.items()
        if maps
    }
    seen.own = {size: torch.stack(maps).mean(0) for size, maps in own.items() if maps}
    return seen


def _note_weights(layer: nn.Module, into: list[Tensor], weights):
    return layer.register_forward_pre_hook(lambda module, args: into.append(weights(module, *args).mean(1)))


def _note_selection(conv: AdaptiveConv2d, into: dict[str, Tensor], name: str):
    # hooked on the logits' layer, so that a switch which replaces them is seen too
    return conv.select.register_forward_hook(
        lambda module, args, out: into.__setitem__(name, out.softmax(-1))
    )


def word_maps(seen: Look, words: Sequence[Word], size: int, row: int = 0) -> Tensor:
    """Where picture `row` listened to each word at `size`: [words, S, S], pieces of a word summed.

    Raises WorkbenchError where G has no cross-attention at that size, and without a word.
    """
    if size not in seen.cross:
        raise WorkbenchError(
            f"There is no cross-attention at {size} px: choose one of {sorted(seen.cross) or 'none'}."
        )
    if not words:
        raise WorkbenchError("There is no word to look for: give at least one that the model reads.")
    return torch.stack([seen.cross[size][row, list(word.rows)].sum(0) for word in words])


def against_average(maps: Tensor) -> Tensor:
    """Attention of each word relative to its own mean over the picture: [words, S, S] -> same; 1 = average.

    A word that all pixels hear alike is flat at 1, however loud it is.
    """
    return maps / maps.mean((1, 2), keepdim=True).clamp_min(1e-12)


def spotlights(picture: Tensor, weights: Tensor, *, low: float = 0.6, high: float = 1.8) -> Tensor:
    """The picture [3, S, S] once for each map [W, s, s], bright where the map is at `high` or above, dim at
    `low` or below: [W, 3, S, S]. The maps are relative to their mean (`against_average`).
    """
    side = picture.shape[-1]
    light = ((weights - low) / (high - low)).clamp(0, 1)
    light = F.interpolate(light[:, None], (side, side), mode="bilinear", align_corners=False)
    return (picture[None] + 1) * (DIM + (1 - DIM) * light) - 1


def asked_by(picture: Tensor, own: Tensor, place: tuple[int, int], size: int) -> Tensor:
    """The picture [3, S, S] under the spotlight of the place (row, column) of `size` that asks, in a
    white frame.

    own: [size*size, size*size (+ 1)], self-attention of this picture; S a multiple of `size`.
    """
    row, column = place
    weights = own[row * size + column, : size * size].view(1, size, size)
    lit = spotlights(picture, weights / weights.mean(), low=0.2, high=4.0)[0]
    cell = picture.shape[-1] // size
    down, across = row * cell, column * cell
    lit[:, down : down + cell, across : across + cell] = 1.0
    inside = slice(down + 2, down + cell - 2), slice(across + 2, across + cell - 2)
    lit[:, *inside] = picture[:, *inside]
    return lit


def enlarged(pictures: Tensor, side: int) -> Tensor:
    """[N, 3, S, S] -> [N, 3, side, side], smooth, as the app shows them; values stay in [-1, 1]."""
    return F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)


# --- the pyramid --------------------------------------------------------------------------------------------


def increments(pyramid: Sequence[Tensor]) -> list[Tensor]:
    """What each level added to the one below it, largest first: x_i - upsample(x_{i+1}); the last is x_L."""
    coarser = [*pyramid[1:], None]
    return [x if y is None else x - upsample(y) for x, y in zip(pyramid, coarser, strict=True)]


def recombine(parts: Sequence[Tensor], keep: Sequence[int]) -> Tensor:
    """The picture from increments of the sizes in `keep` alone; all sizes give x_0 back."""
    if stray := sorted(set(keep) - {x.shape[-1] for x in parts}):
        raise WorkbenchError(
            f"keep names the sizes {stray}: choose out of {sorted(x.shape[-1] for x in parts)}."
        )
    picture = None
    for x in reversed(parts):
        part = x if x.shape[-1] in keep else torch.zeros_like(x)
        picture = part if picture is None else upsample(picture) + part
    return picture


# --- switches -----------------------------------------------------------------------------------------------


@contextmanager
def strength(G: nn.Module, piece: str, factor: float, sizes: Sequence[int] | None = None) -> Iterator[None]:
    """Inside, what each layer of `piece` ("self-attention" or "cross-attention") adds is times `factor`.

    0 switches it off and leaves everything around it alone (the MLP behind self-attention too). sizes: of G's
    blocks; all when None. Everything is as before afterwards, whatever happened inside. Raises WorkbenchError
    for another piece and a size that G lacks.
    """
    if piece not in PIECES:
        raise WorkbenchError(f"There is no piece {piece!r}: choose one of {', '.join(PIECES)}.")
    if lacking := [size for size in sizes or () if str(size) not in G.blocks]:
        raise WorkbenchError(f"There are no blocks at {lacking[0]} px: choose of {', '.join(G.blocks)}.")
    where = G if sizes is None else nn.ModuleList(G.blocks[str(size)] for size in sizes)
    layers = [module for module in where.modules() if isinstance(module, PIECES[piece])]
    handles = [layer.out.register_forward_hook(lambda m, args, out: out * factor) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def kernels(G: nn.Module, choice: int | str) -> Iterator[None]:
    """Inside, no bank asks w: "uniform" mixes all kernels alike, a number takes that kernel (from 0) alone,
    "others'" gives each picture the mixture of the next one in the batch.

    A bank with fewer kernels takes the number modulo its size.
    """
    if choice not in ("uniform", "others'") and not (isinstance(choice, int) and choice >= 0):
        raise WorkbenchError(f"choice is {choice!r}: give 'uniform', \"others'\" or the number of a kernel.")

    def replaced(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
        if choice == "uniform":
            return torch.zeros_like(out)
        if choice == "others'":
            return out.roll(-1, 0)
        logits = torch.full_like(out, -1e4)  # a softmax of it is exactly one-hot
        logits[:, choice % out.shape[1]] = 0
        return logits

    banks = [m for m in G.modules() if isinstance(m, AdaptiveConv2d) and m.select is not None]
    # prepended: an observer that was there before sees the replaced logits
    handles = [bank.select.register_forward_hook(replaced, prepend=True) for bank in banks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def end_at(features: TextFeatures, row: int) -> TextFeatures:
    """The same features with the end of text believed at `row` (-1 = the last place, a frequent mistake)."""
    length = features.eps_txt.shape[1]
    if not -length <= row < length:
        raise WorkbenchError(f"row is {row}: expected -{length} to {length - 1}, the places of the context.")
    return TextFeatures(features.eps_txt, torch.full_like(features.eot, row % length), features.embedding)


def shuffled(prompt: str, seed: int) -> str:
    """The prompt's words in another order (a fixed one for each seed), never the old one if there are two
    different words.
    """
    words = prompt.split()
    generator = torch.Generator().manual_seed(seed)
    if len(set(words)) < 2:
        return prompt
    while True:
        order = torch.randperm(len(words), generator=generator).tolist()
        if (mixed := [words[k] for k in order]) != words:
            return " ".join(mixed)


# --- judges -------------------------------------------------------------------------------------------------


def verdicts(D: Discriminator, x_pyramid: list[Tensor], t_D: Tensor) -> dict[tuple[int, int], Tensor]:
    """(entry size, exit size) -> logits [N] of pictures with one caption each; higher = judged real.

    x_pyramid: the levels of D's entries, largest first.
    """
    with torch.no_grad():
        (logits,) = D(x_pyramid, [t_D])
    return dict(zip(D.config.predictions, logits, strict=True))


def table(D: Discriminator, values: dict[tuple[int, int], Tensor]) -> Tensor:
    """Means over the pictures as [entries, exits], entries and exits falling in size; NaN where none is."""
    exits = sorted(D.config.exits, reverse=True)
    out = torch.full((len(D.config.entries), len(exits)), float("nan"))
    for (entry, leaving), logits in values.items():
        out[D.config.entries.index(entry), exits.index(leaving)] = logits.float().mean()
    return out


def tap_verdicts(
    tower: ImageTower, heads: VisionAided, pictures: Tensor, captions: Sequence[Tensor]
) -> dict[str, list[Tensor]]:
    """Layer of the frozen tower -> logits [N] for each set of caption embeddings [N, e] in `captions`."""
    with torch.no_grad():
        maps, _ = tower(pictures)
        logits = heads(maps, list(captions))
    return {tap: [judged[k] for judged in logits] for k, tap in enumerate(heads.config.taps)}
