"""The style inputs of G by name, and the coarse, middle and fine ranges that style mixing speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.models.generator import Generator

RANGES = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class Layer:
    """One style input. index: its place in ws; size: pixels a side; role: "conv0", "attention 1", "rgb"."""

    index: int
    size: int
    role: str

    def __str__(self) -> str:
        return f"{self.index}: {self.size} px {self.role}"


def layers(G: Generator) -> list[Layer]:
    """Every style input, coarse to fine."""
    found: list[Layer] = []
    for size, stack in G.blocks.items():
        for number, block in enumerate(stack, start=1):
            named = f"block {number} " if len(stack) > 1 else ""
            roles = ["conv 1", "conv 2", *(f"attention {k + 1}" for k in range(len(block.attention)))]
            found += [Layer(len(found) + k, int(size), f"{named}{role}") for k, role in enumerate(roles)]
        found.append(Layer(len(found), int(size), "rgb"))
    return found


def sizes_of(G: Generator, name: str) -> tuple[int, ...]:
    """Sizes of a range: coarse up to 8 px (layout and pose), middle the next one, fine what is left.

    The split of StyleGAN (4-8, 16-32, 64 and more) moves down a size for pictures of 64 px and less.
    """
    if name not in RANGES:
        raise WorkbenchError(f"There is no range {name!r}: choose one of {', '.join(RANGES)}.")
    sizes = G.config.sizes
    middle = (16,) if len(sizes) <= 5 else (16, 32)
    if name == "coarse":
        return tuple(s for s in sizes if s <= 8)
    return tuple(s for s in sizes if (s in middle) == (name == "middle") and s > 8)


def indices(G: Generator, which: str | int | Iterable[int]) -> tuple[int, ...]:
    """Places in ws of a range ("coarse", "middle", "fine", "all"), of a list, or from a layer k on.

    Raises WorkbenchError for a layer that G does not have.
    """
    count = G.num_ws
    if which == "all":
        return tuple(range(count))
    if isinstance(which, str):
        sizes = sizes_of(G, which)
        return tuple(layer.index for layer in layers(G) if layer.size in sizes)
    listed = range(which, count) if isinstance(which, int) else tuple(which)
    wrong = [k for k in ([which] if isinstance(which, int) else listed) if not 0 <= k <= count - 1]
    if wrong and not (isinstance(which, int) and which == count):
        raise WorkbenchError(f"Layer {wrong[0]} is not there: this model has layers 0 to {count - 1}.")
    return tuple(listed)


def levels_of(G: Generator, chosen: Iterable[int]) -> tuple[int, ...]:
    """Levels (places in `config.sizes`) whose first convolution is among the layers: whose caption counts.

    A size reads one caption; it follows the style of its first layer.
    """
    wanted, first = set(chosen), {}
    for layer in layers(G):
        first.setdefault(layer.size, layer.index)
    return tuple(level for level, size in enumerate(G.config.sizes) if first[size] in wanted)
