"""One seed, one picture: noise that depends on a picture's own seed and on nothing else.

Noise is drawn on the CPU from one generator per picture, so the batch a picture stands in, its place there
and the device it is made on change nothing. Shapes: N pictures, z_dim numbers each.
"""

import hashlib
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.errors import WorkbenchError

MAX_SEED = 2**63 - 1
_ADVICE = f"Give a whole number from 0 to {MAX_SEED}, for example 7."


def check_seed(seed: object) -> int:
    """`seed` as a plain int in [0, MAX_SEED]; negative, float, bool, NaN or text is a WorkbenchError."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise WorkbenchError(f"The seed is {_shown(seed)}, not a whole number. {_ADVICE}")
    try:
        value = operator.index(seed)
    except TypeError:  # a tensor or array that has __index__ but is not one whole number
        raise WorkbenchError(f"The seed is {_shown(seed)}, not a whole number. {_ADVICE}") from None
    if not 0 <= value <= MAX_SEED:
        size = "negative" if value < 0 else "too large"
        raise WorkbenchError(f"The seed {_shown_int(value)} is {size}. {_ADVICE}")
    return value


def parse_seed(text: str) -> int:
    """The seed a person typed ("42", " 42 "); an empty, fractional or worded one is a WorkbenchError."""
    if not isinstance(text, str):
        return check_seed(text)
    digits = text.strip()
    if not digits:
        raise WorkbenchError(f"The seed is empty. {_ADVICE}")
    sign, body = ("-", digits[1:]) if digits[0] == "-" else ("", digits.removeprefix("+"))
    if not (body.isascii() and body.isdigit()):
        raise WorkbenchError(f"The seed is {_shown(digits)}, not a whole number. {_ADVICE}")
    body = body.lstrip("0") or "0"
    if len(body) > 20:  # before int(), which refuses thousands of digits with words of its own
        raise WorkbenchError(f"The seed {sign}{body[:12]}… ({len(body)} digits) is out of range. {_ADVICE}")
    return check_seed(int(sign + body))


def generator_for(seed: int, stream: int = 0) -> torch.Generator:
    """A CPU generator for (seed, stream), both hashed: seeds 1 and 2, or streams 0 and 1, are unrelated."""
    seed = check_seed(seed)
    digest = hashlib.sha256(f"({seed}, {operator.index(stream)})".encode()).digest()
    # manual_seed takes the signed 64-bit range; a signed reading keeps all 64 bits of the digest.
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def draw_z(seeds: Sequence[int], z_dim: int, *, stream: int = 0) -> Tensor:
    """z ~ N(0, I): [N, z_dim] float32 on the CPU; row k depends on seeds[k] alone.

    Drawn as float64 uniforms through the inverse normal distribution and rounded at the end: torch.randn
    takes another path by instruction set and by size, and its last bits would differ from machine to machine.
    """
    if isinstance(z_dim, bool) or not isinstance(z_dim, int) or z_dim < 1:
        raise WorkbenchError(f"z_dim is {z_dim!r}: expected a whole number of at least 1.")
    z = torch.empty(len(seeds), z_dim, dtype=torch.float32)
    for row, seed in enumerate(seeds):
        u = torch.rand(z_dim, dtype=torch.float64, generator=generator_for(seed, stream))
        # u lies in [0, 1 - 2^-53]; 0 alone would give -infinity.
        z[row] = (math.sqrt(2.0) * torch.erfinv(2.0 * u.clamp(min=2.0**-53) - 1.0)).to(torch.float32)
    return z


def _shown_int(value: int) -> str:
    """A number short enough for a sentence."""
    return str(value) if abs(value) < 10**24 else f"of about 2^{value.bit_length() - 1}"


def _shown(value: object) -> str:
    """Any value short enough for a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
